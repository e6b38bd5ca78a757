"""Waking: the thread that tells kube-scheduler of waiting pods that could run (``telling``).

``nominatedNodeName`` is written to a pod where one node alone is right, and else the annotation
``modelcache.dev/requeued-at``. Both go through ``pods/status``: a right that cannot change its
spec. They are spread by a rate limit; what is left over is woken next.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

import structlog
from cachetools import LRUCache

from extender.serving.awaiting import Awaiting
from extender.serving.telling import ApiTelling, while_leading
from extender.verbs.context import Context
from extender.waiting.pods import WaitingPods
from extender.waiting.rounds import Lead, Rounds
from extender.waiting.telling import TakenBack, Told, Woken
from extender.waiting.wake import PLAN_SECONDS_PER_POD
from extender.watch.client import Transport

log = structlog.get_logger("extender.waking")

TICK_SECONDS = 1.0
GATHER_SECONDS = 0.02
"""Events come in crowds; so long they are gathered before anything is judged, and longer where
thousands wait (``PLAN_SECONDS_PER_POD``)."""

MOST_CAUSES = 100
"""So many are remembered: an admission webhook may give any reason."""

_TAKEN_BACK = {
    Told.WRITTEN: "written",
    Told.OVERTAKEN: "overtaken",
    Told.GONE: "gone",
    Told.REFUSED: "failed",
    Told.UNANSWERED: "failed",
    Told.UNREACHED: "failed",
}


class Waking:
    """Wakes the refused pods of one service while it leads.

    ``count`` is told each result, ``count_taken_back`` those of nominations that led nowhere.
    """

    def __init__(
        self,
        context: Context,
        pods: WaitingPods,
        transport: Transport,
        *,
        schedulers: tuple[str, ...],
        per_second: float,
        lead: Lead,
        count: Callable[[str], None],
        count_taken_back: Callable[[str], None],
    ) -> None:
        self._context = context
        self._pods = pods
        self._pause = 1.0 / per_second
        self._count = count
        self._count_taken_back = count_taken_back
        self._not_taken_back: LRUCache[str, None] = LRUCache(MOST_CAUSES)  # those that were said
        self._not_woken: LRUCache[str, int] = LRUCache(MOST_CAUSES)  # how often, since it was said
        self._lead = lead
        self._changed = Event()
        telling = ApiTelling(transport, now=context.now, fence=while_leading(lead.leads))
        self._rounds = Rounds(
            context.state,
            pods,
            context.policy,
            Awaiting(telling, answered=self._changed.set),
            schedulers=frozenset(schedulers),
            stale=context.stale,
            request_of=context.request_of,
        )
        self._crowded = ""  # the namespace of which it was said that it has too many pods
        self._stopping = Event()
        context.state.subscribe(self._note_change)

    def start(self) -> None:
        """Begin to wake; returns at once."""
        Thread(target=self._run, name="waking", daemon=True).start()

    def stop(self) -> None:
        """End; writes that are under way are left to themselves."""
        self._stopping.set()
        self._changed.set()

    def look(self) -> None:
        """Judge the waiting pods soon: one was added."""
        self._changed.set()

    def _note_change(self) -> None:
        """Judge the waiting pods soon; where none waits, nothing has to be looked at."""
        if not self._rounds.idle(self._lead):
            self._changed.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(TICK_SECONDS)
            self._stopping.wait(max(GATHER_SECONDS, len(self._pods) * PLAN_SECONDS_PER_POD))
            self._changed.clear()
            try:
                if not self.wake():
                    self._stopping.wait(TICK_SECONDS)
            except Exception:
                log.exception("waking failed; it is tried again")
                self._stopping.wait(TICK_SECONDS)

    def wake(self) -> bool:
        """Wake whom it is time to wake; return whether the apiserver was there to be told."""
        if self._context.unsynced():
            return True
        self._tell_forgotten()
        reached, began = True, monotonic()
        for told in self._rounds.wake(self._lead):
            self._tell(told)
            reached = reached and told.word.told is not Told.UNREACHED
            self._stopping.wait(max(0.0, self._pause - (monotonic() - began)))
            if self._stopping.is_set() or self._context.unsynced():
                break
            began = monotonic()
        return reached

    def _tell_forgotten(self) -> None:
        """Say once that pods are forgotten, and once that they are taken in again."""
        crowded = self._pods.crowded
        if crowded and not self._crowded:
            log.warning(
                "too many pods wait; some are forgotten, and woken when there is room again",
                namespace=crowded,
                waiting=len(self._pods),
                remedy="delete pods of that namespace that cannot run, or bound their number by a "
                "ResourceQuota (count/pods)",
            )
        elif self._crowded and not crowded:
            log.info("pods that were forgotten are taken in again", waiting=len(self._pods))
        self._crowded = crowded

    def _tell(self, told: Woken | TakenBack) -> None:
        if told.word.told is Told.AWAITED:
            return
        if isinstance(told, TakenBack):
            self._tell_taken_back(told)
        else:
            self._tell_woken(told)

    def _tell_taken_back(self, taken: TakenBack) -> None:
        """Count one, and say why it stays: once for each cause, for it is tried again and again.

        What was said is forgotten once one that had missed is taken back, or none is left.
        """
        request, word, left = taken.lost.request, taken.word, self._pods.lost.count()
        said = log.bind(namespace=request.namespace, pod=request.name, node=taken.lost.node)
        result = _TAKEN_BACK[word.told]
        self._count_taken_back(result)
        if word.told is Told.WRITTEN:
            said.info("nomination that led nowhere taken back")
            if taken.lost.misses and self._not_taken_back:
                said.info("nominations can be taken back again", left=left)
                self._not_taken_back.clear()
        elif result == "failed" and word.cause not in self._not_taken_back:
            self._not_taken_back[word.cause] = None
            said.warning(
                "nomination not taken back; it keeps others out",
                error=word.error,
                cause=word.cause,
                left=left,
            )
        if not left:
            self._not_taken_back.clear()

    def _tell_woken(self, woken: Woken) -> None:
        request, word = woken.pod.request, woken.word
        if word.told is Told.GONE:
            self._count("gone")
        elif word.told is Told.WRITTEN:
            self._count("nominated" if woken.node else "touched")
            self._tell_woken_again(woken)
            log.info(
                "pod woken",
                namespace=request.namespace,
                pod=request.name,
                node=woken.node or None,
                waited_seconds=round(self._context.now() - woken.pod.since, 2),
                refused=dict(woken.pod.refused),
            )
        else:
            self._count("failed")
            if word.cause not in self._not_woken:
                log.warning(
                    "pod not woken; it is tried again, and so are others for which it is the same",
                    namespace=request.namespace,
                    pod=request.name,
                    error=word.error,
                    cause=word.cause,
                )
            self._not_woken[word.cause] = self._not_woken.get(word.cause, 0) + 1

    def _tell_woken_again(self, woken: Woken) -> None:
        """Say that pods can be woken again: where one could not be, or the apiserver was away."""
        cured = list(self._not_woken) if woken.pod.misses else [Told.UNREACHED.value]
        for cause in cured:
            times = self._not_woken.pop(cause, 0)
            if times:
                log.info("pods can be woken again", cause=cause, failed=times)
