"""The loop: what the catalog and waiting pods wish for comes, and what they let go of is let go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic, time
from typing import Any

import pytest

from extender.kube.objects import Pod
from extender.kube.times import time_text, unix_time
from extender.loader.catalog_file import CatalogFile
from extender.loader.guarding import Guard
from extender.loader.keeping import Keeper
from extender.loader.layout import CacheDirectory, writing
from extender.loader.leaving import Leftovers
from extender.loader.making_room import RoomMaker
from extender.loader.mend import condemn
from extender.loader.metrics import LoaderMetrics
from extender.loader.obtaining import Obtainer
from extender.loader.origin import opener
from extender.loader.placing import InUse
from extender.loader.proof.marker import read_marker
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.table import ModelRow, ModelTable
from extender.loader.transfer.limits import Limits
from extender.report import ReportedModel, ReportedState, Wanted, WantedModel
from tests.builders import vllm
from tests.loader.dying import MayBeFull
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import catalog, wait_for
from tests.loader.models import contents, put, small_model

FILES = small_model(size=400_000)
SHARD = "model-00001-of-00002.safetensors"
MODEL = {"name": "small", "source": "hf://org/small"}
YEAR = 365 * 86_400.0
OLDEST_PROOF = "model_cache_extender_loader_oldest_proof_seconds"
ON_DEMAND = MODEL | {"onDemand": True}


class Scene:
    """One loop with the hub's stand-in; what is wanted is set by the test."""

    def __init__(self, root: Path, hub: Hub, clock: Callable[[], float] = time) -> None:
        hub.repositories["org/small"] = Repository(dict(FILES), large=500)
        self.hub = hub
        self.wanted = Wanted()
        self.labels: dict[str, str] = {}
        self.pods: list[Pod] = []
        self.notices: list[ReportedState] = []
        self.noticed: Callable[[], object] = lambda: None
        self.cache = CacheDirectory(root / "cache")
        self.cache.root.mkdir(exist_ok=True)
        self.table = ModelTable()
        self._file = root / "catalog.yaml"
        self._stopping = Event()
        self.in_use = InUse()
        self.disk = MayBeFull()
        publisher = Publisher(disk=self.disk, clock=clock, uses=lambda _: self.in_use)
        limits = Limits()
        metrics = LoaderMetrics(self.table, root, catalog_error=lambda: "", clock=clock)
        self.registry = metrics.registry
        room = RoomMaker(
            self.cache, publisher, self.table, metrics,
            pods=lambda: self.pods, host_directory=lambda: "/var/lib/models", clock=clock,
            notice=self._note,
        )  # fmt: skip
        guard = Guard(self.cache, publisher, self.table, metrics, room, name="", look_seconds=0.1)
        credentials = Credentials(hub_endpoint=hub.url)
        self.keeper = Keeper(
            "node-1",
            catalog=CatalogFile(self._file),
            table=self.table,
            obtainer=Obtainer(
                self.cache, publisher, open_source=opener(credentials), limits=limits
            ),
            guard=guard,
            room=room,
            leftovers=Leftovers(self.cache, clock=clock),
            limits=limits,
            metrics=metrics,
            nodes=lambda *, every: {"node-1": self.labels} if not every else {},
            wanted=lambda: self.wanted,
            random=Random(0),
        )
        self._thread = Thread(target=self.keeper.run, args=(self._stopping,), daemon=True)

    def begin(self, *models: Mapping[str, object], **more: object) -> None:
        self.catalog(*models, **more)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def catalog(self, *models: Mapping[str, object], **more: object) -> None:
        self._file.write_text(catalog(*models, **more))

    def want(self) -> None:
        until = time_text(time() + 60)
        self.wanted = Wanted(models=(WantedModel(path="small", until=until, pod="ml/server"),))

    def _note(self) -> None:
        """Note what the report says of the model when it is about to go, and that it is there."""
        assert self.cache.final("small").exists()
        self.notices.append(self.reported().state)
        self.noticed()

    def reported(self) -> ReportedModel:
        (model,) = self.table.report("/var/lib/models", None).models
        return model

    def row(self) -> ModelRow:
        row = self.table.get("small")
        assert row is not None
        return row

    def wait_for_state(self, state: ReportedState) -> None:
        wait_for(lambda: self.table.get("small") is not None and self.row().state is state)


