"""Settling: the thread that finds out what became of Bindings in doubt.

Usually kube-scheduler does, by asking again: the next Binding of the pod works, and the watch tells
of it. This is for the others, so that their memory is not kept for as long as a reservation lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic

import structlog

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.verbs.doubt import Doubt, settle

log = structlog.get_logger("extender.settling")

TICK_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0
MOST = 10_000
"""So many doubts are looked into; the reservations of any more end by themselves."""


class Settling:
    """Settles one service's doubts. ``ask`` writes to the pod and returns what that found."""

    def __init__(self, state: ClusterState, ask: Callable[[Doubt], Pod | str | None]) -> None:
        self._state = state
        self._ask = ask
        self._lock = Lock()
        self._open: dict[Doubt, tuple[float, float]] = {}  # when to look, and the wait after it
        self._stopping = Event()

    def add(self, doubt: Doubt) -> None:
        """Look into a doubt once its time has come."""
        with self._lock:
            if len(self._open) < MOST:
                self._open[doubt] = monotonic() + doubt.seconds, TICK_SECONDS

    def start(self) -> None:
        """Begin to look; returns at once."""
        Thread(target=self._run, name="settling", daemon=True).start()

    def stop(self) -> None:
        """End after the look that is under way."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self.look(monotonic())
            except Exception:
                log.exception("bindings in doubt could not be looked at; it is tried again")

    def look(self, now: float) -> None:
        """Settle what is due at a time (``monotonic``)."""
        with self._lock:
            due = [(doubt, wait) for doubt, (at, wait) in self._open.items() if at <= now]
        for doubt, wait in due:
            if self._stopping.is_set():
                return
            settled = self._settled(doubt)
            with self._lock:
                del self._open[doubt]
                if not settled:
                    self._open[doubt] = now + wait, min(LAST_RETRY_SECONDS, 2 * wait)

    def _settled(self, doubt: Doubt) -> bool:
        """Settle a doubt, if that can be done now; the watch may have done it already."""
        if not self._state.has_reservation(doubt.uid):
            return True
        found = self._ask(doubt)
        if isinstance(found, str):
            self._say("a binding is still in doubt; it is looked at again", doubt, error=found)
            return False
        given_back = settle(doubt, found, self._state)
        self._say(
            "a binding in doubt was not carried out"
            if given_back
            else "a binding in doubt was carried out",
            doubt,
        )
        return True

    def _say(self, event: str, doubt: Doubt, **more: str) -> None:
        log.info(event, namespace=doubt.namespace, pod=doubt.name, node=doubt.node, **more)
