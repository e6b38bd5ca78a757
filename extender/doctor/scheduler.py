"""The traps of a kube-scheduler configuration that names an extender: the scheduler as a whole.

Sources, all of kubernetes/kubernetes v1.37: pkg/scheduler/schedule_one.go
(``numFeasibleNodesToFind``), pkg/scheduler/framework/plugins/defaultpreemption
(``calculateNumCandidates``), pkg/scheduler/apis/config/validation/validation.go
(``validateExtenders``), and the defaults of the configuration types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from extender.config import listen_address
from extender.doctor.decoded import Path
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler_entry import Setting, check_entry
from extender.doctor.scheduler_file import Entry, SchedulerFile
from extender.doctor.scheduler_plugins import foreign_plugins, preemption_of
from extender.doctor.scheduler_types import DEFAULT_SCHEDULER
from extender.doctor.scheduler_values import in_range
from extender.verbs.context import ListRejected

_SAMPLED_FROM = 100
"""``minFeasibleNodesToFind``."""

_LONGEST_BACKOFF = 2
_DEFAULT_BACKOFF = 10
"""``podMaxBackoffSeconds`` where it is left out."""


def check_scheduler(file: SchedulerFile, setting: Setting) -> Iterator[Finding]:
    """Yield what is wrong with a configuration."""
    entries = [
        Entry(file, index, given) for index, given in enumerate(file.configuration.extenders)
    ]
    if not entries:
        yield Finding(
            severity=Severity.ERROR,
            check="NoExtender",
            object=file.place("extenders"),
            message="names no extender: this kube-scheduler asks nobody where models are",
            remedy="copy the extenders section of config/scheduler-config.yaml",
        )
    for rule in _RULES:
        yield from rule(file, setting)
    ours = _ours(entries, setting)
    for entry in ours:
        yield from check_entry(entry, setting)
    yield from _followed(entries, ours, setting)


def _ours(entries: list[Entry], setting: Setting) -> list[Entry]:
    """Return the entries that call this program: on its port, else all."""
    port = listen_address(setting.configuration.listen, field="listen")[1]
    named = [entry for entry in entries if _port(entry.given.url_prefix) == port]
    return named or entries


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _sampling(file: SchedulerFile, setting: Setting) -> Iterator[Finding]:
    whole = file.configuration.percentage_of_nodes_to_score
    places: dict[Path, int | None] = {}
    for index, profile in enumerate(file.configuration.profiles):
        own = profile.percentage_of_nodes_to_score
        if own is None:
            places["percentageOfNodesToScore",] = whole
        else:
            places["profiles", index, "percentageOfNodesToScore"] = own
    for path, percentage in places.items():
        if percentage == 100 or not in_range(percentage):  # told as a file that is broken
            continue
        looks_at = feasible_nodes(percentage, setting.nodes)
        hidden = setting.nodes > looks_at
        seen = (
            f"of {setting.nodes} nodes it looks at {looks_at}"
            if hidden
            else f"beyond {_SAMPLED_FROM} nodes it looks at a part only"
        )
        yield Finding(
            severity=Severity.ERROR if hidden else Severity.WARNING,
            check="NodesSampled",
            object=file.place(*path),
            message=f"is {'not set' if percentage is None else percentage}: {seen}, blindly, and "
            "the node that holds the model is probably not among them (kubernetes#122057)",
            remedy="percentageOfNodesToScore: 100",
        )


def feasible_nodes(percentage: int | None, nodes: int) -> int:
    """Return how many feasible nodes kube-scheduler stops at (``numFeasibleNodesToFind``)."""
    if nodes < _SAMPLED_FROM:
        return nodes
    share = percentage or max(5, 50 - nodes // 125)
    return max(_SAMPLED_FROM, nodes * share // 100)


def _evictions(file: SchedulerFile, setting: Setting) -> Iterator[Finding]:
    """Tell where evictions are tried on some nodes only; a hundred are tried in any case."""
    for index, profile in enumerate(file.configuration.profiles):
        given = preemption_of(profile)
        if given is None:
            continue
        share = given.min_candidate_nodes_percentage
        tried = max(setting.nodes * share // 100, given.min_candidate_nodes_absolute)
        if tried >= setting.nodes:
            continue
        yield Finding(
            severity=Severity.WARNING,
            check="EvictionsSampled",
            object=file.place("profiles", index, "pluginConfig"),
            message=f"has minCandidateNodesPercentage {share}: of {setting.nodes} nodes evictions "
            f"are tried on {tried}, from a random one on, and those that hold the model are "
            "probably not among them: the pod waits though an eviction would help",
            remedy="pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: "
            "100}}]",
        )


def _names(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    """Tell profiles without a name, and with one that another has: neither starts."""
    seen: dict[str, int] = {}
    for index, profile in enumerate(file.configuration.profiles):
        name = profile.scheduler_name
        before = seen.setdefault(name, index)
        if name and before == index:
            continue
        yield Finding(
            severity=Severity.ERROR,
            check="SchedulerNameTwice" if name else "NoSchedulerName",
            object=file.place("profiles", index, "schedulerName"),
            message=f"is {name!r}, as in profiles[{before}]: kube-scheduler does not start"
            if name
            else "is empty: kube-scheduler does not start (only a single profile that leaves the "
            f"key out is {DEFAULT_SCHEDULER})",
            remedy="give each profile a name of its own, such as schedulerName: "
            "model-cache-scheduler",
        )


def _backoff(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    first = file.configuration.pod_initial_backoff_seconds
    longest = file.configuration.pod_max_backoff_seconds
    said = f"is {f'not set ({_DEFAULT_BACKOFF})' if longest is None else longest}"
    longest = _DEFAULT_BACKOFF if longest is None else longest
    if first <= 0 or longest < first:
        short = first <= 0
        yield Finding(
            severity=Severity.ERROR,
            check="BadBackoff",
            object=file.place("podInitialBackoffSeconds" if short else "podMaxBackoffSeconds"),
            message=(f"is {first}" if short else f"{said}, less than podInitialBackoffSeconds")
            + ": kube-scheduler does not start with it",
            remedy=f"podInitialBackoffSeconds: 1, podMaxBackoffSeconds: {_LONGEST_BACKOFF}",
        )
    elif longest > _LONGEST_BACKOFF:
        yield Finding(
            severity=Severity.WARNING,
            check="LongBackoff",
            object=file.place("podMaxBackoffSeconds"),
            message=f"{said}: a pod that is woken because its model is there now, or that was "
            "refused at bind, waits out its back-off first",
            remedy=f"podMaxBackoffSeconds: {_LONGEST_BACKOFF}",
        )


def _shared(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    names = file.configuration.scheduler_names
    managed = all(entry.managed_resources for entry in file.configuration.extenders)
    if len(names) > 1:
        yield Finding(
            severity=Severity.WARNING,
            check="ExtenderShared",
            object=file.place("profiles"),
            message=f"extenders are shared by all profiles: the pods of {', '.join(names)} all "
            "wait for this one, and for its answer",
            remedy="run a second kube-scheduler with one profile "
            "(deploy/overlays/second-scheduler)",
        )
    if DEFAULT_SCHEDULER in names and file.configuration.extenders and not managed:
        yield Finding(
            severity=Severity.WARNING,
            check="EveryPodAsks",
            object=file.place("extenders"),
            message="every pod of the cluster passes through this scheduler, the extender's own "
            "included: while the extender is down nothing starts, its replacement neither; and "
            "kube-scheduler judges each pod by itself, where it knows one answer for pods that are "
            "alike as long as it has no extender (OpportunisticBatching)",
            remedy="managedResources: [{name: nvidia.com/gpu}], or a second kube-scheduler "
            "(deploy/overlays/second-scheduler)",
        )


def _lease(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    lease = file.configuration.leader_election
    names = set(file.configuration.scheduler_names)
    if not lease.leader_elect or DEFAULT_SCHEDULER in names:
        return
    if (lease.resource_namespace, lease.resource_name) == ("kube-system", "kube-scheduler"):
        yield Finding(
            severity=Severity.ERROR,
            check="LeaseShared",
            object=file.place("leaderElection", "resourceName"),
            message="is the lease of the cluster's own scheduler (kube-system/kube-scheduler): "
            "only one of the two schedulers runs",
            remedy="leaderElection: {leaderElect: true, resourceLock: leases, resourceName: "
            "model-cache-scheduler, resourceNamespace: model-cache-system}",
        )


def _binders(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    binders = [i for i, entry in enumerate(file.configuration.extenders) if entry.bind_verb]
    if len(binders) > 1:
        yield Finding(
            severity=Severity.ERROR,
            check="BindTwice",
            object=file.place("extenders", binders[1], "bindVerb"),
            message=f"extenders {', '.join(map(str, binders))} all bind; kube-scheduler does not "
            "start: one alone may",
            remedy="leave bindVerb to this extender, and take it out of the others",
        )


def _waking(file: SchedulerFile, setting: Setting) -> Iterator[Finding]:
    waking = setting.configuration.waking
    known, names = set(waking.scheduler_names), set(file.configuration.scheduler_names)
    if not file.configuration.extenders:
        return
    if not waking.enabled:
        yield Finding(
            severity=Severity.WARNING,
            check="WakingOff",
            object="waking.enabled of the extender's configuration",
            message="is false: what makes a refused pod right again, a model that is there now or "
            "memory that is given back, is no event of kube-scheduler's, which tries the pod again "
            "after up to five minutes",
            remedy="waking: {enabled: true}",
        )
    elif names - known:
        yield Finding(
            severity=Severity.WARNING,
            check="WakingOthers",
            object=file.place("profiles"),
            message=f"pods of {', '.join(sorted(names - known))} come to the extender, which after "
            f"a restart wakes those of {', '.join(sorted(known)) or 'nobody'} alone: others wait "
            "up to five minutes",
            remedy=f"waking: {{schedulerNames: [{', '.join(sorted(names))}]}} in the extender's "
            "configuration (--config)",
        )


def _followed(entries: list[Entry], ours: list[Entry], setting: Setting) -> Iterator[Finding]:
    """Speak of other extenders behind this one: what is left out is lost where they refuse."""
    if not ours or setting.configuration.filter.list_rejected is ListRejected.ALWAYS:
        return
    after = [entry for entry in entries if entry.index > ours[0].index and entry not in ours]
    later = [entry for entry in after if entry.given.filter_verb]
    if later:
        yield Finding(
            severity=Severity.WARNING,
            check="AnotherFilterFollows",
            object=later[0].at("filterVerb"),
            message="another extender filters after this one: where it refuses the rest, the "
            "pod's event lacks the reasons of the nodes that this one refused, and a pod may wait "
            "for a retry though it fits on a node that this one did not offer",
            remedy="filter: {listRejected: always} in the extender's configuration",
        )


def _foreign_plugins(file: SchedulerFile, _setting: Setting) -> Iterator[Finding]:
    for path, name in foreign_plugins(file.configuration.profiles):
        yield Finding(
            severity=Severity.WARNING,
            check="PluginNotBuiltIn",
            object=file.place(*path),
            message=f"is {name!r}, which kube-scheduler as it is released has not: it starts with "
            "it only where it was built with that plugin",
            remedy="mend the name, or run the image of kube-scheduler that has the plugin",
        )


_RULES: tuple[Callable[[SchedulerFile, Setting], Iterator[Finding]], ...] = (
    _names,
    _foreign_plugins,
    _sampling,
    _evictions,
    _backoff,
    _shared,
    _lease,
    _binders,
    _waking,
)
