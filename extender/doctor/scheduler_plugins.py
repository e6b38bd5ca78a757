"""Plugins and their arguments that kube-scheduler refuses to start with.

Sources, of kubernetes v1.37: pkg/scheduler/apis/config/validation/validation.go and
validation_pluginargs.go, pkg/scheduler/framework/runtime/framework.go (``NewFramework``),
and names.go and registry.go in pkg/scheduler/framework/plugins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from extender.doctor.decoded import Path, Refusal, present, refused
from extender.doctor.plugin_arguments import refused_arguments
from extender.doctor.scheduler_types import (
    API_VERSION,
    ARGUMENTS,
    DefaultPreemptionArgs,
    PluginConfig,
    Plugins,
    PluginSet,
    Profile,
)

_FILTERS = ("preFilter", "filter")
_SCORES = ("preScore", "score")
IN_TREE: dict[str, tuple[str, ...]] = {
    "DefaultBinder": ("bind",),
    "DefaultPreemption": ("preEnqueue", "postFilter", "podGroupPostFilter"),
    "DeferredPodScheduling": (*_FILTERS, "permit"),
    "DynamicResources": (
        "preEnqueue",
        *_FILTERS,
        "postFilter",
        "score",
        "reserve",
        "preBind",
        "podGroupPostFilter",
    ),
    "GangScheduling": ("preEnqueue", "permit"),
    "ImageLocality": ("score",),
    "InterPodAffinity": (*_FILTERS, *_SCORES),
    "NodeAffinity": (*_FILTERS, *_SCORES),
    "NodeDeclaredFeatures": _FILTERS,
    "NodeName": _FILTERS,
    "NodePorts": _FILTERS,
    "NodeResourcesBalancedAllocation": _SCORES,
    "NodeResourcesFit": (*_FILTERS, *_SCORES, "placementScore"),
    "NodeUnschedulable": _FILTERS,
    "NodeVolumeLimits": _FILTERS,
    "PodGroupPodsCount": ("placementScore",),
    "PodTopologySpread": (*_FILTERS, *_SCORES),
    "PrioritySort": ("queueSort",),
    "SchedulingGates": ("preEnqueue",),
    "TaintToleration": (*_FILTERS, *_SCORES),
    "TopologyPlacementGenerator": ("placementGenerate",),
    "VolumeBinding": (*_FILTERS, *_SCORES, "reserve", "preBind"),
    "VolumeRestrictions": _FILTERS,
    "VolumeZone": _FILTERS,
}
"""What kube-scheduler of 1.37 has built in, with the points that each extends."""

GONE = frozenset({"AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"})
"""What it had once, and refuses by name now."""

_ALL = "*"


def foreign_plugins(profiles: tuple[Profile, ...]) -> Iterator[tuple[Path, str]]:
    """Yield the plugins that are switched on and not built in, with their places."""
    for index, profile in enumerate(profiles):
        for point, plugins in _points(profile.plugins):
            for number, plugin in enumerate(plugins.enabled):
                if plugin.name not in IN_TREE and plugin.name not in GONE:
                    path = ("profiles", index, "plugins", point, "enabled", number, "name")
                    yield path, plugin.name


def refused_plugins(profiles: tuple[Profile, ...]) -> Iterator[Refusal]:
    """Yield what is refused of each profile's plugins and of their arguments."""
    for index, profile in enumerate(profiles):
        path: Path = ("profiles", index)
        yield from _sets((*path, "plugins"), profile.plugins)
        yield from _needed((*path, "plugins"), profile.plugins)
        yield from _arguments((*path, "pluginConfig"), profile.plugin_config)
        if profile.plugins.queue_sort != profiles[0].plugins.queue_sort:
            yield Refusal(
                (*path, "plugins", "queueSort"),
                "is not that of profiles[0]: all profiles share one queue",
                "write the same queueSort in every profile, or in none",
            )


