"""What is published is guarded: whatever happens to it is noticed, said, and obtained again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import msgspec
import pytest

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.damaged import DamagedError
from extender.loader.layout import MARKER, writing
from extender.loader.looking import Looker
from extender.loader.mend import condemn
from extender.loader.proof.marker import marker_text
from extender.loader.proof.verdict import Level, Verdict
from extender.loader.proof.verify import verify
from extender.report import ReportedState
from tests.loader.guarded import FILES, SHARD, SHORT, Scene, change
from tests.loader.loader_process import wait_for
from tests.loader.models import contents

LONG = "x" * 200
"""Longer than any name in a cache directory may be."""


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
        wait_for(lambda: scene.asked == [SHORT, SHORT])
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


def test_a_disk_that_cannot_be_measured_is_tried_with_the_next_look_and_not_all_the_time(
    fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []
    monkeypatch.setattr("extender.loader.guarding.read_speed", tried.append)
    scene = Scene(fast, look_seconds=3600)
    scene.begin(SHORT)
    try:
        wait_for(lambda: bool(tried))
        sleep(1)
        assert len(tried) == 1
    finally:
        scene.guard.stop(5)


def test_a_fault_in_one_look_does_not_keep_the_others_from_being_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **more: Any) -> Verdict:
        if path.name == SHORT:
            raise RuntimeError("a fault of ours")
        return verify(path, **more)

    monkeypatch.setattr("extender.loader.looking.verify", fail)
    scene.publish("other")
    scene.begin(SHORT, "other")
    assert scene.row().state is ReportedState.FAILED
    assert "a fault of the loader" in scene.row().reason
    assert scene.row("other").state is ReportedState.READY


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
    wait_for(lambda: scene.marker().damaged == (SHARD,))
    wait_for(lambda: not scene.shard.exists())
    wait_for(lambda: bool(scene.asked))
    assert set(scene.asked) == {SHORT}


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
    wait_for(lambda: scene.marker().damaged == (SHARD,))
    wait_for(lambda: not scene.shard.exists())
    wait_for(lambda: bool(scene.asked))
    assert set(scene.asked) == {SHORT}
    scene.guard.vouch_for(SHORT)  # the marker tells by now


def test_a_place_in_mid_round_that_the_disk_keeps_leaves_no_file_out_for_ever(
    scene: Scene,
) -> None:
    """The disk takes no newer one: each round would begin behind the shard."""
    place = scene.cache.work_area / "rereading.json"
    place.write_text(json.dumps({"path": SHORT, "file": SHARD, "publication": scene.marker().id}))
    scene.disk.full = True
    scene.begin(SHORT)
    change(scene, hide=True)
    scene.wait_for_state(ReportedState.FAILED)


def test_damage_that_is_found_while_a_worker_has_the_model_is_said_and_marked_afterwards(
    scene: Scene,
) -> None:
    scene.begin(SHORT)
    scene.busy = True
    with writing(scene.cache, SHORT, wait=30):
        change(scene, hide=True)
        scene.wait_for_state(ReportedState.FAILED)
        assert scene.marker().damaged == ()
    scene.asked.clear()
    scene.busy = False
    wait_for(lambda: scene.marker().damaged == (SHARD,))
    wait_for(lambda: bool(scene.asked))
    assert set(scene.asked) == {SHORT}


def test_damage_goes_over_to_a_revision_that_shares_the_file(scene: Scene) -> None:
    """It is found between the proof of that one and its coming to its place."""
    scene.begin(SHORT)
    scene.busy = True
    final = scene.cache.final(SHORT)
    with writing(scene.cache, SHORT, wait=30) as held:
        change(scene, hide=True)
        scene.wait_for_state(ReportedState.FAILED)
        newer = scene.cache.root.parent / "newer"
        newer.mkdir()
        for name in FILES:
            (newer / name).hardlink_to(final / name)
        scene.publisher.disk.write(
            newer / MARKER, marker_text(msgspec.structs.replace(scene.marker(), id="newer"))
        )
        scene.publisher.put_in_place(held, newer, "newer")
        with pytest.raises(DamagedError, match=SHARD):
            scene.guard.vouch_for(SHORT)
    wait_for(lambda: scene.marker().damaged == (SHARD,))
    assert scene.marker().id == "newer"
    assert scene.row().state is ReportedState.FAILED


def test_damage_that_could_not_be_marked_is_marked_soon_and_not_at_the_next_look(
    fast: Path,
) -> None:
    scene = Scene(fast, look_seconds=3600)
    scene.begin(SHORT)
    try:
        scene.disk.full = True
        change(scene, hide=True)
        scene.wait_for_state(ReportedState.FAILED)
        scene.asked.clear()
        scene.disk.full = False
        wait_for(lambda: scene.marker().damaged == (SHARD,))
        wait_for(lambda: bool(scene.asked))
        assert set(scene.asked) == {SHORT}
    finally:
        scene.guard.stop(5)


def test_on_a_disk_that_takes_nothing_damage_is_found_in_every_model(scene: Scene) -> None:
    scene.publish("zeta")
    scene.disk.full = True
    scene.begin(SHORT, "zeta")
    change(scene, hide=True, path="zeta")
    scene.wait_for_state(ReportedState.FAILED, "zeta")
    assert SHARD in scene.row("zeta").reason
    assert scene.row().state is ReportedState.READY


def test_a_model_is_looked_at_while_a_worker_fetches_another_revision_of_it(fast: Path) -> None:
    scene = Scene(fast, round_seconds=3600)
    scene.begin(SHORT)
    try:
        scene.wait_read()
        scene.asked.clear()
        scene.busy = True
        with writing(scene.cache, SHORT, wait=30):
            change(scene, hide=False)
            scene.wait_for_state(ReportedState.FAILED)
            wait_for(lambda: scene.asked == [SHORT])
        wait_for(lambda: scene.marker().damaged == (SHARD,))
    finally:
        scene.guard.stop(5)


def test_what_is_not_there_while_a_worker_has_it_is_not_called_absent(fast: Path) -> None:
    scene = Scene(fast)
    scene.begin(SHORT)
    try:
        scene.busy = True
        final = scene.cache.final(SHORT)
        final.rename(final.with_name("elsewhere"))  # as between two renames
        until = monotonic() + 1
        while monotonic() < until:
            assert scene.row().state is ReportedState.READY
        final.with_name("elsewhere").rename(final)
    finally:
        scene.guard.stop(5)


def test_why_a_model_is_not_mended_is_not_said_over_at_every_look(scene: Scene) -> None:
    """Each other reason is news, and news let kube-scheduler try all refused pods again."""
    scene.table.follow([CatalogModel(name=SHORT, source="hf://org/small")], [])
    with writing(scene.cache, SHORT, wait=30) as held:
        condemn(scene.publisher, held, [SHARD])
    looker = Looker(
        scene.cache, scene.publisher, scene.table, scene.metrics, name="test", stop=lambda: False
    )
    assert looker.look(SHORT, Level.SIZES)
    assert SHARD in scene.row().reason
    scene.table.failed(SHORT, "the hub is out of reach")
    looker.failed = lambda _: True
    assert not looker.look(SHORT, Level.SIZES)
    assert scene.row().reason == "the hub is out of reach"


def test_a_look_does_not_take_back_the_damage_that_was_found_meanwhile(scene: Scene) -> None:
    found: list[bool] = []

    def stop() -> bool:
        """Be asked while the touched file is read."""
        if not found:
            found.append(True)
            with writing(scene.cache, SHORT, wait=30) as held:
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
