"""The traps of one entry under ``extenders`` in kube-scheduler's configuration.

Sources: pkg/scheduler/extender.go (``IsInterested``), schedule_one.go
(``prioritizeNodes``, ``extendersBinding``), apis/config/validation/validation.go
(``validateExtenders``) and apis/config/v1/default_plugins.go of kubernetes/kubernetes v1.37.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from extender.config import ExtenderConfiguration
from extender.doctor.decoded import seconds, shown
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler_address import check_address
from extender.doctor.scheduler_file import Entry
from extender.doctor.scheduler_types import DEFAULT_SCHEDULER

IN_TREE_POINTS = 15 * 100
"""What the score plugins that are on by default can put between two nodes: their weights add up to
15, dynamic resources included, each with 0 to 100 points (default_plugins.go)."""

POINT = 10
"""One point of an extender's score is worth so many points for each unit of its weight:
``MaxNodeScore / MaxExtenderPriority``."""

TOP_SCORE = 10
DEFAULT_TIMEOUT = 5.0
_LONGEST_TIMEOUT = 30.0


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration is held against.

    ``bind_seconds``: how long bind may take at the most. ``nodes``: of the cluster, 0 if not known.
    ``required``: pods exist that cannot fetch their model, or keep it in memory.
    """

    configuration: ExtenderConfiguration = ExtenderConfiguration()
    bind_seconds: float = 0.0
    nodes: int = 0
    required: bool = False


def check_entry(entry: Entry, setting: Setting) -> Iterator[Finding]:
    """Yield what is wrong with one extender's entry."""
    for rule in _RULES:
        yield from rule(entry, setting)
    yield from check_address(entry)


def _verbs(entry: Entry, _setting: Setting) -> Iterator[Finding]:
    """Tell verbs that are not called, and those that nobody answers.

    A verb's address is ``urlPrefix``, a slash and the verb (``send``, in extender.go).
    """
    verbs = (
        (
            entry.given.filter_verb,
            Severity.ERROR,
            "NoFilter",
            "filterVerb",
            "no node is refused: pods go to nodes without their model",
            "filterVerb: filter",
        ),
        (
            entry.given.prioritize_verb,
            Severity.WARNING,
            "NoPrioritize",
            "prioritizeVerb",
            "where a pod would start soonest is not asked",
            "prioritizeVerb: prioritize, and weight: 15",
        ),
        (
            entry.given.bind_verb,
            Severity.WARNING,
            "NoBind",
            "bindVerb",
            "memory is promised to nobody at bind, so that two pods at once can be given the same",
            "bindVerb: bind",
        ),
        (
            entry.given.preempt_verb,
            Severity.NOTE,
            "NoPreempt",
            "preemptVerb",
            "pods may be evicted for one that has no model on that node",
            "preemptVerb: preempt",
        ),
    )
    for verb, severity, check, field, message, remedy in verbs:
        called = field.removesuffix("Verb")
        if not verb:
            yield Finding(
                severity=severity,
                check=check,
                object=entry.at(field),
                message=f"is not set: {message}",
                remedy=remedy,
            )
        elif verb != called:
            yield Finding(
                severity=Severity.ERROR,
                check="VerbUnknown",
                object=entry.at(field),
                message=f"is {shown(verb)}, which this extender does not know: every such call "
                "fails",
                remedy=f"{field}: {called}",
            )


def _weight(entry: Entry, _setting: Setting) -> Iterator[Finding]:
    weight = entry.given.weight
    if not entry.given.prioritize_verb:
        return
    at, proper = entry.at("weight"), IN_TREE_POINTS // (TOP_SCORE * POINT)
    if weight <= 0:
        yield Finding(
            severity=Severity.ERROR,
            check="NoWeight",
            object=at,
            message=f"is {weight}; kube-scheduler does not start with a prioritizeVerb without a "
            "positive weight",
            remedy=f"weight: {proper}",
        )
    elif weight < proper:
        yield Finding(
            severity=Severity.WARNING,
            check="WeightTooLow",
            object=at,
            message=f"is {weight}: the node that starts a pod first is worth "
            f"{weight * POINT * TOP_SCORE} points more than the one that starts it last, and the "
            f"in-tree plugins can put {IN_TREE_POINTS} between the two",
            remedy=f"weight: {proper}",
        )
    elif weight * POINT > IN_TREE_POINTS:
        yield Finding(
            severity=Severity.WARNING,
            check="WeightDrowns",
            object=at,
            message=f"is {weight}: one point of start time, a second or two, is worth "
            f"{weight * POINT} and outvotes spreading and preferred affinity altogether "
            f"({IN_TREE_POINTS})",
            remedy=f"weight: {proper}",
        )


