"""Which value a thing had when, as somebody knows who wrote it to the apiserver himself."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

Until = Callable[[float], float]
"""From when on nobody may act any more on what was before a change, by when that was over."""


class Sent(msgspec.Struct, frozen=True):
    """A change: when it was asked for and when it was answered (UNIX s), and what came of it."""

    asked: float
    answered: float
    ok: bool = True
    body: bytes = b""


class Past(Generic[T]):
    """A thing's values. A change takes effect between its asking and its answer."""

    def __init__(self, value: T) -> None:
        self._changes: list[tuple[Sent, T]] = [(Sent(-inf, -inf), value)]

    @property
    def now(self) -> T:
        """Return the present value."""
        return self._changes[-1][1]

    def became(self, sent: Sent, to: T) -> None:
        """Note a change."""
        if to != self.now:
            self._changes.append((sent, to))

    def may_have_been(self, second: float, until: Until) -> set[T]:
        """Return the values that what happened within a second may rest on."""
        found = set()
        for at, (sent, value) in enumerate(self._changes):
            last = at + 1 == len(self._changes)
            over = inf if last else until(self._changes[at + 1][0].answered)
            if sent.asked < second + 1.0 and second <= over:
                found.add(value)
        return found
