"""Sets of node names that are asked about again and again.

kube-scheduler asks about the same thousands of nodes for one pod after the other, in ever another
order. Whoever is given the very same set each time can keep what it found out about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from cachetools import LRUCache

MAX_NAMES = 100_000
"""Names that are kept in all, some 170 bytes each: twenty sets at 5,000 nodes."""

_SET_COSTS = 50
"""So many names a set counts for besides: one of a single name takes some room as well."""


class NameSets:
    """The sets that were asked for last; bounded, safe to use from threads.

    A set is known again by its size and its hash, which is made of the 64 bits of each name's. The
    key to these every process draws for itself (PEP 456): no two sets will be taken for one.
    """

    def __init__(self) -> None:
        self._kept: LRUCache[tuple[int, int], frozenset[str]] = LRUCache(
            MAX_NAMES, getsizeof=lambda names: _SET_COSTS + len(names)
        )
        self._lock = Lock()

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the set of some names."""
        new = frozenset(names)
        key = len(new), hash(new)
        with self._lock:
            known = self._kept.get(key)
            if known is None and _SET_COSTS + len(new) <= MAX_NAMES:
                self._kept[key] = new
        return new if known is None else known
