"""The loop of ``loader run``: the cache becomes what the catalog says, and stays so.

A turn looks at the catalog and at what waiting pods need, and lets workers obtain the most urgent
models. Beside it, one thread looks at what lies on the disk (cheaply, once a minute) and reads it
again (slowly, all the time). A model is reported ready only where it was proven, and is taken back
at once where a look says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from threading import Event
from time import monotonic
from typing import Protocol

import structlog

from extender.backoff import Backoff
from extender.errors import ExtenderError
from extender.loader.catalog import Catalog
from extender.loader.catalog_file import CatalogFile
from extender.loader.failing import Failure, OwnCause
from extender.loader.guarding import Guard
from extender.loader.leaving import Leftovers
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin
from extender.loader.proof.marker import Marker
from extender.loader.sources import TRANSIENT
from extender.loader.table import ModelTable
from extender.loader.telling import LogLines
from extender.loader.transfer.limits import Limits
from extender.loader.wishes import Nodes, Wish, needs_all_nodes, on_node, wishes
from extender.loader.workers import Workers
from extender.report import ReportedState, Transfer, Wanted

log = structlog.get_logger("extender.loader")

TURN_SECONDS = 1.0
STOP_SECONDS = 1.5
_TICK_SECONDS = 0.2


class Ask(Protocol):
    """Return the labels of this node, and those of ``every`` other one too."""

    def __call__(self, *, every: bool) -> Nodes:
        """Raise ExtenderError while nothing is known."""


class Keeper:
    """Keeps one node's cache.

    ``nodes`` and ``wanted`` tell of the cluster; see ``surroundings.Surroundings``.
    """

    def __init__(
        self,
        node: str,
        *,
        catalog: CatalogFile,
        table: ModelTable,
        obtainer: Obtainer,
        guard: Guard,
        room: RoomMaker,
        leftovers: Leftovers,
        limits: Limits,
        metrics: LoaderMetrics,
        nodes: Ask,
        wanted: Callable[[], Wanted],
        random: Random,
    ) -> None:
        self._node = node
        self._catalog = catalog
        self._table = table
        self._obtainer = obtainer
        self._guard = guard
        self._room = room
        self._leftovers = leftovers
        self._limits = limits
        self._metrics = metrics
        self._nodes = nodes
        self._wanted = wanted
        self._tell = LogLines()
        self._soon = Event()
        self._told_error = ""
        self._turned_at: float | None = None
        self._backoff = Backoff(random=random, clock=monotonic, first=TURN_SECONDS)
        self._workers = Workers(
            self._obtain,
            obtained=self._obtained,
            failed=self._failed,
            let_go=lambda wish: table.let_go(wish.model.directory),
            paused=lambda wish: table.paused(wish.model.directory),
            waits=lambda wish, why: table.waits(wish.model.directory, why),
            fixed=lambda wish: Origin.of(wish.model).pinned,
            changed=self.look,
            clock=monotonic,
            random=random,
        )

    def look(self) -> None:
        """Have the next turn come at once."""
        self._soon.set()

    def alive(self) -> str:
        """Return why the loop seems to hang; empty where it turns, or has not begun to."""
        silent = monotonic() - self._turned_at if self._turned_at is not None else 0.0
        return f"no turn of the loop for {silent:.0f} s" if silent > 60 else ""

    def ready(self) -> str:
        """Return why the report says nothing yet; empty where it does."""
        if self._catalog.catalog is None:
            return f"no catalog is in force: {self._catalog.error or 'not read yet'}"
        return "" if self._guard.looked else "what lies on the disk has not been looked at yet"

    def run(self, stopping: Event) -> None:
        """Turn until ``stopping`` is set."""
        self._room.changed = self._workers_again
        self._guard.start(self._workers.works_on, self._workers_again, self._workers.failed)
        while not stopping.is_set():
            wait = TURN_SECONDS
            try:
                self.turn()
            except ExtenderError as error:
                wait = self._backoff.wait()
                log.warning("turn not completed", error=str(error), again_in_seconds=round(wait, 1))
            except Exception:
                wait = self._backoff.wait()
                log.exception("turn not completed: a fault of the loader; it is tried again")
            self._turned_at = monotonic()
            end = monotonic() + wait
            while not (stopping.is_set() or self._soon.wait(_TICK_SECONDS) or monotonic() > end):
                pass
            self._soon.clear()
        self._workers.stop(STOP_SECONDS)
        self._guard.stop(STOP_SECONDS)

    def turn(self) -> None:
        """Bring what is worked on in line with what is wished for. Raises ExtenderError."""
        self._catalog.poll()
        self._tell_of_catalog()
        catalog = self._catalog.catalog
        if catalog is None:
            return
        self._limits.adjust(
            connections=catalog.limits.connections,
            bytes_per_second=catalog.limits.bandwidth,
            reserve_bytes=catalog.watermarks.reserve_bytes,
        )
        nodes = self._nodes(every=needs_all_nodes(catalog))
        found = wishes(catalog, self._node, nodes, self._wanted())
        self._follow(catalog, found, nodes)
        looked_at = [
            wish
            for wish in (*found, *self._to_mend(found))
            if self._guard.has_looked_at(wish.model.directory)
        ]
        self._workers.follow(looked_at, catalog.limits.downloads, catalog.refresh_seconds)

    def _to_mend(self, found: tuple[Wish, ...]) -> list[Wish]:
        """Return what is damaged here and nobody wishes for now: a pod may still read it."""
        wished = {wish.model.directory for wish in found}
        rows = [row for row in self._table.all() if row.damaged and row.left is None]
        return [Wish(model=row.model) for row in rows if row.path not in wished]

    def _follow(self, catalog: Catalog, found: tuple[Wish, ...], nodes: Nodes) -> None:
        here = on_node(catalog, nodes.get(self._node, {}))
        self._table.follow(
            (wish.model for wish in found),
            here.models,
            self._leftovers.of(here),
            asked=catalog.fetches_on_demand,
            # It goes on being told as fetched on demand, or the extender would not ask on.
            awaited={wish.model.directory for wish in found if wish.pod},
        )
        self._room.follow(here, found)
        self._guard.follow(catalog)

    def _tell_of_catalog(self) -> None:
        if self._catalog.error != self._told_error:
            self._told_error = self._catalog.error
            if self._told_error:
                log.error("catalog refused", error=self._told_error)
            else:
                log.info("catalog in force")

    def _obtain(self, wish: Wish, stop: Callable[[], bool]) -> Marker:
        model = wish.model
        marker = self._obtainer.obtain(
            model.directory,
            Origin.of(model),
            tell=self._progress,
            stop=stop,
            make_room=lambda needed, _: self._room.for_wish(wish, needed),
            replace_foreign=model.replace_foreign,
        )
        self._guard.vouch_for(model.directory)
        return marker

    def _progress(self, transfer: Transfer) -> None:
        self._table.loading(transfer.path, transfer)
        self._tell(transfer)

    def _obtained(self, wish: Wish, marker: Marker) -> None:
        self._guard.if_whole(wish.model.directory, marker, lambda now: self._ready(wish, now))

    def _ready(self, wish: Wish, marker: Marker) -> None:
        path = wish.model.directory
        before = self._table.get(path)
        self._table.ready(
            path,
            source=marker.source,
            revision=marker.revision,
            size=marker.bytes,
            proven_at=marker.proven_at,
        )
        known = before is not None and (before.state, before.revision, before.proven_at) == (
            ReportedState.READY,
            marker.revision,
            marker.proven_at,
        )
        if not known:
            log.info(
                "model ready",
                model=path,
                bytes=marker.bytes,
                revision=marker.revision,
                not_checked=list(marker.unchecked),
            )
            self._metrics.downloads.labels("obtained").inc()

    def _failed(self, wish: Wish, failure: Failure) -> None:
        path = wish.model.directory
        row = self._table.get(path)
        if failure.cause == OwnCause.FOREIGN:
            self._table.refused(path, failure.message)
        elif row is not None and row.state is ReportedState.READY and failure.cause in TRANSIENT:
            # What is here is as good as before, and the report would wake all refused pods twice.
            self._table.let_go(path)
        else:
            self._table.failed(path, failure.message)
        self._metrics.downloads.labels("failed").inc()
        self._metrics.failures.labels(failure.cause).inc()

    def _workers_again(self, path: str) -> None:
        self._workers.again(path)
        self.look()