@pytest.fixture
def scene(fast: Path) -> Iterator[Scene]:
    with Hub(piece=20_000) as hub:
        made = Scene(fast, hub)
        yield made
        made.stop()


def test_what_a_pod_waits_for_comes_before_a_long_download_which_goes_on_where_it_was(
    scene: Scene,
) -> None:
    long = small_model(seed=1, size=4_000_000)
    scene.hub.repositories["org/long"] = Repository(dict(long), large=500)
    scene.hub.delay = 0.1
    scene.begin({"name": "long", "source": "hf://org/long"}, ON_DEMAND, limits={"downloads": 1})
    wait_for(lambda: scene.hub.bytes_sent() > 300_000)
    scene.want()
    scene.wait_for_state(ReportedState.READY)
    row = scene.table.get("long")
    assert row is not None
    assert row.state is ReportedState.LOADING
    scene.hub.delay = 0
    wait_for(lambda: scene.cache.final("long").exists())
    assert contents(scene.cache.final("long")) == long
    sent = scene.hub.bytes_sent() - sum(map(len, FILES.values()))
    assert sent < sum(map(len, long.values())) + 300_000  # what was under way in its connections


def test_a_wish_that_runs_out_ends_its_download_and_the_next_one_goes_on_where_it_was(
    scene: Scene,
) -> None:
    scene.hub.delay = 0.1
    scene.begin(ON_DEMAND)
    scene.wait_for_state(ReportedState.ABSENT)
    assert scene.row().on_demand
    scene.want()
    wait_for(lambda: scene.hub.bytes_sent() > 300_000)
    assert scene.row().state is ReportedState.LOADING
    assert scene.reported().on_demand  # or the extender would take back what it asked for
    scene.wanted = Wanted()
    scene.wait_for_state(ReportedState.ABSENT)
    assert not scene.cache.final("small").exists()
    assert (scene.cache.staging("small") / SHARD).stat().st_size > 0
    scene.hub.delay = 0
    sent = scene.hub.bytes_sent()
    scene.want()
    scene.wait_for_state(ReportedState.READY)
    assert contents(scene.cache.final("small")) == FILES
    assert scene.hub.bytes_sent() - sent < 700_000


def test_a_turn_with_a_fault_of_the_loader_ends_no_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow, turns = scene.table.follow, 0

    def fault_at_first(*args: Any, **more: Any) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise OverflowError
        follow(*args, **more)

    monkeypatch.setattr(scene.table, "follow", fault_at_first)
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)


def test_a_clock_that_jumps_by_years_costs_no_model_and_no_byte(fast: Path) -> None:
    jumps = Random(0)
    with Hub(piece=20_000) as hub:
        scene = Scene(fast, hub, lambda: time() + jumps.uniform(-20, 20) * YEAR)
        scene.begin(MODEL)
        try:
            scene.wait_for_state(ReportedState.READY)
            sent, until = hub.bytes_sent(), monotonic() + 1.0
            while monotonic() < until:  # ten looks, and as many chances to remove it
                assert scene.row().state is ReportedState.READY
                oldest = scene.registry.get_sample_value(OLDEST_PROOF)
                assert oldest is not None
                assert oldest >= 0
            assert hub.bytes_sent() == sent
            assert contents(scene.cache.final("small")) == FILES
        finally:
            scene.stop()


def test_a_model_that_leaves_the_catalog_in_mid_download_leaves_nothing_behind(
    scene: Scene,
) -> None:
    scene.hub.delay = 0.1
    scene.begin(MODEL)
    wait_for(lambda: scene.hub.bytes_sent() > 100_000)
    scene.catalog()
    wait_for(lambda: scene.table.get("small") is None)
    wait_for(lambda: not scene.cache.staging("small").exists())
    wait_for(lambda: not scene.cache.journal("small").exists())
    assert not scene.cache.final("small").exists()


