"""What lies at the final path of a model right now: the cheap look, at start and once a minute.

It compares marker, names, sizes and headers, and reads only what was touched since it was proven.
What it finds damaged is condemned at once, so that every reader of the marker knows.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import msgspec
import structlog

from extender.errors import CacheError, LockHeldError
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

_LOCK_SECONDS = 2.0


class _Damage(msgspec.Struct, frozen=True):
    """What a proof found wrong, and the marker that it went by."""

    marker: Marker
    verdict: Verdict

    def is_in(self, marker: Marker | None) -> bool:
        """Tell whether this marker vouches for the same files, and does not say so yet."""
        if marker is None or marker.id != self.marker.id:
            return False
        files = damaged_files(self.marker, self.verdict)
        if (files or {WHOLE}) <= set(marker.damaged):
            return False
        return _as_proven(self.marker, files) == _as_proven(marker, files)


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
        self._saying = Lock()  # what one thread found damaged no other one calls whole meanwhile

    def look(self, path: str, level: Level) -> bool:
        """Note whether a model is ready, damaged or absent; return whether to obtain it at once.

        That is where it was ready and is not, or where its marker could not tell of damage before.

        Raises ReadingStoppedError, and CacheError where the directory cannot be written.
        """
        with self._saying:
            found = self._unmarked.get(path)
            if found is not None and found.is_in(self.marker(path)):
                self._damaged(path, found.verdict.told())
                return self._mark(path, found)
        final = self._cache.final(path)
        try:
            marker = read_marker(final)
        except UnreadableMarkerError as error:  # not known to be absent: nothing is done about it
            log.warning("marker not readable", model=path, error=str(error))
            self._table.unknown(path, str(error))
            return False
        except MarkerError as error:
            log.warning("marker not readable", model=path, error=str(error))
            marker = None
        row = self._table.get(path)
        only_asked_for = row is None or (row.on_demand and not row.wished)
        if marker is None and not only_asked_for and holds_something(final):
            return self._table.unproven(path)
        if marker is None and row is not None and row.refused:
            self._table.absent(path)  # what stood in the way has gone
            return True
        if marker is None or (row is not None and not row.may_be_of(marker.source)):
            if row is not None and self._is_known_to_fail(row):
                return False
            return self._table.absent(path)
        if marker.damaged:
            names = ["the whole" if name == WHOLE else name for name in marker.damaged]
            return self._damaged(path, f"{', '.join(names)}: not what was proven of it")
        try:
            verdict = verify(final, level=level, expected=marker, reader=Reader(stop=self._stop))
        except FileNotFoundError:  # removed while it was looked at
            return self._table.absent(path)
        except OSError as error:  # as with its marker
            self._table.unknown(
                path, f"{error.filename}: {error.strerror or error}; look at the disk"
            )
            return False
        self._metrics.proofs.labels("whole" if verdict.ok else "damaged").inc()
        if not verdict.ok:
            return self.condemn(path, marker, verdict)
        if _was_touched(marker, verdict):
            marker = self._renewed(path, marker, verdict)
        self.ready(path, marker)
        return False

    def ready(self, path: str, marker: Marker) -> None:
        """Note that a model is whole, and leave what is said of another revision of it.

        Where its marker is another one by now, or damage is known, it is left to the next look.
        """
        with self._saying:
            if self.unmarked(path) is None and self.marker(path) == marker:
                self._table.whole(
                    path,
                    source=marker.source,
                    revision=marker.revision,
                    size=marker.bytes,
                    proven_at=marker.proven_at,
                )

    def _is_known_to_fail(self, row: ModelRow) -> bool:
        """Tell whether the table says already why a model is not here, and has to go on saying it.

        Absent, a pod would be sent here again to wait for it, and every try would be news twice.
        """
        return row.state is ReportedState.FAILED and not row.damaged and self.failed(row.model)

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
        is said all the same, and marked at a later look. Returns whether it was ready until now.
        """
        found = _Damage(marker, verdict)
        with self._saying:
            if not found.is_in(self.marker(path)):
                return False  # another publication by now: looked at next time
            self._unmarked[path] = found
            news = self._damaged(path, verdict.told())
            self._mark(path, found)
            return news

    def unmarked(self, path: str) -> Verdict | None:
        """Return what is known to be damaged and the marker does not say; None: nothing is."""
        found = self._unmarked.get(path)
        return found.verdict if found is not None and found.is_in(self.marker(path)) else None

    def _mark(self, path: str, found: _Damage) -> bool:
        """Write into a model's marker what was found damaged; return whether that was done."""
        try:
            with writing(self._cache, path, wait=_LOCK_SECONDS, name=self._name) as held:
                now = self.marker(path)
                if now is not None and found.is_in(now):
                    log.error("model damaged", model=path, problem=found.verdict.told())
                    condemn_found(self._publisher, held, now, found.verdict)
                self._unmarked.pop(path, None)
                return True
        except LockHeldError as error:
            log.info("looked at again later", model=path, why=str(error))
        except (CacheError, OSError) as error:
            log.warning("damage not marked", model=path, error=str(error))
        return False

    def _damaged(self, path: str, problem: str) -> bool:
        """Note that a model is damaged, and what becomes of it; return whether it was ready."""
        row = self._table.get(path)
        left = row is not None and row.left is not None
        then = (
            "it is not fetched again, because the catalog does not have it here"
            if left
            else "what is damaged is fetched again"
        )
        return self._table.damaged(path, f"{problem}; {then}")


def _was_touched(marker: Marker, verdict: Verdict) -> bool:
    known = {(file.path, file.mtime_ns, file.inode) for file in marker.files}
    return not known <= {(file.path, file.mtime_ns, file.inode) for file in verdict.proven}


def _as_proven(marker: Marker, files: set[str]) -> set[tuple[str, str, int, int]]:
    return {
        (file.path, file.sha256, file.mtime_ns, file.inode)
        for file in marker.files
        if file.path in files
    }
