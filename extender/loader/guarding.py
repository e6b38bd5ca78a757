"""What is published is guarded: looked at, and read again.

A look is cheap (names, sizes, headers) and comes once a minute for every model. Beside it, file
after file is read again within the catalog's bound, once a day at most. What turns out damaged or
gone is said at once and obtained again.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import ParamSpec

import structlog

from extender.errors import CacheError, ExtenderError, NotRemovedError
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.damaged import DamagedError
from extender.loader.disk_space import read_speed
from extender.loader.layout import CacheDirectory, writing
from extender.loader.looking import Looker
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.proof.marker import Marker
from extender.loader.proof.reading import Reader, ReadingStoppedError
from extender.loader.proof.verdict import Level, Verdict
from extender.loader.publish import Publisher
from extender.loader.rereading import Reread, Rereader, confirm
from extender.loader.table import ModelRow, ModelTable
from extender.loader.transfer.limits import Limits
from extender.report import ReportedState

log = structlog.get_logger("extender.loader")

LOOK_SECONDS = 60.0
MEASURE_SECONDS = 3600.0
ROUND_SECONDS = 86_400.0
"""Reading everything again is begun so seconds after the last time at the earliest."""

_TICK_SECONDS = 0.2
_LOCK_SECONDS = 2.0
_MARK_SECONDS = 5.0
"""So often damage is written down that could not be at once: until then nothing is mended."""

P = ParamSpec("P")


class Guard:
    """Guards one cache directory, in two threads. ``clock`` is monotonic seconds.

    The thread that looks also measures the disk and keeps it within its watermarks.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        publisher: Publisher,
        table: ModelTable,
        metrics: LoaderMetrics,
        room: RoomMaker,
        *,
        name: str,
        clock: Callable[[], float] = monotonic,
        look_seconds: float = LOOK_SECONDS,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self._cache = cache
        self._publisher = publisher
        self._table = table
        self._metrics = metrics
        self._room = room
        self._name = name
        self._clock = clock
        self._look_seconds = look_seconds
        self._round_seconds = round_seconds
        self._stopping = Event()
        self._looker = Looker(
            cache, publisher, table, metrics, name=name, stop=self._stopping.is_set
        )
        self._catalog: Catalog | None = None
        self._looked_at: dict[str, float] = {}
        self._measure_at = float("-inf")
        self._tidied_at = self._read_at = float("-inf")
        self._read_round = False
        self._reading: Catalog | None = None
        self._proof_limits = Limits()
        reader = Reader(limits=self._proof_limits, around_cache=True, stop=self._reads_no_more)
        # One for all rounds: where the disk does not keep its place, it has to.
        self._rereader = Rereader(cache, reader, disk=publisher.disk)
        self._busy: Callable[[str], bool] = lambda _: False
        self._again: Callable[[str], None] = lambda _: None
        self._threads = [
            Thread(target=self._look_on, name="looking", daemon=True),
            Thread(target=self._read_on, name="rereading", daemon=True),
        ]

    def follow(self, catalog: Catalog) -> None:
        """Guard what this catalog has, by its bounds, from now on."""
        self._catalog = catalog
        rows = {row.path for row in self._table.all()}
        # Of a model that comes back nothing is known: it is looked at as one that is new.
        self._looked_at = {path: at for path, at in self._looked_at.copy().items() if path in rows}

    @property
    def looked(self) -> bool:
        """Whether every model of the catalog was looked at once."""
        rows = self._table.all()
        return self._catalog is not None and all(row.path in self._looked_at for row in rows)

    def has_looked_at(self, path: str) -> bool:
        """Whether a model was looked at once: only then is it known what to do about it."""
        return path in self._looked_at

    def vouch_for(self, path: str) -> None:
        """Raise DamagedError where a model was found damaged that its marker calls whole.

        That could not be written there: the disk takes nothing, or somebody was at work.
        """
        verdict = self._looker.unmarked(path)
        if verdict is not None:
            raise DamagedError(path, verdict)

    def damage(self, path: str) -> frozenset[str]:
        """Return which files of a model are known to be damaged, and not marked so yet."""
        return self._looker.damage(path)

    def if_whole(self, path: str, marker: Marker, say: Callable[[Marker], None]) -> None:
        """Have a publication called whole, unless it is known not to be; see ``Looker``."""
        self._looker.if_whole(path, marker, say)

    def start(
        self,
        busy: Callable[[str], bool],
        again: Callable[[str], None],
        failed: Callable[[CatalogModel], bool] = lambda _: False,
    ) -> None:
        """Begin. ``busy`` tells what a worker is at; ``again`` is told what has to be obtained.

        ``failed`` tells what could not be obtained, and is not to be tried again yet.
        """
        self._busy, self._again, self._looker.failed = busy, again, failed
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """Stop; wait at most so long for the threads."""
        self._stopping.set()
        end = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))

    def _look_on(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            self.look_around()

    def look_around(self) -> None:
        """Look at what is due for a look, and tidy where that is due. Used from one thread."""
        for row in self._table.all():
            if self._is_due(row):
                self._guarded(self._look, row.path)
        if not self.looked:
            return
        if self._clock() >= self._measure_at:
            self._guarded(self._measure)
        if self._clock() - self._tidied_at >= self._look_seconds:
            self._guarded(self._room.tidy)
            self._tidied_at = self._clock()

    def _is_due(self, row: ModelRow) -> bool:
        """Tell whether to look at a model now: also while a worker is at another revision of it."""
        unmarked = self._looker.unmarked(row.path) is not None
        seconds = min(self._look_seconds, _MARK_SECONDS) if unmarked else self._look_seconds
        if self._clock() < self._looked_at.get(row.path, float("-inf")) + seconds:
            return False
        return unmarked or row.state is ReportedState.READY or not self._busy(row.path)

    def _measure(self) -> None:
        """Measure how fast the disk reads, on the first model on it that tells."""
        self._measure_at = self._clock() + self._look_seconds
        for row in self._table.all():
            if row.state is not ReportedState.READY or self._busy(row.path):
                continue
            marker = self._looker.marker(row.path)
            files = sorted(marker.files, key=lambda file: -file.size) if marker else []
            speed = read_speed(self._cache.final(row.path) / files[0].path) if files else None
            if speed is not None:
                self._metrics.read_speed = speed
                self._measure_at = self._clock() + MEASURE_SECONDS
                return

    def _look(self, path: str) -> None:
        level = Level.SIZES if path in self._looked_at else Level.HEADERS
        lost = False
        try:
            lost = self._looker.look(path, level, busy=self._busy(path))
        except ReadingStoppedError:
            raise
        except (CacheError, OSError) as error:  # the others are to be told of all the same
            self._table.unseen(path, f"cannot be looked at: {error}")
            log.warning("the cache directory refuses", model=path, error=str(error))
        except Exception:
            self._table.unseen(path, "cannot be looked at: a fault of the loader; see its log")
            log.exception("not looked at: a fault of the loader", model=path)
        first = path not in self._looked_at
        self._looked_at[path] = self._clock()
        if first or lost:
            self._again(path)

    def _read_on(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            self.read_around()

    def read_around(self) -> None:
        """Read all that is published again where that is due. Used from one thread."""
        if self._catalog is not None and self.looked and self._clock() >= self._read_at:
            began, self._read_round = self._clock(), False
            self._guarded(self._read_all, self._catalog)
            seconds = self._round_seconds if self._read_round else self._look_seconds
            self._read_at = began + seconds

    def _read_all(self, catalog: Catalog) -> None:
        self._reading = catalog
        self._proof_limits.adjust(
            connections=1, bytes_per_second=catalog.limits.proof_bandwidth, reserve_bytes=0
        )
        while True:
            rows = self._table.all()
            ready = [row.path for row in rows if row.state is ReportedState.READY]
            seen = self._rereader.step(ready)
            if seen is None:
                self._read_round = True
                return
            if seen.problem is not None or seen.last:
                self._conclude(seen)

    def _reads_no_more(self) -> bool:
        return self._stopping.is_set() or self._catalog is not self._reading

    def _conclude(self, seen: Reread) -> None:
        if seen.problem is not None:
            self._metrics.proofs.labels("damaged").inc()
            verdict = Verdict(ok=False, level=Level.CONTENT, problems=(seen.problem,))
            if self._looker.condemn(seen.path, seen.marker, verdict):
                self._again(seen.path)
            return
        marker = self._looker.marker(seen.path)
        if marker is None or self._looker.unmarked(seen.path) is not None:
            return
        try:
            with writing(self._cache, seen.path, wait=_LOCK_SECONDS, name=self._name) as held:
                if marker.damaged or self._looker.marker(seen.path) != marker:
                    return
                reader = Reader(stop=self._stopping.is_set)
                marker = confirm(self._publisher, held, marker, reader)
            self._looker.ready(seen.path, marker)
            self._metrics.proofs.labels("whole").inc()
        except DamagedError as error:
            if self._looker.condemn(seen.path, marker, error.verdict):
                self._again(seen.path)
        except CacheError as error:  # a worker has it, or the disk takes nothing: the rest is read
            log.info("proof not noted", model=seen.path, why=str(error))

    def _guarded(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except ReadingStoppedError:
            return
        except NotRemovedError as error:
            log.warning("nothing removed", why=str(error))
        except (CacheError, OSError) as error:
            log.warning("the cache directory refuses", error=str(error))
            self._stopping.wait(min(self._look_seconds / 10, _MARK_SECONDS))
        except ExtenderError as error:
            log.warning("not looked at", error=str(error))
        except Exception:
            log.exception("not looked at: a fault of the loader")
            self._stopping.wait(min(self._look_seconds / 10, _MARK_SECONDS))
