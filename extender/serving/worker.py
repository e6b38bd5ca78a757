"""gunicorn's threaded worker, made safe to leave alone with strangers.

- A connection has a thread only while a whole request of it is worked on. What has not arrived yet
  (a TLS handshake, half a header, nothing at all) waits in the main loop, which never blocks: any
  number of slow or idle connections keeps no request waiting. gunicorn gives each new connection a
  thread for five seconds, and lets its main loop wait up to two seconds for a client to hang up.
- Connections that wait are limited for each listener. Over the limit the one that has waited
  longest goes; strangers never displace a client that has been answered before. What the others
  than the first listener may have in work is limited as well.
- A thread that has answered a verb stays with its connection for a moment (``staying``). What is
  not whole then goes back to the main loop, and no more threads stay than half of those for verbs.
- The status listener is open to the cluster network: its requests have threads of their own, and
  so has the kubelet's question for health. Requests that are not whole in advance (large bodies,
  chunks) have their own threads too.
- A request must be whole within ``READ_SECONDS``, and its answer taken within as much again, or it
  is cut: gunicorn has no such limits for threads.
- A listener that has certificates speaks TLS, the others plain HTTP.
- A signal to stop that arrives right after the fork is kept until the worker can hear it. gunicorn
  loses it: the worker still has the parent's handlers then, and stops only when it is killed.
- What is not HTTP is answered and logged in the same form as every other error; gunicorn's own
  answer is HTML.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import structlog
from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestHeaders, ParseException
from gunicorn.workers.gthread import ThreadWorker

from extender.serving.arrival import Arrival, arrival, note_begin
from extender.serving.certificates import Certificates
from extender.serving.connection import LINGER_SECONDS, NO_DATA_YET, Waiting, send_whole
from extender.serving.dispatch import raised
from extender.serving.pools import Pools
from extender.serving.staying import Stays

log = structlog.get_logger("extender.http")

READ_SECONDS = 10.0
"""kube-scheduler gives a whole call 5 s unless told otherwise (``httpTimeout``)."""

MAX_WAITING = 200
"""Connections of one listener that wait for their first request, and as many for another one. With
those that are served they stay below the 1024 files that a process may have open by default."""

_SWEEP_SECONDS = 0.25
_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_STATUS_LINES = {
    "ExpectationFailed": (417, "Expectation Failed"),
    "LimitRequestHeaders": (431, "Request Header Fields Too Large"),
    "LimitRequestLine": (414, "URI Too Long"),
}
_NOTHING: Collection[Arrival] = frozenset()
_STAYS_FOR: Mapping[Arrival, Collection[Arrival]] = {
    Arrival.WHOLE: frozenset({Arrival.WHOLE}),
    Arrival.BIND: frozenset({Arrival.WHOLE, Arrival.BIND}),
}
"""For what a thread stays with the connection that it has served. Threads for binds are many and
may serve both; a bind in one of the others, which are few, could keep filter waiting."""

_NO_FILES_LEFT = frozenset({errno.EMFILE, errno.ENFILE})


def keep_signals_over_forks() -> None:
    """Hold back signals to stop from each fork on until ``Worker.init_signals``, in the child."""
    os.register_at_fork(
        before=lambda: _mask(signal.SIG_BLOCK), after_in_parent=lambda: _mask(signal.SIG_UNBLOCK)
    )


def _mask(how: int) -> None:
    signal.pthread_sigmask(how, _STOP)


@dataclass(kw_only=True)
class _Turn:
    """A request in a thread: when it is cut next, and how."""

    deadline: float
    how: int = socket.SHUT_RD


class Worker(ThreadWorker):  # type: ignore[misc]
    """One process: a main loop for what arrives, threads for what has arrived."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._certificates: dict[Any, Certificates] = {
            listener.getsockname(): certificates
            for listener, certificates in zip(self.sockets, self.app.certificates, strict=False)
            if certificates is not None
        }
        self._turns: dict[Any, _Turn] = {}
        self._served = {True: 0, False: 0}
        self._waiting: dict[tuple[Any, bool], dict[Waiting, None]] = {}
        self._swept = 0.0
        self._verbs_address = self.sockets[0].getsockname()
        self._stays = Stays(max(1, self.cfg.threads // 2), max_body_bytes=self.app.max_body_bytes)

    def init_signals(self) -> None:
        """Set the worker's own handlers, and let through what arrived before."""
        super().init_signals()
        _mask(signal.SIG_UNBLOCK)

    def get_thread_pool(self) -> Executor:
        """Return the threads; gunicorn asks once."""
        return Pools(self.cfg.threads)

    # -- what arrives: in the main loop ------------------------------------------------------------

    def accept(self, listener: Any) -> None:
        """Take a new connection; where no file is left for it, give up one that waits."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _NO_FILES_LEFT:
                raise
            log.error("connection refused", error="no file descriptor is left")  # noqa: TRY400
            self._displace(listener.getsockname(), known=False)
            time.sleep(0.01)

    def enqueue_req(self, conn: Any) -> None:
        """Look for the next request of a connection; gunicorn gives it a thread at once."""
        now = time.monotonic()
        idle = self.cfg.keepalive if self.alive else LINGER_SECONDS
        waiting = Waiting(conn=conn, known=conn.initialized, deadline=now + idle)
        try:
            conn.sock.settimeout(0)
            if conn.initialized:
                waiting.data += conn.parser.unreader.take_buffered()
            elif certificates := self._certificates.get(conn.server):
                conn.sock = certificates.context().wrap_socket(
                    conn.sock, server_side=True, do_handshake_on_connect=False
                )
                waiting.shaking_hands = True
                waiting.deadline = now + READ_SECONDS
        except OSError:
            self._drop(waiting)
            return
        self._advance(waiting)

    def _advance(self, waiting: Waiting, _file: Any = None) -> None:
        """Go as far as the bytes that are there allow."""
        conn = waiting.conn
        try:
            if waiting.shaking_hands:
                conn.sock.do_handshake()
                waiting.shaking_hands = False
                waiting.deadline = time.monotonic() + self.cfg.keepalive
            ended = waiting.discard() if waiting.leaving else waiting.receive()
        except NO_DATA_YET:
            self._park(waiting)
            return
        except OSError as error:
            if waiting.shaking_hands and isinstance(error, ssl.SSLError):
                log.warning("connection refused", caller=conn.client[0], error=f"TLS: {error}")
            self._drop(waiting)
            return
        if waiting.data and not waiting.begun:
            waiting.begun = time.monotonic()
        if waiting.leaving or (ended and not waiting.data):
            if ended:
                self._drop(waiting)
            else:
                self._park(waiting)
            return
        found = arrival(waiting.data, max_body_bytes=self.app.max_body_bytes)
        if found is Arrival.ENDLESS:
            self.handle_error(
                None, conn.sock, conn.client, LimitRequestHeaders("the headers have no end")
            )
            self._leave(waiting)
        elif found is Arrival.WAITS and not ended:
            self._park(waiting)
        else:
            self._serve(waiting, Arrival.PARTLY if found is Arrival.WAITS else found)

    def _park(self, waiting: Waiting) -> None:
        """Wait for more, without a thread."""
        conn = waiting.conn
        if waiting.data and not waiting.leaving:
            waiting.deadline = min(waiting.deadline, waiting.begun + READ_SECONDS)
        if waiting.registered:
            return
        try:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._advance, waiting))
        except (OSError, ValueError):
            self._drop(waiting)
            return
        waiting.registered = True
        same = self._waiting.setdefault((conn.server, waiting.known), {})
        same[waiting] = None
        if len(same) > MAX_WAITING:
            self._displace(conn.server, known=waiting.known)

    def _unpark(self, waiting: Waiting) -> None:
        if not waiting.registered:
            return
        waiting.registered = False
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(waiting.conn.sock)
        self._waiting[waiting.conn.server, waiting.known].pop(waiting, None)

    def _displace(self, server: Any, *, known: bool) -> None:
        longest = next(iter(self._waiting.get((server, known), ())), None)
        if longest is not None:
            self._drop(longest)

    def _drop(self, waiting: Waiting) -> None:
        self._unpark(waiting)
        self.nr_conns -= 1
        waiting.conn.close()

    def _leave(self, waiting: Waiting) -> None:
        """Close after the client has read what was sent: it would lose that to a reset."""
        self._unpark(waiting)
        waiting.leaving = True
        waiting.known = False
        waiting.deadline = time.monotonic() + LINGER_SECONDS
        sock = waiting.conn.sock
        try:
            sock.settimeout(0)
            if isinstance(sock, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    sock.unwrap()  # says that this is the end; the client's word is not awaited
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(waiting)
            return
        self._advance(waiting)

    def murder_pending(self) -> None:
        """End what has waited too long; the main loop calls this after each of its rounds."""
        now = time.monotonic()
        if now < self._swept + _SWEEP_SECONDS:
            return
        self._swept = now
        for waiting in [one for same in self._waiting.values() for one in same]:
            idle = not waiting.data and not waiting.leaving
            if idle and not self.alive:
                waiting.deadline = min(waiting.deadline, now + LINGER_SECONDS)
            if now < waiting.deadline:
                continue
            if idle or waiting.leaving:
                self._drop(waiting)
                continue
            _cut(waiting.conn, socket.SHUT_RD)
            self._serve(waiting, Arrival.PARTLY)

    # -- what has arrived: in threads --------------------------------------------------------------

    def _serve(self, waiting: Waiting, found: Arrival) -> None:
        self._unpark(waiting)
        conn = waiting.conn
        verbs = conn.server == self._verbs_address
        if not verbs and found is not Arrival.HEALTH and self._served[verbs] >= MAX_WAITING:
            log.warning("connection refused", error="too many requests are being served")
            self._drop(waiting)
            return
        self._served[verbs] += 1
        if not conn.initialized:
            conn.initialized = True
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
        plain = verbs and not isinstance(conn.sock, ssl.SSLSocket)
        stays_for = _STAYS_FOR.get(found, _NOTHING) if plain else _NOTHING
        served = self.tpool.of(verbs=verbs, found=found).submit(
            self.handle,
            conn,
            waiting.begun,
            waiting.data,
            plain=plain,
            stays_for=stays_for,
        )
        served.add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, conn, future)
        )

    def handle(
        self,
        conn: Any,
        begun: float,
        data: bytearray,
        *,
        plain: bool,
        stays_for: Collection[Arrival],
    ) -> Any:
        """Serve a request of a connection, in a thread, and the next ones that it ``stays_for``.

        ``data`` is what has arrived of it, ``plain`` that it comes in the clear to the verbs.
        """
        kept = self._handle(conn, begun, data, plain=plain)
        while kept is True and stays_for and self.alive:
            following = self._stays.next_request(conn, serves=stays_for)
            if following is None:
                break
            kept = self._handle(conn, *following, plain=plain)
        return kept

    def _handle(self, conn: Any, begun: float, data: bytearray, *, plain: bool) -> Any:
        note_begin(begun)
        self._turns[conn] = _Turn(deadline=time.monotonic() + READ_SECONDS)
        failed = answer = None
        try:
            try:
                if plain and self.alive:
                    answer = self.app.plain_verbs.answer(data, caller=conn.client[0])
            except Exception as error:  # noqa: BLE001 - raised again where errors are answered
                failed = error
            if answer is not None:
                return send_whole(conn.sock, answer)
            conn.parser.unreader.unread(bytes(data))
            with raised(failed):
                return super().handle(conn)
        finally:
            del self._turns[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer; after its certificates changed, a connection ends with its next answer."""
        if isinstance(conn.sock, ssl.SSLSocket) and (
            conn.sock.context is not self._certificates[conn.server].context()
        ):
            req.force_close()
        return super().handle_request(req, conn)

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Wait for the next request of a connection, or for its end; in the main loop."""
        self._served[conn.server == self._verbs_address] -= 1
        if not fs.cancelled() and fs.exception() is None and fs.result():
            self.enqueue_req(conn)
        else:
            self._leave(Waiting(conn=conn, known=False, deadline=0.0))

    def notify(self) -> None:
        """Cut what takes too long in a thread; the main loop calls this about once a second.

        At first only the reading side is shut: an answer that is on its way still goes out. A
        client that does not take it in as much time again has lost it.
        """
        super().notify()
        now = time.monotonic()
        for conn, turn in list(self._turns.items()):
            if now < turn.deadline:
                continue
            _cut(conn, turn.how)
            again = turn.how == socket.SHUT_RD
            turn.deadline = now + READ_SECONDS if again else float("inf")
            turn.how = socket.SHUT_RDWR

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


def _cut(conn: Any, how: int) -> None:
    what = "it was not whole" if how == socket.SHUT_RD else "its answer was not taken"
    log.warning("request cut", error=f"{what} after {READ_SECONDS:.0f} s")
    with contextlib.suppress(OSError):
        # Not the TLS object's own method: that one forgets that there was TLS, and what the
        # thread sends afterwards would go out in the clear.
        socket.socket.shutdown(conn.sock, how)
