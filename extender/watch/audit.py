"""What is known, compared with a fresh list: what drifted is a fault of this program.

Nothing is watched between the last version that was seen and the list. So an object that has not
changed since that version has to be known as it is. One that is known and not listed may have been
deleted in between: the watch is asked from that version on, and what it does not tell the end of
is a phantom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from extender.errors import InvalidObjectError
from extender.kube.decode import decode
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.framing import LineTooLongError, split_lines
from extender.watch.listing import Listing
from extender.watch.messages import UNREADABLE, older, read_event, read_identity
from extender.watch.resources import Resource

_HISTORY_SECONDS = 5
"""How long the watch of what was deleted may take; all of it is past, so it comes at once."""

_READ_TIMEOUT = 10.0
_EXAMPLES = 10


class Drift(StrEnum):
    """In what way an object was not known as it is."""

    MISSING = "missing"
    """There is one, and nothing was known of it."""
    PHANTOM = "phantom"
    """It was known, and there is none."""
    DIFFERENT = "different"


class Known(Protocol):
    """What the sink knows."""

    def knows(self, obj: KubeObject) -> bool:
        """Tell whether anything is known of an object."""

    def differs(self, obj: KubeObject) -> bool:
        """Tell whether what is known of an object is not what the object says."""


Findings = Mapping[Drift, Sequence[str]]
"""The names of what drifted; no entry where nothing did."""


class Audit:
    """Compares what was known at version ``since`` with a list made after it."""

    def __init__(self, known: Known, since: str) -> None:
        self._known = known
        self._since = since
        self._found: dict[Drift, list[str]] = {}

    def look(self, objects: Iterable[KubeObject]) -> None:
        """Compare some objects of the list, before the sink takes them."""
        for obj in objects:
            changed = older(self._since, obj.metadata.resource_version)
            if not changed and self._known.differs(obj):
                kind = Drift.DIFFERENT if self._known.knows(obj) else Drift.MISSING
                self._found.setdefault(kind, []).append(_name(obj))

    def findings(
        self, draft: Draft, listing: Listing, *, resource: Resource, transport: Transport
    ) -> Findings:
        """Return what was found, once the list is complete and before it replaces anything."""
        phantoms = _phantoms(draft, listing, self._since, resource, transport)
        return {**self._found, Drift.PHANTOM: phantoms} if phantoms else self._found


def examples(found: Findings) -> dict[str, list[str]]:
    """Return the first names of each kind of drift, for the log."""
    return {kind.value: list(names[:_EXAMPLES]) for kind, names in found.items()}


def _phantoms(
    draft: Draft, listing: Listing, since: str, resource: Resource, transport: Transport
) -> list[str]:
    odd = [resource.kind(metadata=o.metadata) for o in listing.unreadable if o.metadata is not None]
    if not draft.phantoms(odd):
        return []
    try:
        deleted = list(_deleted(since, listing.version, resource, transport))
    except (UnreachableError, LineTooLongError, InvalidObjectError, *UNREADABLE):
        return []  # it cannot be told which of them were deleted meanwhile
    return draft.phantoms([*odd, *deleted])


def _deleted(
    since: str, until: str, resource: Resource, transport: Transport
) -> Iterator[KubeObject]:
    """Yield what was deleted after one version and not after another.

    Raises UnreachableError where the apiserver does not tell.
    """
    query: dict[str, str | int] = {
        **resource.selectors,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": since,
        "timeoutSeconds": _HISTORY_SECONDS,
    }
    with transport.stream("GET", resource.path, query=query, read_timeout=_READ_TIMEOUT) as stream:
        if stream.status != 200:
            raise UnreachableError(f"HTTP {stream.status} for a watch of the past", sent=True)
        for line in split_lines(stream.chunks()):
            event = read_event(line)
            identity = read_identity(event.object)
            version = identity.resource_version if identity else ""
            if event.type == "ERROR" or identity is None:
                raise UnreachableError("the watch of the past cannot be read", sent=True)
            if event.type == "DELETED":
                yield decode(event.object, resource.kind)
            if not older(version, until):
                return


def _name(obj: KubeObject) -> str:
    return f"{obj.metadata.namespace}/{obj.metadata.name}".lstrip("/")
