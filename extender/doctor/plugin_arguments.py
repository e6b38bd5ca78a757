"""The rules for the arguments of kube-scheduler's own plugins.

Sources, of kubernetes v1.37: pkg/scheduler/apis/config/validation/validation_pluginargs.go, and
component-helpers/scheduling/corev1/nodeaffinity/nodeaffinity.go with apimachinery/pkg/labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from extender.doctor.decoded import Path, Refusal, seconds
from extender.doctor.scheduler_types import (
    Arguments,
    BalancedAllocationArgs,
    DefaultPreemptionArgs,
    DynamicResourcesArgs,
    InterPodAffinityArgs,
    NodeAffinityArgs,
    NodeResourcesFitArgs,
    PodTopologySpreadArgs,
    Requirement,
    SelectorTerm,
    ShapePoint,
    VolumeBindingArgs,
)
from extender.kube.names import is_label_value, is_qualified_name

_RATIO = "RequestedToCapacityRatio"
_STRATEGIES = ("LeastAllocated", "MostAllocated", _RATIO)
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_TOP_SCORE = 10
_LISTS = frozenset({"In", "NotIn"})
_NUMBERS = frozenset({"Gt", "Lt"})
_NONE = frozenset({"Exists", "DoesNotExist"})


@singledispatch
def refused_arguments(given: Arguments, path: Path) -> Iterator[Refusal]:
    """Yield the values of a plugin's arguments that it refuses."""
    raise NotImplementedError(type(given))


@refused_arguments.register
def _(given: DefaultPreemptionArgs, path: Path) -> Iterator[Refusal]:
    share, number = given.min_candidate_nodes_percentage, given.min_candidate_nodes_absolute
    yield from _between(share, 0, 100, (*path, "minCandidateNodesPercentage"))
    yield from _between(number, 0, None, (*path, "minCandidateNodesAbsolute"))
    if share == number == 0:
        yield Refusal(
            (*path, "minCandidateNodesPercentage"),
            "is 0, and so is minCandidateNodesAbsolute",
            "minCandidateNodesPercentage: 10",
        )


@refused_arguments.register
def _(given: InterPodAffinityArgs, path: Path) -> Iterator[Refusal]:
    yield from _between(given.hard_pod_affinity_weight, 0, 100, (*path, "hardPodAffinityWeight"))


@refused_arguments.register
def _(given: VolumeBindingArgs, path: Path) -> Iterator[Refusal]:
    yield from _between(given.bind_timeout_seconds, 0, None, (*path, "bindTimeoutSeconds"))
    if given.shape:
        yield from _shape(given.shape, (*path, "shape"))


@refused_arguments.register
def _(given: DynamicResourcesArgs, path: Path) -> Iterator[Refusal]:
    for key, length, least in (
        ("filterTimeout", given.filter_timeout, 0),
        ("bindingTimeout", given.binding_timeout, 1),
    ):
        if length is not None and (seconds(length) or 0.0) < least:
            yield Refusal((*path, key), f"is {length}, less than {least} s", f"{key}: 10s")


@refused_arguments.register
def _(given: BalancedAllocationArgs, path: Path) -> Iterator[Refusal]:
    names = [resource.name for resource in given.resources]
    for index, resource in enumerate(given.resources):
        where = (*path, "resources", index)
        if resource.name in names[:index]:
            yield Refusal((*where, "name"), f"is {resource.name} again", "take one of them out")
        if resource.weight not in {0, 1}:
            yield Refusal((*where, "weight"), f"is {resource.weight}, and has to be 1", "weight: 1")


@refused_arguments.register
def _(given: NodeResourcesFitArgs, path: Path) -> Iterator[Refusal]:
    for index, name in enumerate(given.ignored_resources):
        if not is_qualified_name(name):
            yield _no_name(name, (*path, "ignoredResources", index))
    for index, name in enumerate(given.ignored_resource_groups):
        if "/" in name or not is_qualified_name(name):
            yield _no_name(name, (*path, "ignoredResourceGroups", index))
    strategy = given.scoring_strategy
    if strategy is None:
        return
    where = (*path, "scoringStrategy")
    if strategy.type not in _STRATEGIES:
        yield _no_choice(strategy.type, _STRATEGIES, (*where, "type"))
    for index, resource in enumerate(strategy.resources):
        yield from _between(resource.weight, 0, 100, (*where, "resources", index, "weight"))
    ratio, at = strategy.requested_to_capacity_ratio, (*where, "requestedToCapacityRatio")
    if strategy.type == _RATIO:
        yield from _shape(() if ratio is None else ratio.shape, (*at, "shape"))
    elif ratio is not None:
        yield Refusal(at, f"is there, and the type is not {_RATIO}", "take it out")


