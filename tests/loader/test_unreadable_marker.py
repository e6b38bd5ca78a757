"""A marker that the disk does not give: what lies there is unknown, and nothing is done about it.

The kernel itself refuses: reading the memory of a process at 0 is EIO, a link to itself is ELOOP.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.errors import CacheError
from extender.loader.catalog import Catalog, CatalogModel, WatermarkSection
from extender.loader.disk import Disk
from extender.loader.evict import decide
from extender.loader.layout import MARKER, CacheDirectory, writing
from extender.loader.looking import Looker
from extender.loader.mend import condemn
from extender.loader.metrics import LoaderMetrics
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.proof.marker import UnreadableMarkerError, read_marker
from extender.loader.proof.verdict import Level, Problem, ProblemKind, Verdict
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sources import Cause, Credentials, SourceError
from extender.loader.space import Kept
from extender.loader.sweep import sweep
from extender.loader.table import ModelRow, ModelTable
from extender.loader.transfer.limits import Limits
from extender.report import ReportedState
from tests.loader.hub import Hub, Repository
from tests.loader.models import contents, small_model

FILES = small_model()
SHARD = "model-00001-of-00002.safetensors"
ORIGIN = Origin(source="hf://org/small")
MODEL = CatalogModel(name="small", source="hf://org/small")


class Scene:
    """One published model whose marker cannot be read, and what it is on the disk."""

    def __init__(self, root: Path, hub: Hub) -> None:
        self.hub = hub
        self.cache = CacheDirectory(root)
        self.table = ModelTable()
        self.table.follow([MODEL], [])
        self.publisher = Publisher()
        self.obtainer = Obtainer(
            self.cache,
            self.publisher,
            open_source=opener(Credentials(hub_endpoint=hub.url)),
            limits=Limits(),
        )
        self.looker = Looker(
            self.cache,
            self.publisher,
            self.table,
            LoaderMetrics(self.table, root, catalog_error=lambda: ""),
            name="test",
            stop=lambda: False,
        )
        self.obtainer.obtain("small", ORIGIN)
        self.marker = self.cache.marker("small")
        self.kept = self.marker.read_bytes()
        hub.served.clear()

    def hide(self, place: Path) -> None:
        place.unlink()
        place.symlink_to("/proc/self/mem")

    def show(self) -> None:
        self.marker.unlink()
        self.marker.write_bytes(self.kept)

    def look(self) -> bool:
        return self.looker.look("small", Level.SIZES)

    def row(self) -> ModelRow:
        row = self.table.get("small")
        assert row is not None
        return row


@pytest.fixture
def scene(fast: Path) -> Iterator[Scene]:
    with Hub() as hub:
        hub.repositories["org/small"] = Repository(dict(FILES), large=500)
        yield Scene(fast, hub)


@pytest.mark.parametrize(("leads_to", "code"), [("/proc/self/mem", "EIO"), (MARKER, "ELOOP")])
def test_it_is_said_with_the_file_and_what_the_disk_says(
    tmp_path: Path, leads_to: str, code: str
) -> None:
    (tmp_path / MARKER).symlink_to(leads_to)
    with pytest.raises(UnreadableMarkerError) as unread:
        read_marker(tmp_path)
    assert f"{tmp_path / MARKER}: cannot be read" in str(unread.value)
    assert f"({code})" in str(unread.value)
    assert f"({code})" in verify(tmp_path).told()


def test_the_model_is_failed_and_not_absent_and_nobody_is_told_to_fetch_it(scene: Scene) -> None:
    scene.look()
    assert scene.row().state is ReportedState.READY
    scene.hide(scene.marker)
    assert not scene.look()
    assert scene.row().state is ReportedState.FAILED
    assert f"{scene.marker}: cannot be read: Input/output error (EIO)" in scene.row().reason


def test_once_it_can_be_read_the_model_is_ready_without_a_byte_fetched(scene: Scene) -> None:
    scene.hide(scene.marker)
    scene.look()
    scene.show()
    assert not scene.look()
    assert scene.row().state is ReportedState.READY
    assert scene.hub.served == []


def test_removed_after_that_it_is_asked_for_at_once(scene: Scene) -> None:
    scene.look()
    scene.hide(scene.marker)
    scene.look()
    shutil.rmtree(scene.cache.final("small"))
    assert scene.look()
    assert scene.row().state is ReportedState.ABSENT
    assert not scene.look()  # it was asked for


def test_damaged_after_that_it_is_asked_for_at_once(scene: Scene) -> None:
    scene.look()
    scene.hide(scene.marker)
    scene.look()
    scene.show()
    with writing(scene.cache, "small") as held:
        condemn(scene.publisher, held, [SHARD])
    assert scene.look()
    assert scene.row().damaged


def test_left_by_another_program_after_that_it_is_asked_for_at_once(scene: Scene) -> None:
    scene.look()
    scene.hide(scene.marker)
    scene.look()
    scene.marker.unlink()
    assert scene.look()
    assert scene.row().unproven
    assert not scene.look()


def test_damage_that_is_found_meanwhile_is_not_forgotten(scene: Scene) -> None:
    scene.look()
    marker = scene.looker.marker("small")
    assert marker is not None
    scene.hide(scene.marker)
    problem = Problem(SHARD, ProblemKind.CONTENT, "is not what it was")
    assert scene.looker.condemn(
        "small", marker, Verdict(ok=False, level=Level.CONTENT, problems=(problem,))
    )
    assert scene.row().damaged
    assert not scene.look()
    scene.show()
    assert scene.look()
    assert SHARD in scene.row().reason
    told = scene.looker.marker("small")
    assert told is not None
    assert told.damaged == (SHARD,)


def test_its_bytes_are_neither_fetched_again_nor_replaced(scene: Scene) -> None:
    scene.hide(scene.marker)
    scene.hub.repositories["org/small"] = Repository(small_model(seed=1), large=500)
    with pytest.raises(CacheError, match="EIO"):
        scene.obtainer.obtain("small", ORIGIN)
    assert scene.hub.served == []
    assert contents(scene.cache.final("small")) == FILES


@pytest.mark.parametrize("in_catalog", [True, False])
def test_its_bytes_make_room_for_nothing(scene: Scene, in_catalog: bool) -> None:
    scene.hide(scene.marker)
    marks = WatermarkSection(high_percent=0.0001, low_percent=0.00001)
    catalog = Catalog(models=(MODEL,) if in_catalog else (), watermarks=marks, grace_seconds=0)
    decided = decide(
        scene.cache, catalog, [], host_directory=str(scene.cache.root), now=4e9, foreign=True
    )
    assert decided.plan.evictions == ()
    [stays] = decided.plan.stays
    assert stays.reason is Kept.UNREADABLE
    assert "EIO" in stays.message


def test_what_was_on_its_way_when_a_kill_came_is_not_thrown_away(scene: Scene) -> None:
    class Dies(Disk):
        def exchange(self, one: Path, other: Path) -> bool:
            raise OSError(5, "killed here")

    newer = small_model(seed=1)
    scene.hub.repositories["org/small"] = Repository(newer, large=500)
    scene.publisher.disk = Dies()
    with pytest.raises(CacheError, match="killed here"):
        scene.obtainer.obtain("small", ORIGIN)
    [incoming] = (scene.cache.work_area / "incoming").iterdir()
    kept = (incoming / MARKER).read_bytes()
    scene.hide(incoming / MARKER)
    asked = {"small": ORIGIN.asked}
    sweep(Publisher(), scene.cache, wanted=asked)
    assert contents(incoming) == newer
    (incoming / MARKER).unlink()
    (incoming / MARKER).write_bytes(kept)
    sweep(Publisher(), scene.cache, wanted=asked)
    assert contents(scene.cache.final("small")) == newer


def test_a_claim_whose_marker_cannot_be_read_is_no_source(scene: Scene, tmp_path: Path) -> None:
    scene.hide(scene.marker)
    origin = Origin(source=f"file://{scene.cache.final('small')}")
    with pytest.raises(SourceError, match="Input/output error") as refused:
        scene.obtainer.obtain("copy", origin)
    assert refused.value.cause is Cause.UNREACHABLE


def test_a_marker_that_was_withdrawn_and_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    cache = CacheDirectory(tmp_path)
    cache.withdrawn.parent.mkdir(parents=True)
    cache.withdrawn.symlink_to("/proc/self/mem")
    with writing(cache, ".") as held, pytest.raises(CacheError, match="Input/output error"):
        Publisher().remove(held)
    assert cache.withdrawn.is_symlink()
