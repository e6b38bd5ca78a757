"""The threads that obtain models: one for each, stopped when nobody wishes for it any more.

A failure is tried again after a growing, jittered wait: seconds where the other side was out of
reach, minutes where somebody has to change something first. That wait is kept where a wish goes
and comes back, as those of waiting pods do. A changed wish is tried at once. What was obtained is
looked up at its source again now and then, unless that cannot have changed.

What a pod waits for waits behind no long download of the catalog's: where all threads are at work
the least urgent of those makes way, and goes on later where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from threading import Event, Thread

import structlog

from extender.backoff import Backoff
from extender.errors import ExtenderError, LockHeldError
from extender.loader.catalog import CatalogModel
from extender.loader.failing import Failure, failure_of
from extender.loader.placing import InUseError
from extender.loader.proof.marker import Marker
from extender.loader.wishes import Wish

log = structlog.get_logger("extender.loader")

_BUSY_SECONDS = 2.0
"""Another loader pod (the one before, in a rolling update) holds the model's lock."""
_FIRST_SECONDS = 5.0
_MOST_SECONDS = 300.0
_PERMANENT_SECONDS = 600.0
_KEPT_SECONDS = 600.0
"""A failure that nobody wishes to have tried again is forgotten so long after it might be."""
_LONGEST_ASKED_SECONDS = 3600.0
"""A source that asks for more with ``Retry-After`` is asked again all the same."""

Work = Callable[[Wish, Callable[[], bool]], Marker]
"""Obtain a wish; asked often whether to stop. See ``Obtainer.obtain`` for what it raises."""


