"""What is seen of placements: two schedulers on one node, an opt-in without effect, slow claims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from extender.cluster.namespaces import DEFAULT_SCHEDULER, LEFT_ALONE, OPT_IN
from extender.cluster.starts import restarted, started
from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity, some
from extender.doctor.labels import opted_in
from extender.kube.objects import Pod
from extender.workload.model import Strategy

_NOT_PLACED = frozenset({"DaemonSet", "Node"})
"""Owners whose pods belong to their node: nobody chose it."""

SLOWER_BY, SLOWER_SECONDS = 2.0, 30.0
"""A claim is slow where a start took so many times its estimate, and so much longer."""


def check_placements(examined: Examined) -> Iterator[Finding]:
    """Yield what the cluster's placements show."""
    yield from _two_schedulers(examined)
    yield from _no_effect(examined)
    yield from _slow_claims(examined)


def _two_schedulers(examined: Examined) -> Iterator[Finding]:
    ours: dict[str, str] = {}
    others: dict[str, dict[str, str]] = defaultdict(dict)
    for group in examined.groups:
        if group.kind in _NOT_PLACED:
            continue
        for pod in group.pods:
            node, scheduler = pod.spec.node_name, _scheduler(pod)
            if node and scheduler in examined.schedulers:
                ours[node] = group.owner
            elif node:
                others[scheduler][node] = group.owner
    for scheduler, placed in sorted(others.items()):
        shared = sorted(set(placed) & set(ours))
        if shared:
            yield Finding(
                severity=Severity.WARNING,
                check="TwoSchedulersOnNodes",
                object=f"{len(shared)} nodes ({some(shared)})",
                message=f"{scheduler} and {some(examined.schedulers)} both place pods there (on "
                f"{shared[0]}: {placed[shared[0]]} and {ours[shared[0]]}): neither sees what the "
                "other has decided and not bound yet, so that both may give away the same CPU, "
                "GPU or memory",
                remedy="give each its own nodes: taint those of the models and let only their "
                "pods tolerate it, or send all pods of these nodes one way",
            )


def _no_effect(examined: Examined) -> Iterator[Finding]:
    labelled = set(opted_in(examined))
    missed: dict[str, set[str]] = defaultdict(set)
    for group in examined.groups:
        pod = group.pod
        waits = any(not p.spec.node_name and _scheduler(p) == DEFAULT_SCHEDULER for p in group.pods)
        if waits and pod.metadata.namespace in labelled and group.kind not in LEFT_ALONE:
            missed[pod.metadata.namespace].add(group.owner)
    for namespace, owners in sorted(missed.items()):
        if DEFAULT_SCHEDULER not in examined.schedulers:
            yield Finding(
                severity=Severity.WARNING,
                check="OptInWithoutEffect",
                object=f"Namespace {namespace}",
                message=f"is labelled {OPT_IN}, and waiting pods of it go "
                f"to {DEFAULT_SCHEDULER} ({some(owners)})",
                remedy="kubectl apply -k deploy/opt-in; pods that were made before have to be "
                "made again (kubectl rollout restart)",
            )


def _scheduler(pod: Pod) -> str:
    return pod.spec.scheduler_name or DEFAULT_SCHEDULER


def _slow_claims(examined: Examined) -> Iterator[Finding]:
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
