"""What one download leaves behind: a source's bytes at a path of the container."""

from __future__ import annotations

import posixpath

import msgspec

from extender.workload.shell_values import Ways
from extender.workload.volumes import is_within


class Fill(msgspec.Struct, frozen=True):
    """One thing that a container writes. ``destination`` is a path in it, None where not told.

    ``source`` is a name as pods say it: a hub id, a URI, or an absolute path in the container.
    ``ways`` are the branches of the script that it lies on. ``within`` is a directory that the
    destination surely lies in, where that cannot be told; ``files`` are those that it consists of,
    where the call names them. ``contents`` tells that it is what a directory holds, copied into the
    destination, ``matched`` that a pattern chooses it (``/nfs/*``): its names are not known.
    ``nearer`` are directories of the container that are copied instead where they hold the same.
    """

    source: str | None
    destination: str | None
    revision: str | None = None
    read_from: tuple[str, ...] = ()
    ways: Ways = frozenset()
    within: str | None = None
    files: tuple[str, ...] = ()
    contents: bool = False
    matched: bool = False
    nearer: tuple[str, ...] = ()

    def models(self, *, at_root: bool) -> tuple[str, ...]:
        """Return the paths at which this puts a model; ``at_root`` of the volume's mount.

        What lies right in the mount is shared with others: there, the named files are the models,
        and the contents of some directory may be any models. Elsewhere the directory is the model,
        unless a pattern fills it that is not named alike (``llama/*`` into ``llama``).
        """
        where = self.destination
        if where is None or (at_root and self.contents):
            return ()
        if at_root and self.files:
            return tuple(posixpath.join(where, file) for file in self.files)
        named = posixpath.basename((self.source or "").rstrip("/*"))
        if self.matched and named != posixpath.basename(where):
            return ()
        return (where,)

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
    """All that a container writes; ``opaque`` where it may write more than can be read.

    ``within`` are directories that a download tool surely writes into, under names that cannot be
    told.
    """

    fills: tuple[Fill, ...] = ()
    opaque: bool = False
    within: tuple[str, ...] = ()
