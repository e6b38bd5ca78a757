"""The bounds that all downloads of one process share; they may be changed while downloads run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        self._paid_until = clock()
        self.adjust(
            connections=connections,
            bytes_per_second=bytes_per_second,
            reserve_bytes=reserve_bytes,
        )

    def adjust(self, *, connections: int, bytes_per_second: float, reserve_bytes: int) -> None:
        """Change the bounds, from now on."""
        self.connections = max(1, connections)
        self.bytes_per_second = bytes_per_second
        self.reserve_bytes = reserve_bytes

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
        rate = self.bytes_per_second
        if rate <= 0:
            return
        with self._bucket:
            now = self.clock()
            self._paid_until = max(self._paid_until, now) + count / rate
            until = self._paid_until
        self.pause(until, stopped)

    def pause(self, until: float, stopped: Callable[[], bool]) -> None:
        """Wait until ``until`` on the clock, or until it is stopped."""
        while not stopped():
            left = until - self.clock()
            if left <= 0:
                return
            self._sleep(min(left, _TICK))
