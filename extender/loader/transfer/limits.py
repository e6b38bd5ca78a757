"""The bounds that all downloads of one process share; they may be changed while downloads run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from extender.loader.transfer.promises import Promises

_TICK = 0.1
"""Seconds after which whoever waits looks whether it should end."""


class Limits:
    """Connections at once, bytes per second (0: no bound), and bytes to keep free on the disk.

    ``promises`` is what of the free bytes downloads have still to fill.

    ``clock`` is monotonic seconds; ``sleep`` waits for some.
    """

    def __init__(
        self,
        *,
        connections: int = 8,
        bytes_per_second: float = 0,
        reserve_bytes: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.clock = clock
        self.promises = Promises()
        self._sleep = sleep
        self._free = threading.Condition()
        self._in_use = 0
        self._bucket = threading.Lock()
        self._taken = 0.0
        self._since, self._granted, self.bytes_per_second = clock(), 0.0, 0.0
        self.adjust(
            connections=connections,
            bytes_per_second=bytes_per_second,
            reserve_bytes=reserve_bytes,
        )

    def adjust(self, *, connections: int, bytes_per_second: float, reserve_bytes: int) -> None:
        """Change the bounds, from now on, also for whoever waits within the old ones."""
        self.connections = max(1, connections)
        self.reserve_bytes = reserve_bytes
        with self._bucket:
            now = self.clock()
            self._granted = min(self._granted_by(now), self._taken)  # nothing is saved up
            self._since, self.bytes_per_second = now, bytes_per_second

    @contextmanager
    def connection(self, stopped: Callable[[], bool]) -> Iterator[bool]:
        """Hold one connection; False where it was stopped before it got one."""
        with self._free:
            while self._in_use >= self.connections and not stopped():
                self._free.wait(_TICK)
            granted = not stopped()
            self._in_use += granted
        try:
            yield granted
        finally:
            with self._free:
                self._in_use -= granted
                self._free.notify()

    def take(self, count: int, stopped: Callable[[], bool]) -> None:
        """Wait until ``count`` more bytes are within the bandwidth, or until it is stopped.

        Bytes are paid for after they came: what was received at once delays what follows, so that
        the mean holds over any second and no byte is held back that is here already.
        """
        with self._bucket:
            if self.bytes_per_second <= 0:
                return
            self._taken = max(self._taken, self._granted_by(self.clock())) + count
            mine = self._taken
        while not stopped():
            with self._bucket:
                left = mine - self._granted_by(self.clock())
                rate = self.bytes_per_second
            if left <= 0:
                return
            self._sleep(min(left / rate, _TICK))

    def _granted_by(self, now: float) -> float:
        """Return how many bytes the bandwidth has let through by a time, all told."""
        rate = self.bytes_per_second
        return inf if rate <= 0 else self._granted + (now - self._since) * rate

    def pause(self, until: float, stopped: Callable[[], bool]) -> None:
        """Wait until ``until`` on the clock, or until it is stopped."""
        while not stopped():
            left = until - self.clock()
            if left <= 0:
                return
            self._sleep(min(left, _TICK))
