"""``loader fill``: one model, once, for the strategies that have no loader on the node.

A Job fills a claim with it; an init container fills a memory-backed emptyDir, from the node's
cache or a claim where the model is there, so that nothing crosses the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from extender.addresses import shown
from extender.errors import CacheError, LockHeldError
from extender.kube.quantity import format_bytes
from extender.loader.candidates import NotNearbyError
from extender.loader.comparing import is_of_commit, same
from extender.loader.damaged import DamagedError
from extender.loader.disk_space import disk_space, is_memory, is_writable
from extender.loader.layout import CacheDirectory, Writing, unwritable, writing
from extender.loader.mend import condemn_found
from extender.loader.nearby import nearby
from extender.loader.obtaining import Obtainer
from extender.loader.open_files import OpenFiles
from extender.loader.origin import Origin, opener
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.proof.reading import Reader, ReadingStoppedError
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sources import Cause, Credentials, Source, SourceError
from extender.loader.stored import bytes_on_disk
from extender.loader.sweep import bound_quarantine, sweep
from extender.loader.telling import Tell
from extender.loader.transfer.failures import TransferError
from extender.loader.transfer.limits import Limits

log = structlog.get_logger("extender.loader")

FAILURES = (CacheError, SourceError, TransferError, ReadingStoppedError)
"""What ``Filling.fill`` raises."""


class NotWholeError(CacheError):
    """A destination that cannot be written, and is not what it should be as it is."""


class _Work(msgspec.Struct, frozen=True):
    """What was asked for; see ``Filling.fill``."""

    origin: Origin
    tell: Tell
    stop: Callable[[], bool]
    lock_wait: float
    replace: bool


class Filling:
    """Fills one directory.

    ``replace_in_use``: a new revision takes its place though a process on this machine reads the
    one before.
    """

    def __init__(
        self,
        dest: Path,
        *,
        credentials: Credentials,
        connections: int,
        bytes_per_second: int,
        replace_in_use: bool = False,
    ) -> None:
        self._cache, self._path = CacheDirectory.of_model(dest)
        uses = OpenFiles(self._cache, replaced=replace_in_use)
        self._publisher = Publisher(writer="loader fill", uses=uses)
        self._open_source = opener(credentials)
        self._limits = Limits(connections=connections, bytes_per_second=bytes_per_second)

    def fill(
        self,
        origin: Origin,
        *,
        nearer: Sequence[Path] = (),
        tell: Tell = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        lock_wait: float = 0.0,
        replace: bool = False,
    ) -> Marker:
        """Obtain the model from the nearest place that has it whole; return its marker.

        ``replace``: what another program left at the destination may go where it is not the model.
        Waits up to ``lock_wait`` seconds for another one that fills the same directory. Raises
        what ``Obtainer.obtain`` raises (``FAILURES``).
        """
        if is_writable(self._cache.root):
            sweep(self._publisher, self._cache)
        work = _Work(origin, tell, stop, lock_wait, replace)
        for directory in nearer:
            try:
                source = nearby(directory, origin, self._open_source)
                marker = self._obtain(work, source)
            except NotNearbyError as error:
                log.info("not nearby", directory=str(directory), why=str(error))
            except (DamagedError, NotWholeError, SourceError, TransferError) as error:
                if isinstance(error, TransferError) and not isinstance(error.cause, Cause):
                    raise  # the destination's own trouble
                log.warning("not copied from nearby", directory=str(directory), why=str(error))
            else:
                log.info(
                    "copied from nearby", directory=str(directory), instead_of=shown(origin.source)
                )
                return marker
        return self._obtain(work, self._open_source(origin))

    def _obtain(self, work: _Work, source: Source) -> Marker:
        if not is_writable(self._cache.root):
            return self._found(work, source)
        obtainer = Obtainer(
            self._cache,
            self._publisher,
            open_source=lambda _: source,
            limits=self._limits,
            name="loader fill",
        )

        def once(wait: float) -> Marker:
            self._look(work, wait)
            return obtainer.obtain(
                self._path,
                work.origin,
                tell=work.tell,
                stop=work.stop,
                make_room=self._make_room,
                lock_wait=wait,
                replace_foreign=work.replace,
            )

        try:
            return once(0.0)
        except LockHeldError as error:
            if work.lock_wait <= 0:
                raise
            log.info("waiting for another writer", why=str(error))
            return once(work.lock_wait)

    def _found(self, work: _Work, source: Source) -> Marker:
        """Return the marker of what lies where nothing can be written. Raises NotWholeError."""
        final = self._cache.final(self._path)
        told = f"{final}: cannot be written by this user"
        mount = "mount it for writing (readOnly: false), and look at its owner and mode"
        try:
            marker = read_marker(final)
            whole = (
                marker is not None
                and not marker.damaged
                and (verify(final, expected=marker, reader=Reader(stop=work.stop)).ok)
            )
        except (OSError, MarkerError) as error:
            raise NotWholeError(f"{told}, and what lies there cannot be read: {error}") from error
        if marker is None or not whole:
            raise NotWholeError(f"{told}, and does not hold the model whole and proven; {mount}")
        if not is_of_commit(marker, work.origin):
            listing = work.origin.told(source.list())
            if not same(marker, listing):
                raise NotWholeError(
                    f"{told}, and holds revision {marker.revision} of {marker.source}, not "
                    f"{listing.revision} of {listing.source}; {mount}"
                )
        return marker

    def _look(self, work: _Work, wait: float) -> None:
        """See whether what was filled before is still whole; what is not is fetched again.

        No loader looks at it between two fills. Raises LockHeldError, ReadingStoppedError and
        CacheError.
        """
        final = self._cache.final(self._path)
        try:
            marker = read_marker(final)
            if marker is None or marker.damaged:
                return
            reader = Reader(stop=work.stop)
            verdict = verify(final, level=Level.HEADERS, expected=marker, reader=reader)
            if verdict.ok:
                return
            with writing(self._cache, self._path, wait=wait, name="loader fill") as held:
                if read_marker(final) == marker:
                    log.warning("model damaged", model=self._path, problem=verdict.told())
                    condemn_found(self._publisher, held, marker, verdict)
        except (FileNotFoundError, MarkerError):
            return  # gone by now, or said by who obtains it
        except OSError as error:
            raise unwritable(self._cache.root, error) from error

    def _make_room(self, needed: int, at_hand: int) -> None:
        """See that so many bytes fit, before the first of them is written.

        Memory never holds two copies: an older revision goes first, and ``at_hand`` bytes of the
        new one with it; it stays where there would be no room even then. Raises CacheError.
        """
        root = self._cache.root
        space = disk_space(root)
        if space is None or needed <= space.free_bytes:
            return
        bound_quarantine(self._publisher, self._cache, 0)  # before anything that is of use
        space = disk_space(root) or space
        if needed <= space.free_bytes:
            return
        memory, goes = is_memory(root), 0
        if memory and not self._cache.in_place(self._path):
            held = Writing(self._cache, self._path)
            goes = bytes_on_disk(held.final)
            needed += at_hand
            if needed <= space.free_bytes + goes:
                self._publisher.may_go(held)
                self._publisher.remove(held)
                space, goes = disk_space(root) or space, 0
        free = space.free_bytes + goes
        if needed <= free:
            return
        remedy = (
            "set the volume's sizeLimit above "
            f"{format_bytes(space.total_bytes - free + needed)}, and the pod's memory "
            "to that and what its containers need"
            if memory
            else "free space, or enlarge the volume"
        )
        without = " without the model that is there" if goes else ""
        raise CacheError(
            f"{root}: {format_bytes(needed)} are to be written, and "
            f"{format_bytes(free)} of {format_bytes(space.total_bytes)} are free{without}; "
            f"{remedy}"
        )
