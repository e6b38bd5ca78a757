"""So many a second, and no more than a few at once."""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """Grows by ``per_second`` up to ``most``; ``steady`` tells the time. Used from one thread."""

    def __init__(self, per_second: float, most: int, steady: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = most
        self._steady = steady
        self._left, self._seen = float(most), steady()

    def any(self) -> bool:
        """Tell whether one may be taken."""
        now = self._steady()
        self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        return self._left >= 1.0

    def take(self) -> None:
        """Take one."""
        self._left -= 1.0