def preemption_of(profile: Profile) -> DefaultPreemptionArgs | None:
    """Return how a profile looks for evictions; None where that cannot be read."""
    given = [one.args for one in profile.plugin_config if one.name == "DefaultPreemption"]
    args = given[0] if given and given[0] is not None else {}
    try:
        return msgspec.convert(present(args), DefaultPreemptionArgs)
    except msgspec.ValidationError:  # told as a file that is broken
        return None


def _points(plugins: Plugins) -> Iterator[tuple[str, PluginSet]]:
    for field in msgspec.structs.fields(plugins):
        yield field.encode_name, getattr(plugins, field.name)


def _sets(path: Path, plugins: Plugins) -> Iterator[Refusal]:
    for point, given in _points(plugins):
        seen: set[str] = set()
        for number, plugin in enumerate(given.enabled):
            where = (*path, point, "enabled", number)
            if plugin.name in GONE:
                yield Refusal(
                    (*where, "name"),
                    f"is {plugin.name}, which kube-scheduler no longer has",
                    "take it out: NodeVolumeLimits does its work",
                )
            if plugin.name in seen:
                yield Refusal(
                    (*where, "name"), f"is {plugin.name}, which stands here twice", "take one out"
                )
            points = IN_TREE.get(plugin.name, (point,))
            if point not in {*points, "multiPoint"}:
                yield Refusal(
                    (*where, "name"),
                    f"is {plugin.name}, which has no part in {point}",
                    f"take it out; it can stand in {', '.join(points)}",
                )
            if plugin.weight < 0 and point in {"score", "placementScore", "multiPoint"}:
                yield Refusal((*where, "weight"), "is negative", "weight: 1")
            seen.add(plugin.name)


def _needed(path: Path, plugins: Plugins) -> Iterator[Refusal]:
    """Tell a profile that is left without the one queue order, or without a binder."""
    needed = (
        ("queueSort", plugins.queue_sort, "PrioritySort"),
        ("bind", plugins.bind, "DefaultBinder"),
    )
    whole = plugins.multi_point
    for point, given, usual in needed:
        taken = _off(given, usual) or (_off(whole, usual) and not _on(whole, usual))
        if (
            taken
            and not given.enabled
            and not any(plugin.name not in IN_TREE for plugin in whole.enabled)
        ):
            yield Refusal(
                (*path, point),
                f"has no plugin left: {usual} is disabled and no other enabled",
                f"{point}: {{enabled: [{{name: {usual}}}]}}",
            )
    if len(plugins.queue_sort.enabled) > 1:
        yield Refusal(
            (*path, "queueSort", "enabled"),
            f"has {len(plugins.queue_sort.enabled)} plugins: one alone can order the queue",
            "leave one of them",
        )


def _off(given: PluginSet, name: str) -> bool:
    return any(plugin.name in {name, _ALL} for plugin in given.disabled)


def _on(given: PluginSet, name: str) -> bool:
    return any(plugin.name == name for plugin in given.enabled)


def _arguments(path: Path, given: tuple[PluginConfig, ...]) -> Iterator[Refusal]:
    seen: set[str] = set()
    for index, one in enumerate(given):
        where = (*path, index)
        if one.name in seen:
            yield Refusal(
                (*where, "name"), f"is {one.name}, which stands here twice", "make them one"
            )
        seen.add(one.name)
        if one.name in GONE:
            yield Refusal(
                (*where, "name"),
                f"is {one.name}, which kube-scheduler no longer has",
                "take the entry out",
            )
        elif one.name in ARGUMENTS and one.args is not None:
            yield from _typed((*where, "args"), one.name, one.args)


def _typed(path: Path, name: str, given: Any) -> Iterator[Refusal]:
    wrong = list(refused(given, ARGUMENTS[name], path))
    yield from wrong
    if isinstance(given, dict):
        kinds = (("apiVersion", API_VERSION), ("kind", f"{name}Args"))
        for key, wanted in kinds:
            if given.get(key) not in {None, "", wanted}:
                yield Refusal((*path, key), f"is {given[key]!r}", f"{key}: {wanted}")
    try:
        read = msgspec.convert(present(given), ARGUMENTS[name])
    except msgspec.ValidationError:  # told above
        return
    yield from refused_arguments(read, path)
