"""Claims that hold models: read slowly, or mounted by more pods or nodes than they let in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from extender.cluster.claims import OF_MANY_NODES
from extender.cluster.starts import restarted, started
from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity
from extender.explain.naming import some
from extender.kube.lives import is_ready
from extender.kube.objects import PersistentVolumeClaim, Pod
from extender.workload.model import Strategy
from extender.workload.volumes import mounted_claims

SLOWER_BY, SLOWER_SECONDS = 2.0, 30.0
"""A claim is slow where a start took so many times its estimate, and so much longer."""

_OF_ONE_POD = frozenset({"ReadWriteOncePod"})


def check_claims(examined: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the claims that pods read their models from."""
    yield from _not_shared(examined)
    yield from _slow(examined)


def _not_shared(examined: Examined) -> Iterator[Finding]:
    """Tell claims of models that more pods have than can have them at once."""
    mounted: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in examined.groups:
        for name in {*_models(group), *mounted_claims(group.pod.spec.volumes)}:
            mounted[group.pod.metadata.namespace, name].append(group)
    for claim in examined.claims:
        groups = mounted[claim.metadata.namespace, claim.metadata.name]
        pods = [pod for group in groups for pod in group.pods]
        modes = frozenset(claim.spec.access_modes)
        holds_a_model = any(claim.metadata.name in _models(group) for group in groups)
        if len(pods) < 2 or not holds_a_model or not modes or modes & OF_MANY_NODES:
            continue
        shared = _Shared(claim, pods, some(group.name for group in groups))
        yield from shared.among_pods() if modes == _OF_ONE_POD else shared.among_nodes()


class _Shared(msgspec.Struct, frozen=True):
    """A claim that several pods have, who are named by their owners."""

    claim: PersistentVolumeClaim
    pods: list[Pod]
    owners: str

    def among_pods(self) -> Iterator[Finding]:
        """kube-scheduler gives it to one pod (its plugin VolumeRestrictions); the others wait."""
        waiting = [pod for pod in self.pods if not pod.spec.node_name]
        yield self._finding(
            Severity.ERROR,
            f"is ReadWriteOncePod, and {len(self.pods)} pods have it ({self.owners}): one runs, "
            f"the others get no node{_named(waiting)}",
        )

    def among_nodes(self) -> Iterator[Finding]:
        """Say what the kubelets make of a volume that is attached to one node.

        Nothing where all run on several: a volume that is not attached (NFS, a directory) has no
        such limit.
        """
        modes = ", ".join(self.claim.spec.access_modes)
        said = f"is {modes}, and {len(self.pods)} pods have it ({self.owners})"
        nodes = sorted({pod.spec.node_name for pod in self.pods if pod.spec.node_name})
        late = [pod for pod in self.pods if pod.spec.node_name and not is_ready(pod)]
        if len(nodes) < 2:
            yield self._finding(
                Severity.WARNING,
                f"{said}: those on a second node do not start (FailedAttachVolume)",
            )
        elif late:
            yield self._finding(
                Severity.ERROR,
                f"{said}, on {len(nodes)} nodes ({some(nodes)}): one node at a time has the "
                f"volume, and pods of the others do not start (FailedAttachVolume){_named(late)}",
            )

    def _finding(self, severity: Severity, message: str) -> Finding:
        metadata = self.claim.metadata
        return Finding(
            severity=severity,
            check="ClaimNotShared",
            object=f"PersistentVolumeClaim {metadata.namespace}/{metadata.name}",
            message=message,
            remedy="spec.accessModes of a claim cannot be changed: make one with "
            "[ReadWriteMany], or with [ReadOnlyMany] once it is filled, and name it in the pods; "
            "or keep the model on the nodes (deploy/examples/node-cache.yaml)",
        )


def _named(pods: list[Pod]) -> str:
    return f" (now {some(pod.metadata.name for pod in pods)})" if pods else ""


def _models(group: Group) -> set[str]:
    return {r.claim for r in group.request.workload.references if r.claim}


def _slow(examined: Examined) -> Iterator[Finding]:
    """Compare estimated and actual starts, where a pod carries our decision and never restarted."""
    starts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for group in examined.groups:
        claim = _claim(group)
        for pod in group.pods if claim else ():
            start = started(pod.metadata.uid, pod)
            if start is None or restarted(pod):
                continue
            if start.basis.strategy is Strategy.SHARED_VOLUME:
                seen_of = starts[f"{pod.metadata.namespace}/{claim}"]
                seen_of.append((start.actual, start.estimated))
    for claim, seen in sorted(starts.items()):
        actual, estimated = min(seen)
        if actual > SLOWER_BY * estimated and actual > estimated + SLOWER_SECONDS:
            yield Finding(
                severity=Severity.WARNING,
                check="ClaimReadSlowly",
                object=f"PersistentVolumeClaim {claim}",
                message=f"the fastest of {len(seen)} pods that read it was Ready {actual:.0f} s "
                f"after it was bound, {estimated:.0f} s were expected",
                remedy="measure what the volume reads and set estimate.bandwidths.sharedVolume "
                "(GB/s) in the extender's configuration; a node cache reads faster "
                "(deploy/examples/node-cache.yaml)",
            )


def _claim(group: Group) -> str | None:
    return next((r.claim for r in group.request.workload.references if r.claim), None)
