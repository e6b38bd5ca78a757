"""What is published is guarded: whatever happens to it is noticed, said, and obtained again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.guarding import Guard
from extender.loader.layout import MARKER, CacheDirectory, writing
from extender.loader.looking import Looker
from extender.loader.making_room import RoomMaker
from extender.loader.mend import condemn
from extender.loader.metrics import LoaderMetrics
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.proof.verdict import Level
from extender.loader.publish import DamagedError, Publisher
from extender.loader.table import ModelRow, ModelTable
from extender.report import ReportedState
from tests.loader.dying import MayBeFull
from tests.loader.loader_process import wait_for
from tests.loader.models import contents, listing, put, small_model

FILES = small_model()
SHARD = "model-00001-of-00002.safetensors"
SHORT, LONG = "small", "x" * 200
"""The second is longer than any name in a cache directory may be."""


class Scene:
    """A guard of one published model, whose threads look all the time."""

    def __init__(self, root: Path, look_seconds: float = 0.05) -> None:
        self.cache = CacheDirectory(root)
        self.table = ModelTable()
        self.metrics = LoaderMetrics(self.table, root, catalog_error=lambda: "")
        self.asked: list[str] = []
        self.busy = False
        self.disk = MayBeFull()
        self.publisher = publisher = Publisher(disk=self.disk)
        with writing(self.cache, SHORT) as held:
            put(publisher.begin(held, listing(FILES)), FILES)
            publisher.publish(held, listing(FILES))
        self.room = RoomMaker(
            self.cache, publisher, self.table, self.metrics,
            pods=list, host_directory=lambda: str(root),
        )  # fmt: skip
        self.guard = Guard(
            self.cache, publisher, self.table, self.metrics, self.room,
            name="test", look_seconds=look_seconds, round_seconds=0.05,
        )  # fmt: skip

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
        wait_for(lambda: self.row(path).state is state, 10)

    @property
    def shard(self) -> Path:
        return self.cache.final(SHORT) / SHARD

    def marker(self) -> Marker:
        marker = read_marker(self.cache.final(SHORT))
        assert marker is not None
        return marker


@pytest.fixture
def scene(fast: Path) -> Iterator[Scene]:
    made = Scene(fast)
    yield made
    if made.guard.looked:
        made.guard.stop(5)


def test_what_is_whole_is_ready_and_obtained_once_to_see_if_it_is_up_to_date(scene: Scene) -> None:
    scene.begin(SHORT)
    assert scene.row().state is ReportedState.READY
    assert scene.row().proven_at
    wait_for(lambda: scene.asked == [SHORT])


def test_a_model_that_left_the_catalog_and_comes_back_is_looked_at_as_a_new_one(
    fast: Path,
) -> None:
    scene = Scene(fast, look_seconds=3600)
    scene.begin(SHORT)
    try:
        wait_for(lambda: scene.asked == [SHORT])
        model = CatalogModel(name=SHORT, source="hf://org/small")
        for models in ((), (model,)):
            scene.table.follow(models, models)
            scene.guard.follow(Catalog(models=models))
        wait_for(lambda: scene.asked == [SHORT, SHORT], 10)
        assert scene.row().state is ReportedState.READY
    finally:
        scene.guard.stop(5)


def test_a_model_that_cannot_be_looked_at_does_not_keep_the_others_from_being_told(
    scene: Scene,
) -> None:
    scene.begin(SHORT, LONG)
    assert scene.row().state is ReportedState.READY
    assert scene.row(LONG).state is ReportedState.FAILED
    assert "is too long" in scene.row(LONG).reason


def test_a_disk_that_fails_to_be_measured_does_not_end_the_looking(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds: list[float | Exception] = [1.5e9, RuntimeError("a fault of ours")]

    def measure(_: Path) -> float:
        speed = speeds.pop()
        if isinstance(speed, Exception):
            raise speed
        return speed

    monkeypatch.setattr("extender.loader.guarding.read_speed", measure)
    scene.begin(SHORT)
    wait_for(lambda: scene.metrics.read_speed == 1.5e9)


def change(scene: Scene, *, hide: bool) -> None:
    before = scene.shard.stat()
    with scene.shard.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    if hide:
        os.utime(scene.shard, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("hide", [False, True], ids=["touched", "with its time as before"])
@pytest.mark.parametrize("on_demand", [False, True], ids=["wished for", "on demand"])
def test_a_changed_file_fails_its_model_and_is_set_aside(
    scene: Scene, hide: bool, on_demand: bool
) -> None:
    scene.begin(SHORT, on_demand=on_demand)
    scene.asked.clear()
    change(scene, hide=hide)
    scene.wait_for_state(ReportedState.FAILED)
    assert SHARD in scene.row().reason
    assert scene.row().damaged
    wait_for(lambda: scene.asked == [SHORT])
    assert scene.marker().damaged == (SHARD,)
    assert not scene.shard.exists()


@pytest.mark.parametrize("hide", [False, True], ids=["touched", "with its time as before"])
def test_damage_that_a_full_disk_does_not_take_is_said_until_it_does(
    scene: Scene, hide: bool
) -> None:
    scene.begin(SHORT)
    scene.asked.clear()
    scene.disk.full = True
    change(scene, hide=hide)
    scene.wait_for_state(ReportedState.FAILED)
    until = monotonic() + 0.5
    while monotonic() < until:  # as many looks, and rounds of reading, as there is time for
        assert scene.row().state is ReportedState.FAILED
        with pytest.raises(DamagedError, match=SHARD):
            scene.guard.vouch_for(SHORT)
    assert scene.marker().damaged == ()
    scene.asked.clear()
    scene.disk.full = False
    wait_for(lambda: scene.asked == [SHORT])
    assert scene.marker().damaged == (SHARD,)
    assert not scene.shard.exists()
    scene.guard.vouch_for(SHORT)  # the marker tells by now


def test_damage_that_is_found_while_a_worker_has_the_model_is_said_and_marked_afterwards(
    scene: Scene,
) -> None:
    scene.begin(SHORT)
    scene.busy = True
    with writing(scene.cache, SHORT):
        change(scene, hide=True)
        scene.wait_for_state(ReportedState.FAILED)
        assert scene.marker().damaged == ()
    scene.asked.clear()
    scene.busy = False
    wait_for(lambda: scene.asked == [SHORT])
    assert scene.marker().damaged == (SHARD,)


def test_a_look_does_not_take_back_the_damage_that_was_found_meanwhile(scene: Scene) -> None:
    found: list[bool] = []

    def stop() -> bool:
        """Be asked while the touched file is read."""
        if not found:
            found.append(True)
            with writing(scene.cache, SHORT) as held:
                condemn(scene.publisher, held, [SHARD])
            scene.table.damaged(SHORT, "read again")
        return False

    looker = Looker(
        scene.cache, scene.publisher, scene.table, scene.metrics, name="test", stop=stop
    )
    scene.table.follow([CatalogModel(name=SHORT, source="hf://org/small")], [])
    os.utime(scene.cache.final(SHORT) / "config.json", ns=(1, 1))
    looker.look(SHORT, Level.SIZES)
    assert found
    assert scene.marker().damaged == (SHARD,)
    assert scene.row().state is ReportedState.FAILED


def test_a_file_that_was_touched_and_is_as_it_was_is_read_once(scene: Scene) -> None:
    scene.begin(SHORT)
    os.utime(scene.shard, ns=(1, 1))
    known = {file.path: file for file in scene.marker().files}[SHARD]
    wait_for(lambda: {f.path: f for f in scene.marker().files}[SHARD].mtime_ns == 1)
    renewed = {file.path: file for file in scene.marker().files}[SHARD]
    assert (renewed.sha256, renewed.size) == (known.sha256, known.size)
    assert scene.row().state is ReportedState.READY


def test_a_model_that_somebody_removed_is_absent(scene: Scene) -> None:
    scene.begin(SHORT)
    scene.cache.final(SHORT).rename(scene.cache.root / "elsewhere")
    scene.wait_for_state(ReportedState.ABSENT)
    wait_for(lambda: scene.asked == [SHORT, SHORT])


def test_a_marker_that_cannot_be_read_proves_nothing(scene: Scene) -> None:
    scene.begin(SHORT)
    (scene.cache.final(SHORT) / MARKER).write_bytes(b"{")
    scene.wait_for_state(ReportedState.ABSENT)
    assert contents(scene.cache.final(SHORT)) == FILES


def test_a_round_of_reading_that_a_new_catalog_cut_short_is_begun_again_soon(
    scene: Scene,
) -> None:
    scene.begin(SHORT)
    for _ in range(3):
        scene.guard.follow(Catalog(grace_seconds=1))
    change(scene, hide=True)
    scene.wait_for_state(ReportedState.FAILED)
