"""Whether the machine let processes run: what the kernel counts for each of their threads.

``/proc/PID/task/TID/schedstat`` has the nanoseconds that a thread ran, and those for which it could
have run and waited for a processor.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """By a moment (UNIX seconds): for how many seconds some threads had run, and had waited."""

    at: float
    ran: float
    waited: float


class RunQueue:
    """Follows the processes that ``pids`` tells, which may be others each time."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._threads: dict[Path, tuple[int, int]] = {}
        self._samples: list[Sample] = []

    def look(self, at: float) -> None:
        """Take a sample; the moments of samples only grow."""
        before, self._threads = self._threads, self._read()
        ran = waited = 0
        for thread, now in self._threads.items():
            then = before.get(thread, (0, 0) if before else now)
            ran += max(0, now[0] - then[0])
            waited += max(0, now[1] - then[1])
        last = self._samples[-1] if self._samples else Sample(at, 0.0, 0.0)
        self._samples.append(Sample(at, last.ran + ran / 1e9, last.waited + waited / 1e9))

    def held_up(self, began: float, ended: float) -> float:
        """Return for how many seconds of a time the machine may have held the processes up.

        That is what all their threads waited together, and no more than the share of the time that
        they were denied: what they did one after another was not held up by more.
        """
        if not self._samples:
            raise ValueError("there was no look at these processes")
        moments = [sample.at for sample in self._samples]
        first = self._samples[max(0, bisect_right(moments, began) - 1)]
        last = self._samples[min(len(moments) - 1, bisect_left(moments, ended))]
        ran, waited = last.ran - first.ran, last.waited - first.waited
        if not waited:
            return 0.0
        return min(waited, (ended - began) * waited / (ran + waited))

    def _read(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for pid in self._pids():
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                with suppress(OSError):  # it has ended
                    ran, waited, _ = (thread / "schedstat").read_text("ascii").split()
                    found[thread] = int(ran), int(waited)
        return found
