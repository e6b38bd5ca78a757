"""Source URLs as people write them, checked before anything is asked of the network."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from extender.addresses import shown
from extender.loader.sources import Cause, SourceError, path_problem

HUB = "hf"
STORES = frozenset({"s3", "gs"})
WEB = frozenset({"https", "http"})
FILE = "file"
SCHEMES = (HUB, *sorted(STORES), "https", FILE)

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
"""One or two names: https://huggingface.co/docs/hub/repositories-settings"""

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_QUERY = re.compile(r"[?#][^\s'\"<>]+")


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """A source URL taken apart: ``place`` is what follows ``scheme://``.

    A revision in the address is in ``revision`` alone: another one is of the same source.
    """

    url: str
    scheme: str
    place: str
    revision: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether what it names can never change: a commit of a repository."""
        return self.scheme == HUB and _COMMIT.fullmatch(self.revision or "") is not None


def unrevised(url: str) -> str:
    """Return an address without the revision of a repository (``@revision``) in it."""
    return url.partition("@")[0] if url.startswith(f"{HUB}://") else url


def without_queries(text: str) -> str:
    """Return what a library said without the queries of addresses in it."""
    return _QUERY.sub("", text)


def locate(url: str, revision: str | None = None) -> Location:
    """Take a source URL apart (``hf://org/name``, ``hf://org/name@revision``, ``s3://...``).

    Raises SourceError that says what is wrong with it and how it is written.
    """
    scheme, separator, place = url.partition("://")
    if not separator or scheme not in {HUB, FILE, *STORES, *WEB}:
        raise _invalid(
            url, f"is not a source; write one of {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    if scheme == HUB:
        return _hub(url, place, revision)
    if revision is not None:
        raise _invalid(url, f"has no revisions; leave out the revision {revision!r}")
    if scheme == FILE:
        if not place.startswith("/"):
            raise _invalid(url, "is not absolute; write file:///directory")
        return Location(url=url, scheme=scheme, place=place)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _invalid(url, "is no address; correct its host") from error
    if not parts.netloc:
        raise _invalid(url, f"names no {'host' if scheme in WEB else 'bucket'}")
    if "@" in parts.netloc:
        raise _invalid(url, "holds credentials; take them out")
    if parts.fragment or (scheme in STORES and parts.query):
        raise _invalid(url, "has a query or fragment that means nothing here; take it out")
    return Location(url=url, scheme=scheme, place=place)


def _hub(url: str, place: str, revision: str | None) -> Location:
    repository, at, named = place.partition("@")
    if not _REPOSITORY.fullmatch(repository) or path_problem(repository) is not None:
        raise _invalid(url, "is not a repository of the hub; write hf://organisation/name")
    if at and revision is not None and named != revision:
        raise _invalid(url, f"and revision {revision!r} name two revisions; keep one of them")
    chosen = named if at else revision
    if chosen is not None and (not _REVISION.fullmatch(chosen) or ".." in chosen):
        raise _invalid(url, f"has the revision {chosen!r}; write a branch, a tag or a commit")
    return Location(url=unrevised(url), scheme=HUB, place=repository, revision=chosen)


def _invalid(url: str, problem: str) -> SourceError:
    return SourceError(f"source {shown(url)[:300]!r} {problem}", cause=Cause.INVALID)