@refused_arguments.register
def _(given: PodTopologySpreadArgs, path: Path) -> Iterator[Refusal]:
    kind, at = given.defaulting_type or "System", (*path, "defaultingType")
    if kind not in {"System", "List"}:
        yield _no_choice(kind, ("System", "List"), at)
    elif kind == "System" and given.default_constraints:
        yield Refusal(at, "is System, which defaultConstraints exclude", "defaultingType: List")
    seen = set()
    for index, one in enumerate(given.default_constraints):
        where = (*path, "defaultConstraints", index)
        yield from _between(one.max_skew, 1, None, (*where, "maxSkew"))
        if not is_qualified_name(one.topology_key):
            yield _no_name(one.topology_key, (*where, "topologyKey"))
        if one.when_unsatisfiable not in _ACTIONS:
            yield _no_choice(one.when_unsatisfiable, _ACTIONS, (*where, "whenUnsatisfiable"))
        if one.label_selector is not None:
            yield Refusal(
                (*where, "labelSelector"), "is there: each pod's own is taken", "take it out"
            )
        if (one.topology_key, one.when_unsatisfiable) in seen:
            yield Refusal(where, "says again what another says", "take one of them out")
        seen.add((one.topology_key, one.when_unsatisfiable))


@refused_arguments.register
def _(given: NodeAffinityArgs, path: Path) -> Iterator[Refusal]:
    affinity = given.added_affinity
    if affinity is None:
        return
    where = (*path, "addedAffinity")
    if affinity.required is not None:
        at = (*where, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
        for index, term in enumerate(affinity.required.node_selector_terms):
            yield from _term(term, (*at, index))
    for index, preferred in enumerate(affinity.preferred):
        if preferred.weight:
            at = (*where, "preferredDuringSchedulingIgnoredDuringExecution", index)
            yield from _term(preferred.preference, at)


def _term(term: SelectorTerm, path: Path) -> Iterator[Refusal]:
    for index, one in enumerate(term.match_expressions):
        where = (*path, "matchExpressions", index)
        if not is_qualified_name(one.key):
            yield _no_name(one.key, (*where, "key"))
        if one.operator not in _LISTS | _NUMBERS | _NONE:
            yield _no_choice(one.operator, sorted(_LISTS | _NUMBERS | _NONE), (*where, "operator"))
        elif not _values_fit(one):
            yield Refusal(
                (*where, "values"),
                f"does not suit operator {one.operator}",
                "give In and NotIn one value or more, Gt and Lt one whole number, Exists and "
                "DoesNotExist none",
            )
    for index, one in enumerate(term.match_fields):
        where = (*path, "matchFields", index)
        if one.operator not in _LISTS:
            yield _no_choice(one.operator, sorted(_LISTS), (*where, "operator"))
        elif len(one.values) != 1:
            yield Refusal((*where, "values"), "has to be one value", "give one value")


def _values_fit(one: Requirement) -> bool:
    if one.operator in _NONE:
        return not one.values
    if one.operator in _NUMBERS:
        return len(one.values) == 1 and one.values[0].isdecimal()
    return bool(one.values) and all(map(is_label_value, one.values))


def _shape(points: tuple[ShapePoint, ...], path: Path) -> Iterator[Refusal]:
    if not points:
        yield Refusal(
            path,
            "has no point",
            "shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]",
        )
    for index, point in enumerate(points):
        yield from _between(point.utilization, 0, 100, (*path, index, "utilization"))
        yield from _between(point.score, 0, _TOP_SCORE, (*path, index, "score"))
        if index and points[index - 1].utilization >= point.utilization:
            yield Refusal(
                (*path, index, "utilization"), "is not above the one before it", "sort the points"
            )


def _between(value: int, least: int, most: int | None, path: Path) -> Iterator[Refusal]:
    if value < least or (most is not None and value > most):
        span = f"{least} or more" if most is None else f"{least} to {most}"
        yield Refusal(path, f"is {value}, not {span}", f"{path[-1]}: {max(least, most or 1)}")


def _no_choice(value: str, choices: tuple[str, ...] | list[str], path: Path) -> Refusal:
    return Refusal(path, f"is {value!r}", f"{path[-1]}: one of {', '.join(choices)}")


def _no_name(name: str, path: Path) -> Refusal:
    return Refusal(path, f"is {name!r}, which is no name", "write it as DOMAIN/NAME or NAME")
