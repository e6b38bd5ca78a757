"""Doubt: a Binding of which nobody knows what became, and how that is settled.

The apiserver binds by a write to its storage that holds only for the version of the pod which it
has read (k8s.io/apiserver, pkg/storage/etcd3, GuaranteedUpdate). So once nobody works at a Binding
any more, a later write to the pod decides: either it finds the pod bound, or whatever is left of
the Binding comes too late for ever. A read would not do: a write that timed out can still be on its
way to the storage.

Such a write may hang for seconds, and in one namespace always: several are under way at once, and
what one namespace has in doubt leaves room for that of others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
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

AT_ONCE = 16
"""So many are looked into at the same time."""

HALF = 8
"""So many of them are of one namespace, or were looked into before without an answer."""


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
    """The doubts of one service. Safe to use from threads.

    What ``take`` returns is asked about, by a write to the pod, and what that found is told to
    ``answer``. Times are seconds of a clock that nobody sets.
    """

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._lock = Lock()
        self._open: dict[Doubt, tuple[float, float]] = {}  # when to look, and the wait after it
        self._asked: dict[Doubt, bool] = {}  # whether it was asked about before

    def add(self, doubt: Doubt, now: float) -> None:
        """Look into a doubt once its time has come."""
        with self._lock:
            if len(self._open) < MOST:
                self._open[doubt] = now + doubt.seconds, FIRST_RETRY_SECONDS

    def take(self, now: float) -> list[Doubt]:
        """Return what to ask about now; each is under way until it is answered.

        The watch may have settled a doubt already: nobody is asked about that.
        """
        with self._lock:
            due = [(at, doubt) for doubt, (at, _) in self._open.items() if at <= now]
            waiting = []
            for _, doubt in sorted(due, key=lambda it: it[0]):
                if doubt in self._asked:
                    continue
                if self._state.has_reservation(doubt.uid):
                    waiting.append(doubt)
                else:
                    del self._open[doubt]
            return self._next(waiting, now)

    def answer(self, doubt: Doubt, found: Pod | str | None) -> Settled:
        """Settle a doubt that was taken by what a write to its pod ``found`` (see ``settle``).

        That is a text where there was no answer: then it is taken again after a while.
        """
        with self._lock:
            del self._asked[doubt]
        if isinstance(found, str):
            return Settled(doubt=doubt, carried_out=None, error=found)
        settled = Settled(doubt=doubt, carried_out=not settle(doubt, found, self._state))
        with self._lock:
            del self._open[doubt]
        return settled

    def open(self) -> set[Doubt]:
        """Return what is in doubt."""
        with self._lock:
            return set(self._open)

    def _next(self, due: Sequence[Doubt], now: float) -> list[Doubt]:
        """Take as many as may be under way, the next one from the namespace that has the fewest."""
        queues: dict[str, deque[Doubt]] = {}
        for doubt in due:
            queues.setdefault(doubt.namespace, deque()).append(doubt)
        asked, taken = Counter(doubt.namespace for doubt in self._asked), list[Doubt]()
        while queues and len(self._asked) < AT_ONCE:
            namespace = min(queues, key=asked.__getitem__)
            if asked[namespace] >= HALF:
                break
            doubt = queues[namespace].popleft()
            if not queues[namespace]:
                del queues[namespace]
            _, wait = self._open[doubt]
            again = wait > FIRST_RETRY_SECONDS
            if again and sum(self._asked.values()) >= HALF:
                continue
            self._asked[doubt] = again
            self._open[doubt] = now + wait, min(LAST_RETRY_SECONDS, 2 * wait)
            asked[namespace] += 1
            taken.append(doubt)
        return taken
