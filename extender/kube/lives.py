"""How far a pod has come, by what its kubelet says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from extender.kube.objects import Condition, Container, ContainerStatus, Pod
from extender.kube.times import unix_time

_WAITING_WELL = frozenset({"", "ContainerCreating", "PodInitializing"})
_RAN_BEFORE = "CrashLoopBackOff"
"""The one reason to wait that only a container which has run can give; others keep it from running
(kubernetes/pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go)."""
_NEVER_RAN = frozenset({"StartError", "ContainerCannotRun", "ContainerStatusUnknown"})
"""Reasons to have ended that leave no log: of container runtimes, and of the kubelet itself."""


class ContainerLog(msgspec.Struct, frozen=True, gc=False):
    """Where a container of a pod says how it is: by name, empty for the only one that matters.

    ``previous``: in the log of the run before this one, which is all that is left of a crash.
    """

    container: str = ""
    previous: bool = False


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """What keeps one container from running, in the kubelet's words.

    ``log`` is None where it has not run: then the events of its pod say why.
    """

    container: str
    reason: str
    log: ContainerLog | None = None


def is_ready(pod: Pod) -> bool:
    """Tell whether a pod's Ready condition is true."""
    return _is_true(pod, "Ready")


def makes_way_by(pod: Pod) -> float | None:
    """Return by when a pod has to end that kube-scheduler evicts for another one, in UNIX seconds.

    None for every other pod. By its own rule (kubernetes/pkg/scheduler/framework/preemption,
    PodTerminatingByPreemption). The time has the grace period in it: the apiserver adds that to the
    moment of the eviction (apiserver/pkg/registry/rest/delete.go, BeforeDelete).
    """
    said = condition_of(pod, "DisruptionTarget")
    if said is None or said.status != "True" or said.reason != "PreemptionByScheduler":
        return None
    return unix_time(pod.metadata.deletion_timestamp)


def tells_when_it_serves(pod: Pod) -> bool:
    """Tell whether a probe has to pass before a pod is Ready; without one, its process runs."""
    return any(map(is_probed, pod.spec.containers))


def is_probed(container: Container) -> bool:
    """Tell whether a probe has to pass before a container is ready."""
    return container.readiness_probe is not None or container.startup_probe is not None


def statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    """Return how far each container of a pod is, those that initialize it first."""
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def is_initialized(pod: Pod) -> bool:
    """Tell whether a pod's init containers have ended well, or it has none."""
    return _is_true(pod, "Initialized") or not pod.spec.init_containers


def has_run(status: ContainerStatus) -> bool:
    """Tell whether a container runs, or ever has."""
    return (
        status.state.running is not None
        or status.state.terminated is not None
        or status.last_state.terminated is not None
        or status.restart_count > 0
    )


def troubles(containers: Iterable[ContainerStatus]) -> Iterator[Trouble]:
    """Yield what is wrong with each container that is in trouble."""
    for status in containers:
        waiting, ended = status.state.waiting, status.state.terminated
        before = status.last_state.terminated
        if waiting is not None and waiting.reason not in _WAITING_WELL:
            detail = f", {before.reason} exit {before.exit_code}" if before is not None else ""
            ran = waiting.reason == _RAN_BEFORE and before and before.reason not in _NEVER_RAN
            log = ContainerLog(status.name, previous=True) if ran else None
            yield Trouble(status.name, f"{waiting.reason}{detail}", log)
        elif ended is not None and ended.exit_code != 0:
            log = None if ended.reason in _NEVER_RAN else ContainerLog(status.name)
            yield Trouble(status.name, f"{ended.reason or 'Error'} exit {ended.exit_code}", log)


def running(containers: Iterable[ContainerStatus]) -> ContainerLog | None:
    """Return the log of the first container that runs and is not ready; None without one."""
    names = (one.name for one in containers if one.state.running is not None and not one.ready)
    name = next(names, None)
    return None if name is None else ContainerLog(name)


def condition_of(pod: Pod, name: str) -> Condition | None:
    """Return a condition of a pod by its type; None where nobody has set it."""
    return next((one for one in pod.status.conditions if one.type == name), None)


def _is_true(pod: Pod, name: str) -> bool:
    condition = condition_of(pod, name)
    return condition is not None and condition.status == "True"