class _Job:
    """One wish that is worked on, or waits to be tried again."""

    def __init__(self, wish: Wish, backoff: Backoff) -> None:
        self.wish = wish
        self.backoff = backoff
        self.stop = Event()
        self.thread: Thread | None = None
        self.done = False
        self.done_at = 0.0
        self.refresh_share = 1.0
        self.waits = False
        self.anew = False
        self.failed = False
        self.paused = False
        self.not_before = float("-inf")

    @property
    def busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Workers:
    """Works on wishes. ``follow`` and ``stop`` are called from one thread; clock is monotonic.

    ``let_go`` is told of work that was given up because its wish is gone, ``paused`` of what made
    way for a more urgent one, ``waits`` of a model that is proven and has to wait for its place,
    ``changed`` of every end. ``fixed`` tells whether what a wish names can never change.
    """

    def __init__(
        self,
        work: Work,
        *,
        obtained: Callable[[Wish, Marker], None],
        failed: Callable[[Wish, Failure], None],
        let_go: Callable[[Wish], None],
        paused: Callable[[Wish], None],
        waits: Callable[[Wish, str], None],
        fixed: Callable[[Wish], bool],
        changed: Callable[[], None],
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._work = work
        self._obtained = obtained
        self._failed = failed
        self._let_go = let_go
        self._paused = paused
        self._waits = waits
        self._fixed = fixed
        self._changed = changed
        self._clock = clock
        self._random = random
        self._jobs: dict[str, _Job] = {}
        self._leaving: list[_Job] = []
        self._given_up: dict[str, _Job] = {}

    def follow(self, wishes: Iterable[Wish], at_once: int, refresh_seconds: float = 0.0) -> None:
        """Work on these wishes, the first ones first, so many at once, and on nothing else.

        What is done is looked up again after a random time between half of ``refresh_seconds`` and
        all of it (0: not at all): the nodes of a cluster do not ask a source all at once.
        """
        ordered = list(wishes)
        wished = {wish.model.directory: wish.model for wish in ordered}
        for path, job in list(self._jobs.items()):
            if _same(job.wish.model, wished.get(path)):
                continue
            job.stop.set()
            del self._jobs[path]
            self._leaving.append(job)
            if job.failed and not job.busy:
                self._given_up[path] = job
        ended = [job for job in self._leaving if not job.busy]
        self._leaving = [job for job in self._leaving if job not in ended]
        for job in ended:
            if job.paused:  # it had made way: no thread is left to say that it was given up
                self._let_go(job.wish)
        leaving = {job.wish.model.directory for job in self._leaving}
        now = self._clock()
        for path, job in list(self._given_up.items()):
            if now >= job.not_before + _KEPT_SECONDS:
                self._given_up.pop(path, None)
        for wish in ordered:
            path = wish.model.directory
            job = self._jobs.get(path) or self._begun(wish)
            if job.anew and not job.busy:
                job.anew, job.done, job.not_before = False, False, float("-inf")
            if job.busy or now < job.not_before or path in leaving:
                continue
            if job.done and not self._is_due(job, wish, refresh_seconds):
                continue
            if self.busy >= at_once:
                if wish.pod:
                    self._make_way(wish, ordered)
                return
            job.stop.clear()
            job.paused = False
            job.wish = wish
            job.thread = Thread(target=self._run, args=(job,), name=f"load-{path}", daemon=True)
            job.thread.start()

    def _make_way(self, pressing: Wish, ordered: list[Wish]) -> None:
        """Stop the least urgent work that no pod waits for, unless some is about to end."""
        at_work = [job for job in (*self._jobs.values(), *self._leaving) if job.busy]
        if any(job.stop.is_set() for job in at_work):
            return
        for wish in reversed(ordered):
            job = self._jobs.get(wish.model.directory)
            if job in at_work and job is not None and not wish.pod:
                log.info(
                    "makes way for a waiting pod",
                    model=wish.model.directory,
                    pod=pressing.pod,
                    wanted=pressing.model.directory,
                )
                job.stop.set()
                return

    def again(self, path: str) -> None:
        """Work on a wish at once: what was obtained, or stood in the way, has changed or gone.

        Where it is worked on now, once more after that: it may have looked before. May be called by
        any thread.
        """
        self._given_up.pop(path, None)
        job = self._jobs.get(path)
        if job is not None:
            job.anew = True

    def failed(self, model: CatalogModel) -> bool:
        """Tell whether the last try at this model failed, and another one is still to come.

        Where nobody wishes for it now, only until it might be tried again.
        """
        job = self._jobs.get(model.directory)
        if job is not None:
            return job.failed and _same(job.wish.model, model)
        job = self._given_up.get(model.directory)
        return job is not None and self._clock() < job.not_before and _same(job.wish.model, model)

    def works_on(self, path: str) -> bool:
        """Tell whether a thread is at work on a model, or made way and will be again."""
        job = self._jobs.get(path)
        left = any(one.busy and one.wish.model.directory == path for one in self._leaving)
        return left or (job is not None and (job.busy or job.paused))

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

    def _begun(self, wish: Wish) -> _Job:
        """Return a job for a wish that has none: the one that failed, if it asks for the same."""
        path = wish.model.directory
        job = self._given_up.pop(path, None)
        if job is None or not _same(job.wish.model, wish.model):
            job = _Job(wish, self._backoff())
        job.stop.clear()
        self._jobs[path] = job
        return job

    def _run(self, job: _Job) -> None:
        try:
            marker = self._work(job.wish, job.stop.is_set)
        except Exception as error:  # noqa: BLE001 - the loop must go on; it is logged and counted
            if not job.stop.is_set():
                self._note(job, error)
            elif self._jobs.get(job.wish.model.directory) is job:
                job.paused = True
                self._paused(job.wish)
            else:
                self._let_go(job.wish)
        else:
            if self._jobs.get(job.wish.model.directory, job) is job:
                self._has_done(job)
                self._obtained(job.wish, marker)
            else:  # something else is wished for there by now; who looks at the disk tells of this
                self._let_go(job.wish)
        self._changed()

    def _has_done(self, job: _Job) -> None:
        job.done, job.done_at, job.failed = True, self._clock(), False
        job.refresh_share = self._random.uniform(0.5, 1.0)

    def _is_due(self, job: _Job, wish: Wish, refresh_seconds: float) -> bool:
        """Tell whether the source of what was obtained is to be asked again."""
        passed = self._clock() - job.done_at
        return 0 < job.refresh_share * refresh_seconds <= passed and not self._fixed(wish)

    def _note(self, job: _Job, error: Exception) -> None:
        if isinstance(error, LockHeldError):
            job.not_before = self._clock() + _BUSY_SECONDS
            if not job.waits:
                log.info(
                    "another loader is at work", model=job.wish.model.directory, why=str(error)
                )
            job.waits = True
            return
        if isinstance(error, InUseError):  # whoever looks at the disk shows it once it can
            self._has_done(job)
            log.info("new revision waits", model=job.wish.model.directory, why=str(error))
            self._waits(job.wish, str(error))
            return
        job.waits, job.failed = False, True
        failure = failure_of(error)
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
    return (one.source, one.revision, one.include, one.exclude, one.without) == (
        (other.source, other.revision, other.include, other.exclude, other.without)
    )
