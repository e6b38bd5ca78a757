"""Rounds of waking: who is due is told, one after another, and what became of each is noted.

kube-scheduler tries a pod again at once when the pod itself changes. So it is nominated where one
node alone is right (``nominate``), and else touched. How that is written is the business of a
``Telling``, and so is when the next round begins.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from itertools import chain, repeat
from typing import Protocol

from extender.cluster.state import ClusterState
from extender.cluster.view import PodFacts
from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.waiting.leads import IN_DOUBT_SECONDS, leads_somewhere
from extender.waiting.lost import Lost
from extender.waiting.nominate import Nominations
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.telling import TakenBack, Telling, Told, Woken, note
from extender.waiting.underway import UnderWay
from extender.waiting.wake import Waker, missed_wait

_PERHAPS_WRITTEN = (Told.WRITTEN, Told.UNANSWERED)

WOKEN_BETWEEN = 10
"""After the first pod that a round wakes, and after so many more each time, one nomination is taken
back: a tenth of what may be written, however many there are."""

TAKEN_BACK_AFTERWARDS = 10
"""So many nominations a round takes back when nobody is left to wake, at most: 0.2 s by the shipped
``waking.perSecond``, for which whoever is due meanwhile waits."""


class Lead(Protocol):
    """Whether this service is the one that acts, as far as is seen."""

    @property
    def term(self) -> str | None:
        """Return what tells this service's time from any other's; None while another leads."""

    def leads(self) -> bool:
        """Tell whether this service acts now."""

    def caught_up(self) -> bool:
        """Tell whether all pods are known that were there when it began to."""


class Rounds:
    """Wakes the refused pods of one service. Used from one thread.

    ``schedulers`` are those whose pods are taken for refused ones after a restart.
    """

    def __init__(
        self,
        state: ClusterState,
        pods: WaitingPods,
        policy: Policy,
        telling: Telling,
        *,
        schedulers: Container[str],
        stale: Callable[[], tuple[str, ...]],
        request_of: Callable[[PodFacts], PodRequest],
    ) -> None:
        self._state = state
        self._pods = pods
        self._policy = policy
        self._telling = telling
        self._stale = stale
        self._schedulers = schedulers
        self._request_of = request_of
        self._under_way = UnderWay(state.steady)
        self._waker = Waker(state, pods, policy, stale=stale, may_tell=self._under_way.may_tell)
        self._nominations = Nominations(state, policy, stale=stale)
        self._term: str | None = None
        self._complete = False
        self._fresh_since: float | None = None

    def wake(self, lead: Lead) -> Iterator[Woken | TakenBack]:
        """Tell of whom it is time to tell, for as long as this service leads.

        A round ends early where the apiserver is not there: nobody else is worth a try then.
        """
        self._follow(lead)
        if self._stale():
            self._fresh_since = None
        elif self._fresh_since is None:
            self._fresh_since = self._state.steady()
        acting = self._tell() if lead.leads() else iter(())
        for told in chain(self._answered(), acting):
            yield told
            if told.word.told is Told.UNREACHED or not lead.leads():
                return

    def idle(self, lead: Lead) -> bool:
        """Tell whether no change of the cluster can give the next round anything to do.

        Nobody waits, and all were found who did when this service began to lead.
        """
        if len(self._pods) or self._pods.lost.any():
            return False
        return self._complete and lead.term == self._term

    def _tell(self) -> Iterator[Woken | TakenBack]:
        """After some pods that are woken, take back a nomination that keeps others out; then more.

        What was not answered in time is told once it is.
        """
        waking = map(self._wake, self._waker.due())
        for number, woken in enumerate(chain(waking, repeat(None, TAKEN_BACK_AFTERWARDS))):
            if woken is not None:
                yield woken
            yield from self._answered()
            if woken is not None and number % WOKEN_BETWEEN:
                continue
            lost = self._next_lost()
            if lost is not None:
                yield self._take_back(lost)
            elif woken is None:
                return

    def _answered(self) -> Iterator[Woken | TakenBack]:
        """Note what came of the writes that were answered by now; then tell of each."""
        found = [self._under_way.take(uid, word) for uid, word in self._telling.answers()]
        told = [one for one in found if one is not None]
        for one in told:
            self._note(one)
        yield from told

    def _next_lost(self) -> Lost | None:
        """Return a nomination to take back; those in doubt that lead somewhere are forgotten.

        Some of these at a time: whoever is to be woken waits for it.
        """
        steady, since = self._state.steady(), self._fresh_since
        doubts = since is not None and steady - since >= IN_DOUBT_SECONDS
        may_tell = self._under_way.may_tell
        for _ in range(TAKEN_BACK_AFTERWARDS):
            lost = self._pods.lost.next(steady, doubts=doubts, may_tell=may_tell)
            if lost is None or not lost.in_doubt:
                return lost
            if not self._pods.apart.judge(lost.request, partial(self._leads, lost), otherwise=True):
                return lost
            self._pods.lost.drop(lost)
        return None

    def _leads(self, lost: Lost) -> bool:
        return leads_somewhere(lost.request, lost.node, self._state, self._policy)

    def _follow(self, lead: Lead) -> None:
        """Have those wait who wait in the present term.

        While another leads all are forgotten: it is told what becomes of them. kube-scheduler asks
        from the first moment of a term on, before the Lease shows that one, so who is refused by
        then is kept. The others are recovered: at once, and once more when the watch has come to
        where the apiserver was. Until then it may not have shown all of them. So are those that
        were forgotten for want of room, when there is some again.
        """
        term = lead.term
        if term is None:
            if self._term is not None:
                self._term = None
                self._pods.clear()
            return
        if not lead.leads():
            return
        complete = lead.caught_up()
        followed = term == self._term and (self._complete or not complete)
        if followed and not self._pods.has_room_again():
            return
        if self._term not in {None, term}:
            self._pods.renew()
        self._pods.recover(self._state, self._schedulers, self._request_of)
        self._term, self._complete = term, complete

    def _take_back(self, lost: Lost) -> TakenBack:
        told = TakenBack(lost=lost, word=self._telling.take_back(lost.request, lost.node))
        self._hear(told)
        return told

    def _wake(self, pod: WaitingPod) -> Woken:
        """Tell of a pod; it is no reason to keep memory for it where nobody may hear of that."""
        request, node = pod.request, ""
        if not self._under_way.may_hang(request):
            node = self._pods.apart.judge(request, partial(self._nominations.take, pod), "")
        self._pods.touched(request.uid, self._state)
        if node:
            self._pods.lost.drop_of(request.uid)
        word = self._telling.nominate(request, node) if node else self._telling.touch(request)
        if word.told is Told.OVERTAKEN:
            self._nominations.undo(pod)
            node, word = "", self._telling.touch(request)
        told = Woken(pod=pod, node=node, word=word)
        self._hear(told)
        return told

    def _hear(self, told: Woken | TakenBack) -> None:
        """Note what came of a write, or that it is not known yet."""
        if told.word.told is Told.AWAITED:
            self._under_way.add(told)
        else:
            self._under_way.answered_in_time(told.request)
            self._note(told)

    def _note(self, told: Woken | TakenBack) -> None:
        word = told.word
        if isinstance(told, Woken):
            if told.node and word.told not in _PERHAPS_WRITTEN:
                self._nominations.undo(told.pod)
            note(word, told.request.uid, self._pods, self._state)
        elif word.told in {Told.REFUSED, Told.UNANSWERED}:
            again_at = self._state.steady() + missed_wait(told.lost.misses + 1)
            self._pods.lost.missed(told.lost, again_at)
        elif word.told is not Told.UNREACHED:
            self._pods.lost.drop(told.lost)
