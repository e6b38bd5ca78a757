"""Writes under way: one that hangs holds up nobody but those that may hang as well.

A write to a pod may take seconds: an admission webhook does not answer, for one namespace or one
label, or nobody at the apiserver does. So an answer is waited for a moment only, and then it is the
next one's turn; what came of the write is noted once it is known. Not all can be let hang: so many
are under way at once, and where a write hung before, for the same pod or in its namespace, it
leaves half of these to the others, and is tried again after 1, 2, 4, ... 60 s.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cachetools import LRUCache

from extender.placement.request import PodRequest
from extender.waiting.telling import TakenBack, Told, Woken, Word
from extender.waiting.wake import missed_wait

AWAITED_SECONDS = 0.1
"""So long an answer is waited for: longer than an apiserver takes for a write that is well. The
next write is held up for as long by one that hangs: a few of these a second at most."""

MOST = 32
"""So many writes are under way at once."""

HALF = 16
"""So many of them are of one namespace, or of those that may hang."""

_MAX_SLOW = 20_000


class _Slow(msgspec.Struct, frozen=True, gc=False):
    """A pod or a namespace whose last write was not answered in time, and when to try again."""

    times: int = 0
    again_at: float = 0.0


class UnderWay:
    """The writes of one service that are not answered yet. Used from one thread.

    ``steady`` is the clock that nobody sets.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._open: dict[str, Woken | TakenBack] = {}
        """By the pod's UID."""
        self._slow: LRUCache[str, _Slow] = LRUCache(_MAX_SLOW)
        """By a pod's UID or a namespace."""

    def may_tell(self, request: PodRequest) -> bool:
        """Tell whether something may be written to a pod now."""
        slow, now = [self._slow[key] for key in _keys(request) if key in self._slow], self._steady()
        if request.uid in self._open or any(now < one.again_at for one in slow):
            return False
        if len(self._open) >= (HALF if slow else MOST):
            return False
        namespaces = [told.request.namespace for told in self._open.values()]
        return namespaces.count(request.namespace) < HALF

    def may_hang(self, request: PodRequest) -> bool:
        """Tell whether the last write to a pod, or in its namespace, was not answered in time."""
        return any(key in self._slow for key in _keys(request))

    def answered_in_time(self, request: PodRequest) -> None:
        """Note that a write to a pod did not hang."""
        for key in _keys(request):
            self._slow.pop(key, None)

    def add(self, told: Woken | TakenBack) -> None:
        """Note that a write is not answered yet."""
        self._open[told.request.uid] = told
        for key in _keys(told.request):
            self._slow.setdefault(key, _Slow())

    def take(self, uid: str, word: Word) -> Woken | TakenBack | None:
        """Return what is answered by now, with the answer; None where nothing was under way.

        Where another one of that namespace was answered in time meanwhile, it is this pod alone
        that is left alone for a while.
        """
        told = self._open.pop(uid, None)
        if told is None:
            return None
        if word.told is Told.UNANSWERED:
            for key in _keys(told.request):
                self._leave_alone(key)
        return msgspec.structs.replace(told, word=word)

    def _leave_alone(self, key: str) -> None:
        """Wait longer each time; what was under way side by side hung once."""
        slow, now = self._slow.get(key), self._steady()
        if slow is not None and now >= slow.again_at:
            self._slow[key] = _Slow(slow.times + 1, now + missed_wait(slow.times + 1))


def _keys(request: PodRequest) -> tuple[str, str]:
    return request.uid, request.namespace
