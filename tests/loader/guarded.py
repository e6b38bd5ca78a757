"""A guard of published models, for the tests of what it notices and when."""

from __future__ import annotations

import json
import os
from pathlib import Path

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.guarding import Guard
from extender.loader.layout import CacheDirectory, writing
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.publish import Publisher
from extender.loader.table import ModelRow, ModelTable
from extender.report import ReportedState
from tests.loader.dying import MayBeFull
from tests.loader.loader_process import wait_for
from tests.loader.models import listing, put, small_model

FILES = small_model()
SHARD = "model-00001-of-00002.safetensors"
SHORT, LONG = "small", "x" * 200
"""The second is longer than any name in a cache directory may be."""


class Scene:
    """A guard of one published model, whose threads look all the time."""

    def __init__(
        self, root: Path, *, look_seconds: float = 0.05, round_seconds: float = 0.05
    ) -> None:
        self.cache = CacheDirectory(root)
        self.table = ModelTable()
        self.metrics = LoaderMetrics(self.table, root, catalog_error=lambda: "")
        self.asked: list[str] = []
        self.busy = False
        self.disk = MayBeFull()
        self.publisher = publisher = Publisher(disk=self.disk)
        self.publish(SHORT)
        self.room = RoomMaker(
            self.cache, publisher, self.table, self.metrics,
            pods=list, host_directory=lambda: str(root),
        )  # fmt: skip
        self.guard = Guard(
            self.cache, publisher, self.table, self.metrics, self.room,
            name="test", look_seconds=look_seconds, round_seconds=round_seconds,
        )  # fmt: skip

    def publish(self, path: str) -> None:
        with writing(self.cache, path) as held:
            put(self.publisher.begin(held, listing(FILES)), FILES)
            self.publisher.publish(held, listing(FILES))

    def begin(self, *paths: str, on_demand: bool = False) -> None:
        models = [CatalogModel(name=path[:9], source="hf://org/small", path=path) for path in paths]
        catalog = Catalog(models=tuple(models))
        self.table.follow([] if on_demand else models, models)
        self.room.follow(catalog, [])
        self.guard.follow(catalog)
        self.guard.start(lambda _: self.busy, self.asked.append)
        wait_for(lambda: self.guard.looked and set(self.asked) >= set(paths))

    def row(self, path: str = SHORT) -> ModelRow:
        row = self.table.get(path)
        assert row is not None
        return row

    def wait_for_state(self, state: ReportedState, path: str = SHORT) -> None:
        wait_for(lambda: self.row(path).state is state)

    def wait_read(self) -> None:
        """Wait for the end of the first round of reading."""
        place = self.cache.work_area / "rereading.json"
        wait_for(lambda: place.exists() and json.loads(place.read_bytes()).get("path") == "")

    @property
    def shard(self) -> Path:
        return self.cache.final(SHORT) / SHARD

    def marker(self) -> Marker:
        marker = read_marker(self.cache.final(SHORT))
        assert marker is not None
        return marker


def change(scene: Scene, *, hide: bool, path: str = SHORT) -> None:
    """Change the last byte of a shard; ``hide``: so that no stat shows it."""
    shard = scene.cache.final(path) / SHARD
    before = shard.stat()
    with shard.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    if hide:
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
