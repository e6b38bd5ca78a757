"""The free space that downloads under way have still to fill: promised to one of them, and once.

Each looks whether there is room for all that it lacks; two that look alone would both find the same
free bytes, and both would end on a full disk, far on their way. So each says first what it is going
to write, and counts what was promised before as gone. Who came later gives way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Promises:
    """What all downloads of one process have still to write, in the order of the promises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Promise] = []

    @contextmanager
    def promise(self) -> Iterator[Promise]:
        """Give one download its promise, of nothing yet; it ends with the block."""
        promise = Promise(self)
        try:
            yield promise
        finally:
            with self._lock:
                self._held = [one for one in self._held if one is not promise]

    def put(self, promise: Promise, count: int) -> None:
        """See ``Promise.expect``."""
        with self._lock:
            if count > promise.left():
                self._held = [one for one in self._held if one is not promise]
            promise.left = lambda: count
            if not any(one is promise for one in self._held):
                self._held.append(promise)

    def before(self, promise: Promise) -> int:
        """See ``Promise.before``."""
        with self._lock:
            held = list(self._held)
        at = next((at for at, one in enumerate(held) if one is promise), len(held))
        return sum(max(0, one.left()) for one in held[:at])


class Promise:
    """One download's. ``left``: how many bytes it has still to write, as long as it does."""

    def __init__(self, promises: Promises) -> None:
        self._promises = promises
        self.left: Callable[[], int] = lambda: 0

    def expect(self, count: int) -> None:
        """Promise so many bytes; more than before comes after what others were promised since."""
        self._promises.put(self, count)

    def before(self) -> int:
        """Return the bytes that others were promised before."""
        return self._promises.before(self)