def test_a_model_is_not_called_ready_that_another_thread_has_found_damaged_just_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[bool] = []
    condemned: list[str] = []
    ready, vouch_for = ModelTable.ready, Guard.vouch_for

    def vouch(self: Guard, path: str) -> None:
        vouch_for(self, path)
        if not condemned:
            condemned.append(path)
            with writing(scene.cache, path) as held:
                condemn(Publisher(), held, [SHARD])

    def call(self: ModelTable, path: str, **values: Any) -> None:
        marker = read_marker(scene.cache.final(path))
        called.append(marker is not None and not marker.damaged)
        ready(self, path, **values)

    monkeypatch.setattr(Guard, "vouch_for", vouch)
    monkeypatch.setattr(ModelTable, "ready", call)
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)
    assert all(called)
    assert contents(scene.cache.final("small")) == FILES


def leave(scene: Scene, how: str, grace: float) -> None:
    """Let the catalog have the model on this node no more."""
    models = [MODEL | {"nodeSelector": {"cache": "here"}}] if how == "label" else []
    scene.catalog(*models, graceSeconds=grace)


@pytest.mark.parametrize("how", ["catalog", "label"])
def test_what_the_catalog_does_not_have_here_any_more_is_ready_until_it_goes(
    scene: Scene, how: str
) -> None:
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)
    leave(scene, how, grace=3600)
    wait_for(lambda: scene.reported().leaves_at is not None)
    said = scene.reported()
    assert said.state is ReportedState.READY
    goes = unix_time(said.leaves_at or "")
    assert goes is not None
    assert 3500 < goes - time() < 3601
    assert said.bytes == sum(map(len, FILES.values()))

    with (scene.cache.final("small") / SHARD).open("r+b") as file:
        file.write(b"?")
    wait_for(lambda: scene.reported().state is ReportedState.FAILED)
    assert "not fetched again" in scene.reported().reason
    scene.hub.served.clear()

    leave(scene, how, grace=0)
    wait_for(lambda: scene.table.get("small") is None)
    assert not scene.cache.final("small").exists()
    assert scene.notices == [ReportedState.ABSENT]
    assert not scene.hub.served


def test_a_model_that_left_the_catalog_stays_ready_past_its_time_while_a_pod_reads_it(
    scene: Scene,
) -> None:
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)
    scene.pods = [vllm(model="/models/small", on="node-1")]
    scene.catalog(graceSeconds=0)
    wait_for(lambda: scene.reported().leaves_at is not None)
    until = monotonic() + 1.0
    while monotonic() < until:  # ten looks, and as many chances to remove it
        assert scene.reported().state is ReportedState.READY
    scene.pods = []
    wait_for(lambda: scene.table.get("small") is None)
    assert scene.notices == [ReportedState.ABSENT]


def test_a_pod_that_comes_at_the_last_moment_keeps_its_model_and_the_report_says_so(
    scene: Scene,
) -> None:
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)
    came = vllm(model="/models/small", on="node-1")
    scene.noticed = lambda: scene.pods.append(came)
    scene.catalog(graceSeconds=0)
    wait_for(lambda: bool(scene.notices))
    wait_for(lambda: scene.reported().state is ReportedState.READY)
    assert contents(scene.cache.final("small")) == FILES


def test_a_new_loader_tells_of_what_left_the_catalog_before_it_began(
    scene: Scene, fast: Path
) -> None:
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.READY)
    scene.stop()
    again = Scene(fast, scene.hub)
    again.begin(graceSeconds=3600)
    wait_for(lambda: again.keeper.ready() == "")
    assert again.reported().state is ReportedState.READY
    assert again.reported().leaves_at is not None
    again.stop()


