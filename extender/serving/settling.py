"""Settling: the threads that find out what became of Bindings in doubt.

Usually kube-scheduler does, by asking again: the next Binding of the pod works, and the watch tells
of it. This is for the others, so that their memory is not kept for as long as a reservation lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

import structlog

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.verbs.doubt import Doubt, Doubts, Settled

log = structlog.get_logger("extender.settling")

TICK_SECONDS = 1.0


class Settling:
    """Settles one service's doubts. ``ask`` writes to the pod and returns what that found."""

    def __init__(self, state: ClusterState, ask: Callable[[Doubt], Pod | str | None]) -> None:
        self._ask = ask
        self._doubts = Doubts(state)
        self._answered = Event()
        self._stopping = Event()

    def add(self, doubt: Doubt) -> None:
        """Look into a doubt once its time has come."""
        self._doubts.add(doubt, monotonic())

    def start(self) -> None:
        """Begin to look; returns at once."""
        Thread(target=self._run, name="settling", daemon=True).start()

    def stop(self) -> None:
        """End; what is asked about is left to itself."""
        self._stopping.set()
        self._answered.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for doubt in self._doubts.take(monotonic()):
                    Thread(target=self._settle, args=(doubt,), name="doubt", daemon=True).start()
            except Exception:
                log.exception("bindings in doubt could not be looked at; it is tried again")
            self._answered.wait(TICK_SECONDS)
            self._answered.clear()

    def _settle(self, doubt: Doubt) -> None:
        try:
            found = self._ask(doubt)
        except Exception as error:
            log.exception("a binding in doubt could not be looked at; it is tried again")
            found = str(error)
        _say(self._doubts.answer(doubt, found))
        self._answered.set()


def _say(settled: Settled) -> None:
    doubt = settled.doubt
    bound = log.bind(namespace=doubt.namespace, pod=doubt.name, node=doubt.node)
    if settled.carried_out is None:
        bound.info("a binding is still in doubt; it is looked at again", error=settled.error)
    elif settled.carried_out:
        bound.info("a binding in doubt was carried out")
    else:
        bound.info("a binding in doubt was not carried out")
