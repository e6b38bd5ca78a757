"""What one download leaves behind: a source's bytes at a path of the container."""

from __future__ import annotations

import msgspec

from extender.workload.volumes import is_within


class Fill(msgspec.Struct, frozen=True):
    """One thing that a container writes. ``destination`` is a path in it, None where not told.

    ``source`` is a name as pods say it: a hub id, a URI, or an absolute path in the container.
    """

    source: str | None
    destination: str | None
    revision: str | None = None
    read_from: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Tell whether a path is part of what was written."""
        return self.destination is not None and is_within(path, self.destination)

    def moved(self, source: str, destination: str) -> Fill:
        """Return where this lies once ``mv`` has renamed a path: it may be that, or below it."""
        where = self.destination
        if where is None or (where != source and not where.startswith(source + "/")):
            return self
        return msgspec.structs.replace(self, destination=destination + where[len(source) :])


class Fills(msgspec.Struct, frozen=True):
    """All that a container writes; ``opaque`` where it may write more than can be read."""

    fills: tuple[Fill, ...] = ()
    opaque: bool = False
