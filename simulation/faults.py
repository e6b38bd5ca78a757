"""What can go wrong between the parts, switched on and off as a whole."""

from __future__ import annotations

from enum import StrEnum

from simulation.choices import Choices


class Fate(StrEnum):
    """What becomes of a Binding that the extender sends."""

    DONE = "done"
    LOST_DONE = "done, but its answer is lost"
    LOST_LATE = "no answer, and it takes effect later"
    LOST_NEVER = "lost"
    REFUSED = "refused (429)"


_FATES = (
    *(Fate.DONE,) * 70,
    *(Fate.LOST_DONE,) * 8,
    *(Fate.LOST_LATE,) * 8,
    *(Fate.LOST_NEVER,) * 7,
    *(Fate.REFUSED,) * 7,
)


class Faults:
    """Draws faults while ``on``."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.on = True

    def fate(self) -> Fate:
        """Draw what becomes of a Binding."""
        return self._choices.one(_FATES) if self.on else Fate.DONE

    def happens(self, percent: int) -> bool:
        """Draw whether a fault happens that does so in so many of a hundred cases."""
        return self.on and self._choices.chance(percent)