def test_a_damaged_model_that_nobody_wishes_for_now_is_mended_alone(scene: Scene) -> None:
    scene.begin(ON_DEMAND)
    scene.wait_for_state(ReportedState.ABSENT)
    scene.want()
    scene.wait_for_state(ReportedState.READY)
    scene.wanted = Wanted()
    wait_for(lambda: scene.keeper._room._wishes == ())
    assert scene.row().state is ReportedState.READY
    scene.hub.served.clear()
    with (scene.cache.final("small") / SHARD).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    wait_for(lambda: bool(scene.hub.served))
    scene.wait_for_state(ReportedState.READY)
    assert {one.path for one in scene.hub.served} == {SHARD}
    assert contents(scene.cache.final("small")) == FILES


@pytest.mark.parametrize("pinned", [True, False])
def test_what_is_damaged_on_a_full_disk_is_failed_until_it_can_be_mended(
    scene: Scene, pinned: bool
) -> None:
    commit = {"revision": Repository(dict(FILES), large=500).commit} if pinned else {}
    scene.begin(MODEL | commit)
    scene.wait_for_state(ReportedState.READY)
    scene.disk.full = True
    os.truncate(scene.cache.final("small") / SHARD, 100)
    scene.wait_for_state(ReportedState.FAILED)
    until = monotonic() + 1.0
    while monotonic() < until:  # ten looks, and a worker that finds the marker as it was
        assert scene.row().state is ReportedState.FAILED
    scene.disk.full = False
    scene.wait_for_state(ReportedState.READY)
    assert contents(scene.cache.final("small")) == FILES


def test_what_was_fetched_on_demand_is_told_of_though_that_is_switched_off(scene: Scene) -> None:
    scene.begin(ON_DEMAND)
    scene.wait_for_state(ReportedState.ABSENT)
    scene.want()
    scene.wait_for_state(ReportedState.READY)
    scene.catalog(ON_DEMAND, onDemand=False)
    wait_for(lambda: not scene.keeper.ready() and not scene.row().on_demand)
    assert scene.row().state is ReportedState.READY


def test_while_the_cluster_is_not_known_nothing_is_fetched_and_the_loop_is_alive(
    scene: Scene,
) -> None:
    scene.begin(MODEL | {"copies": 1})  # what the test says of all nodes: there are none
    wait_for(lambda: scene.keeper.ready() == "")
    assert scene.keeper.alive() == ""
    assert scene.row().state is ReportedState.ABSENT
    assert scene.hub.bytes_sent() == 0


NEWER = small_model(seed=1, size=400_000)


def test_a_branch_that_moved_is_noticed_waits_for_its_readers_and_takes_its_place_then(
    scene: Scene,
) -> None:
    scene.in_use = InUse({"uid": "ml/server"})
    scene.begin(MODEL, refreshSeconds=0.5)
    scene.wait_for_state(ReportedState.READY)
    old = scene.row().revision
    scene.hub.repositories["org/small"] = Repository(dict(NEWER), large=500)
    wait_for(lambda: "waits for 1 reader" in scene.row().reason)
    sent, until = scene.hub.bytes_sent(), monotonic() + 1.0
    while monotonic() < until:  # ten looks, and two more listings
        assert (scene.row().state, scene.row().revision) == (ReportedState.READY, old)
        assert "new revision ready, waits for 1 reader" in scene.row().reason
    assert contents(scene.cache.final("small")) == FILES
    assert scene.hub.bytes_sent() == sent
    scene.in_use = InUse()
    wait_for(lambda: scene.row().reason == "" and scene.row().revision != old)
    assert scene.row().state is ReportedState.READY
    assert contents(scene.cache.final("small")) == NEWER


