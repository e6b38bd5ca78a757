"""The ``starts`` document: estimated against actual, and what that makes of later estimates."""

from __future__ import annotations

from typing import Any

from extender.cluster.state import ClusterState
from extender.kube.times import time_text


def started(state: ClusterState) -> dict[str, Any]:
    """List the starts that happened, the newest first, and sum them up by what they rested on."""
    return {
        "starts": [
            {
                "namespace": one.namespace,
                "pod": one.pod,
                "node": one.node,
                "model": one.model,
                "strategy": one.basis.strategy,
                "evidence": one.basis.evidence,
                "tier": one.basis.tier,
                "estimatedSeconds": round(one.estimated, 1),
                "actualSeconds": one.actual,
                "readyAt": time_text(one.ready_at),
            }
            for one in state.starts().values()
        ],
        "kinds": kinds_of_start(state),
    }


def kinds_of_start(state: ClusterState) -> list[dict[str, Any]]:
    """Sum up the starts by what their estimates rested on. Times are seconds.

    ``starts`` counts those seen to happen since this program started, ``samples`` those that the
    correction rests on.
    """
    factor = state.view().corrections.factor
    return [
        {
            "strategy": basis.strategy,
            "evidence": basis.evidence,
            "tier": basis.tier,
            "starts": sum(seen.actual.counts),
            "meanSeconds": seen.actual.mean,
            "meanDifferenceSeconds": seen.difference.mean,
            "samples": samples,
            "correction": round(factor(basis.strategy, basis.evidence, basis.tier), 3),
        }
        for basis, (seen, samples) in state.starts_seen().items()
    ]
