"""Bytes that move over shared bandwidth: every change of the sharing changes all rates at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from simulation.timeline import Timeline

_ROUNDING_SECONDS = 1e-6
"""A transfer with less to go is done: UNIX times in floats are no finer than a quarter of that."""


class Flow:
    """One transfer. ``left`` is bytes as they were at the last change of the sharing."""

    def __init__(self, owner: str, size: float, done: Callable[[], None]) -> None:
        self.owner = owner
        self.size = size
        self.left = size
        self.rate = 0.0
        self.done = done


Sharing = Callable[[Collection[Flow]], None]
"""Sets the rate of each flow, in bytes per second."""


class Flows:
    """All transfers that share something. ``moved`` counts the bytes that have arrived so far."""

    def __init__(self, timeline: Timeline, share: Sharing) -> None:
        self.active: set[Flow] = set()
        self.moved = 0.0
        self._timeline = timeline
        self._share = share
        self._changed_at = timeline.now
        self._plan = 0

    def begin(self, owner: str, size: float, done: Callable[[], None]) -> Flow:
        """Begin a transfer; ``done`` is called once its last byte has arrived."""
        flow = Flow(owner, size, done)
        self._move()
        self.active.add(flow)
        self._renew()
        return flow

    def stop(self, flow: Flow) -> None:
        """End a transfer early; what has arrived stays counted."""
        if flow in self.active:
            self._move()
            self.active.discard(flow)
            self._renew()

    def left(self, flow: Flow) -> float:
        """Return the bytes of a transfer that are still to come."""
        return max(0.0, flow.left - flow.rate * (self._timeline.now - self._changed_at))

    def _move(self) -> None:
        """Bring all transfers to the present."""
        passed = self._timeline.now - self._changed_at
        self._changed_at = self._timeline.now
        for flow in self.active:
            moved = min(flow.left, flow.rate * passed)
            flow.left -= moved
            self.moved += moved

    def _renew(self) -> None:
        self._share(self.active)
        self._plan += 1
        if self.active:
            plan = self._plan
            soonest = min(flow.left / flow.rate for flow in self.active)
            self._timeline.after(soonest, lambda: self._arrive(plan))

    def _arrive(self, plan: int) -> None:
        if plan != self._plan:
            return  # the sharing has changed since
        self._move()
        ended = [flow for flow in self.active if flow.left <= flow.rate * _ROUNDING_SECONDS]
        for flow in ended:
            self.active.discard(flow)
            self.moved += flow.left
        self._renew()
        for flow in sorted(ended, key=lambda flow: flow.owner):
            flow.done()


def evenly(capacity: float) -> Sharing:
    """Share one capacity evenly."""

    def share(flows: Collection[Flow]) -> None:
        for flow in flows:
            flow.rate = capacity / len(flows)

    return share


def by_owner(each: float, together: float) -> Sharing:
    """Give each owner no more than ``each``, and all no more than ``together``, evenly."""

    def share(flows: Collection[Flow]) -> None:
        number = Counter(flow.owner for flow in flows)
        for flow in flows:
            flow.rate = min(each / number[flow.owner], together / len(flows))

    return share
