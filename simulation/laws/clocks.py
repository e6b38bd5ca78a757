"""How far clocks were set, and for how long loaders are believed by them."""

from __future__ import annotations

from simulation.loaders import LEASE_SECONDS
from simulation.scenario import Seconds

_SLACK_SECONDS = 450.0
"""By how much clocks are set back, all together, and by how much forward."""


class Clocks:
    """What is timed by clocks that are set may take so much longer, or end so much sooner.

    Nothing else may. ``grace``: for how many seconds what a loader left is good for anything.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._back = self._forward = 0.0

    def set_by(self, seconds: float) -> bool:
        """Take it that a clock is set, unless allowance was made for enough of that."""
        back, forward = self._back + max(-seconds, 0.0), self._forward + max(seconds, 0.0)
        if max(back, forward) > _SLACK_SECONDS:
            return False
        self._back, self._forward = back, forward
        return True

    @property
    def grace(self) -> Seconds:
        """Return for how long at least, and at most, what a loader left is good for anything."""
        return self._grace - self._forward, self._grace + self._back

    @property
    def silence(self) -> Seconds:
        """Return for how long at least, and at most, a loader that says nothing is believed."""
        return LEASE_SECONDS - self._forward, LEASE_SECONDS + self._back
