"""Estimated starts into scores: integers from 0 to 10, the soonest node highest.

A node that starts ``half_life`` seconds later than the best has half its score, so differences of
a second or less vanish in the rounding and a download of minutes scores nothing. The order follows
the estimate alone, whatever other nodes are asked about.
"""

from __future__ import annotations

from collections.abc import Mapping

from extender.placement.policy import Policy

MAX_SCORE = 10
HEADROOM_SECONDS = 2.0
"""What full headroom is worth: it decides between equal starts and never between tiers."""


def scores(seconds: Mapping[str, float], policy: Policy) -> dict[str, int]:
    """Return a score for each node; monotone in the estimate, equal where it hardly differs."""
    if not seconds:
        return {}
    best = min(seconds.values())
    return {name: score(value - best, policy) for name, value in seconds.items()}


def score(behind: float, policy: Policy) -> int:
    """Return the score of a node that starts so many seconds after the soonest."""
    share: float = 0.5 ** (max(0.0, behind) / policy.half_life)
    return round(MAX_SCORE * share)


def crowding_seconds(allocatable: int, free: int, demand: int) -> float:
    """Return what little room a pod would leave on a node, in seconds; for memory-backed pods.

    ``allocatable``, ``free`` (for this pod: without what is held for itself) and ``demand`` are
    bytes.
    """
    if allocatable <= 0:
        return HEADROOM_SECONDS
    left = max(0, free - demand) / allocatable
    return HEADROOM_SECONDS * (1 - left)
