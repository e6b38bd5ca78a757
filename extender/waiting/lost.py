"""Nominations that lead nowhere and that kube-scheduler keeps: they are taken back.

It clears a pod's nomination where it finds nobody to evict, and keeps it where an extender finds no
eviction worth it (kubernetes/pkg/scheduler/framework/preemption, Preempt: a nil result). From then
on it would count the pod on that node, and so would the ledger, against all others of no higher
priority, which could run there. Nobody else clears it, so it is tried again until that is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import msgspec
from cachetools import FIFOCache

from extender.placement.request import PodRequest

MAX_LOST = 10_000
"""So many are remembered. What is forgotten comes back with the next try of its pod."""


class Lost(msgspec.Struct, frozen=True):
    """A pod's nomination to a ``node`` that led nowhere; ``in_doubt`` where nobody could tell.

    ``misses`` counts the times that it could not be taken back; it is tried again ``again_at``, by
    the clock that nobody sets.
    """

    request: PodRequest
    node: str
    misses: int = 0
    again_at: float = 0.0
    in_doubt: bool = False


class LostNominations:
    """Those that are still to be taken back, one a pod. Safe to use from threads."""

    def __init__(self, size: int = MAX_LOST) -> None:
        self._of_pod: FIFOCache[str, Lost] = FIFOCache(size)
        self._lock = Lock()

    def count(self) -> int:
        """Return how many lead nowhere for sure, or were found to."""
        with self._lock:
            return sum(lost.misses > 0 or not lost.in_doubt for lost in self._of_pod.values())

    def any(self) -> bool:
        """Tell whether there is any, be it in doubt."""
        return bool(self._of_pod)

    def put(self, request: PodRequest, node: str, *, in_doubt: bool) -> None:
        """Note one in place of the pod's last one, unless that is still to be taken back."""
        with self._lock:
            before = self._of_pod.get(request.uid)
            decided = before is not None and before.in_doubt and not in_doubt
            if before is None or before.node != node or decided:
                self._of_pod[request.uid] = Lost(request, node, in_doubt=in_doubt)

    def next(
        self, steady: float, *, doubts: bool, may_tell: Callable[[PodRequest], bool]
    ) -> Lost | None:
        """Return one that it is time to take back: the oldest, those that missed after all others.

        Those in doubt among them with ``doubts`` alone, and only of pods to which something may be
        written now. Asked right before each is written: whoever has come to be nominated rightly
        is none. While the write is under way, that can still happen; kube-scheduler tries such a
        pod again.
        """
        with self._lock:
            due = (
                lost
                for lost in self._of_pod.values()
                if lost.again_at <= steady
                and (doubts or not lost.in_doubt)
                and may_tell(lost.request)
            )
            return min(due, key=lambda lost: lost.misses, default=None)

    def missed(self, lost: Lost, again_at: float) -> None:
        """Note that one could not be taken back, unless it is forgotten meanwhile."""
        with self._lock:
            if self._of_pod.get(lost.request.uid) == lost:
                self._of_pod[lost.request.uid] = msgspec.structs.replace(
                    lost, misses=lost.misses + 1, again_at=again_at
                )

    def drop(self, lost: Lost) -> None:
        """Forget one, unless another one has taken its place."""
        with self._lock:
            if self._of_pod.get(lost.request.uid) == lost:
                del self._of_pod[lost.request.uid]

    def drop_of(self, uid: str) -> None:
        """Forget that of a pod, if there is any: kube-scheduler nominates it anew."""
        with self._lock:
            self._of_pod.pop(uid, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._of_pod.clear()
