"""What lies at the final path of a model right now: the cheap look, at start and once a minute.

It compares marker, names, sizes and headers, and reads only what was touched since it was proven.
What it finds damaged is condemned at once, so that every reader of the marker knows.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import msgspec
import structlog

from extender.errors import CacheError
from extender.loader.catalog import CatalogModel
from extender.loader.layout import CacheDirectory, holds_something, writing
from extender.loader.mend import condemn_found, damaged_files
from extender.loader.metrics import LoaderMetrics
from extender.loader.proof.marker import (
    WHOLE,
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Level, Verdict
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.table import ModelRow, ModelTable
from extender.report import ReportedState

log = structlog.get_logger("extender.loader")


class _Damage(msgspec.Struct, frozen=True):
    """What a proof found wrong, and the marker that it went by."""

    marker: Marker
    verdict: Verdict

    def left_in(self, marker: Marker | None) -> frozenset[str]:
        """Return which of these files a marker vouches for as they were, and does not condemn.

        WHOLE, where no single one is damaged. Another publication may have the same files: what did
        not change between two revisions is one file with two names.
        """
        if marker is None:
            return frozenset()
        files = damaged_files(self.marker, self.verdict)
        if not files:
            same = marker.id == self.marker.id and WHOLE not in marker.damaged
            return frozenset({WHOLE} if same else ())
        as_they_were = _as_proven(self.marker, files) & _as_proven(marker, files)
        return frozenset({proven[0] for proven in as_they_were} - set(marker.damaged))

    def of(self, files: frozenset[str]) -> Verdict:
        """Return the verdict on these files alone."""
        if WHOLE in files:
            return self.verdict
        problems = tuple(p for p in self.verdict.problems if p.file in files)
        return msgspec.structs.replace(self.verdict, problems=problems)


class Looker:
    """Looks at models of one cache directory and notes what it finds.

    ``failed`` tells of what could not be obtained, and is not to be tried again yet; whoever works
    on wishes sets it.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        publisher: Publisher,
        table: ModelTable,
        metrics: LoaderMetrics,
        *,
        name: str,
        stop: Callable[[], bool],
    ) -> None:
        self._cache = cache
        self._publisher = publisher
        self._table = table
        self._metrics = metrics
        self._name = name
        self._stop = stop
        self.failed: Callable[[CatalogModel], bool] = lambda _: False
        self._unmarked: dict[str, _Damage] = {}
        self._refusals: dict[str, str] = {}
        self._saying = Lock()  # what one thread found damaged no other one calls whole meanwhile

    def look(self, path: str, level: Level, *, busy: bool = False) -> bool:
        """Note whether a model is ready, damaged or absent; return whether to obtain it at once.

        That is where something else was believed, and nobody is going to try again by himself; or
        where the marker could not tell of damage before. While a worker is ``busy`` with the model
        only damage is told: what is not there now may be on its way.

        Raises ReadingStoppedError, OSError, and CacheError where the directory cannot be written.
        """
        with self._saying:
            known = self._known(path)
            if known is not None:
                found, left = known
                self._damaged(path, found.of(left).told())
                return self._mark(path, found)
            self._unmarked.pop(path, None)
        marker = self._marker(path, busy=busy)
        row = self._table.get(path)
        if isinstance(marker, UnreadableMarkerError):
            return False
        if marker is None or (row is not None and not row.may_be_of(marker.source)):
            return not busy and self._not_there(path, row, marker)
        if marker.damaged:
            return self._marked(path, marker)
        final = self._cache.final(path)
        try:
            verdict = verify(final, level=level, expected=marker, reader=Reader(stop=self._stop))
        except FileNotFoundError:  # removed while it was looked at
            return not busy and self._table.absent(path)
        except OSError as error:  # as with its marker
            if not busy:
                self._table.unknown(
                    path, f"{error.filename}: {error.strerror or error}; look at the disk"
                )
            return False
        self._metrics.proofs.labels("whole" if verdict.ok else "damaged").inc()
        if not verdict.ok:
            return self.condemn(path, marker, verdict)
        if busy:
            return False
        if _was_touched(marker, verdict):
            marker = self._renewed(path, marker, verdict)
        self.ready(path, marker)
        return False

    def _marker(self, path: str, *, busy: bool) -> Marker | UnreadableMarkerError | None:
        """Return what lies there says of itself; what the disk does not give is told at once."""
        try:
            return read_marker(self._cache.final(path))
        except UnreadableMarkerError as error:  # not known to be absent: nothing is done about it
            log.warning("marker not readable", model=path, error=str(error))
            if not busy:
                self._table.unknown(path, str(error))
            return error
        except MarkerError as error:
            log.warning("marker not readable", model=path, error=str(error))
            return None

    def _not_there(self, path: str, row: ModelRow | None, marker: Marker | None) -> bool:
        """Note that nothing, or nothing of ours, lies where a model should; see ``look``."""
        only_asked_for = row is None or (row.on_demand and not row.wished)
        if marker is None and not only_asked_for and holds_something(self._cache.final(path)):
            told = row is not None and self._rests_on_a_look(row)
            return self._table.unproven(path) or told
        if row is None:
            return False
        if marker is None and row.refused:
            self._table.absent(path)  # what stood in the way has gone
            return True
        if row.state is ReportedState.FAILED and not row.damaged and self.failed(row.model):
            # Why it is not here is said already. Absent, a pod would be sent here again to wait for
            # it, and every try would be news twice.
            return False
        return self._table.absent(path) or self._rests_on_a_look(row)

    def _rests_on_a_look(self, row: ModelRow) -> bool:
        """Tell whether a look, and no worker that tries again, had found why a model is failed."""
        return row.state is ReportedState.FAILED and not row.refused and not self.failed(row.model)

    def _marked(self, path: str, marker: Marker) -> bool:
        """Note damage that the marker tells of, unless it is another marker by now."""
        with self._saying:
            row = self._table.get(path)
            if self.marker(path) != marker:
                return False
            if row is not None and row.damaged and self.failed(row.model):
                return False  # why it is not mended is said, and each change is news for all pods
            names = ["the whole" if name == WHOLE else name for name in marker.damaged]
            return self._damaged(path, f"{', '.join(names)}: not what was proven of it")

    def ready(self, path: str, marker: Marker) -> None:
        """Note that a model is whole, and leave what is said of another revision of it."""

        def say(now: Marker) -> None:
            self._table.whole(
                path,
                source=now.source,
                revision=now.revision,
                size=now.bytes,
                proven_at=now.proven_at,
            )

        self.if_whole(path, marker, say)

    def if_whole(self, path: str, marker: Marker, say: Callable[[Marker], None]) -> None:
        """Have a publication called whole (``say``, with its marker as it is now).

        Not where another one is there by now, or damage is known: that is left to the next look.
        """
        with self._saying:
            now = self.marker(path)
            same = now is not None and now.id == marker.id and not now.damaged
            if now is not None and same and self.unmarked(path) is None:
                say(now)

    def _renewed(self, path: str, marker: Marker, verdict: Verdict) -> Marker:
        """Let the marker describe files that were touched and are as they were.

        Otherwise they would be read whole at every look. On a disk that cannot be written they are.
        """
        try:
            with writing(self._cache, path, name=self._name) as held:
                if self.marker(path) == marker:
                    return self._publisher.renew(held, marker, verdict)
        except CacheError as error:
            log.info("marker not renewed", model=path, why=str(error))
        return marker

    def marker(self, path: str) -> Marker | None:
        """Return what is known of a model by now; None where nothing is, or it cannot be read."""
        try:
            return read_marker(self._cache.final(path))
        except MarkerError:
            return None

    def condemn(self, path: str, marker: Marker, verdict: Verdict) -> bool:
        """Note that a model is damaged, also in its marker, where nobody has changed it since.

        Where the marker cannot be written now (a worker has the model, the disk takes nothing) it
        is said all the same, and marked at a later look. Returns whether that is news.
        """
        found = _Damage(marker, verdict)
        with self._saying:
            left = self._left_in(path, found)
            if not left:
                return False  # other files by now: looked at next time
            self._unmarked[path] = found
            news = self._damaged(path, found.of(left).told())
            self._mark(path, found)
            return news

    def unmarked(self, path: str) -> Verdict | None:
        """Return what is known to be damaged and the marker does not say; None: nothing is."""
        known = self._known(path)
        return known[0].of(known[1]) if known is not None else None

    def damage(self, path: str) -> frozenset[str]:
        """Return the files of which that is known; see ``placing.Damage``."""
        known = self._known(path)
        return known[1] if known is not None else frozenset()

    def _known(self, path: str) -> tuple[_Damage, frozenset[str]] | None:
        """Return damage that this process alone knows of, and which of those files are there."""
        found = self._unmarked.get(path)
        left = self._left_in(path, found) if found is not None else frozenset()
        return (found, left) if found is not None and left else None

    def _left_in(self, path: str, found: _Damage) -> frozenset[str]:
        """Return what of the damage is in what lies there now and not told of in its marker.

        A marker that the disk does not give is no other one: damage and such errors come together.
        """
        try:
            return found.left_in(read_marker(self._cache.final(path)))
        except UnreadableMarkerError:
            return found.left_in(found.marker)
        except MarkerError:
            return frozenset()

    def _mark(self, path: str, found: _Damage) -> bool:
        """Write into a model's marker what was found damaged; return whether that was done."""
        try:
            with writing(self._cache, path, name=self._name) as held:
                now = read_marker(held.final)
                left = found.left_in(now)
                if now is not None and left:
                    verdict = found.of(left)
                    log.error("model damaged", model=path, problem=verdict.told())
                    condemn_found(self._publisher, held, now, verdict)
                self._unmarked.pop(path, None)
                self._refusals.pop(path, None)
                return True
        except (CacheError, OSError) as error:
            if self._refusals.get(path) != str(error):  # it is tried every few seconds
                log.warning("damage not marked", model=path, error=str(error))
            self._refusals[path] = str(error)
        except MarkerError:  # somebody wrote over it: proven anew as a whole
            self._unmarked.pop(path, None)
        return False

    def _damaged(self, path: str, problem: str) -> bool:
        """Note that a model is damaged, and what becomes of it; return whether that is news."""
        row = self._table.get(path)
        news = row is not None and not row.damaged
        left = row is not None and row.left is not None
        then = (
            "it is not fetched again, because the catalog does not have it here"
            if left
            else "what is damaged is fetched again"
        )
        self._table.damaged(path, f"{problem}; {then}")
        return news


def _was_touched(marker: Marker, verdict: Verdict) -> bool:
    known = {(file.path, file.mtime_ns, file.inode) for file in marker.files}
    return not known <= {(file.path, file.mtime_ns, file.inode) for file in verdict.proven}


def _as_proven(marker: Marker, files: set[str]) -> set[tuple[str, str, int, int]]:
    return {
        (file.path, file.sha256, file.mtime_ns, file.inode)
        for file in marker.files
        if file.path in files
    }
