"""A thread that stays with a connection for a moment after an answer, for the next request.

kube-scheduler asks one thing after another on a connection. The way back through the main loop and
its queue, and out of them again, costs more than many an answer.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection
from threading import BoundedSemaphore
from typing import Any

from extender.serving.arrival import Arrival, arrival
from extender.serving.connection import Waiting

STAY_SECONDS = 0.2
"""From an answer to kube-scheduler's next question it takes some milliseconds while pods come, and
on the connection of a Binding, which comes beside the next pod's questions, as long as for a few
pods."""


class Stays:
    """At most so many threads stay at a time. For plain connections: TLS has a buffer of its own.

    ``conn`` is gunicorn's. Safe to use from threads.
    """

    def __init__(self, most: int, *, max_body_bytes: int) -> None:
        self._free = BoundedSemaphore(most)
        self._max_body_bytes = max_body_bytes

    def next_request(
        self, conn: Any, *, serves: Collection[Arrival]
    ) -> tuple[float, bytearray] | None:
        """Return the next request once it is whole, and when it began (``time.monotonic``).

        ``serves`` are the kinds of request that this thread may serve.

        None where the main loop has to go on: nothing came, or not all, or what other threads
        serve. Whatever came lies before the connection's parser again.
        """
        if not self._free.acquire(blocking=False):
            return None
        deadline = time.monotonic() + STAY_SECONDS
        waiting = Waiting(conn=conn, known=True, deadline=deadline)
        waiting.data += conn.parser.unreader.take_buffered()
        try:
            if not waiting.data and self._has_come(waiting, serves):
                return waiting.begun, waiting.data
        except OSError:
            pass
        finally:
            self._free.release()
        conn.parser.unreader.unread(bytes(waiting.data))
        return None

    def _has_come(self, waiting: Waiting, serves: Collection[Arrival]) -> bool:
        sock = waiting.conn.sock
        if sock.gettimeout() != 0:
            sock.settimeout(0)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while (left := waiting.deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            waiting.begun = waiting.begun or time.monotonic()
            ended = waiting.receive()
            found = arrival(waiting.data, max_body_bytes=self._max_body_bytes)
            if found in serves:
                return True
            if ended or found is not Arrival.WAITS:
                break
        return False
