"""Waiting a moment for the answer to a write, and learning later of what took longer.

Where an answer of the same namespace is late already, none is waited for: the apiserver is slow
there, and so many writes side by side are then answered as fast as they can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

import structlog

from extender.placement.request import PodRequest
from extender.serving.telling import ApiTelling
from extender.waiting.telling import Told, Word
from extender.waiting.underway import AWAITED_SECONDS, MOST

log = structlog.get_logger("extender.waking")


class Awaiting:
    """Tells through another one, in threads of its own. Used from one thread.

    ``answered`` is called, from any thread, when an answer has come that was awaited.
    """

    def __init__(self, telling: ApiTelling, *, answered: Callable[[], None]) -> None:
        self._telling = telling
        self._answered = answered
        self._threads = ThreadPoolExecutor(MOST, thread_name_prefix="telling")
        self._late: dict[str, tuple[str, Future[Word]]] = {}
        """By the pod's UID, with its namespace."""

    def touch(self, request: PodRequest) -> Word:
        """Mark a pod with the time."""
        return self._have(request, partial(self._telling.touch, request))

    def nominate(self, request: PodRequest, node: str) -> Word:
        """Write the node, unless the pod is bound, nominated already, or another by its name."""
        return self._have(request, partial(self._telling.nominate, request, node))

    def take_back(self, request: PodRequest, node: str) -> Word:
        """Clear the nomination, if it is to that node and the pod neither bound nor another one."""
        return self._have(request, partial(self._telling.take_back, request, node))

    def answers(self) -> Iterator[tuple[str, Word]]:
        """Yield by the pod's UID, once, what came of writes that were awaited."""
        for uid, (_, future) in list(self._late.items()):
            if future.done():
                del self._late[uid]
                yield uid, _word(future)

    def _have(self, request: PodRequest, write: Callable[[], Word]) -> Word:
        future = self._threads.submit(write)
        if all(request.namespace != namespace for namespace, _ in self._late.values()):
            wait((future,), AWAITED_SECONDS)
            if future.done():
                return _word(future)
        self._late[request.uid] = request.namespace, future
        future.add_done_callback(lambda _: self._answered())
        return Word(Told.AWAITED)


def _word(future: Future[Word]) -> Word:
    """Return what came of a write, also where this program failed at it: then nothing is known."""
    try:
        return future.result()
    except Exception as error:
        log.exception("a write failed in this program; it is tried again")
        return Word(Told.UNANSWERED, str(error), type(error).__name__)
