"""Evictions that kube-scheduler considers: what they would free, and whether that lets a pod run.

Whoever answers about them and whoever looks later whether the answer has changed asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from extender.cluster.view import NodeView, PodFacts
from extender.placement.reasons import Reason
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge

PodOf = Callable[[str], PodFacts | None]
"""Returns what is known of a pod by its UID."""


class NoEviction(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod for which nobody is evicted waits for.

    The ``victims`` that were not worth it, by node, as UIDs; and ``again_at`` (the state's steady
    time) it is tried in any case, None where that is all. ``lost`` is the node that it is nominated
    to where that leads nowhere, else empty; ``in_doubt`` where nobody could tell where that leads,
    by old knowledge or in time. ``once_fresh``: it is tried again once knowledge is fresh.
    """

    request: PodRequest
    victims: Mapping[str, tuple[str, ...]] = {}
    again_at: float | None = None
    lost: str = ""
    in_doubt: bool = False
    once_fresh: bool = False


def refused_eviction(
    judge: Judge, name: str, victims: Iterable[str], pod_of: PodOf
) -> Reason | None:
    """Return why evicting pods of a node, by UID, would not let the judge's pod run there.

    With old knowledge it is refused whatever ``onStale`` says where the pod needs certainty.
    """
    if judge.stale and judge.request.needs_certainty:
        return Reason.KNOWLEDGE_STALE
    return judge.reason(name, freed=freed(judge.view.nodes.get(name), victims, pod_of))


def has_room_soon(judge: Judge, name: str, making_way: Iterable[str], pod_of: PodOf) -> bool:
    """Tell whether a node takes a pod, or does once these others are gone."""
    reason, node = judge.reason(name), judge.view.nodes.get(name)
    if reason is not Reason.INSUFFICIENT_MEMORY or node is None:
        return reason is None
    return judge.reason(name, freed=freed(node, making_way, pod_of)) is None


def freed(node: NodeView | None, victims: Iterable[str], pod_of: PodOf) -> int:
    """Return the bytes of a node's memory that its victims count for.

    kube-scheduler evicts pods, too, that it has just sent there and that the watch has not shown
    yet: what is kept for such a one counts.
    """
    if node is None:
        return 0
    kept = {entry.uid: entry.bytes for entry in node.reserved}
    return sum(kept[uid] if uid in kept else _taken(pod_of(uid), node) for uid in victims)


def _taken(pod: PodFacts | None, node: NodeView) -> int:
    if pod is None or pod.node != node.name or not pod.counts:
        return 0
    return pod.demand.on(node.allocatable)