@pytest.mark.parametrize("earlier", [False, True])
def test_another_revision_in_the_address_is_another_revision_and_no_other_model(
    scene: Scene, earlier: bool
) -> None:
    """Also where an earlier release wrote the marker, with the revision in its source."""
    final = scene.cache.final("small")
    scene.begin(MODEL | {"source": "hf://org/small@main"})
    scene.wait_for_state(ReportedState.READY)
    if earlier:
        marker = final / ".modelcache.json"
        text = marker.read_text()
        marker.write_text(text.replace('"hf://org/small"', '"hf://org/small@main"'))
        assert marker.read_text() != text
    old, seen = scene.row().revision, set[ReportedState]()
    scene.in_use = InUse({"uid": "ml/server"})
    scene.hub.repositories["org/small"] = Repository(dict(NEWER), large=500, branch="v2")
    scene.catalog(MODEL | {"source": "hf://org/small@v2"})

    def waits() -> bool:
        seen.add(scene.row().state)
        return "waits for 1 reader" in scene.row().reason

    wait_for(waits)
    assert (seen, scene.row().revision) == ({ReportedState.READY}, old)
    assert contents(final) == FILES


def test_a_source_that_cannot_be_asked_again_is_no_news_of_what_is_here(scene: Scene) -> None:
    scene.begin(MODEL, refreshSeconds=0.2)
    scene.wait_for_state(ReportedState.READY)
    asked = len(scene.hub.asked)
    scene.hub.troubles["info"] = [Trouble(status=503)] * 50
    wait_for(lambda: len(scene.hub.asked) > asked)
    until = monotonic() + 0.5
    while monotonic() < until:
        assert (scene.row().state, scene.row().reason) == (ReportedState.READY, "")


def stays_failed(scene: Scene) -> None:
    until = monotonic() + 0.5
    while monotonic() < until:  # five looks
        assert scene.row().state is ReportedState.FAILED
        assert "does not exist" in scene.row().reason


def test_what_cannot_be_had_is_said_to_be_failed_until_it_is_tried_again(scene: Scene) -> None:
    del scene.hub.repositories["org/small"]
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.FAILED)
    stays_failed(scene)


def test_what_cannot_be_had_is_not_asked_for_again_with_every_wish_of_a_waiting_pod(
    scene: Scene,
) -> None:
    del scene.hub.repositories["org/small"]
    scene.begin(ON_DEMAND)
    scene.wait_for_state(ReportedState.ABSENT)
    scene.want()
    scene.wait_for_state(ReportedState.FAILED)
    asked = len(scene.hub.asked)
    for wanted in (Wanted(), scene.wanted):
        scene.wanted = wanted
        wait_for(lambda: bool(scene.keeper._room._wishes) == bool(scene.wanted.models))
        stays_failed(scene)
    assert len(scene.hub.asked) == asked
    scene.catalog(ON_DEMAND | {"source": "hf://org/other"})
    scene.hub.repositories["org/other"] = Repository(dict(FILES), large=500)
    scene.wait_for_state(ReportedState.READY)


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("/nowhere")])
def test_a_file_or_a_link_in_its_place_is_told_of_all_the_time(
    scene: Scene, make: Callable[[Path], None]
) -> None:
    make(scene.cache.final("small"))
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.FAILED)
    until = monotonic() + 0.5
    while monotonic() < until:
        assert scene.row().state is ReportedState.FAILED
    scene.cache.final("small").unlink()
    scene.wait_for_state(ReportedState.READY)


def test_what_somebody_made_by_hand_is_told_of_and_left_until_it_is_taken_away(
    scene: Scene,
) -> None:
    made = put(scene.cache.final("small"), {**FILES, SHARD: NEWER[SHARD]})
    scene.begin(MODEL)
    scene.wait_for_state(ReportedState.FAILED)
    until = monotonic() + 0.5
    while monotonic() < until:  # five looks
        assert scene.row().state is ReportedState.FAILED
        assert "remove or rename it" in scene.row().reason
    [told] = scene.table.report("/models", None).models
    assert told.state is ReportedState.FAILED
    assert (made / SHARD).read_bytes() == NEWER[SHARD]
    made.rename(scene.cache.root / "mine")
    scene.wait_for_state(ReportedState.READY)
    assert contents(scene.cache.final("small")) == FILES
    assert (scene.cache.root / "mine" / SHARD).read_bytes() == NEWER[SHARD]
