"""Claims that hold models: read slowly, or mounted by more nodes than they let in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from extender.cluster.starts import restarted, started
from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity, some
from extender.workload.model import Strategy

SLOWER_BY, SLOWER_SECONDS = 2.0, 30.0
"""A claim is slow where a start took so many times its estimate, and so much longer."""

_OF_MANY_NODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})


def check_claims(examined: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the claims that pods read their models from."""
    yield from _not_shared(examined)
    yield from _slow(examined)


def _not_shared(examined: Examined) -> Iterator[Finding]:
    """Tell claims that one node at a time can mount, read by more than one pod."""
    readers: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in examined.groups:
        for name in {r.claim for r in group.request.workload.references if r.claim}:
            readers[group.pod.metadata.namespace, name].append(group)
    for claim in examined.claims:
        modes = claim.spec.access_modes
        key = claim.metadata.namespace, claim.metadata.name
        pods = sum(len(group.pods) for group in readers[key])
        if pods < 2 or not modes or not _OF_MANY_NODES.isdisjoint(modes):
            continue
        yield Finding(
            severity=Severity.WARNING,
            check="ClaimNotShared",
            object=f"PersistentVolumeClaim {'/'.join(key)}",
            message=f"is {', '.join(modes)}, and {pods} pods read their model from it "
            f"({some(group.name for group in readers[key])}): those on a second node do not start "
            "(FailedAttachVolume)",
            remedy="access modes of a claim cannot be changed: make one with spec.accessModes: "
            "[ReadWriteMany], or [ReadOnlyMany] once it is filled; or a node cache "
            "(deploy/examples/node-cache.yaml)",
        )


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
                "(GB/s); a node cache reads faster (deploy/examples/node-cache.yaml)",
            )


def _claim(group: Group) -> str | None:
    return next((r.claim for r in group.request.workload.references if r.claim), None)
