"""Nominations that lead nowhere and that kube-scheduler keeps: they are taken back.

It clears a pod's nomination where it finds nobody to evict, and keeps it where an extender finds no
eviction worth it (kubernetes/pkg/scheduler/framework/preemption, Preempt: a nil result). From then
on it would count the pod on that node, and so would the ledger, against all others of no higher
priority, which could run there.
"""

from __future__ import annotations

from threading import Lock

import msgspec
from cachetools import FIFOCache

from extender.placement.request import PodRequest

MAX_LOST = 10_000
"""So many are remembered: a round of waking writes them all. What is forgotten comes back with the
next try of its pod."""


class Lost(msgspec.Struct, frozen=True):
    """A pod's nomination to a ``node`` that led nowhere."""

    request: PodRequest
    node: str


class LostNominations:
    """Those that are still to be taken back, one a pod. Safe to use from threads."""

    def __init__(self, size: int = MAX_LOST) -> None:
        self._of_pod: FIFOCache[str, Lost] = FIFOCache(size)
        self._lock = Lock()

    def put(self, request: PodRequest, node: str) -> None:
        """Note one in place of the pod's last one."""
        with self._lock:
            self._of_pod[request.uid] = Lost(request, node)

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

    def all(self) -> list[Lost]:
        """Return all, the oldest first."""
        with self._lock:
            return list(self._of_pod.values())
