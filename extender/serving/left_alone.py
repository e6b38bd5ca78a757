"""Namespaces in which nothing is written for a while: what is there keeps no other waiting."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from cachetools import LRUCache

_MOST = 1_000


class LeftAlone:
    """Used from one thread. ``steady`` is the clock that nobody sets."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._until: LRUCache[str, float] = LRUCache(_MOST)
        """Those to which nothing was written since are included."""

    def __contains__(self, namespace: str) -> bool:
        return namespace in self._until

    def may_write(self, namespace: str) -> bool:
        """Tell whether something may be written in a namespace by now."""
        return self._until.get(namespace, -inf) <= self._steady()

    def leave(self, namespace: str, seconds: float) -> bool:
        """Leave one alone for so long; return whether the last write there was well."""
        was_well = namespace not in self._until
        self._until[namespace] = self._steady() + seconds
        return was_well

    def written(self, namespace: str) -> None:
        """Note that a write in a namespace was well."""
        self._until.pop(namespace, None)
