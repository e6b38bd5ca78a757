"""By when everything was known again, kind by kind, by the bounds that docs/faults.md gives."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection
from threading import Lock
from typing import Any

from extender.watch.resources import RESOURCES
from tests.truth.bindings import ARRIVAL_SECONDS

FIRST_WAIT, LAST_WAIT, PEACE, CHEAP_PEACE = 0.5, 30.0, 30.0, 10.0
KNOCKING = 5.0
HALF_OPEN = 105.0
REQUEST_SECONDS = 1.0
"""For the request or the list after a wait, on a busy machine."""


class Sight:
    """Is told what was done to the way between extender and apiserver, and when (UNIX seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: dict[str, int] = defaultdict(int)
        self._calm_from: dict[str, float] = defaultdict(float)
        self._blind: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """By path: from when on a kind may not have been heard of, and until when at the latest."""

    def known_by(self, moment: float, paths: Collection[str]) -> float:
        """Return by when all that was so at a moment was known of some kinds, at the latest.

        What was broken before it returned, or broke before an event had arrived, is in the way.
        """
        with self._lock:
            blind = sorted(one for path in paths for one in self._blind[path])
        for began, ended in blind:
            if began <= moment + ARRIVAL_SECONDS and ended > moment:
                moment = ended
        return moment

    def noting(self, fault: Any, path: str, *, relists: bool, lasts: float = 0.0) -> Any:
        """Return a fault of the proxy that is noted when it is met."""

        def noted(*met: Any) -> Any:
            self.broke(path, time.time(), relists=relists, lasts=lasts)
            return fault(*met)

        return noted

    def broke(
        self, path: str, at: float, *, relists: bool, lasts: float = 0.0, most: float = LAST_WAIT
    ) -> None:
        """Note that a kind failed, for so many seconds; ``most`` bounds the wait after it."""
        with self._lock:
            if at > self._calm_from[path]:
                self._failures[path] = 0
            wait = FIRST_WAIT * 2.0 ** self._failures[path]
            self._failures[path] += wait < most
            wait = min(most, wait)
            ends = at + lasts + wait
            peace = PEACE if relists else min(PEACE, CHEAP_PEACE * wait)
            self._calm_from[path] = max(self._calm_from[path], ends + peace)
            self._blind[path].append((at, ends + REQUEST_SECONDS))

    def all_broke(self, at: float) -> None:
        """Note that every connection was cut, and may be made again at once."""
        for resource in RESOURCES:
            self.broke(resource.path, at, relists=False)

    def out_of_reach(self, began: float, ended: float) -> None:
        """Note that no connection was accepted for a while: it is tried every few seconds."""
        self.all_broke(began)
        tried = began
        while tried < ended:
            tried += FIRST_WAIT / 2
            for resource in RESOURCES:
                self.broke(resource.path, tried, relists=False, most=KNOCKING)

    def renewed(self, now: float) -> None:
        """Note that a new process has just listed everything."""
        with self._lock:
            self._failures.clear()
            self._calm_from.clear()
            for path, blind in self._blind.items():
                self._blind[path] = [(began, min(ended, now)) for began, ended in blind]
