"""A table of many of which a few values change, again and again, and that readers hold on to.

Copying it for each change touches every key and value there is, which at thousands of nodes is a
tenth of what a decision takes. So a picture of it is one copy, which many pictures share, and the
few values that have changed since. Where keys come or go, or much has changed, it is copied anew.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, TypeVar

V = TypeVar("V")

MOST_OVER = 64
"""Values that a picture has beside the copy, at most: they are copied for each one."""


class Overlaid(Mapping[str, V], Generic[V]):
    """A picture: it does not change any more. ``over`` has other values for keys of ``base``."""

    __slots__ = ("_base", "_over")

    def __init__(self, base: Mapping[str, V], over: Mapping[str, V]) -> None:
        self._base = base
        self._over = over

    def __getitem__(self, key: str) -> V:
        over = self._over
        return over[key] if key in over else self._base[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        over = self._over
        return over[key] if key in over else self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._base

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def keys(self) -> KeysView[str]:
        """Return the keys, which are looked up more quickly than in the picture."""
        return self._base.keys()

    def values(self) -> ValuesView[V]:
        """Return the values."""
        return self._whole().values()

    def items(self) -> ItemsView[str, V]:
        """Return the keys with their values."""
        return self._whole().items()

    def _whole(self) -> Mapping[str, V]:
        return {**self._base, **self._over} if self._over else self._base


class Kept(Generic[V]):
    """The table itself, of which pictures are made. Not safe to use from threads."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._base: dict[str, V] | None = None
        self._over: dict[str, V] = {}

    @property
    def values(self) -> Mapping[str, V]:
        """Return the table as it is now; it changes with the next put or pop."""
        return self._values

    def put(self, key: str, value: V) -> None:
        """Keep a value."""
        if key not in self._values:
            self._base = None
        self._values[key] = value
        self._over[key] = value

    def pop(self, key: str) -> V | None:
        """Forget a value and return it; None where there was none."""
        if key in self._values:
            self._base = None
        return self._values.pop(key, None)

    def picture(self) -> Mapping[str, V]:
        """Return the table as it is now, for good: another object each time."""
        if self._base is None or len(self._over) > MOST_OVER:
            self._base, self._over = dict(self._values), {}
        return Overlaid(self._base, dict(self._over))
