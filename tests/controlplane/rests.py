"""Rests between changes: whoever can run does soon, or somebody waits in vain for too long.

A wait is judged by what is certain of it (``tests/truth/waits``), and it may be longer by the time
for which the machine held up those who act: a wait for something that only comes later holds up
nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from tests.controlplane.run_queue import RunQueue
from tests.truth.bindings import World
from tests.truth.waits import Look, Wait, Waits

PATIENCE_SECONDS = 10.0
MOST_SECONDS = 60.0
"""So long nobody may wait on any machine."""

PAUSE_SECONDS = 0.2


class Rests:
    """Looks by ``look``; ``run_queue`` is that of whoever is between a change and a Binding."""

    def __init__(self, look: Callable[[], Look], world: World, run_queue: RunQueue) -> None:
        self._look = look
        self._world = world
        self._run_queue = run_queue
        self._waits: list[Wait] = []
        self._longest_look = 0.0

    def rest(self) -> None:
        """Wait until nobody waits who could run; judge for how long anybody did."""
        waits = Waits(self._world, quiet=time.time())
        while True:
            self._run_queue.look(time.time())
            look = self._look()
            self._run_queue.look(time.time())
            self._longest_look = max(self._longest_look, look.answered - look.asked)
            waits.looked(look)
            late = [wait for wait in waits.all() if self._is_late(wait)]
            assert not late, f"could run and wait: {'; '.join(map(self._told, late))}"
            if not look.waiting:
                break
            time.sleep(PAUSE_SECONDS)
        self._waits += waits.over

    def longest(self) -> str:
        """Tell the longest waits so far: for certain, and where a look came late perhaps."""
        looked = f"a look took {self._longest_look:.1f} s at most"
        if not self._waits:
            return f"nobody waited who could run ({looked})"
        certain = max(self._waits, key=lambda wait: wait.at_least)
        perhaps = max(self._waits, key=lambda wait: wait.at_most)
        both = [certain] if certain is perhaps else [certain, perhaps]
        told = "; ".join(map(self._told, both))
        return f"of {len(self._waits)} waits the longest: {told} ({looked})"

    def _is_late(self, wait: Wait) -> bool:
        allowed = PATIENCE_SECONDS + self._held_up(wait)
        return wait.at_least > min(allowed, MOST_SECONDS)

    def _held_up(self, wait: Wait) -> float:
        return self._run_queue.held_up(wait.known, wait.until) if wait.at_least else 0.0

    def _told(self, wait: Wait) -> str:
        most = f", {wait.at_most:.1f} s at the most" if wait.at_most < inf else ""
        return (
            f"{wait.who} for {wait.at_least:.1f} s at the least{most} "
            f"(held up by the machine for {self._held_up(wait):.1f} s)"
        )
