"""The thread that keeps the apiserver informed, apart from the loop so that neither waits.

A change of state is written within a second; while something is downloaded, progress every few
seconds; and otherwise nothing but the renewal of the Lease. While the apiserver is away, loading
goes on, and what is true then is written once it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from threading import Event, Thread
from time import monotonic

import structlog

from extender.backoff import Backoff
from extender.errors import ExtenderError
from extender.loader.catalog_file import CatalogFile
from extender.loader.disk_space import disk_space
from extender.loader.layout import CacheDirectory
from extender.loader.metrics import LoaderMetrics
from extender.loader.reporting import LEASE_SECONDS, Reporter
from extender.loader.speaking import Speaker
from extender.loader.table import ModelTable
from extender.report import Progress

log = structlog.get_logger("extender.loader")

PROGRESS_SECONDS = 5.0
RENEWALS = 3
"""So often the Lease is renewed in the time that it lasts."""

LOOK_RENEWALS = 2
"""After so many renewals the report on the pod is looked at, one GET from the apiserver's cache."""

MOST_LOOK_SECONDS = 3600.0
"""And so seldom where it was taken off each time: whoever does that would do it for ever, and each
update of a bound pod makes kube-scheduler try all refused pods again."""

_LOOK_SECONDS = 0.5


class Announcer:
    """Announces for one loader.

    ``looked``: whether all of the disk was looked at, ``looked_at``: whether a model was, so that
    what is there is not called absent. Nothing is said before the first; later models that take
    long to look at (somebody copied them in) keep nothing else from being said.
    ``node_uid`` is empty until it is known. ``clock`` is monotonic seconds. The Lease is written
    where this loader is the directory's ``speaker``, the report in any case.
    """

    def __init__(
        self,
        reporter: Reporter,
        table: ModelTable,
        *,
        speaker: Speaker,
        cache: CacheDirectory,
        host_directory: Callable[[], str],
        catalog: CatalogFile,
        metrics: LoaderMetrics,
        looked: Callable[[], bool],
        looked_at: Callable[[str], bool],
        node_uid: Callable[[], str],
        clock: Callable[[], float] = monotonic,
        random: Random,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._reporter = reporter
        self._speaker = speaker
        self._table = table
        self._cache = cache
        self._host_directory = host_directory
        self._catalog = catalog
        self._metrics = metrics
        self._looked = looked
        self._looked_at = looked_at
        self._has_told = False
        self._node_uid = node_uid
        self._clock = clock
        self._backoff = Backoff(random=random, clock=clock)
        self._renew_seconds = lease_seconds / RENEWALS
        self._stopping = Event()
        self._asked: deque[Event] = deque()
        self._renewed_at = float("-inf")
        self._look_seconds = self._look_in = LOOK_RENEWALS * self._renew_seconds
        self._look_at = clock() + self._look_in
        self._progress = Progress()
        self._thread = Thread(target=self._run, name="announcing", daemon=True)

    def ready(self) -> str:
        """Return why the cluster cannot rely on this loader yet; empty where it can."""
        return "" if self._has_told else "what lies on the disk has not been reported yet"

    def start(self) -> None:
        """Begin to announce; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Say what is true now for the last time, and let go of the Lease."""
        self._stopping.set()
        self._thread.join(_LOOK_SECONDS * 4)
        try:
            self._announce()
            if self._speaker.speaks():
                self._reporter.release()
        except ExtenderError as error:
            log.warning("not announced", error=str(error))
        finally:
            self._speaker.end()

    def told(self, seconds: float) -> bool:
        """Wait until what is known now is in the report; False where it is not within so long.

        Called from other threads.
        """
        told = Event()
        self._asked.append(told)
        return told.wait(seconds)

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                self._announce()
                wait = _LOOK_SECONDS
            except ExtenderError as error:
                self._metrics.unreported.inc()
                wait = self._backoff.wait()
                log.warning("not announced", error=str(error), again_in_seconds=round(wait, 1))
            except Exception:
                self._metrics.unreported.inc()
                wait = self._backoff.wait()
                log.exception("not announced: a fault of the loader; it is tried again")

    def _announce(self) -> None:
        if not (self._has_told or self._looked()):
            return
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        try:
            self._report()
        except Exception:
            self._asked.extend(asked)
            raise
        for told in asked:
            told.set()
        self._renew()
        self._look_at_report()

    def _report(self) -> None:
        report = self._table.report(self._host_directory(), self._catalog.catalog, self._looked_at)
        if self._reporter.report(report):
            states = [model.state.value for model in report.models]
            log.info("reported", **{state: states.count(state) for state in sorted(set(states))})
            self._look_at = self._clock() + self._look_in  # not at what the cache has yet to see
        self._has_told = True

    def _renew(self) -> None:
        progress = self._table.progress(disk_space(self._cache.root, self._metrics.read_speed))
        moved = progress.transfers != self._progress.transfers
        due = min(PROGRESS_SECONDS, self._renew_seconds) if moved else self._renew_seconds
        if self._clock() - self._renewed_at >= due and self._speaker.speaks():
            self._reporter.renew(progress, node_uid=self._node_uid())
            self._renewed_at, self._progress = self._clock(), progress

    def _look_at_report(self) -> None:
        """Have the report written again where somebody took it off the pod."""
        if self._clock() < self._look_at:
            return
        problem = ""
        try:
            stands = self._reporter.stands()
        except ExtenderError as error:  # it is written all the same: nothing is lost by that
            stands, problem = False, str(error)
        self._look_in = self._look_seconds if stands else min(2 * self._look_in, MOST_LOOK_SECONDS)
        self._look_at = self._clock() + self._look_in
        again = round(self._look_in)
        if problem:
            log.warning("the report cannot be looked at", error=problem, again_in_seconds=again)
        elif not stands:
            log.warning("the report was taken off the pod; written again", again_in_seconds=again)
