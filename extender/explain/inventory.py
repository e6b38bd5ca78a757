"""The ``inventory`` document: models by node."""

from __future__ import annotations

from typing import Any

from extender.cluster.holdings import Holding
from extender.cluster.view import View
from extender.kube.times import time_text


def inventory(view: View) -> dict[str, Any]:
    """List every node with what it holds. ``provenAt`` is null without a verified report.

    ``leavesAt`` is when a model goes that the catalog does not have there any more; else null.
    """
    held = view.inventory.holdings()
    return {
        "nodes": [
            {
                "name": name,
                "models": [
                    {
                        "path": holding.path,
                        "model": holding.model,
                        "state": holding.state,
                        "evidence": holding.evidence,
                        "bytes": holding.bytes,
                        "provenAt": _time(holding.proven_at),
                        "progress": _progress(holding, name, view),
                        "leavesAt": _time(holding.leaves_at),
                        "since": _time(holding.since),
                        "reason": holding.reason or None,
                        "witness": holding.witness,
                    }
                    for holding in held.get(name, ())
                ],
            }
            for name in sorted(view.nodes)
        ]
    }


def _progress(holding: Holding, node: str, view: View) -> dict[str, Any] | None:
    """Return how far a download is that the loader tells of on its Lease."""
    transfer = view.transfer(holding, node)
    if transfer is None:
        return None
    return {
        "bytesDone": transfer.bytes_done,
        "bytesTotal": transfer.bytes_total,
        "bytesPerSecond": transfer.bytes_per_second,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)
