"""Reservations: what is kept counts against everyone else until the pod is seen on its node."""

from __future__ import annotations

import msgspec
import pytest

from extender.cluster.reservations import HOLD, Reservation
from extender.cluster.state import ClusterState
from extender.kube.objects import Node, Pod
from tests.builders import node, pod, relist, tmpfs
from tests.clock import Clock

GIB = 2**30


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000.0)


@pytest.fixture
def state(clock: Clock) -> ClusterState:
    state = ClusterState(clock=clock)
    state.upsert(node("a", memory="64Gi"))
    state.upsert(node("b", memory="64Gi"))
    return state


def entry(
    uid: str = "uid-ram", on: str = "a", *, claim: int = 1, expires: float = 1_300.0
) -> Reservation:
    return Reservation(uid=uid, node=on, bytes=21 * GIB, expires=expires, claim=claim)


def hold(on: str, expires: float = 1_300.0) -> Reservation:
    return entry(on=on, claim=HOLD, expires=expires)


def free(state: ClusterState, name: str, uid: str = "somebody", priority: int = 0) -> int:
    return state.view().nodes[name].free_for(uid, priority) // GIB


def test_a_reservation_counts_for_its_pod_and_against_all_others(state: ClusterState) -> None:
    assert state.reserve(entry(), lambda _: None) is None
    assert free(state, "a") == 43
    assert free(state, "a", "uid-ram") == 64


def test_what_is_refused_is_not_reserved(state: ClusterState) -> None:
    assert state.reserve(entry(), lambda view: len(view.nodes)) == 2
    assert free(state, "a") == 64
    assert state.reserved() == 0


def test_it_ends_when_the_watch_shows_the_pod_on_its_node(state: ClusterState) -> None:
    state.upsert(tmpfs("ram"))
    state.hold(entry())
    assert free(state, "a") == 43
    state.upsert(tmpfs("ram", on="a"))
    assert free(state, "a") == 43  # now by the pod itself
    assert state.reserved() == 0


def test_it_ends_with_a_list_that_was_asked_for_after_it_and_does_not_have_the_pod(
    state: ClusterState,
) -> None:
    """Bound and deleted while the watch was broken: no watch ever tells of the pod."""
    state.hold(entry())
    relist(state, Pod, [tmpfs("other")])
    assert free(state, "a") == 64
    assert state.reserved() == 0


def test_it_outlives_a_list_that_was_asked_for_before_it_or_has_the_pod(
    state: ClusterState,
) -> None:
    draft = state.listing(Pod)
    state.hold(entry())
    draft.replace()  # the pod may be younger than this list
    assert free(state, "a") == 43
    relist(state, Pod, [tmpfs("ram")])
    assert free(state, "a") == 43
    relist(state, Node, [node("a", memory="64Gi")])
    assert free(state, "a") == 43


def test_it_ends_when_the_pod_is_deleted(state: ClusterState) -> None:
    state.upsert(tmpfs("ram"))
    state.hold(entry())
    state.delete(tmpfs("ram"))
    assert free(state, "a") == 64


def test_it_ends_by_the_clock_at_the_latest(state: ClusterState, clock: Clock) -> None:
    state.hold(entry(expires=1_300.0))
    clock.now = 1_299.9
    assert free(state, "a") == 43
    clock.now = 1_300.0
    assert free(state, "a") == 64
    assert state.reserved() == 0


def test_it_does_not_end_by_the_clock_while_pods_are_not_heard_of(
    state: ClusterState, clock: Clock
) -> None:
    """Nothing else tells of the memory of a pod that may be on its node. A guess ends."""
    blind = True
    state.keep_reserved_while(lambda: blind)
    state.hold(entry())
    state.hold(msgspec.structs.replace(hold("b"), uid="uid-other"))
    clock.now = 9_000.0
    assert (free(state, "a"), free(state, "b")) == (43, 64)
    blind = False
    assert free(state, "a") == 64
    assert state.reserved() == 0


def test_while_pods_are_not_heard_of_what_is_past_its_time_is_not_looked_for_by_every_request(
    state: ClusterState, clock: Clock
) -> None:
    asked: list[float] = []

    def blind() -> bool:
        asked.append(clock.now)
        return True

    state.keep_reserved_while(blind)
    state.hold(entry())
    view = state.view()
    assert asked == []
    clock.now = 9_000.0
    assert state.view().nodes is view.nodes
    assert asked == [9_000.0]


