"""From a URL to its source. Each kind is imported where it is used: their SDKs are heavy."""

from __future__ import annotations

from collections.abc import Sequence

from extender.loader.sources import Credentials, Source
from extender.loader.sources.urls import FILE, HUB, STORES, locate


def source_for(
    url: str,
    *,
    revision: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    credentials: Credentials,
    stall_seconds: float = 30.0,
) -> Source:
    """Return the source that a URL names; nothing is asked of the network yet.

    ``stall_seconds``: a server that sends nothing for so long is given up.
    Raises SourceError for a URL that is none, see ``urls.locate``.
    """
    location = locate(url, revision)
    if location.scheme == HUB:
        from extender.loader.sources.hub import HubSource

        return HubSource(
            location,
            include=include,
            exclude=exclude,
            credentials=credentials,
            stall_seconds=stall_seconds,
        )
    if location.scheme in STORES:
        from extender.loader.sources.objects import ObjectSource

        return ObjectSource(
            location,
            include=include,
            exclude=exclude,
            credentials=credentials,
            stall_seconds=stall_seconds,
        )
    if location.scheme == FILE:
        from extender.loader.sources.local import LocalSource

        return LocalSource(location, include=include, exclude=exclude)
    from extender.loader.sources.web import WebSource

    return WebSource(location, include=include, exclude=exclude, stall_seconds=stall_seconds)
