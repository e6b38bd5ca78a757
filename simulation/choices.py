"""Everything that happens by chance, as numbers that can be written down and played again.

0 is always the plainest choice (no fault, the shortest delay, the first of several): a history is
made simpler by making its numbers smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

_GRAINS = 1_000


class Choices:
    """Numbers drawn by a seed, or given: where what is given ends, zeros follow."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self._given: Iterator[int] | None = None
        self.taken: list[int] = []
        """What was drawn since ``begin``."""

    def begin(self, given: Sequence[int] | None = None) -> None:
        """Begin a move, with the numbers of one that was made before or with fresh ones."""
        self._given = None if given is None else iter(given)
        self.taken = []

    def below(self, number: int) -> int:
        """Draw an integer from 0 up to, not including, ``number``."""
        if self._given is None:
            drawn = int(self._random() * number)
        else:
            drawn = next(self._given, 0) % number
        self.taken.append(drawn)
        return drawn

    def chance(self, percent: int) -> bool:
        """Draw whether something happens that does so in so many of a hundred cases."""
        return self.below(100) >= 100 - percent

    def between(self, least: float, most: float) -> float:
        """Draw a number, of a thousand that lie between two."""
        return least + (most - least) * self.below(_GRAINS) / _GRAINS

    def one(self, among: Sequence[T]) -> T:
        """Draw one of several."""
        return among[self.below(len(among))]
