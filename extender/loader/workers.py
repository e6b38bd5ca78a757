"""The threads that obtain models: one for each, stopped when nobody wishes for it any more.

A failure is tried again after a growing, jittered wait: seconds where the other side was out of
reach, minutes where somebody has to change something first. A changed wish is tried at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from threading import Event, Thread

import msgspec
import structlog

from extender.backoff import Backoff
from extender.errors import ExtenderError, LockHeldError
from extender.loader.catalog import CatalogModel
from extender.loader.proof.marker import Marker
from extender.loader.proof.reading import ReadingStoppedError
from extender.loader.sources import SourceError
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.wishes import Wish

log = structlog.get_logger("extender.loader")

_BUSY_SECONDS = 2.0
"""Another loader pod (the one before, in a rolling update) holds the model's lock."""
_FIRST_SECONDS = 5.0
_MOST_SECONDS = 300.0
_PERMANENT_SECONDS = 600.0
_LONGEST_ASKED_SECONDS = 3600.0
"""A source that asks for more with ``Retry-After`` is asked again all the same."""

Work = Callable[[Wish, Callable[[], bool]], Marker]
"""Obtain a wish; asked often whether to stop. See ``Obtainer.obtain`` for what it raises."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a model was not obtained. ``cause`` is a token for metrics."""

    message: str
    cause: str
    permanent: bool


class _Job:
    """One wish that is worked on, or waits to be tried again."""

    def __init__(self, wish: Wish, backoff: Backoff) -> None:
        self.wish = wish
        self.backoff = backoff
        self.stop = Event()
        self.thread: Thread | None = None
        self.done = False
        self.not_before = float("-inf")

    @property
    def busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Workers:
    """Works on wishes. ``follow`` and ``stop`` are called from one thread; clock is monotonic.

    ``let_go`` is told of work that was given up because its wish is gone, ``changed`` of every end.
    """

    def __init__(
        self,
        work: Work,
        *,
        obtained: Callable[[Wish, Marker], None],
        failed: Callable[[Wish, Failure], None],
        let_go: Callable[[Wish], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._work = work
        self._obtained = obtained
        self._failed = failed
        self._let_go = let_go
        self._changed = changed
        self._clock = clock
        self._random = random
        self._jobs: dict[str, _Job] = {}
        self._leaving: list[_Job] = []

    def follow(self, wishes: Iterable[Wish], at_once: int) -> None:
        """Work on these wishes, the first ones first, so many at once, and on nothing else."""
        ordered = list(wishes)
        wished = {wish.model.directory: wish.model for wish in ordered}
        for path, job in list(self._jobs.items()):
            if _same(job.wish.model, wished.get(path)):
                continue
            job.stop.set()
            del self._jobs[path]
            if job.busy:
                self._leaving.append(job)
        self._leaving = [job for job in self._leaving if job.busy]
        leaving = {job.wish.model.directory for job in self._leaving}
        now = self._clock()
        for wish in ordered:
            path = wish.model.directory
            job = self._jobs.setdefault(path, _Job(wish, self._backoff()))
            if job.busy or job.done or now < job.not_before or path in leaving:
                continue
            if self.busy >= at_once:
                return
            job.wish = wish
            job.thread = Thread(target=self._run, args=(job,), name=f"load-{path}", daemon=True)
            job.thread.start()

    def again(self, path: str) -> None:
        """Look at a wish once more that was done: what was obtained is damaged or gone."""
        job = self._jobs.get(path)
        if job is not None and not job.busy:
            job.done = False

    def works_on(self, path: str) -> bool:
        """Tell whether a thread is at work on a model."""
        job = self._jobs.get(path)
        left = any(one.busy and one.wish.model.directory == path for one in self._leaving)
        return left or (job is not None and job.busy)

    @property
    def busy(self) -> int:
        """How many threads are at work."""
        return sum(job.busy for job in (*self._jobs.values(), *self._leaving))

    def stop(self, seconds: float) -> None:
        """Stop all work; wait for its end at most so long."""
        jobs = [job for job in (*self._jobs.values(), *self._leaving) if job.busy]
        for job in jobs:
            job.stop.set()
        end = self._clock() + seconds
        for job in jobs:
            if job.thread is not None:
                job.thread.join(max(0.0, end - self._clock()))

    def _run(self, job: _Job) -> None:
        try:
            marker = self._work(job.wish, job.stop.is_set)
        except Exception as error:  # noqa: BLE001 - the loop must go on; it is logged and counted
            if not job.stop.is_set():
                self._note(job, error)
            elif self._jobs.get(job.wish.model.directory) is not job:
                self._let_go(job.wish)
        else:
            job.done = True
            self._obtained(job.wish, marker)
        self._changed()

    def _note(self, job: _Job, error: Exception) -> None:
        if isinstance(error, LockHeldError):
            job.not_before = self._clock() + _BUSY_SECONDS
            log.info("another loader is at work", model=job.wish.model.directory, why=str(error))
            return
        failure = _failure(error)
        asked = getattr(error, "retry_after", None) or 0.0
        least = _PERMANENT_SECONDS if failure.permanent else min(asked, _LONGEST_ASKED_SECONDS)
        wait = job.backoff.wait(least)
        job.not_before = self._clock() + wait
        log.error(
            "model not obtained",
            model=job.wish.model.directory,
            error=failure.message,
            cause=failure.cause,
            again_in_seconds=round(wait),
            exc_info=None if isinstance(error, ExtenderError) else error,
        )
        self._failed(job.wish, failure)

    def _backoff(self) -> Backoff:
        return Backoff(
            random=self._random, clock=self._clock, first=_FIRST_SECONDS, most=_MOST_SECONDS
        )


def _same(one: CatalogModel, other: CatalogModel | None) -> bool:
    """Tell whether two entries of the catalog ask for the same bytes."""
    if other is None:
        return False
    return (one.source, one.revision, one.include, one.exclude) == (
        (other.source, other.revision, other.include, other.exclude)
    )


def _failure(error: Exception) -> Failure:
    if isinstance(error, SourceError | TransferError):
        return Failure(message=str(error), cause=error.cause.value, permanent=error.permanent)
    if isinstance(error, ReadingStoppedError):
        return Failure(message=str(error), cause=LocalCause.STOPPED.value, permanent=False)
    if isinstance(error, ExtenderError):
        return Failure(message=str(error), cause=_token(error), permanent=False)
    return Failure(
        message="a fault of the loader; its log has the details", cause="fault", permanent=False
    )


def _token(error: ExtenderError) -> str:
    return {"DamagedError": "damaged", "CacheError": "disk"}.get(type(error).__name__, "other")
