"""The ``inventory`` document: models by node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from extender.cluster.view import View


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


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
