"""Room is made where it is short; where it is not, nobody is asked and nothing goes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extender.errors import CacheError, NotRemovedError
from extender.kube.objects import Pod
from extender.loader import evict, making_room
from extender.loader.catalog import Catalog, CatalogModel, WatermarkSection
from extender.loader.layout import CacheDirectory, writing
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.publish import Publisher
from extender.loader.space import FileSystem
from extender.loader.table import ModelTable
from extender.loader.wishes import Wish
from extender.report import ReportedState
from tests.builders import vllm
from tests.loader.models import listing, put, small_model
from tests.loader.mounts import mounted

TOO_MUCH = 10**18
ROOMY = WatermarkSection(high_percent=100, low_percent=99.9, reserve=0)
FULL = WatermarkSection(high_percent=0.0001, low_percent=0.00001, reserve=0)


def model(name: str, priority: int = 0) -> CatalogModel:
    return CatalogModel(name=name, source=f"hf://org/{name}", priority=priority)


def refusing(code: int) -> Callable[[Path], None]:
    def refuse(path: Path) -> None:
        raise OSError(code, "refused", str(path))

    return refuse


class Scene:
    """A cache directory with published models, and an apiserver that may be away."""

    def __init__(self, root: Path) -> None:
        self.cache = CacheDirectory(root)
        self.publisher = Publisher()
        self.table = ModelTable()
        self.away = False
        self.room = RoomMaker(
            self.cache,
            self.publisher,
            self.table,
            LoaderMetrics(self.table, root, catalog_error=lambda: ""),
            pods=self._pods,
            host_directory=lambda: "/var/lib/models",
            notice=self._give_notice,
        )
        self.notice: Callable[[], None] = lambda: None
        self.readers: list[Pod] = []

    def _pods(self) -> list[Pod]:
        if self.away:
            raise NotRemovedError("which models are in use cannot be known")
        return self.readers

    def _give_notice(self) -> None:
        self.notice()

    def said(self) -> dict[str, ReportedState]:
        report = self.table.report("/var/lib/models", None)
        return {model.path: model.state for model in report.models}

    def published(self, *names: str) -> None:
        for name in names:
            with writing(self.cache, name) as held:
                put(self.publisher.begin(held, listing(small_model())), small_model())
                self.publisher.publish(held, listing(small_model()))

    def begun(self, *names: str) -> None:
        for name in names:
            put(self.cache.staging(name), {"model.safetensors": b"half"})
            put(self.cache.journal(name).parent, {name: b"{}"})

    def follow(self, marks: WatermarkSection, *models: CatalogModel, wished: str = "") -> None:
        catalog = Catalog(models=models, watermarks=marks)
        self.table.follow(models, [])
        self.room.follow(catalog, [Wish(model=one) for one in models if one.name in wished])

    def there(self) -> set[str]:
        return {path.name for path in self.cache.root.iterdir() if not path.name.startswith(".")}

    def staged(self) -> set[str]:
        staging = self.cache.work_area / "staging"
        journals = self.cache.work_area / "journals"
        found = [{path.name for path in place.iterdir()} for place in (staging, journals)]
        assert found[0] == found[1]
        return found[0]


@pytest.fixture
def scene(fast: Path) -> Scene:
    return Scene(fast)


def test_where_there_is_room_a_download_begins_though_the_apiserver_is_away(scene: Scene) -> None:
    scene.published("old")
    scene.follow(ROOMY, model("new"), wished="new")
    scene.away = True
    scene.room.for_wish(Wish(model=model("new")), 1000)
    assert scene.there() == {"old"}


def test_where_room_is_short_nothing_goes_while_it_cannot_be_known_what_is_in_use(
    scene: Scene,
) -> None:
    scene.published("old")
    scene.follow(ROOMY, model("new"), wished="new")
    scene.away = True
    with pytest.raises(CacheError, match="cannot be known"):
        scene.room.for_wish(Wish(model=model("new")), TOO_MUCH)
    assert scene.there() == {"old"}


def test_a_wish_costs_what_is_less_important_and_nothing_else(scene: Scene) -> None:
    scene.published("low", "high", "spare")
    low, high, spare, new = model("low"), model("high", 9), model("spare"), model("new", 5)
    scene.follow(ROOMY, low, high, spare, new, wished="low high new")
    scene.room.for_wish(Wish(model=new), TOO_MUCH)
    assert scene.there() == {"high"}


def test_what_went_is_said_to_be_absent(scene: Scene) -> None:
    scene.published("gone")
    scene.follow(FULL, model("gone"))
    scene.table.ready("gone", revision="r", size=1, proven_at="2026-01-01T00:00:00Z")
    scene.room.tidy()
    row = scene.table.get("gone")
    assert row is not None
    assert row.state is ReportedState.ABSENT


def all_ready(scene: Scene, *names: str) -> None:
    scene.published(*names)
    scene.follow(FULL, *(model(name) for name in names))
    for name in names:
        scene.table.ready(name, revision="r", size=1, proven_at="2026-01-01T00:00:00Z")


def test_what_comes_to_be_wished_for_while_it_is_said_that_it_goes_stays(scene: Scene) -> None:
    all_ready(scene, "one", "two")
    scene.notice = lambda: scene.follow(FULL, model("one"), model("two"), wished="one")
    scene.room.tidy()
    assert scene.there() == {"one"}


def test_what_goes_is_reported_absent_and_is_still_there_when_that_is_said(scene: Scene) -> None:
    all_ready(scene, "one", "two")

    def notice() -> None:
        assert scene.said() == {"one": ReportedState.ABSENT, "two": ReportedState.ABSENT}
        assert scene.there() == {"one", "two"}

    scene.notice = notice
    scene.room.tidy()
    assert scene.there() == set()


def test_where_it_cannot_be_said_nothing_goes_and_the_report_is_as_before(scene: Scene) -> None:
    all_ready(scene, "one")

    def notice() -> None:
        raise CacheError("the apiserver does not take the report")

    scene.notice = notice
    with pytest.raises(CacheError, match="does not take"):
        scene.room.tidy()
    assert scene.there() == {"one"}
    assert scene.said() == {"one": ReportedState.READY}


def test_what_a_pod_came_for_meanwhile_stays_and_nothing_goes_for_it_unsaid(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk lacks one byte, so that one of the two is enough, and a pod comes for that one."""
    for user in (evict, making_room):  # the real one is everybody's, and never lacks one byte
        monkeypatch.setattr(user, "file_system", lambda _: FileSystem(total=10**9, free=1000))
    all_ready(scene, "first", "second")
    scene.follow(ROOMY, model("first"), model("second"), model("new", 5), wished="new")
    scene.notice = lambda: scene.readers.append(vllm(model="/models/first", on="n1"))
    scene.room.for_wish(Wish(model=model("new", 5)), 1001)
    assert scene.there() == {"first", "second"}
    assert scene.said()["first"] is ReportedState.READY
    scene.notice = lambda: None
    scene.room.for_wish(Wish(model=model("new", 5)), 1001)
    assert scene.there() == {"first"}


