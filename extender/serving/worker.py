"""gunicorn's threaded worker, made safe to leave alone with strangers.

- The status listener is open to the cluster network. Its requests have threads of their own, so
  that connections which never finish a request there cannot keep the verbs waiting.
- A request must be whole within ``READ_SECONDS``, or it is cut: gunicorn has no such limit for
  threads, and sixteen half-sent requests would hold sixteen threads for good.
- A signal to stop that arrives right after the fork is kept until the worker can hear it. gunicorn
  loses it: the worker still has the parent's handlers then, and stops only when it is killed.
- What is not HTTP is answered and logged in the same form as every other error; gunicorn's own
  answer is HTML.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import msgspec
import structlog
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

log = structlog.get_logger("extender.http")

READ_SECONDS = 10.0
"""kube-scheduler gives a whole call 5 s unless told otherwise (``httpTimeout``)."""

_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_STATUS_LINES = {
    "ExpectationFailed": (417, "Expectation Failed"),
    "LimitRequestHeaders": (431, "Request Header Fields Too Large"),
    "LimitRequestLine": (414, "URI Too Long"),
}


def keep_signals_over_forks() -> None:
    """Hold back signals to stop from each fork on until ``Worker.init_signals``, in the child."""
    os.register_at_fork(
        before=lambda: _mask(signal.SIG_BLOCK), after_in_parent=lambda: _mask(signal.SIG_UNBLOCK)
    )


def _mask(how: int) -> None:
    signal.pthread_sigmask(how, _STOP)


class Worker(ThreadWorker):  # type: ignore[misc]
    """One process, with threads for the verbs and as many for the status listener."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines: dict[Any, float] = {}

    def init_signals(self) -> None:
        """Set the worker's own handlers, and let through what arrived before."""
        super().init_signals()
        _mask(signal.SIG_UNBLOCK)

    def get_thread_pool(self) -> Executor:
        """Return the threads; gunicorn asks once."""
        return _Pools(self.cfg.threads, [listener.getsockname() for listener in self.sockets])

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection, in a thread."""
        self._deadlines[conn] = time.monotonic() + READ_SECONDS
        try:
            return super().handle(conn)
        finally:
            del self._deadlines[conn]

    def notify(self) -> None:
        """Cut what has taken too long to arrive; the main loop calls this about once a second.

        Only the reading side is shut: an answer that is on its way still goes out.
        """
        super().notify()
        now = time.monotonic()
        for conn, deadline in list(self._deadlines.items()):
            if now < deadline:
                continue
            self._deadlines[conn] = float("inf")
            log.warning("request cut", error=f"it was not whole after {READ_SECONDS:.0f} s")
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RD)

    def handle_error(self, req: Any, client: Any, _addr: Any, exc: Exception) -> None:
        """Answer what could not be read as HTTP, or failed outside of the application."""
        kind = type(exc).__name__
        if isinstance(exc, ParseException):
            status, reason = _STATUS_LINES.get(kind, (400, "Bad Request"))
            message = f"not an HTTP request that can be served: {exc}"
            log.warning(
                "request refused",
                method=getattr(req, "method", None),
                path=getattr(req, "path", None),
                code=status,
                error=message[:500],
            )
        else:
            status, reason = 500, "Internal Server Error"
            message = "internal error; the log of the extender has the details"
            log.error("request failed", code=status, error=kind, exc_info=exc)
        body = msgspec.json.encode({"error": message})
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall(head.encode() + body)


class _Pools(Executor):
    """The first listener's threads, and those that the other listeners share."""

    def __init__(self, threads: int, listeners: list[Any]) -> None:
        self._verbs_address = listeners[0]
        self._verbs = ThreadPoolExecutor(threads, thread_name_prefix="verbs")
        self._status = ThreadPoolExecutor(threads, thread_name_prefix="status")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn(conn)`` in a thread of the listener that accepted the connection."""
        (conn,) = args
        pool = self._verbs if conn.server == self._verbs_address else self._status
        return pool.submit(fn, conn, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Stop both."""
        for pool in (self._verbs, self._status):
            pool.shutdown(wait, cancel_futures=cancel_futures)
