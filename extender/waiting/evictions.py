"""The evictions that were not worth it, kept small: what a pod is woken for when one becomes so.

Whom kube-scheduler would evict on a node, nobody else can tell, so its proposal is remembered. A
victim that is gone or elsewhere meanwhile frees nothing there any more.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from cachetools import LRUCache

MAX_VICTIMS = 200_000
"""Victims that are remembered in all, and nodes with them, some 100 bytes each. Of the pods beyond
that, those refused longest ago are left to kube-scheduler's own retries."""


class RefusedEvictions(msgspec.Struct, frozen=True, eq=False):
    """The UIDs of the ``victims`` by node, as they were proposed for one pod at one time."""

    victims: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """Return how many things are remembered."""
        return len(self.victims) + sum(map(len, self.victims.values()))


def refused_evictions(size: int = MAX_VICTIMS) -> LRUCache[str, RefusedEvictions]:
    """Return an empty table by UID."""
    return LRUCache(size, getsizeof=lambda kept: kept.size)
