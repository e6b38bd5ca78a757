"""Who works on what: the most urgent first, so many at once, nobody for what is not wished for."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from threading import Event

import msgspec
import pytest

from extender.errors import CacheError, LockHeldError
from extender.loader.catalog import CatalogModel
from extender.loader.failing import Failure
from extender.loader.foreign import ForeignError
from extender.loader.placing import InUseError
from extender.loader.proof.marker import Marker
from extender.loader.sources import Cause, SourceError
from extender.loader.transfer.failures import TransferError
from extender.loader.wishes import Wish
from extender.loader.workers import Workers
from tests.clock import Clock

SECONDS = 60.0
ASKS_TO_WAIT = SourceError("slow down", cause=Cause.THROTTLED, retry_after=900.0)


class Scene:
    """Work that begins and ends when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.begun: list[str] = []
        self.may_end: dict[str, Event] = {}
        self.outcome: dict[str, Exception] = {}
        self.obtained: list[str] = []
        self.failures: list[tuple[str, Failure]] = []
        self.let_go: list[str] = []
        self.paused: list[str] = []
        self.deaf: set[str] = set()
        self.waiting: list[tuple[str, str]] = []
        self.workers = Workers(
            self._work,
            obtained=lambda wish, _: self.obtained.append(wish.model.name),
            failed=lambda wish, failure: self.failures.append((wish.model.name, failure)),
            let_go=lambda wish: self.let_go.append(wish.model.name),
            paused=lambda wish: self.paused.append(wish.model.name),
            waits=lambda wish, why: self.waiting.append((wish.model.name, why)),
            fixed=lambda wish: wish.model.revision is not None,
            changed=lambda: None,
            clock=self.clock,
            random=Random(0),
        )

    def _work(self, wish: Wish, stop: Callable[[], bool]) -> Marker:
        name = wish.model.name
        end = self.may_end[name] = Event()
        self.begun.append(name)
        while not end.wait(0.005):
            if stop() and name not in self.deaf:
                self.may_end.pop(name, None)  # whoever ends it means the next time
                raise CacheError("stopped")
        if name in self.outcome:
            raise self.outcome[name]
        return Marker(id="1", path=name)

    def end(self, *names: str) -> None:
        for name in names:
            wait_until(lambda name=name: name in self.may_end)  # type: ignore[misc]
            self.may_end.pop(name).set()
            self.wait_idle(name)

    def wait_idle(self, name: str) -> None:
        wait_until(lambda: not self.workers.works_on(name))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def wishes(*names: str, source: str = "hf://org/model") -> list[Wish]:
    return [Wish(model=CatalogModel(name=name, source=source)) for name in names]


