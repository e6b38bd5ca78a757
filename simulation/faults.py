"""What can go wrong between the parts, switched on and off as a whole."""

from __future__ import annotations

from enum import StrEnum

from extender.verbs.bind import Sent
from simulation.choices import Choices


class Fate(StrEnum):
    """What becomes of a Binding that the extender sends."""

    DONE = "done"
    LOST_DONE = "done, but its answer is lost"
    LOST_LATE = "no answer, and it takes effect later"
    LOST_NEVER = "lost"
    UNCLEAR_DONE = "the storage timed out, and has done it"
    UNCLEAR_LATE = "the storage timed out, and does it later"
    UNCLEAR_NEVER = "the storage timed out, and does not do it"
    REFUSED = "refused (429)"

    @property
    def answer(self) -> Sent:
        """Return what the extender hears, where nothing is in the way of the Binding."""
        return _ANSWERS[self]


_ANSWERS = {
    Fate.DONE: Sent.DONE,
    Fate.LOST_DONE: Sent.LOST,
    Fate.LOST_LATE: Sent.LOST,
    Fate.LOST_NEVER: Sent.LOST,
    Fate.UNCLEAR_DONE: Sent.UNCLEAR,
    Fate.UNCLEAR_LATE: Sent.UNCLEAR,
    Fate.UNCLEAR_NEVER: Sent.UNCLEAR,
    Fate.REFUSED: Sent.REFUSED,
}

_FATES = (
    *(Fate.DONE,) * 64,
    *(Fate.LOST_DONE,) * 6,
    *(Fate.LOST_LATE,) * 6,
    *(Fate.LOST_NEVER,) * 6,
    *(Fate.UNCLEAR_DONE,) * 3,
    *(Fate.UNCLEAR_LATE,) * 3,
    *(Fate.UNCLEAR_NEVER,) * 3,
    *(Fate.REFUSED,) * 9,
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
