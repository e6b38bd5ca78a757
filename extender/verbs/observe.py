"""Shadow mode: what this program would have said of a pod that some scheduler has just bound.

It knows models and memory, not cpu, GPUs, taints or affinity: a better node that it names may have
been taken for another reason. So its seconds are an upper bound, and it says how many nodes it
looked at. Cordoned nodes and those that the pod's node selector leaves out are not counted.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.cluster.view import NodeView
from extender.kube.objects import Pod
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.verbs.context import Context
from extender.workload.model import Strategy

TOLERANCE_SECONDS = 1.0
"""Nodes whose estimated starts differ by less are equally good."""


class Outcome(StrEnum):
    """What this program says of another scheduler's choice."""

    NO_PREFERENCE = "noPreference"
    AGREES = "agrees"
    SLOWER = "slower"
    REFUSED = "refused"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One bound pod. Times are seconds; ``best`` is the node that would have served first."""

    time: float
    namespace: str
    pod: str
    scheduler: str
    strategy: Strategy
    model: str | None
    node: str
    outcome: Outcome
    reason: Reason | None = None
    estimated: float | None = None
    best: str | None = None
    best_estimated: float | None = None
    saved: float = 0.0
    candidates: int = 0


class Report(msgspec.Struct, kw_only=True):
    """All observations added up since the start."""

    pods: int = 0
    agreed: int = 0
    slower: int = 0
    refused: int = 0
    saved_seconds: float = 0.0

    def add(self, seen: Observation) -> None:
        """Count one observation."""
        self.pods += 1
        self.agreed += seen.outcome in {Outcome.AGREES, Outcome.NO_PREFERENCE}
        self.slower += seen.outcome is Outcome.SLOWER
        self.refused += seen.outcome is Outcome.REFUSED
        self.saved_seconds += seen.saved


def observe(pod: Pod, context: Context) -> Observation:
    """Judge a choice. Call it before the pod is applied to the state, with its node set."""
    judge = context.judge(pod)
    chosen = judge.verdict(pod.spec.node_name)
    first = next(iter(judge.request.workload.references), None)
    seen = Observation(
        time=judge.view.now,
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        scheduler=pod.spec.scheduler_name,
        strategy=first.strategy if first else Strategy.NONE,
        model=first.model if first else None,
        node=pod.spec.node_name,
        outcome=Outcome.NO_PREFERENCE,
        reason=chosen.reason,
        estimated=chosen.start.seconds if chosen.start else None,
    )
    if chosen.fits and not judge.has_preference:
        return seen
    starts = _starts(pod, judge)
    best = min(starts, key=lambda name: (starts[name], name), default=None)
    saved = 0.0
    if best is not None and seen.estimated is not None:
        saved = max(0.0, seen.estimated - starts[best])
    slower = saved > TOLERANCE_SECONDS
    outcome = Outcome.REFUSED if not chosen.fits else Outcome.SLOWER if slower else Outcome.AGREES
    return msgspec.structs.replace(
        seen,
        outcome=outcome,
        best=best,
        best_estimated=starts[best] if best is not None else None,
        saved=saved if slower else 0.0,
        candidates=len(starts),
    )


def _starts(pod: Pod, judge: Judge) -> dict[str, float]:
    """Estimate the start on every node that could have been chosen, as far as this can tell."""
    return {
        node.name: judge.start(node).seconds
        for node in judge.view.nodes.values()
        if node.schedulable and _selected(pod, node) and judge.reason(node.name) is None
    }


def _selected(pod: Pod, node: NodeView) -> bool:
    return all(node.labels.get(key) == value for key, value in pod.spec.node_selector.items())
