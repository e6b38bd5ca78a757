"""Paths as a call means them: below its working directory."""

from __future__ import annotations

import posixpath

from extender.workload.commands import Call


def absolute(call: Call, path: str) -> str | None:
    """Return a path as the call means it; None where that cannot be told."""
    if path.startswith("/"):
        return posixpath.normpath(path)
    if call.directory is None or path.startswith("~"):
        return None
    return posixpath.normpath(posixpath.join(call.directory, path))


def joined(directory: str | None, name: str | None) -> str | None:
    """Return a name below a directory; None where either is not known."""
    return posixpath.join(directory, name) if directory is not None and name is not None else None
