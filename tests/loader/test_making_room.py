"""Room is made where it is short; where it is not, nobody is asked and nothing goes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

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
from extender.loader.stored import bytes_on_disk
from extender.loader.sweep import sweep
from extender.loader.table import ModelTable
from extender.loader.wishes import Wish
from extender.report import ReportedState
from tests.builders import vllm
from tests.loader.models import listing, put, small_model
from tests.loader.mounts import bound, mounted

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
        self.metrics = LoaderMetrics(self.table, root, catalog_error=lambda: "")
        self.away = False
        self.seconds = 0.0
        self.room = RoomMaker(
            self.cache,
            self.publisher,
            self.table,
            self.metrics,
            pods=self._pods,
            host_directory=lambda: "/var/lib/models",
            ticks=lambda: self.seconds,
            random=Random(0),
            notice=self._give_notice,
        )
        self.notice: Callable[[], None] = lambda: None
        self.noticed = 0
        self.readers: list[Pod] = []

    def _pods(self) -> list[Pod]:
        if self.away:
            raise NotRemovedError("which models are in use cannot be known")
        return self.readers

    def _give_notice(self) -> None:
        self.noticed += 1
        self.notice()

    def said(self) -> dict[str, ReportedState]:
        report = self.table.report("/var/lib/models", None)
        return {model.path: model.state for model in report.models}

    def reason(self, name: str) -> str:
        report = self.table.report("/var/lib/models", None)
        return next(model.reason for model in report.models if model.path == name)

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
        self.table.follow([one for one in models if one.name in wished], models)
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


def test_a_wish_costs_what_is_less_important_and_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.published("low", "high", "spare")
    size = bytes_on_disk(scene.cache.final("low"))
    for user in (evict, making_room):  # the real one is everybody's
        monkeypatch.setattr(user, "file_system", lambda _: FileSystem(total=10**9, free=1000))
    low, high, spare, new = model("low"), model("high", 9), model("spare"), model("new", 5)
    scene.follow(ROOMY, low, high, spare, new, wished="low high new")
    scene.room.for_wish(Wish(model=new), 1000 + 2 * size + 1)
    assert scene.there() == {"low", "high", "spare"}  # it would not fit without them either
    scene.room.for_wish(Wish(model=new), 1000 + 2 * size)
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


def keep(scene: Scene, monkeypatch: pytest.MonkeyPatch, *names: str) -> set[str]:
    """Let the file system keep these models, for as long as they are in what is returned."""
    kept, rename = set(names), scene.publisher.disk.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name in kept:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(source))
        rename(source, target)

    monkeypatch.setattr(scene.publisher.disk, "rename", refuse)
    return kept


def not_removed(scene: Scene) -> float | None:
    name = "model_cache_extender_loader_not_removed_models"
    return scene.metrics.registry.get_sample_value(name)


def test_a_model_that_the_file_system_keeps_is_ready_with_the_reason_and_the_others_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "one", "stays", "two")
    keep(scene, monkeypatch, "stays")
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
    assert scene.reason("stays").startswith("cannot be removed: ")
    assert "Operation not permitted; look at its owner and at its flags" in scene.reason("stays")
    assert not_removed(scene) == 1
    (said,) = [line for line in logs if line["event"] == "model not removed"]
    assert said["model"] == "stays"
    assert "Operation not permitted" in said["error"]


def test_a_model_that_cannot_be_removed_is_announced_once_and_then_seldom(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "stays")
    keep(scene, monkeypatch, "stays")
    for _ in range(24 * 60):
        scene.room.tidy()
        assert scene.said() == {"stays": ReportedState.READY}
        assert "cannot be removed" in scene.reason("stays")
        scene.seconds += 60
    assert 1 < scene.noticed < 12


def test_a_model_goes_at_the_next_look_once_somebody_has_made_it_removable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "stays")
    kept = keep(scene, monkeypatch, "stays")
    scene.room.tidy()
    kept.clear()
    scene.room.tidy()
    assert scene.there() == {"stays"}
    scene.cache.final("stays").chmod(0o700)
    scene.room.tidy()
    assert scene.there() == set()
    assert not_removed(scene) == 0
    assert scene.reason("stays") == ""


def test_a_model_goes_from_a_disk_that_takes_no_new_directory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "gone")
    sweep(scene.publisher, scene.cache)  # as at the start of every loader
    monkeypatch.setattr(scene.publisher.disk, "make_directory", refusing(errno.ENOSPC))
    scene.room.tidy()
    assert scene.there() == set()


def test_where_the_disk_gives_no_lock_it_is_said_why_and_nothing_is_announced(
    scene: Scene,
) -> None:
    all_ready(scene, "stays")
    lock = scene.cache.lock("stays")
    lock.unlink()
    lock.mkdir()
    scene.room.tidy()
    assert scene.noticed == 0
    assert scene.said() == {"stays": ReportedState.READY}
    assert "cannot be removed: " in scene.reason("stays")
    lock.rmdir()
    scene.room.tidy()
    assert scene.there() == set()


def test_what_something_is_mounted_on_stays_until_it_is_unmounted_and_says_so(
    fast: Path,
) -> None:
    root = fast / "a b"  # the kernel's list of mounts has no blanks in its names
    root.mkdir()
    scene = Scene(root)
    all_ready(scene, "stays")
    with bound(scene.cache.final("stays")):
        for _ in range(3):
            scene.room.tidy()
        assert "Device or resource busy; something is mounted there" in scene.reason("stays")
        assert scene.noticed == 1
    scene.room.tidy()
    assert scene.there() == set()


def test_another_model_goes_in_the_place_of_one_that_cannot(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(scene, "first", "second")

    def one_byte_short_of_1001(_: Path) -> FileSystem:
        return FileSystem(total=10**9, free=1000 + 10_000 * (2 - len(scene.there())))

    for user in (evict, making_room):
        monkeypatch.setattr(user, "file_system", one_byte_short_of_1001)
    keep(scene, monkeypatch, "first")
    new = model("new", 5)
    scene.follow(ROOMY, model("first"), model("second"), new, wished="new")
    scene.room.for_wish(Wish(model=new), 1001)
    assert scene.there() == {"first"}


def test_a_download_that_lacks_room_says_which_model_cannot_be_removed_for_it_and_why(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (evict, making_room):  # the real one is everybody's
        monkeypatch.setattr(user, "file_system", lambda _: FileSystem(total=10**9, free=1000))
    all_ready(scene, "stays")
    keep(scene, monkeypatch, "stays")
    new, free = model("new", 5), 1000
    scene.follow(ROOMY, model("stays"), new, wished="new")
    for _ in range(2):  # also where it is not tried again yet
        with pytest.raises(NotRemovedError, match=r"would fit if stays could be removed: .*Operat"):
            scene.room.for_wish(Wish(model=new), free + 1)
    assert scene.noticed == 1
    scene.room.for_wish(Wish(model=new), TOO_MUCH)  # nor would it fit then: the download says so
    with pytest.raises(NotRemovedError):
        scene.room.for_wish(Wish(model=new), free + 1)


def test_a_model_that_another_process_is_writing_is_not_said_to_go(scene: Scene) -> None:
    all_ready(scene, "one", "two")
    with writing(scene.cache, "one"):
        scene.notice = lambda: keep_said.append(scene.said()["one"])
        keep_said: list[ReportedState] = []
        scene.room.tidy()
        assert scene.there() == {"one"}
        assert keep_said == [ReportedState.READY]
        scene.room.tidy()
        assert scene.noticed == 1
    scene.room.tidy()
    assert scene.there() == set()


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