def _timeout(entry: Entry, setting: Setting) -> Iterator[Finding]:
    given = entry.given.http_timeout
    read = seconds(given) if given else DEFAULT_TIMEOUT
    at = entry.at("httpTimeout")
    if read is None:  # told as a file that is broken
        return
    if read < 0:
        yield Finding(
            severity=Severity.ERROR,
            check="BadTimeout",
            object=at,
            message=f"is {given}: every call has failed before it begins",
            remedy="httpTimeout: 5s",
        )
        return
    timeout = read or DEFAULT_TIMEOUT
    deadline = setting.configuration.server.deadline_seconds
    longest = max(deadline, setting.bind_seconds if entry.given.bind_verb else 0.0)
    said = f"is {given}" if given else f"is not set ({DEFAULT_TIMEOUT:g} s)"
    if timeout <= longest:
        yield Finding(
            severity=Severity.ERROR,
            check="TimeoutBelowDeadline",
            object=at,
            message=f"{said}, and the extender answers within {longest:g} s "
            f"(server.deadlineSeconds {deadline:g} s; bind {setting.bind_seconds:g} s): "
            "kube-scheduler hangs up first, and a binding that was done counts as failed",
            remedy=f"httpTimeout: {int(longest) + 1}s",
        )
    elif timeout > _LONGEST_TIMEOUT:
        yield Finding(
            severity=Severity.WARNING,
            check="TimeoutLong",
            object=at,
            message=f"{said}: scheduling goes one pod at a time, and an extender that hangs holds "
            "all of them for so long",
            remedy=f"httpTimeout: {int(longest) + 1}s",
        )


def _ignorable(entry: Entry, setting: Setting) -> Iterator[Finding]:
    if not entry.given.ignorable:
        return
    binds, at = bool(entry.given.bind_verb), entry.at("ignorable")
    if binds:
        message = (
            "is true, and the extender binds: its refusal at bind becomes a default binding "
            "(schedule_one.go), and memory is given twice"
        )
    else:
        message = (
            "is true: while the extender cannot answer, pods are placed blindly, on nodes without "
            "their model or the memory that they need"
        )
    yield Finding(
        severity=Severity.ERROR if binds or setting.required else Severity.WARNING,
        check="Ignorable",
        object=at,
        message=message,
        remedy="ignorable: false",
    )


def _node_cache(entry: Entry, _setting: Setting) -> Iterator[Finding]:
    if not entry.given.node_cache_capable:
        yield Finding(
            severity=Severity.ERROR,
            check="NotNodeCacheCapable",
            object=entry.at("nodeCacheCapable"),
            message="is false: whole Node objects travel both ways (48 MB instead of 112 KB for "
            "5,000 nodes), and NodeResourcesFit sees nodes without their pods (kubernetes#141781)",
            remedy="nodeCacheCapable: true",
        )


def _managed(entry: Entry, _setting: Setting) -> Iterator[Finding]:
    resources = entry.given.managed_resources
    if not resources:
        return
    names = entry.file.configuration.scheduler_names
    listed = ", ".join(resource.name for resource in resources)
    yield Finding(
        severity=Severity.NOTE if DEFAULT_SCHEDULER in names else Severity.WARNING,
        check="ManagedResources",
        object=entry.at("managedResources"),
        message=f"only pods that ask for {listed} are asked about: a model served on CPUs is "
        "placed blindly, and a pod without it takes memory that is promised",
        remedy="take managedResources out where schedulerName already says which pods come here",
    )
    for index, resource in enumerate(resources):
        if resource.ignored_by_scheduler:
            yield Finding(
                severity=Severity.ERROR,
                check="ResourceUncounted",
                object=entry.file.place(
                    "extenders", entry.index, "managedResources", index, "ignoredByScheduler"
                ),
                message=f"kube-scheduler no longer counts {resource.name}, and neither does this "
                "extender: nodes are given more pods than they have devices",
                remedy="ignoredByScheduler: false",
            )


_RULES: tuple[Callable[[Entry, Setting], Iterator[Finding]], ...] = (
    _verbs,
    _weight,
    _timeout,
    _ignorable,
    _node_cache,
    _managed,
)