def test_what_in_the_trash_cannot_be_deleted_keeps_no_model_from_going(scene: Scene) -> None:
    scene.published("gone")
    scene.follow(FULL, model("gone"))
    with mounted(scene.cache.trash("before"), size="1m"):
        scene.room.tidy()
    assert scene.there() == set()


def test_half_a_download_goes_with_its_model(scene: Scene) -> None:
    scene.begun("left", "stays")
    scene.follow(ROOMY, model("stays"))
    scene.room.tidy()
    assert scene.staged() == {"stays"}


def test_where_room_is_short_only_what_is_wished_for_is_gone_on_with(scene: Scene) -> None:
    scene.begun("wished", "expired")
    scene.follow(FULL, model("wished"), model("expired"), wished="wished")
    scene.room.tidy()
    assert scene.staged() == {"wished"}


def test_half_a_download_that_another_process_is_at_is_left_to_it(scene: Scene) -> None:
    scene.begun("left")
    scene.follow(ROOMY)
    with writing(scene.cache, "left"):
        scene.room.tidy()
    assert scene.staged() == {"left"}


def test_what_is_gone_from_its_place_is_gone_though_its_bytes_cannot_be_deleted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.published("one", "two")
    scene.follow(FULL)
    monkeypatch.setattr(scene.publisher.disk, "remove_tree", refusing(errno.EPERM))
    scene.room.tidy()
    assert scene.there() == set()
    assert ReportedState.READY not in scene.said().values()


def test_a_model_that_the_file_system_keeps_is_reported_as_before_and_the_others_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "one", "stays", "two")
    rename = scene.publisher.disk.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name == "stays":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(source))
        rename(source, target)

    monkeypatch.setattr(scene.publisher.disk, "rename", refuse)
    changed: list[str] = []
    scene.room.changed = changed.append
    with capture_logs() as logs:
        scene.room.tidy()
    assert scene.there() == {"stays"}
    assert changed == ["one", "two"]
    assert scene.said() == {
        "one": ReportedState.ABSENT,
        "stays": ReportedState.READY,
        "two": ReportedState.ABSENT,
    }
    (said,) = [line for line in logs if line["event"] == "model not removed"]
    assert said["model"] == "stays"
    assert "Operation not permitted" in said["error"]


def test_damaged_files_that_were_set_aside_go_before_anything_where_room_is_short(
    scene: Scene,
) -> None:
    scene.published("kept")
    aside = scene.cache.quarantine("kept")
    put(aside, {"model-00001-of-00002.safetensors.1": b"damaged"})
    scene.follow(ROOMY, model("kept"), wished="kept")
    scene.room.for_wish(Wish(model=model("kept")), 1000)
    assert [file for file in aside.rglob("*") if file.is_file()]
    scene.room.for_wish(Wish(model=model("kept")), TOO_MUCH)
    assert not [file for file in aside.rglob("*") if file.is_file()]
    assert scene.there() == {"kept"}
