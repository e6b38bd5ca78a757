"""Loader pods as witnesses of what their node holds.

A loader of ours says it in a report; for others, and as long as there is none, the state of the pod
and what its manifest says that it fetches are what is known: init containers running are
``loading``, a crash is ``failed`` with the kubelet's reason, a pod that was Ready and no longer is
leaves its files behind as ``stale``.

What a report says is there is ``ready`` only while its pod is Ready and keeps its Lease, or, where
a rolling update lets two overlap, the other pod of its loader does. A loader of ours that has not
reported yet is ``loading``: it owns the directory, it will tell in seconds, and a pod that went
there now might never start. What the pod before it reported stands meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import msgspec

from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.cluster.reports import Reported
from extender.kube.lives import (
    ContainerLog,
    Trouble,
    has_run,
    is_initialized,
    is_ready,
    running,
    statuses,
    troubles,
)
from extender.kube.objects import Pod
from extender.workload.model import DeclaredModel, LoaderTemplate
from extender.workload.volumes import is_within


class LoaderPod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One loader's pod on one node, reduced to what it vouches for.

    ``unread`` says why its report, or a part of it, does not count; empty where there is none or
    all of it does. ``log`` is where it tells how it is; None where no container has run that could.
    """

    uid: str
    namespace: str
    name: str
    loader: str
    node: str
    template: LoaderTemplate
    state: ModelState
    reason: str = ""
    log: ContainerLog | None = None
    since: float | None = None
    created: str = ""
    reported: Reported | None = None
    unread: str = ""

    @property
    def speaks(self) -> bool:
        """Tell whether it says itself what is there, so that its predecessor's word is over."""
        if self.template.reports:
            return self.reported is not None
        return self.reported is not None or self.state in {ModelState.READY, ModelState.STALE}

    @property
    def leaves(self) -> bool:
        """Tell whether there is something to remember once it is gone."""
        return self.reported is not None or (
            self.state is ModelState.READY and not self.template.reports
        )


class Silence(msgspec.Struct, frozen=True):
    """Why a pod's word is no longer fresh, in words, and since when (UNIX seconds)."""

    reason: str
    since: float | None


class Witness:
    """What one pod says of its node, ready to be asked for a path.

    ``alive``: the pods of its loader there, itself among them, that are Ready and give signs of
    life. Another one vouches for what this one told unless its own report leaves that out.
    """

    def __init__(
        self,
        pod: LoaderPod,
        silence: Silence | None = None,
        alive: Sequence[LoaderPod] = (),
    ) -> None:
        self.pod = pod
        self.namespace = pod.namespace
        self.loader = pod.loader
        self.node = pod.node
        self._silence = silence
        self._alive = alive

    @cached_property
    def held(self) -> dict[str, Holding]:
        """Return the holdings by path."""
        return {holding.path: holding for holding in self._holdings()}

    @cached_property
    def _paths(self) -> list[str]:
        return sorted(self.held)

    def above(self, path: str) -> Holding | None:
        """Return what is held of a path: at it, else at the nearest directory that it lies in."""
        while path:
            holding = self.held.get(path)
            if holding is not None:
                return holding
            path = path.rpartition("/")[0]
        return None

    def below(self, path: str) -> Iterator[Holding]:
        """Yield what is held in a directory."""
        inside = path.rstrip("/") + "/"
        for at in range(bisect_left(self._paths, inside), len(self._paths)):
            if not self._paths[at].startswith(inside):
                return
            yield self.held[self._paths[at]]

    def is_silent_on(self, path: str) -> bool:
        """Tell whether the report had no room for all, and may have left out this path."""
        reported = self.pod.reported
        return reported is not None and reported.incomplete and is_within(path, reported.directory)

    def _holdings(self) -> Iterable[Holding]:
        pod = self.pod
        if pod.reported is not None:
            said = [self._reported(holding) for holding in pod.reported.holdings.values()]
            if pod.reported.unclear:
                said.append(self._unreported(pod.reported.directory))
            return said
        if pod.template.reports:
            return [self._unreported(directory) for directory in pod.template.directories]
        declared = [self._plain(m.path, Evidence.DECLARED, m) for m in pod.template.models]
        if not pod.template.opaque:
            return declared
        return [
            *(self._plain(path, Evidence.ASSUMED, None) for path in pod.template.directories),
            *declared,
        ]

    def _reported(self, holding: Holding) -> Holding:
        pod, silence = self.pod, self._silence
        if any(self._vouches(other, holding) for other in self._alive):
            return holding
        if holding.state is not ModelState.READY:
            if holding.on_demand:
                return msgspec.structs.replace(holding, on_demand=False)  # nobody fetches it
            return holding
        if silence is not None:
            reason, since = silence.reason, silence.since
        else:
            reason, since = pod.reason or "its loader is not Ready", pod.since
        return msgspec.structs.replace(holding, state=ModelState.STALE, reason=reason, since=since)

    def _vouches(self, other: LoaderPod, holding: Holding) -> bool:
        said = other.reported
        return other.uid == self.pod.uid or said is None or holding.path in said.holdings

    def _unreported(self, directory: str) -> Holding:
        pod = self.pod
        failed = pod.state is ModelState.FAILED
        reason = pod.reason if failed else pod.unread or "its loader has not reported yet"
        return msgspec.structs.replace(
            self._plain(directory, Evidence.ASSUMED, None),
            state=ModelState.FAILED if failed else ModelState.LOADING,
            reason=reason,
        )

    def _plain(self, path: str, evidence: Evidence, model: DeclaredModel | None) -> Holding:
        pod, silence = self.pod, self._silence
        return Holding(
            path=path,
            state=pod.state if silence is None else ModelState.STALE,
            evidence=evidence if pod.template.ready_means_done else Evidence.ASSUMED,
            witness=f"{pod.namespace}/{pod.name}",
            namespace=pod.namespace,
            model=model.model if model else None,
            reason=pod.reason if silence is None else silence.reason,
            log=pod.log,
            since=pod.since if silence is None else silence.since,
        )


def loader_pod_state(
    pod: Pod, template: LoaderTemplate
) -> tuple[ModelState, str, ContainerLog | None]:
    """Tell how far a loader pod is, the kubelet's reason where it failed, and who says more of it.

    ``ready``: the Ready condition is true and the pod is not being deleted. ``stale``: it is being
    deleted and was Ready, or everything was fetched before its main container stopped being well.
    ``failed``: a container waits in an error or ended with one. ``loading``: anything earlier.
    """
    status = pod.status
    if is_ready(pod):
        if pod.metadata.deletion_timestamp:
            return ModelState.STALE, "its loader pod is being deleted", None
        return ModelState.READY, "", None
    ran = any(has_run(container) for container in status.container_statuses)
    if template.init_means_done and is_initialized(pod) and ran:
        trouble = next(troubles(status.container_statuses), Trouble("", "its loader is not Ready"))
        return ModelState.STALE, trouble.reason, trouble.log
    containers = statuses(pod)
    failure = next(troubles(containers), None)
    if failure is None and status.phase == "Failed":
        failure = Trouble("", status.reason or "Failed")
    if failure is not None:
        return ModelState.FAILED, failure.reason, failure.log
    return ModelState.LOADING, "", running(containers)
