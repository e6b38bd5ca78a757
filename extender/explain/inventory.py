"""The ``inventory`` document: models by node."""

from __future__ import annotations

from typing import Any

from extender.cluster.view import View
from extender.kube.times import time_text


def inventory(view: View) -> dict[str, Any]:
    """List every node with what it holds. ``provenAt`` is null without a verified report."""
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
                        "provenAt": None,
                        "since": None if holding.since is None else time_text(holding.since),
                        "reason": holding.reason or None,
                        "witness": holding.witness,
                    }
                    for holding in held.get(name, ())
                ],
            }
            for name in sorted(view.nodes)
        ]
    }
