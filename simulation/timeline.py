"""The virtual clock and what is going to happen on it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

Event = Callable[[], object]


def _nothing() -> None:
    pass


class Timeline:
    """Time in seconds, which passes only from one event to the next. Equal times keep order."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.events = 0
        """How many events have happened."""
        self.after_each: Event = _nothing
        """Called once an event has happened, those within another one included."""
        self._number = 0
        self._queue: list[tuple[float, int, Event]] = []

    def after(self, delay: float, event: Event) -> float:
        """Let something happen ``delay`` seconds from now; return when that is."""
        due = self.now + delay
        self._number += 1
        heappush(self._queue, (due, self._number, event))
        return due

    def next(self, within: float = inf) -> bool:
        """Let the next thing happen, if it is due ``within`` seconds; return whether there was."""
        if not self._queue or self._queue[0][0] > self.now + within:
            return False
        due, _, event = heappop(self._queue)
        self.now = max(self.now, due)
        self.events += 1
        event()
        self.after_each()
        return True

    def until(self, moment: float) -> None:
        """Let everything happen that is due up to a moment, which is then the present."""
        while self._queue and self._queue[0][0] <= moment:
            self.next()
        self.now = max(self.now, moment)