def asked_for(*names: str) -> list[Wish]:
    return [msgspec.structs.replace(wish, pod="ml/server") for wish in wishes(*names)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_wishes_are_worked_on_and_the_others_follow(scene: Scene) -> None:
    scene.workers.follow(wishes("a", "b", "c"), 2)
    scene.end("a", "b")
    assert sorted(scene.begun) == ["a", "b"]
    scene.workers.follow(wishes("a", "b", "c"), 2)
    scene.end("c")
    assert sorted(scene.obtained) == ["a", "b", "c"]


def test_what_a_pod_waits_for_has_the_least_urgent_make_way_and_no_more_than_one(
    scene: Scene,
) -> None:
    scene.workers.follow(wishes("a", "b"), 2)
    wait_until(lambda: sorted(scene.begun) == ["a", "b"])
    asked = [*asked_for("c", "d"), *wishes("a", "b")]
    scene.deaf.add("b")  # it takes its time to end
    for _ in range(3):
        scene.workers.follow(asked, 2)
    assert sorted(scene.begun) == ["a", "b"]
    scene.deaf.clear()
    wait_until(lambda: scene.paused == ["b"])
    scene.workers.follow(asked, 2)
    wait_until(lambda: "c" in scene.begun)
    wait_until(lambda: scene.paused == ["b", "a"] and scene.workers.busy == 1)  # for d, in its turn
    assert scene.workers.works_on("a")
    assert scene.workers.works_on("b")  # what is there of it is not looked at meanwhile
    scene.end("c")
    scene.workers.follow([*asked_for("d"), *wishes("a", "b")], 2)
    scene.end("d")
    scene.workers.follow(wishes("a", "b"), 2)  # nobody waits any more
    scene.end("a", "b")
    assert sorted(scene.obtained) == ["a", "b", "c", "d"]
    assert not scene.failures
    assert not scene.let_go


def test_what_made_way_and_is_wished_for_no_more_is_let_go(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    wait_until(lambda: scene.begun == ["a"])
    scene.workers.follow([*asked_for("b"), *wishes("a")], 1)
    wait_until(lambda: scene.paused == ["a"] and not scene.workers.busy)
    scene.workers.follow(asked_for("b"), 1)
    assert scene.let_go == ["a"]
    scene.end("b")
    scene.workers.follow(wishes(), 1)
    assert scene.let_go == ["a"]


def test_what_a_pod_waits_for_makes_way_for_nothing(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    wait_until(lambda: scene.begun == ["a"])
    for _ in range(3):
        scene.workers.follow([*asked_for("b"), *asked_for("a")], 1)  # one waits for it by now
        time.sleep(0.02)
    assert scene.begun == ["a"]
    scene.end("a")
    assert scene.obtained == ["a"]


def test_what_was_obtained_is_not_obtained_again_unless_somebody_says_so(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    scene.workers.follow(wishes("a"), 1)
    assert scene.begun == ["a"]
    scene.workers.again("a")
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert scene.begun == ["a", "a"]


def test_what_changes_while_it_is_worked_on_is_worked_on_once_more(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    scene.workers.again("a")  # the work may have looked before
    scene.workers.follow(wishes("a"), 1)
    for _ in range(2):
        scene.end("a")
        scene.workers.follow(wishes("a"), 1)
    assert scene.begun == ["a", "a"]


def test_work_on_what_nobody_wishes_for_is_stopped(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    scene.workers.follow([], 1)
    scene.wait_idle("a")
    assert scene.let_go == ["a"]
    assert not scene.obtained
    assert not scene.failures


def test_another_source_begins_anew_once_the_old_work_has_ended(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1)
    scene.workers.follow(wishes("a", source="hf://org/other"), 1)
    scene.wait_idle("a")
    scene.workers.follow(wishes("a", source="hf://org/other"), 1)
    scene.end("a")
    assert scene.begun == ["a", "a"]
    assert scene.obtained == ["a"]


def test_work_on_another_source_that_ends_well_all_the_same_says_nothing_of_the_new_one(
    scene: Scene,
) -> None:
    scene.deaf.add("a")
    scene.workers.follow(wishes("a"), 1)
    scene.workers.follow(wishes("a", source="hf://org/other"), 1)
    scene.end("a")
    assert not scene.obtained
    assert scene.let_go == ["a"]
    scene.workers.follow(wishes("a", source="hf://org/other"), 1)
    scene.end("a")
    assert scene.obtained == ["a"]


@pytest.mark.parametrize(
    ("error", "cause", "first_wait"),
    [
        (SourceError("slow down", cause=Cause.THROTTLED), "throttled", 5.0),
        (ASKS_TO_WAIT, "throttled", 900.0),
        (TransferError.of_source(ASKS_TO_WAIT, 8), "throttled", 900.0),
        (SourceError("ask for access", cause=Cause.GATED), "gated", 600.0),
        (CacheError("read-only"), "disk", 5.0),
        (RuntimeError("a fault of ours"), "fault", 5.0),
    ],
)
def test_a_failure_is_told_and_tried_again_after_a_wait(
    scene: Scene, error: Exception, cause: str, first_wait: float
) -> None:
    scene.outcome["a"] = error
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    [(name, failure)] = scene.failures
    assert (name, failure.cause) == ("a", cause)
    assert "fault of ours" not in failure.message
    scene.clock.now += first_wait / 2 - 0.1
    scene.workers.follow(wishes("a"), 1)
    assert scene.begun == ["a"]
    scene.clock.now += first_wait / 2 + 0.2
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert scene.begun == ["a", "a"]


def test_a_failure_is_remembered_where_its_wish_goes_and_comes_back(scene: Scene) -> None:
    scene.outcome["a"] = SourceError("ask for access", cause=Cause.GATED)
    [wish] = wishes("a")
    scene.workers.follow([wish], 1)
    scene.end("a")
    for _ in range(3):
        scene.clock.now += 90
        scene.workers.follow([], 1)
        assert scene.workers.failed(wish.model)
        scene.workers.follow([wish], 1)
        assert scene.workers.failed(wish.model)
    assert scene.begun == ["a"]
    scene.workers.follow([], 1)
    scene.clock.now += 3600
    assert not scene.workers.failed(wish.model)


def test_what_failed_of_one_source_says_nothing_of_another(scene: Scene) -> None:
    scene.outcome["a"] = SourceError("ask for access", cause=Cause.GATED)
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    scene.workers.follow([], 1)
    del scene.outcome["a"]
    [other] = wishes("a", source="hf://org/other")
    assert not scene.workers.failed(other.model)
    scene.workers.follow([other], 1)
    scene.end("a")
    assert scene.obtained == ["a"]


def test_a_model_that_another_loader_writes_is_no_failure(scene: Scene) -> None:
    scene.outcome["a"] = LockHeldError("the pod before is at it")
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert not scene.failures
    scene.clock.now += 2.1
    del scene.outcome["a"]
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert scene.obtained == ["a"]


def test_stopping_ends_all_work(scene: Scene) -> None:
    scene.workers.follow(wishes("a", "b"), 2)
    scene.workers.stop(SECONDS)
    assert scene.workers.busy == 0
    assert not scene.let_go


HOUR = 3600.0


def test_what_was_obtained_is_looked_up_again_now_and_then(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1, HOUR)
    scene.end("a")
    scene.clock.now += HOUR / 2 - 1
    scene.workers.follow(wishes("a"), 1, HOUR)
    assert scene.begun == ["a"]
    scene.workers.follow(wishes("a"), 1)
    assert scene.begun == ["a"]
    scene.clock.now += HOUR / 2 + 2
    scene.workers.follow(wishes("a"), 1, HOUR)
    scene.end("a")
    assert scene.begun == ["a", "a"]
    scene.workers.follow(wishes("a"), 1, HOUR)
    assert scene.begun == ["a", "a"]


def test_a_cluster_does_not_ask_all_at_once(scene: Scene) -> None:
    names = [f"m{number}" for number in range(20)]
    scene.workers.follow(wishes(*names), 20, HOUR)
    scene.end(*names)
    scene.clock.now += HOUR * 3 / 4
    scene.workers.follow(wishes(*names), 20, HOUR)
    again = len(scene.begun) - 20
    scene.workers.stop(SECONDS)
    assert 0 < again < 20


def test_what_can_never_change_is_not_looked_up_again(scene: Scene) -> None:
    pinned = [Wish(model=CatalogModel(name="a", source="hf://org/model", revision="c" * 40))]
    scene.workers.follow(pinned, 1, HOUR)
    scene.end("a")
    scene.clock.now += 100 * HOUR
    scene.workers.follow(pinned, 1, HOUR)
    assert scene.begun == ["a"]


def test_one_that_could_not_be_looked_up_again_is_tried_as_any_failure_is(scene: Scene) -> None:
    scene.workers.follow(wishes("a"), 1, HOUR)
    scene.end("a")
    scene.outcome["a"] = SourceError("slow down", cause=Cause.THROTTLED)
    for seconds in (HOUR, 5.1):
        scene.clock.now += seconds
        scene.workers.follow(wishes("a"), 1, HOUR)
        scene.end("a")
    assert scene.begun == ["a", "a", "a"]


def test_a_model_that_waits_for_readers_is_no_failure_and_is_not_fetched_again(
    scene: Scene,
) -> None:
    scene.outcome["a"] = InUseError("new revision ready, waits for 2 readers")
    scene.workers.follow(wishes("a"), 1, HOUR)
    scene.end("a")
    assert scene.waiting == [("a", "new revision ready, waits for 2 readers")]
    assert not scene.failures
    scene.clock.now += 600
    scene.workers.follow(wishes("a"), 1, HOUR)
    assert scene.begun == ["a"]


def test_what_another_program_left_is_tried_again_at_once_when_it_has_gone(scene: Scene) -> None:
    scene.outcome["a"] = ForeignError("another program put it there")
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    [(_, failure)] = scene.failures
    assert (failure.cause, failure.permanent) == ("foreign", True)
    scene.workers.again("a")
    del scene.outcome["a"]
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert scene.obtained == ["a"]


def test_a_source_that_changed_in_mid_download_is_listed_again_soon(scene: Scene) -> None:
    scene.outcome["a"] = SourceError("was replaced", cause=Cause.CHANGED)
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    scene.clock.now += 5.1
    scene.workers.follow(wishes("a"), 1)
    scene.end("a")
    assert scene.begun == ["a", "a"]
