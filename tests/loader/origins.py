"""Each kind of source as a model may come from it, with files that a test replaces there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from extender.loader.layout import CacheDirectory
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.transfer.limits import Limits
from tests.loader.hub import Hub, sha256_of
from tests.loader.models import Files, contents, put, small_model
from tests.loader.objects import ObjectStore

FILES = small_model(1)
"""What each source has at first."""


class At:
    """One source: its address, and how its files are replaced there."""

    def __init__(
        self, source: str, replace: Callable[[Files], None], endpoint: str | None = None
    ) -> None:
        self.origin = Origin(source=source)
        self.replace = replace
        self.endpoint = endpoint
        replace(FILES)


def web(*, sums: bool) -> Iterator[At]:
    with Hub() as hub:

        def replace(files: Files) -> None:
            hub.web = {f"m/{path}": data for path, data in files.items()}
            if sums:
                lines = (f"{sha256_of(data)}  {path}\n" for path, data in files.items())
                hub.web["m/SHA256SUMS"] = "".join(lines).encode()

        yield At(f"{hub.url}/web/m/", replace)


def objects(scheme: str, place: Path) -> Iterator[At]:
    with ObjectStore() as store:

        def replace(files: Files) -> None:
            store.buckets["models"] = {f"m/{path}": data for path, data in files.items()}

        yield At(f"{scheme}://models/m", replace, store.url)


def directory(place: Path) -> Iterator[At]:
    times = iter(range(1, 9))

    def replace(files: Files) -> None:
        for path in contents(place).keys() - files.keys():
            (place / path).unlink()
        for path, data in files.items():
            if not (place / path).exists() or (place / path).read_bytes() != data:
                put(place, {path: data})
                os.utime(place / path, ns=(0, next(times) * 10**9))

    yield At(f"file://{place}", replace)


def filled_claim(place: Path) -> Iterator[At]:
    """A claim that ``loader fill`` filled: its marker has the hashes of what was there then."""
    [source] = [*directory(place.with_name("first"))]
    Obtainer(
        CacheDirectory(place.parent), Publisher(),
        open_source=opener(Credentials()), limits=Limits(),
    ).obtain(place.name, source.origin)  # fmt: skip
    yield from directory(place)


SOURCES: dict[str, Callable[[Path], Iterator[At]]] = {
    "https": lambda _: web(sums=False),
    "https with SHA256SUMS": lambda _: web(sums=True),
    "s3": lambda place: objects("s3", place),
    "gs": lambda place: objects("gs", place),
    "file": directory,
    "file of a filled claim": filled_claim,
}
