"""What is seen of placements: two schedulers on one node, an opt-in without effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from extender.cluster.namespaces import DEFAULT_SCHEDULER, LEFT_ALONE, OPT_IN
from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity
from extender.explain.naming import some
from extender.kube.objects import Pod

_NOT_PLACED = frozenset({"DaemonSet", "Node"})
"""Owners whose pods belong to their node: nobody chose it."""


def check_placements(examined: Examined) -> Iterator[Finding]:
    """Yield what the cluster's placements show."""
    yield from _two_schedulers(examined)
    yield from _no_effect(examined)


def _two_schedulers(examined: Examined) -> Iterator[Finding]:
    ours: dict[str, str] = {}
    others: dict[str, dict[str, str]] = defaultdict(dict)
    for group in examined.groups:
        if group.kind in _NOT_PLACED:
            continue
        for pod in group.pods:
            node, scheduler = pod.spec.node_name, _scheduler(pod)
            if node and scheduler in examined.schedulers:
                ours[node] = group.name
            elif node:
                others[scheduler][node] = group.name
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
    missed: dict[str, dict[str, Group]] = defaultdict(dict)
    for group in examined.groups:
        pod = group.pod
        waits = any(not p.spec.node_name and _scheduler(p) == DEFAULT_SCHEDULER for p in group.pods)
        if waits and pod.metadata.namespace in examined.opted_in and group.kind not in LEFT_ALONE:
            missed[pod.metadata.namespace][group.name] = group
    for namespace, owners in sorted(missed.items()):
        first = owners[min(owners)]
        if DEFAULT_SCHEDULER not in examined.schedulers:
            yield Finding(
                severity=Severity.WARNING,
                check="OptInWithoutEffect",
                object=f"Namespace {namespace}",
                message=f"is labelled {OPT_IN}, and waiting pods of it go "
                f"to {DEFAULT_SCHEDULER} ({some(owners)})",
                remedy="kubectl apply -k deploy/opt-in, which reaches pods alone that are made "
                f"after it; {first.owner.made_anew(first.pod)}",
            )


def _scheduler(pod: Pod) -> str:
    return pod.spec.scheduler_name or DEFAULT_SCHEDULER
