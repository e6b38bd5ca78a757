"""Room on the disk: before a download, and whenever the disk is fuller than the catalog allows.

What the catalog wishes for on this node is not removed for the watermark (it would be fetched
again at once), and for another wish only where that one has the higher priority. Which models are
in use is asked of the API; where it does not answer, nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from threading import Lock
from time import monotonic, time

import msgspec
import structlog

from extender.errors import CacheError, LockHeldError, NotRemovedError
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes
from extender.loader.catalog import Catalog
from extender.loader.disk_space import file_system
from extender.loader.evict import Decided, Undone, decide, evict, note_use
from extender.loader.layout import CacheDirectory, unwritable, writing
from extender.loader.metrics import LoaderMetrics
from extender.loader.origin import asked_for
from extender.loader.publish import Publisher
from extender.loader.refusals import Refusals
from extender.loader.space import FileSystem, Kept, Plan
from extender.loader.sweep import QUARANTINE_BYTES, sweep
from extender.loader.table import ModelTable
from extender.loader.wishes import Wish

log = structlog.get_logger("extender.loader")


class RoomMaker:
    """Makes room in one cache directory. Safe to use from threads.

    ``pods`` lists the pods of the node. What goes is reported absent before: ``notice`` returns
    once that has been said and seen, so that no pod is on its way there. Either raises
    NotRemovedError where it cannot. ``changed`` is told each model that went or came to its place;
    whoever works on wishes sets it.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        publisher: Publisher,
        table: ModelTable,
        metrics: LoaderMetrics,
        *,
        pods: Callable[[], list[Pod]],
        host_directory: Callable[[], str],
        clock: Callable[[], float] = time,
        ticks: Callable[[], float] = monotonic,
        random: Random | None = None,
        notice: Callable[[], None] = lambda: None,
    ) -> None:
        self._cache = cache
        self._publisher = publisher
        self._table = table
        self._metrics = metrics
        self._pods = pods
        self._host_directory = host_directory
        self._clock = clock
        self._notice = notice
        self._refusals = Refusals(cache, clock=ticks, random=random or Random())  # noqa: S311 - jitter
        self.changed: Callable[[str], None] = lambda _: None
        self._lock = Lock()
        self._catalog = Catalog()
        self._wishes: tuple[Wish, ...] = ()

    def follow(self, catalog: Catalog, wishes: Iterable[Wish]) -> None:
        """Go by this catalog, and keep what is wished for, from now on."""
        self._catalog, self._wishes = catalog, tuple(wishes)

    def tidy(self) -> None:
        """Let go what left the catalog, and what is too much by the watermarks.

        Half a download stays for as long as the catalog has its model; where room is short, only
        while it is wished for here. Raises CacheError, also where it cannot be known what is in
        use.
        """
        self._sweep(needed=0)
        self._collect(keep=lambda: {wish.model.directory for wish in self._wishes}, needed=0)

    def for_wish(self, wish: Wish, needed: int) -> None:
        """Make room for so many bytes more of one wish. Raises CacheError, as ``tidy`` does.

        Nothing goes for it where it would not fit even then. That is said here where what cannot be
        removed is all that is in the way; elsewhere the download finds out.
        """

        def keep() -> set[str]:
            more = {
                other.model.directory
                for other in self._wishes
                if other.order <= wish.order or other.model.priority >= wish.model.priority
            }
            return {*more, wish.model.directory}

        needed += self._catalog.watermarks.reserve_bytes
        if not self._is_short(needed):
            return  # nobody has to be asked what is in use
        self._sweep(needed=needed)
        _blame_refusals(self._collect(keep=keep, needed=needed))

    def _is_short(self, needed: int) -> bool:
        disk = self._file_system()
        return disk.free < needed or disk.used_above(self._catalog.watermarks.high_percent) > 0

    def _file_system(self) -> FileSystem:
        try:
            return file_system(self._cache.root)
        except OSError as error:
            raise unwritable(self._cache.root, error) from error

    def _sweep(self, *, needed: int) -> None:
        short = self._is_short(needed)
        swept = sweep(
            self._publisher,
            self._cache,
            wanted=self._may_be_begun(short=short),
            quarantine_bytes=0 if short else QUARANTINE_BYTES,
        )
        for path in swept.completed:
            self.changed(path)

    def _may_be_begun(self, *, short: bool) -> dict[str, str]:
        models = [wish.model for wish in self._wishes] if short else self._catalog.models
        return asked_for(models)

    def _collect(self, *, keep: Callable[[], set[str]], needed: int) -> Plan:
        """Let go what is decided; return what was decided last.

        Where something that was to go stays, other models may have to go in its place.
        """
        with self._lock:
            while True:
                decided, refused = self._let_go(keep=keep, needed=needed)
                if not refused:
                    return decided.plan

    def _let_go(self, *, keep: Callable[[], set[str]], needed: int) -> tuple[Decided, bool]:
        """Say what goes before it goes, so that no pod is on its way there; then ask once more.

        That takes seconds, in which a model may come to be wished for: ``keep`` is asked again,
        too. What would go only by the second answer has not been said, and stays until next time.
        Returns whether the file system has kept something that it was not known to keep.
        """
        decided = self._decide(keep=keep(), needed=needed)
        said, unlockable = self._can_go(decided.plan)
        with self._table.going(said):
            if said:
                self._notice()
                decided = self._decide(keep=keep(), needed=needed)
            decided = _only(said, decided)
            undone = evict(self._publisher, self._cache, decided.plan)
            self._note(decided.plan, undone)
            for path, why in (unlockable | undone.refused).items():
                log.warning("model not removed", model=path, error=why)
            for path, why in undone.refused.items():
                self._refusals.note(path, why)
            self._table.keeps(unlockable | self._refusals.all())
            note_use(self._publisher, self._cache, decided.record)
        return decided, bool(undone.refused)

    def _can_go(self, plan: Plan) -> tuple[set[str], dict[str, str]]:
        """Return what can be locked, and why something cannot: that is not said to go in vain.

        What another process is writing now is in neither.
        """
        free, refused = set(), {}
        for eviction in plan.evictions:
            try:
                with writing(self._cache, eviction.path, disk=self._publisher.disk):
                    free.add(eviction.path)
            except LockHeldError:
                continue
            except CacheError as error:
                refused[eviction.path] = str(error)
        return free, refused

    def _decide(self, *, keep: set[str], needed: int) -> Decided:
        try:
            return decide(
                self._cache,
                self._catalog,
                self._pods(),
                host_directory=self._host_directory(),
                now=self._clock(),
                needed=needed,
                keep=frozenset(keep),
                refused=self._refusals.standing(),
            )
        except OSError as error:
            raise unwritable(self._cache.root, error) from error

    def _note(self, plan: Plan, undone: Undone) -> None:
        for gone in plan.evictions:
            if gone.path in undone.busy or gone.path in undone.refused:
                continue
            self._table.absent(gone.path)
            self.changed(gone.path)
            self._metrics.evicted.labels(gone.reason.value).inc()
            self._metrics.evicted_bytes.inc(gone.bytes)
            log.info(
                "model removed",
                model=gone.path,
                bytes=gone.bytes,
                reason=gone.reason.value,
                why=gone.message,
            )
        if plan.missing:
            log.warning(
                "disk too full",
                error=f"{self._cache.root}: {format_bytes(plan.missing)} more should be free; end "
                "pods that read models, unpin models, or enlarge the disk",
                missing_bytes=plan.missing,
                stays={stay.path: stay.reason.value for stay in plan.stays[:20]},
            )


def _only(paths: set[str], decided: Decided) -> Decided:
    evictions = tuple(one for one in decided.plan.evictions if one.path in paths)
    plan = msgspec.structs.replace(decided.plan, evictions=evictions)
    return msgspec.structs.replace(decided, plan=plan)


def _blame_refusals(plan: Plan) -> None:
    """Raise NotRemovedError where there would be room enough if the file system let it go."""
    kept = [stay for stay in plan.stays if stay.reason is Kept.REFUSED]
    if 0 < plan.missing <= sum(stay.bytes for stay in kept):
        names = ", ".join(stay.path for stay in kept[:3]) + ", ..." * (len(kept) > 3)
        raise NotRemovedError(
            f"{format_bytes(plan.missing)} more have to be free; would fit if {names} could be "
            f"removed: {kept[0].message}"
        )
