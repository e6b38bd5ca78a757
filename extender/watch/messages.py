"""What the apiserver says besides objects: pages of a list, events of a watch, and ``Status``.

Objects stay raw bytes here. Each is decoded alone, so that one odd object costs nobody but itself.
"""

from __future__ import annotations

import msgspec

from extender.kube.objects import KubeStruct, ObjectMeta


class ListMeta(KubeStruct, frozen=True):
    """``metadata`` of a list or of one of its pages."""

    resource_version: str = ""
    continue_: str | None = msgspec.field(name="continue", default=None)
    remaining_item_count: int | None = None


class Page(KubeStruct, frozen=True):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class WatchEvent(KubeStruct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class Identity(KubeStruct, frozen=True):
    """Only who an object is; also what a bookmark carries."""

    metadata: ObjectMeta = ObjectMeta()


class _BareMeta(KubeStruct, frozen=True):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _BareIdentity(KubeStruct, frozen=True):
    metadata: _BareMeta | None = None


class StatusCause(KubeStruct, frozen=True):
    """``details.causes[]`` of a Status."""

    reason: str | None = None


class StatusDetails(KubeStruct, frozen=True):
    """``details`` of a Status."""

    name: str | None = None
    retry_after_seconds: int = 0
    causes: list[StatusCause] | None = None


class Status(KubeStruct, frozen=True):
    """``v1 Status``: how the apiserver says no."""

    kind: str | None = None
    code: int = 0
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None

    def expired(self) -> bool:
        """Whether the resource version (or continue token) is too old to go on from."""
        return self.code == 410 or self.reason in {"Expired", "Gone"}

    def ahead(self) -> bool:
        """Whether the resource version is newer than any that the server has."""
        causes = (self.details.causes if self.details else None) or []
        return any(cause.reason == "ResourceVersionTooLarge" for cause in causes)

    def summary(self) -> str:
        """Return code, reason and message in one line of bounded length."""
        words = (str(self.code), self.reason or "", (self.message or "")[:200])
        return " ".join(word for word in words if word)


_page = msgspec.json.Decoder(Page)
_event = msgspec.json.Decoder(WatchEvent)
_status = msgspec.json.Decoder(Status)
_identity = msgspec.json.Decoder(_BareIdentity)

UNREADABLE = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
"""What decoding raises when bytes are not what they should be."""


def read_page(body: bytes) -> Page:
    """Decode one page. Raises one of UNREADABLE."""
    return _page.decode(body)


def read_event(line: bytes) -> WatchEvent:
    """Decode one line of a watch. Raises one of UNREADABLE."""
    return _event.decode(line)


def read_status(body: bytes | msgspec.Raw, code: int = 0) -> Status:
    """Decode a Status; whatever else it is becomes a Status with only that code."""
    try:
        status = _status.decode(body)
    except UNREADABLE:
        return Status(code=code)
    return status if status.code else msgspec.structs.replace(status, code=code)


def read_identity(raw: bytes | msgspec.Raw) -> ObjectMeta | None:
    """Return name, namespace, UID and version of an object of any shape; None if it has none."""
    try:
        bare = _identity.decode(raw).metadata
    except UNREADABLE:
        return None
    if bare is None:
        return None
    return ObjectMeta(
        name=bare.name or "",
        namespace=bare.namespace or "",
        uid=bare.uid or "",
        resource_version=bare.resource_version or "",
    )


def older(version: str, than: str | None) -> bool:
    """Whether a resource version is lower than another; never, where one is no number.

    Kubernetes lets clients compare the versions of its own kinds as numbers since 1.35.
    """
    if than is None or not version.isdigit() or not than.isdigit():
        return False
    return int(version) < int(than)
