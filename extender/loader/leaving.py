"""What lies in the cache and the catalog does not have on this node: told of until it goes.

A model that left the catalog, or whose node selector does not match any more, stays for the
catalog's grace. As long as it is whole it is there for the pods that open its path, and the report
says so, with the time at which it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, time

import msgspec

from extender.kube.times import time_text
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.layout import IN_PLACE, CacheDirectory
from extender.loader.stored import stored
from extender.loader.usage import load_record

SCAN_SECONDS = 60.0
"""How often the directory is gone through beside changes of the catalog, as for the watermarks."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """One model that was left here.

    ``leaves_at`` (RFC 3339) is when it goes; None where another program had put it there, which
    never goes by itself.
    """

    model: CatalogModel
    leaves_at: str | None = None

    @property
    def told(self) -> str:
        """Return what becomes of it, in words for the report."""
        why = "the catalog does not have it on this node any more"
        if self.leaves_at is None:
            return f"{why}; it stays, because another program put it there"
        return f"{why}; it goes after {self.leaves_at} unless a pod of the node reads it"


class Leftovers:
    """Finds what was left in one cache directory.

    ``clock`` gives UNIX seconds, ``ticks`` monotonic ones. Used from one thread.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        *,
        clock: Callable[[], float] = time,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._ticks = ticks
        self._catalog: Catalog | None = None
        self._scanned_at = float("-inf")
        self._left: Mapping[str, Left] = {}

    def of(self, catalog: Catalog) -> tuple[Left, ...]:
        """Return what lies here and is not in ``catalog``, which has this node's models alone."""
        due = self._ticks() - self._scanned_at >= SCAN_SECONDS
        if due or catalog != self._catalog:
            self._scan(catalog)
        self._left = {path: one for path, one in self._left.items() if self._is_there(path)}
        return tuple(self._left.values())

    def _is_there(self, path: str) -> bool:
        try:
            return self._cache.marker(path).exists()
        except OSError:
            return True  # a disk that does not answer has lost nothing yet

    def _scan(self, catalog: Catalog) -> None:
        try:
            held = stored(self._cache)
        except OSError:
            return  # as it was, until the disk answers
        since, now = load_record(self._cache).left_at, self._clock()
        wanted = {model.directory for model in catalog.models}
        same_grace = self._catalog is None or self._catalog.grace_seconds == catalog.grace_seconds
        found = {}
        for one in held:
            marker = one.marker
            if one.path in wanted or marker is None or not _can_be_told(one.path):
                continue
            known = self._left.get(one.path) if same_grace else None
            left_at = max(0.0, min(since.get(one.path, now), now))  # the file may say anything
            goes = left_at + catalog.grace_seconds
            found[one.path] = known or Left(
                model=CatalogModel(name=one.path, source=marker.source, path=one.path),
                leaves_at=None if marker.adopted else time_text(goes),
            )
        self._left = found
        self._catalog, self._scanned_at = catalog, self._ticks()


def _can_be_told(path: str) -> bool:
    """Tell whether a directory has a name that a catalog could give a model."""
    return path != IN_PLACE and path.isprintable()
