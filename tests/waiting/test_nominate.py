"""A pod is nominated only where one node alone is right, nobody else is meant for it, and once."""

from __future__ import annotations

import msgspec

from extender.cluster.reservations import Reservation
from extender.kube.objects import Pod
from extender.waiting.nominate import NOMINATION_SECONDS
from tests.builders import READY, deleted, loader_pod, node, tmpfs, vllm
from tests.waiting.room import Room

TAKERS = [tmpfs(f"taker-{name}", size="60Gi", on=name) for name in "ab"]


def full(room: Room) -> None:
    for taker in TAKERS:
        room.state.upsert(taker)


def meant_for(pod: Pod, to: str) -> Pod:
    status = msgspec.structs.replace(pod.status, nominated_node_name=to)
    return Pod(metadata=pod.metadata, spec=pod.spec, status=status)


def test_the_only_node_that_is_right_is_named(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": "b"}


def test_of_two_nodes_none_is_named(room: Room) -> None:
    full(room)
    room.refuse(tmpfs("ram"), "a", "b")
    for taker in TAKERS:
        room.state.delete(taker)
    assert room.nominated() == {"ram": ""}


def test_a_pod_whose_nodes_are_not_known_is_only_touched(room: Room) -> None:
    """After a restart nobody knows which nodes kube-scheduler's own filters left over."""
    room.refuse(vllm("llama"))
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_one_pod_is_nominated_to_a_node_and_the_others_are_touched(room: Room) -> None:
    """There may be one GPU, of which this program knows nothing: two would block each other."""
    full(room)
    room.refuse(tmpfs("first", size="20Gi"), "a", "b", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("second", size="20Gi"), "a", "b", created="2026-01-02T00:00:00Z")
    room.state.delete(TAKERS[1])
    assert room.nominated() == {"first": "b", "second": ""}


def test_pods_of_different_workloads_are_not_nominated_into_the_same_room(room: Room) -> None:
    full(room)
    room.refuse(tmpfs("first", size="40Gi"), "a", "b", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("other", size="41Gi"), "a", "b", created="2026-01-02T00:00:00Z")
    room.state.delete(TAKERS[1])
    assert room.nominated() == {"first": "b", "other": ""}
    assert room.state.view().nodes["b"].free < 41 * 2**30  # held until kube-scheduler has decided
    room.now += NOMINATION_SECONDS
    assert room.state.view().nodes["b"].free == 64 * 2**30


def test_a_node_is_given_away_again_once_its_time_is_over(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    room.refuse(vllm("lama"), "a", "b", created="2026-01-02T00:00:00Z")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": "b", "lama": ""}
    room.pods.drop("uid-llama")
    room.now += NOMINATION_SECONDS
    room.refuse(vllm("lama"), "a", "b")
    assert room.nominated() == {"lama": "b"}


def test_a_pod_that_kube_scheduler_has_nominated_is_left_to_it(room: Room) -> None:
    room.refuse(meant_for(vllm("llama"), "a"), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_no_pod_is_nominated_where_another_one_is_awaited(room: Room) -> None:
    """Its victims are on their way out, for it alone."""
    room.state.upsert(meant_for(tmpfs("preempts", size="20Gi"), "b"))
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_a_pod_for_which_nobody_may_be_evicted_is_only_touched(room: Room) -> None:
    """kube-scheduler would keep the nomination however wrong it proved, and others out with it."""
    polite = vllm("llama")
    spec = msgspec.structs.replace(polite.spec, preemption_policy="Never")
    room.refuse(Pod(metadata=polite.metadata, spec=spec, status=polite.status), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_a_pod_that_is_being_deleted_is_not_nominated(room: Room) -> None:
    """kube-scheduler tries it no more, and would never clear it."""
    full(room)
    room.refuse(tmpfs("ram"), "a")
    room.state.delete(TAKERS[0])
    (waiting,) = list(room.waker.due())
    room.state.upsert(deleted(tmpfs("ram")))
    assert room.nominations.take(waiting) == ""


def test_a_node_that_takes_no_pods_is_not_named(room: Room) -> None:
    cordoned = node("b")
    spec = msgspec.structs.replace(cordoned.spec, unschedulable=True)
    room.state.upsert(msgspec.structs.replace(cordoned, spec=spec))
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_a_pod_that_is_being_bound_is_not_nominated(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    entry = Reservation(uid="uid-llama", node="a", bytes=1, expires=2_000.0, claim=1)
    room.state.hold(entry)
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": ""}


def test_a_pod_that_was_nominated_in_vain_is_only_touched_from_then_on(room: Room) -> None:
    """kube-scheduler's own filters said no, and asked nobody: the pod is not refused again."""
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.nominated() == {"llama": "b"}
    room.now += 10
    assert room.nominated() == {"llama": ""}


def test_a_nomination_that_was_not_written_keeps_nothing(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    room.refuse(vllm("lama"), "a", "b", created="2026-01-02T00:00:00Z")
    room.state.upsert(loader_pod("b", READY))
    first, second = room.waker.due()
    assert room.nominations.take(first) == "b"
    room.nominations.undo(second)
    assert room.state.reserved() == 1  # the other pod's
    room.nominations.undo(first)
    assert room.state.reserved() == 0
    assert room.nominations.take(second) == "b"
