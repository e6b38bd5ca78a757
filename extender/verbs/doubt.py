"""Doubt: a Binding of which nobody knows what became, and how that is settled.

The apiserver binds by a write to its storage that holds only for the version of the pod which it
has read (k8s.io/apiserver, pkg/storage/etcd3, GuaranteedUpdate). So once nobody works at a Binding
any more, a later write to the pod decides: either it finds the pod bound, or whatever is left of
the Binding comes too late for ever. A read would not do: a write that timed out can still be on its
way to the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod

UNCLEAR_SECONDS = 5.0
"""After so long nobody works at a Binding that was answered: the answer was its end."""

LOST_SECONDS = 75.0
"""The same for one that was not: the apiserver gives no request more than 60 s unless it is told
otherwise (``--request-timeout``), and a proxy may have held it before."""


FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0
MOST = 10_000
"""So many doubts are looked into; the reservations of any more end by themselves."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """One Binding in doubt, its claim on the node's memory, and in how many seconds to look."""

    namespace: str
    name: str
    uid: str
    node: str
    claim: int
    seconds: float


def settle(doubt: Doubt, pod: Pod | None, state: ClusterState) -> bool:
    """Give the memory back unless the pod is on that node; return whether it was given back.

    ``pod`` is what a write to it found, None where there is none. On the node it stays reserved
    until the watch tells of the pod.
    """
    bound = pod is not None and pod.metadata.uid == doubt.uid and pod.spec.node_name == doubt.node
    if not bound:
        state.release(doubt.uid, doubt.node, doubt.claim)
    return not bound


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a doubt found: ``carried_out``, or not, or (None) ``error`` in words."""

    doubt: Doubt
    carried_out: bool | None
    error: str = ""


class Doubts:
    """The doubts of one service. Safe to use from threads; ``look`` from one.

    ``ask`` writes to the pod and returns what that found, a text where there was no answer. Times
    are seconds of a clock that nobody sets.
    """

    def __init__(self, state: ClusterState, ask: Callable[[Doubt], Pod | str | None]) -> None:
        self._state = state
        self._ask = ask
        self._lock = Lock()
        self._open: dict[Doubt, tuple[float, float]] = {}  # when to look, and the wait after it

    def add(self, doubt: Doubt, now: float) -> None:
        """Look into a doubt once its time has come."""
        with self._lock:
            if len(self._open) < MOST:
                self._open[doubt] = now + doubt.seconds, FIRST_RETRY_SECONDS

    def look(self, now: float) -> Iterator[Settled]:
        """Settle what is due, and yield what was found of each that somebody was asked about.

        The watch may have settled it already.
        """
        with self._lock:
            due = [(doubt, wait) for doubt, (at, wait) in self._open.items() if at <= now]
        for doubt, wait in due:
            with self._lock:  # also where the look fails: it stands in nobody's way next time
                self._open[doubt] = now + wait, min(LAST_RETRY_SECONDS, 2 * wait)
            found = self._look(doubt)
            if found is None or found.carried_out is not None:
                with self._lock:
                    del self._open[doubt]
            if found is not None:
                yield found

    def open(self) -> set[Doubt]:
        """Return what is in doubt."""
        with self._lock:
            return set(self._open)

    def _look(self, doubt: Doubt) -> Settled | None:
        if not self._state.has_reservation(doubt.uid):
            return None
        found = self._ask(doubt)
        if isinstance(found, str):
            return Settled(doubt=doubt, carried_out=None, error=found)
        return Settled(doubt=doubt, carried_out=not settle(doubt, found, self._state))
