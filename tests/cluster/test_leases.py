"""Leases: the proof of life and the progress of loaders; a renewal by itself changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from extender.cluster import ledger
from extender.cluster.holdings import ModelState
from extender.cluster.state import ClusterState
from extender.kube.times import time_text
from extender.report import Disk, Progress, Transfer, Wanted, WantedModel
from tests.builders import (
    HOST_MODEL,
    READY,
    loader_lease,
    node,
    our_loader,
    reported,
    reporting_pod,
)
from tests.clock import Clock

BEGIN = 1_767_225_600.0


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGIN)


@pytest.fixture
def state(clock: Clock) -> ClusterState:
    made = ClusterState(clock=clock)
    for name in ("a", "b"):
        made.upsert(node(name))
        made.upsert(reporting_pod(name, READY, reported()))
    made.upsert(our_loader())
    return made


def on(state: ClusterState, name: str = "a") -> ModelState:
    return state.view().inventory.lookup(HOST_MODEL, "inference").nodes[name].state


def test_a_ready_loader_that_gives_no_sign_of_life_is_stale_since_the_last_one(
    state: ClusterState, clock: Clock
) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN)))
    clock.now += 90
    assert on(state) is ModelState.READY
    clock.now += 1
    held = state.view().inventory.lookup(HOST_MODEL, "inference").nodes["a"]
    assert (held.state, held.since) == (ModelState.STALE, BEGIN)
    assert on(state, "b") is ModelState.READY  # it keeps no Lease: being Ready has to do
    state.upsert(loader_lease("a", time_text(clock.now)))
    assert on(state) is ModelState.READY


def test_a_renewal_is_dated_by_the_clock_here(state: ClusterState, clock: Clock) -> None:
    """A node whose clock is an hour slow proves its life by every renewal all the same."""
    state.upsert(loader_lease("a", time_text(BEGIN)))
    for _ in range(5):
        clock.now += 60
        state.upsert(loader_lease("a", time_text(clock.now - 3_600)))
        assert on(state) is ModelState.READY


def test_a_lease_that_was_old_before_the_first_look_is_no_proof(
    state: ClusterState,
) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN - 1_000)))
    assert on(state) is ModelState.STALE


def test_a_lease_from_the_future_is_as_old_as_the_look_at_it(
    state: ClusterState, clock: Clock
) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN + 86_400)))
    clock.now += 91
    assert on(state) is ModelState.STALE


def test_a_lease_of_another_namespace_proves_nothing(state: ClusterState, clock: Clock) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN)))
    clock.now += 91
    state.upsert(loader_lease("a", time_text(clock.now), namespace="tenant"))
    assert on(state) is ModelState.STALE


def test_a_lease_that_is_gone_demands_no_proof_any_more(state: ClusterState, clock: Clock) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN)))
    clock.now += 91
    assert on(state) is ModelState.STALE
    state.delete(loader_lease("a", time_text(BEGIN)))
    assert on(state) is ModelState.READY


def test_a_lease_without_the_label_is_none_of_a_loader(state: ClusterState, clock: Clock) -> None:
    """A dump of a cluster has the kubelets' Leases too."""
    plain = loader_lease("a", time_text(BEGIN))
    metadata = msgspec.structs.replace(plain.metadata, labels={})
    state.upsert(msgspec.structs.replace(plain, metadata=metadata))
    clock.now += 1_000
    assert on(state) is ModelState.READY


def test_renewals_and_progress_wake_nobody_and_rebuild_nothing(
    state: ClusterState, clock: Clock
) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN)))
    before = state.view()
    told: list[bool] = []
    state.subscribe(lambda: told.append(True))
    for second in range(1, 60):
        clock.now = BEGIN + second
        transfer = Transfer(path="x", bytes_done=second, bytes_total=100)
        progress = Progress(transfers=(transfer,))
        state.upsert(loader_lease("a", time_text(clock.now), progress=progress))
    after = state.view()
    assert told == []
    assert after.inventory is before.inventory
    assert after.nodes is before.nodes
    assert after.leases["inference", "a"].progress.transfers[0].bytes_done == 59
    assert before.leases["inference", "a"].progress == Progress()


def test_a_renewal_alone_shows_the_same_facts(state: ClusterState, clock: Clock) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN), progress=Progress()))
    before = state.view().leases
    clock.now += 30
    state.upsert(loader_lease("a", time_text(clock.now), progress=Progress()))
    assert state.view().leases is before


def test_silence_and_speaking_again_are_told(state: ClusterState, clock: Clock) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN)))
    told: list[bool] = []
    state.subscribe(lambda: told.append(True))
    clock.now += 91
    state.view()
    assert told == [True]
    state.upsert(loader_lease("a", time_text(clock.now)))
    assert told == [True, True]


def test_progress_that_cannot_be_read_is_named_and_does_not_count(state: ClusterState) -> None:
    state.upsert(loader_lease("a", time_text(BEGIN), progress="{"))
    assert "modelcache.dev/progress" in state.problems()["Lease inference/loader.a"]
    assert state.view().leases["inference", "a"].progress == Progress()
    disk = Disk(free_bytes=1, total_bytes=2)
    state.upsert(loader_lease("a", time_text(BEGIN), progress=Progress(disk=disk)))
    assert state.problems() == {}
    assert state.view().leases["inference", "a"].progress.disk == disk


def test_more_text_than_is_ever_written_is_not_read(state: ClusterState) -> None:
    models = tuple(
        WantedModel(path=f"m{n}", until="2027-01-15T08:00:00Z", pod="inference/llama")
        for n in range(1_000)
    )
    state.upsert(loader_lease("a", time_text(BEGIN), wanted=Wanted(models=models)))
    assert "at most 32768 are read" in state.problems()["Lease inference/loader.a"]
    assert state.view().leases["inference", "a"].wanted == Wanted()


def test_an_audit_sees_a_lease_that_the_watch_missed(state: ClusterState) -> None:
    lease = loader_lease("a", time_text(BEGIN))
    assert state.differs(lease)
    state.upsert(lease)
    assert not state.differs(lease)
    assert state.differs(loader_lease("a", time_text(BEGIN + 30)))


def test_progress_that_changes_for_long_while_nothing_else_does_is_not_remembered_for_ever(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "KEPT_CHANGES", 10)
    for done in range(100):
        moving = Transfer(path="x", bytes_done=done, bytes_total=100)
        renewed = time_text(BEGIN + done)
        state.upsert(loader_lease("a", renewed, progress=Progress(transfers=(moving,))))
    assert len(state.view().changes.names) <= 20
