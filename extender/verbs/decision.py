"""What was decided and why: one record per answer, for the log, the metrics and the page."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import msgspec
from cachetools import LRUCache

from extender.cluster.tiers import Tier
from extender.placement.reasons import Reason
from extender.placement.request import PodRequest
from extender.workload.model import Need, Strategy


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One verb's answer for one pod. ``time`` is UNIX time in seconds.

    ``offered`` is how many of the ``passed`` nodes filter answered with, where that was not all of
    them. ``refused`` counts nodes by reason; ``examples`` has one detail for each reason.
    ``scores`` has the best few nodes of prioritize, ``starts`` their estimated starts in seconds
    and ``slowest`` the longest of all nodes that fit. ``node`` is the one that bind
    was asked about, ``tier`` where its weights are read from.
    """

    time: float
    verb: str
    namespace: str
    pod: str
    uid: str
    strategy: Strategy
    need: Need
    model: str | None
    asked: int
    passed: int
    offered: int | None = None
    node: str = ""
    refused: Mapping[str, int] = {}
    examples: Mapping[str, str] = {}
    scores: Mapping[str, int] = {}
    starts: Mapping[str, float] = {}
    slowest: float | None = None
    tier: Tier | None = None
    stale: tuple[str, ...] = ()


def decision(  # noqa: D103 - the struct says it all
    verb: str, request: PodRequest, *, time: float, asked: int, passed: int, **more: object
) -> Decision:
    first = next(iter(request.workload.references), None)
    return msgspec.structs.replace(
        Decision(
            time=time,
            verb=verb,
            namespace=request.namespace,
            pod=request.name,
            uid=request.uid,
            strategy=first.strategy if first else Strategy.NONE,
            need=first.need if first else Need.IGNORE,
            model=first.model if first else None,
            asked=asked,
            passed=passed,
        ),
        **more,
    )


def count(reasons: Mapping[str, Reason]) -> dict[str, int]:
    """Count refused nodes by reason."""
    table: dict[str, int] = {}
    for reason in reasons.values():
        table[reason.value] = table.get(reason.value, 0) + 1
    return table


class DecisionLog:
    """The latest decisions, bounded: one of each verb for each pod. Safe to use from threads."""

    def __init__(self, size: int = 2048) -> None:
        self._recent: LRUCache[tuple[str, str], Decision] = LRUCache(size)
        self._lock = Lock()

    def add(self, made: Decision) -> None:
        """Keep a decision in place of the last one of its pod and verb."""
        with self._lock:
            key = (made.uid or f"{made.namespace}/{made.pod}", made.verb)
            self._recent.pop(key, None)
            self._recent[key] = made

    def of(self, uid: str, verb: str) -> Decision | None:
        """Return the last decision of a verb for a pod, if it is still kept."""
        with self._lock:
            return self._recent.get((uid, verb))

    def recent(self) -> list[Decision]:
        """Return the decisions, newest first."""
        with self._lock:
            return sorted(self._recent.values(), key=lambda made: made.time, reverse=True)
