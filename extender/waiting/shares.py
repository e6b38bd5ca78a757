"""No namespace takes the turns of the others, or their room in a bounded table of pods.

A tenant may have any number of pods that nobody can place. kube-scheduler tries them at every
event, so that theirs were always refused last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def in_turn(all_of: Iterable[T], namespace: Callable[[T], str]) -> list[T]:
    """Return the first of every namespace, then the second of each, and so on."""
    so_far: Counter[str] = Counter()

    def turn(one: T) -> int:
        so_far[namespace(one)] += 1
        return so_far[namespace(one)]

    return sorted(all_of, key=turn)


class Shares(Generic[T]):
    """Values by UID, ``size`` at most. Not safe to use from threads: its owner guards it.

    When it is full, the namespace with the most loses what it put longest ago.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._namespaces: dict[str, str] = {}  # by UID
        self._shares: dict[str, dict[str, T]] = {}

    def __len__(self) -> int:
        return len(self._namespaces)

    def __contains__(self, uid: str) -> bool:
        return uid in self._namespaces

    def values(self) -> Iterator[T]:
        """Yield all values."""
        for share in self._shares.values():
            yield from share.values()

    def get(self, uid: str) -> T | None:
        """Return a value; None where there is none."""
        namespace = self._namespaces.get(uid)
        return None if namespace is None else self._shares[namespace].get(uid)

    def put(self, namespace: str, uid: str, value: T) -> tuple[str, str] | None:
        """Put a value last in its share; return whose UID left for it, after its namespace."""
        self.pop(uid)
        left = None
        if len(self) >= self._size:
            most = max(self._shares, key=lambda name: len(self._shares[name]))
            left = most, next(iter(self._shares[most]))
            self.pop(left[1])
        self._namespaces[uid] = namespace
        self._shares.setdefault(namespace, {})[uid] = value
        return left

    def pop(self, uid: str) -> None:
        """Forget a value, if there is one."""
        namespace = self._namespaces.pop(uid, None)
        if namespace is not None:
            share = self._shares[namespace]
            del share[uid]
            if not share:
                del self._shares[namespace]

    def clear(self) -> None:
        """Forget all."""
        self._namespaces.clear()
        self._shares.clear()
