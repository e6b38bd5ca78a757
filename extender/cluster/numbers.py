"""The numbers of nodes, and the nodes that went lately: who comes back is the same one again.

What is kept of thousands of waiting pods tells nodes apart by small numbers (``waiting.asked``), so
they are used again, but not at once: a watch that lags may tell of a node's end after pods were
asked about the new one by its name.
"""

from __future__ import annotations

KEPT_GONE = 1_000
"""So many deleted nodes are remembered by name, the last ones."""


class Numbers:
    """Not safe to use from threads: the cluster state guards it."""

    def __init__(self) -> None:
        self._used = 0
        self._free: list[int] = []
        self._gone: dict[str, int] = {}

    def gone(self) -> frozenset[str]:
        """Return the names of nodes that were there and are not any more."""
        return frozenset(self._gone)

    def take(self, name: str) -> int:
        """Return a number for a node that comes, the one that it had before if it is back."""
        if name in self._gone:
            return self._gone.pop(name)
        if self._free:
            return self._free.pop()
        self._used += 1
        return self._used - 1

    def delete(self, name: str, number: int) -> None:
        """Keep the number of a node that was deleted, for a while."""
        self._gone[name] = number
        if len(self._gone) > KEPT_GONE:
            self.free(next(iter(self._gone)))

    def free(self, name: str) -> bool:
        """Take a node for deleted no longer; false where it was not."""
        if name not in self._gone:
            return False
        self._free.append(self._gone.pop(name))
        return True
