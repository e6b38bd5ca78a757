"""``loader fill``: one model, once, for the strategies that have no loader on the node.

A Job fills a claim with it; an init container fills a memory-backed emptyDir, from the node's
cache or a claim where the model is there, so that nothing crosses the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from extender.loader.layout import CacheDirectory
from extender.loader.obtaining import Obtainer, Origin, opener
from extender.loader.proof.marker import Marker
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.sweep import sweep
from extender.loader.telling import Tell
from extender.loader.transfer.limits import Limits

log = structlog.get_logger("extender.loader")


class Filling:
    """Fills one directory."""

    def __init__(
        self, dest: Path, *, credentials: Credentials, connections: int, bytes_per_second: int
    ) -> None:
        self._cache, self._path = CacheDirectory.of_model(dest)
        self._publisher = Publisher(writer="loader fill")
        self._obtainer = Obtainer(
            self._cache,
            self._publisher,
            open_source=opener(credentials),
            limits=Limits(connections=connections, bytes_per_second=bytes_per_second),
            name="loader fill",
        )

    def fill(
        self, origin: Origin, *, nearer: Sequence[Path], tell: Tell, lock_wait: float
    ) -> Marker:
        """Obtain the model from the nearest place that has it whole; return its marker.

        Waits up to ``lock_wait`` seconds for another one that fills the same directory. Raises
        what ``Obtainer.obtain`` raises.
        """
        sweep(self._publisher, self._cache)
        chosen = next((near for near in nearer if _is_whole(near)), None)
        if chosen is not None:
            log.info("copied from nearby", directory=str(chosen), instead_of=origin.source)
            origin = msgspec.structs.replace(
                origin, source=f"file://{chosen.absolute()}", revision=None
            )
        return self._obtainer.obtain(self._path, origin, tell=tell, lock_wait=lock_wait)


def _is_whole(directory: Path) -> bool:
    """Tell whether a directory holds a whole model now: not one that is being fetched there."""
    try:
        verdict = verify(directory, level=Level.HEADERS)
    except OSError as error:
        log.info("not nearby", directory=str(directory), why=error.strerror or str(error))
        return False
    if not verdict.ok:
        log.warning("not whole nearby", directory=str(directory), why=verdict.told())
    return verdict.ok
