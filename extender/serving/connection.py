"""A connection that waits without a thread: what it has sent so far, and until when it may wait."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Any

from extender.serving.arrival import MAX_BODY_BYTES, MAX_HEAD_BYTES

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024
"""What a client that has been told goodbye may still send until it is cut."""

NO_DATA_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_READ_BYTES = 64 * 1024


@dataclass(kw_only=True, eq=False)
class Waiting:
    """A connection without a thread; ``conn`` is gunicorn's.

    ``known`` has been answered before. ``deadline`` and ``begun``, when the first byte of the
    request came, are ``time.monotonic``.
    """

    conn: Any
    known: bool
    deadline: float
    begun: float = 0.0
    data: bytearray = field(default_factory=bytearray)
    shaking_hands: bool = False
    leaving: bool = False
    discarded: int = 0
    registered: bool = False

    def receive(self) -> bool:
        """Add what has arrived to the data; True where the client sends no more."""
        while len(self.data) < MAX_HEAD_BYTES + MAX_BODY_BYTES:
            try:
                more = self.conn.sock.recv(_READ_BYTES)
            except NO_DATA_YET:
                return False
            if not more:
                return True
            self.data += more
            if len(more) < _READ_BYTES and not isinstance(self.conn.sock, ssl.SSLSocket):
                return False  # what comes later is told of; TLS may have read it already
        return False

    def discard(self) -> bool:
        """Read what is left; True where nothing more has to be read."""
        while self.discarded < LINGER_BYTES:
            try:
                more = self.conn.sock.recv(4096)
            except NO_DATA_YET:
                return False
            if not more:
                return True
            self.discarded += len(more)
        return True


def send_whole(sock: Any, answer: bytes) -> bool:
    """Send an answer; false where the client has gone or does not take it.

    At first without waiting: most clients take all of it at once.
    """
    try:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = sock.send(answer)
        if sent < len(answer):
            sock.settimeout(None)
            sock.sendall(memoryview(answer)[sent:])
    except OSError:
        return False
    return True
