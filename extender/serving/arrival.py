"""How much of a request has arrived: what may have a thread, and what has to wait without one.

Being wrong here costs a thread some waiting and never changes what a request means: gunicorn's
parser reads the same bytes again. So a request counts as whole only where that cannot be doubted;
what is large, chunked, oddly announced or expects an answer before its body goes to threads of its
own.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from enum import Enum, auto

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 256 * 1024
"""What a connection may have waiting here. kube-scheduler asks about 5,000 nodes with 112 KB
(``nodeCacheCapable``)."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)")
_HEALTH = (b"GET /healthz HTTP/", b"GET /readyz HTTP/")
_BIND = b"POST /bind HTTP/"


_BEGUN: ContextVar[float] = ContextVar("begun")


def note_begin(begun: float) -> None:
    """Say when the request that this thread serves began to arrive (``time.monotonic``)."""
    _BEGUN.set(begun)


def seconds_since_begin() -> float:
    """Return the age of this thread's request: what it has waited for a thread counts as well.

    0 where nobody has noted it, as in a program that calls the application by itself.
    """
    now = time.monotonic()
    return now - _BEGUN.get(now)


class Arrival(Enum):
    """What to do with the bytes so far."""

    WAITS = auto()
    WHOLE = auto()
    HEALTH = auto()
    """Whole, and a question about health, which is never kept waiting by others."""
    BIND = auto()
    """Whole, and a bind, which waits for the apiserver while others only compute."""
    PARTLY = auto()
    """The rest has to be read by whoever serves it."""
    ENDLESS = auto()
    """Headers beyond all measure."""


def arrival(data: bytes | bytearray, *, max_body_bytes: int) -> Arrival:
    """Judge the first bytes of a connection, or those after its last request."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if end < 0:
        return Arrival.ENDLESS if len(data) >= MAX_HEAD_BYTES else Arrival.WAITS
    head = bytes(data[: end + 2]).lower()
    lengths = _LENGTH.findall(head)
    if (
        len(lengths) > 1
        or head.count(b"content-length") != len(lengths)
        or b"transfer-encoding" in head
        or b"\r\nexpect" in head
    ):
        return Arrival.PARTLY
    announced = int(lengths[0]) if lengths else 0
    if announced > max_body_bytes:
        return Arrival.PARTLY
    arrived = len(data) - end - 4
    if arrived >= announced:
        if data.startswith(_BIND):
            return Arrival.BIND
        return Arrival.HEALTH if data.startswith(_HEALTH) else Arrival.WHOLE
    return Arrival.PARTLY if arrived >= MAX_BODY_BYTES else Arrival.WAITS