def test_a_pod_that_is_bound_already_gets_none(state: ClusterState) -> None:
    state.upsert(tmpfs("ram", on="a"))
    state.hold(entry())
    assert state.reserved() == 0


def test_a_new_hold_replaces_the_old_one(state: ClusterState) -> None:
    state.hold(hold("a"))
    state.hold(hold("b"))
    assert (free(state, "a"), free(state, "b")) == (64, 43)


def test_a_reservation_replaces_the_hold_wherever_it_was(state: ClusterState) -> None:
    state.hold(hold("a"))
    state.reserve(entry(on="b"), lambda _: None)
    assert (free(state, "a"), free(state, "b")) == (64, 43)


@pytest.mark.parametrize("on", ["a", "b"])
def test_no_hold_is_taken_beside_a_reservation(state: ClusterState, clock: Clock, on: str) -> None:
    state.reserve(entry(on="a"), lambda _: None)
    state.hold(hold(on, expires=1_005.0))
    state.reserve(hold(on, expires=1_005.0), lambda _: None)
    assert (free(state, "a"), free(state, "b")) == (43, 64)
    clock.now = 1_006.0
    assert free(state, "a") == 43


@pytest.mark.parametrize("end", ["released", "expired"])
def test_a_nomination_counts_again_once_nothing_is_kept_elsewhere(
    state: ClusterState, clock: Clock, end: str
) -> None:
    nominated = tmpfs("ram")
    status = msgspec.structs.replace(nominated.status, nominated_node_name="a")
    state.upsert(msgspec.structs.replace(nominated, status=status))
    assert free(state, "a") == 43
    state.reserve(entry(on="b"), lambda _: None)
    assert (free(state, "a"), free(state, "b")) == (64, 43)
    if end == "released":
        state.release("uid-ram", "b", 1)
    else:
        clock.now = 1_300.0
    assert (free(state, "a"), free(state, "b")) == (43, 64)


def test_the_end_of_a_hold_is_not_the_end_of_the_reservation_in_its_place(
    state: ClusterState,
) -> None:
    """A nomination whose answer is lost is taken back; the pod may be on its way by then."""
    state.hold(hold("a"))
    state.reserve(entry(on="a"), lambda _: None)
    state.release("uid-ram", "a", HOLD)
    assert free(state, "a") == 43


@pytest.mark.parametrize("claim", [HOLD, 1], ids=["a hold", "a reservation"])
def test_what_is_held_for_a_pod_by_a_guess_alone_is_let_go(state: ClusterState, claim: int) -> None:
    state.hold(entry(on="a", claim=claim))
    state.let_go("uid-ram")
    assert free(state, "a") == (64 if claim == HOLD else 43)


def test_a_second_reservation_leaves_the_first_where_a_lost_binding_may_need_it(
    state: ClusterState,
) -> None:
    state.reserve(entry(on="a", claim=1), lambda _: None)
    state.reserve(entry(on="b", claim=2), lambda _: None)
    assert (free(state, "a"), free(state, "b")) == (43, 43)
    state.release("uid-ram", "b", 2)
    assert (free(state, "a"), free(state, "b")) == (43, 64)


def test_two_bindings_to_one_node_count_once_and_each_gives_back_its_own_claim(
    state: ClusterState, clock: Clock
) -> None:
    for claim, expires in ((1, 1_300.0), (2, 1_310.0)):
        state.reserve(entry(claim=claim, expires=expires), lambda _: None)
    assert free(state, "a") == 43
    state.release("uid-ram", "a", 1)
    state.release("uid-ram", "a", 1)
    assert free(state, "a") == 43
    clock.now = 1_309.0
    assert free(state, "a") == 43
    state.release("uid-ram", "a", 2)
    assert free(state, "a") == 64
    assert state.reserved() == 0


def test_a_nominated_pod_counts_against_pods_of_no_higher_priority(state: ClusterState) -> None:
    demand = {"containers": [{"name": "m", "resources": {"requests": {"memory": "20Gi"}}}]}
    nominated = pod(
        "n", spec={**demand, "priority": 10}, status={"nominatedNodeName": "a", "phase": "Pending"}
    )
    state.upsert(nominated)
    assert free(state, "a", priority=10) == 44
    assert free(state, "a", priority=11) == 64
    assert free(state, "a", "uid-n", priority=10) == 64
    state.upsert(pod("n", spec=demand, status={"phase": "Pending"}))
    assert free(state, "a", priority=0) == 64
