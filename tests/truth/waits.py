"""For how long somebody waited in vain: by when that began and ended, not by when it was looked.

While nothing is changed, everything is listed again and again. Each look has two moments, and what
it shows was so at some moment between them; a Binding has its second, which the apiserver wrote. So
for each wait it is told how long it was at the least, by which it is judged, and at the most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf

import msgspec

from tests.truth.bindings import World
from tests.truth.waiting import InVain


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What fresh lists show. ``asked`` and ``answered``: when (UNIX seconds).

    ``bound`` has the whole second of each Binding, by the pod's name.
    """

    asked: float
    answered: float
    waiting: Sequence[InVain]
    bound: Mapping[str, float] = {}


class Wait(msgspec.Struct, kw_only=True):
    """A pod's wait, in UNIX seconds.

    It could run since some moment between ``earliest`` and ``since``, which had to be known by
    ``known``; it did not run before ``until``, and did by ``latest``.
    """

    who: InVain
    earliest: float
    since: float
    known: float
    until: float
    latest: float = inf

    @property
    def at_least(self) -> float:
        """Return for how many seconds it waited for certain, once it had to be known."""
        return max(0.0, self.until - self.known)

    @property
    def at_most(self) -> float:
        """Return for how many seconds it can have waited, known or not."""
        return self.latest - self.earliest


class Waits:
    """Every wait since ``quiet``, when the last change was answered."""

    def __init__(self, world: World, *, quiet: float) -> None:
        self.over: list[Wait] = []
        self._world = world
        self._asked = quiet
        self._open: dict[str, Wait] = {}

    def looked(self, look: Look) -> None:
        """Take the next look."""
        found = {one.name: one for one in look.waiting}
        for name in self._open.keys() - found.keys():
            self._end(self._open.pop(name), look)
        for name, one in found.items():
            wait = self._open.get(name)
            since = look.answered if wait is None else wait.since
            self._open[name] = Wait(
                who=one,
                earliest=self._asked if wait is None else wait.earliest,
                since=since,
                known=self._world.known(since, one.kinds),  # a watch may have broken meanwhile
                until=look.asked,
            )
        self._asked = look.asked

    def all(self) -> Iterator[Wait]:
        """Yield all waits so far, those that go on among them."""
        yield from self.over
        yield from self._open.values()

    def _end(self, wait: Wait, look: Look) -> None:
        """Note that a pod does not wait any more: it is bound, gone, or its place was taken."""
        second = look.bound.get(wait.who.name)
        wait.known = self._world.known(wait.since, wait.who.kinds)
        wait.latest = look.answered
        if second is not None:
            wait.until = max(wait.until, second)
            wait.latest = min(wait.latest, second + 1.0)
        self.over.append(wait)
