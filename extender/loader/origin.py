"""Where one model comes from, as a catalog or a command line says it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from extender.addresses import shown
from extender.loader.catalog import CatalogModel
from extender.loader.sources import Credentials, Listing, Part, Source
from extender.loader.sources.opening import source_for
from extender.loader.sources.urls import locate


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where one model comes from; see ``catalog.CatalogModel``."""

    source: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    without: tuple[Part, ...] = ()

    @classmethod
    def of(cls, model: CatalogModel) -> Origin:
        """Return where the catalog says that a model comes from."""
        return cls(
            source=model.source,
            revision=model.revision,
            include=model.include,
            exclude=model.exclude,
            without=model.without,
        )

    def told(self, listing: Listing) -> Listing:
        """Return what a source lists, with what was said of the model."""
        return msgspec.structs.replace(
            listing,
            without=self.without,
            include=self.include,
            exclude=self.exclude,
        )

    @property
    def asked(self) -> str:
        """A digest of what is asked for: equal digests ask for the same files."""
        asked = shown(self.source), self.revision, sorted(self.include), sorted(self.exclude)
        return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]

    @property
    def pinned(self) -> bool:
        """Whether what it names can never change. Raises SourceError for no address."""
        return locate(self.source, self.revision).pinned


def asked_for(models: Iterable[CatalogModel]) -> dict[str, str]:
    """Return what a catalog asks for, by the paths of its models; see ``Origin.asked``."""
    return {model.directory: Origin.of(model).asked for model in models}


def opener(credentials: Credentials) -> Callable[[Origin], Source]:
    """Return a function that opens the source of an origin with these credentials."""

    def open_source(origin: Origin) -> Source:
        return source_for(
            origin.source,
            revision=origin.revision,
            include=origin.include,
            exclude=origin.exclude,
            credentials=credentials,
        )

    return open_source
