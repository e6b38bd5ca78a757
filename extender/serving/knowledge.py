"""How fresh the knowledge is, whatever it comes from: a watch, or a file that never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class ResourceKnowledge(msgspec.Struct, frozen=True, kw_only=True):
    """One resource: listed or not, seconds since it was last heard of, and the last error.

    The counters run since the start. ``drifted`` counts what an audit found wrong: ``missing``,
    ``phantom`` or ``different``.
    """

    resource: str
    synced: bool
    age_seconds: float | None = None
    error: str | None = None
    relists: int = 0
    reconnects: int = 0
    failures: int = 0
    events: int = 0
    unreadable: int = 0
    audits: int = 0
    drifted: Mapping[str, int] = {}


class Knowledge(Protocol):
    """Where the state comes from."""

    def start(self) -> None:
        """Begin to fill the state."""

    def stop(self) -> None:
        """Stop, and let go of every connection."""

    def unsynced(self) -> tuple[str, ...]:
        """Name the resources that have not been listed yet."""

    def stale(self) -> tuple[str, ...]:
        """Name the resources not heard of for longer than the bound."""

    def resources(self) -> list[ResourceKnowledge]:
        """Return every resource's freshness."""


class FileKnowledge:
    """A snapshot: complete from the start, and never old."""

    def start(self) -> None:
        """Do nothing: the state is filled already."""

    def stop(self) -> None:
        """Do nothing."""

    def unsynced(self) -> tuple[str, ...]:
        """Return nothing: a file is complete."""
        return ()

    def stale(self) -> tuple[str, ...]:
        """Return nothing: a file does not age."""
        return ()

    def resources(self) -> list[ResourceKnowledge]:
        """Return the one resource that a file is."""
        return [ResourceKnowledge(resource="snapshot", synced=True)]
