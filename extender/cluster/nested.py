"""Tables of tables: what is on each node by its UID, say. One that is empty takes no room.

Names of nodes and pods do not come back in a cluster that grows and shrinks: an empty table that
stayed for each of them would be a leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Nested(Generic[T]):
    """Values by two names. Not safe to use from threads: the cluster state guards it."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, T]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def of(self, name: str) -> Mapping[str, T]:
        """Return a table by its name; it may be empty, and changes with the next put or pop."""
        return self._tables.get(name, {})

    def items(self) -> Iterator[tuple[str, Mapping[str, T]]]:
        """Yield the tables with their names."""
        yield from self._tables.items()

    def put(self, name: str, key: str, value: T) -> None:
        """Keep a value in a table."""
        self._tables.setdefault(name, {})[key] = value

    def pop(self, name: str, key: str) -> T | None:
        """Forget a value of a table; return it, or None where there was none."""
        table = self._tables.get(name)
        if table is None:
            return None
        value = table.pop(key, None)
        if not table:
            del self._tables[name]
        return value

    def drop(self, name: str) -> None:
        """Forget a table."""
        self._tables.pop(name, None)
