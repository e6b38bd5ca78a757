"""Answers of the verbs that come too late, for a while."""

from __future__ import annotations

from itertools import count

from extender.verbs.context import Late, never
from simulation.choices import Choices
from simulation.timeline import Timeline

_LATE_AT_LOOK = 5


class Overload:
    """Whether one process's answers may come late: it is so ``until`` a time."""

    def __init__(self, timeline: Timeline, choices: Choices) -> None:
        self.until = 0.0
        self._timeline = timeline
        self._choices = choices

    def lasts(self) -> bool:
        """Tell whether answers may come late."""
        return self._timeline.now < self.until

    def deadline(self) -> Late:
        """Return what tells a verb that its answer comes late: from one of its looks on, or not."""
        if not self.lasts() or not (first := self._choices.below(_LATE_AT_LOOK)):
            return never
        looks = count(1)
        return lambda: next(looks) >= first
