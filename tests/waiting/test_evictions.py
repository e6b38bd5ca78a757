"""Evictions that were not worth it: their pods are woken when they become so, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest

from extender.cluster.reservations import Reservation
from extender.kube.objects import KubeObject, Pod
from extender.placement.policy import Policy
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.waiting import pods as waiting_pods
from extender.waiting import wake
from extender.waiting.evictions import refused_evictions
from extender.waiting.pods import WaitingPods
from extender.waiting.wake import AGAIN_PER_SECOND, TOLD_SECONDS, Waker
from tests.builders import (
    LOADING,
    READY,
    loader,
    loader_lease,
    loader_pod,
    node,
    our_loader,
    reported,
    reporting_pod,
    tmpfs,
    vllm,
)
from tests.verbs.test_preempt import above
from tests.waiting.room import Room
from tests.waiting.test_edges import apply, delete, fetching, fresh_again, later, nominated

GIB = 2**30
LOW = tmpfs("low", size="40Gi", on="a")
"""Who would be evicted on ``a``, which has 64 GiB: with him there it takes no pod of 40 GiB."""


def big(pod: Pod) -> Pod:
    """Return a pod that requests 40 GiB and goes before all others."""
    (container, *others) = pod.spec.containers
    resources = msgspec.structs.replace(container.resources, requests={"memory": "40Gi"})
    containers = (msgspec.structs.replace(container, resources=resources), *others)
    spec = msgspec.structs.replace(pod.spec, containers=containers)
    return above(Pod(metadata=pod.metadata, spec=spec, status=pod.status))


PREEMPTOR = big(vllm("high"))
READY_HERE = (node("a"), loader(), loader_pod("a", READY), LOW)
OTHER = Reservation(uid="other", node="a", bytes=30 * GIB, expires=1_010.0)


def refuse(room: Room, pod: Pod, **victims: tuple[str, ...]) -> None:
    """Have filter refuse a pod on the node ``cold``, and preempt these evictions."""
    room.refuse(pod, "cold")
    assert room.preempted(pod, **victims) == set()


@dataclass(frozen=True)
class Edge:
    """What preempt looks at, for whom, and how it comes true."""

    what: str
    before: Iterable[KubeObject]
    change: Callable[[Room], None]
    waits: Pod = PREEMPTOR
    more: dict[str, Any] = field(default_factory=dict)


EDGES = [
    Edge("knowledge is fresh again", READY_HERE, fresh_again, more={"stale": True}),
    Edge("what another pod's place was held for ran out", READY_HERE, later(10), more={"r": OTHER}),
    Edge(
        "a binding of another pod failed",
        READY_HERE,
        lambda room: room.state.release("other", "a", 1),
        more={"r": msgspec.structs.replace(OTHER, claim=1, expires=9_999.0)},
    ),
    Edge(
        "another pod that goes first is not meant for the node any more",
        (*READY_HERE, above(nominated("first", "a"))),
        apply(above(tmpfs("first", size="60Gi"))),
    ),
    Edge(
        "the model became ready",
        (node("a"), loader(), loader_pod("a", LOADING), LOW),
        apply(loader_pod("a", READY)),
    ),
    Edge(
        "a loader that fell silent speaks again",
        (
            node("a"),
            LOW,
            our_loader(),
            reporting_pod("a", READY, reported()),
            loader_lease("a", "1970-01-01T00:00:01Z"),
        ),
        apply(loader_lease("a", "1970-01-01T00:16:40Z")),
        more={"policy": Policy(stale_grace=60.0)},
    ),
    Edge(
        "the pod's patience is over",
        (node("a"), loader(), loader_pod("a", LOADING), LOW),
        later(60),
        big(fetching("impatient")),
        {"policy": Policy(required_timeout=100.0)},
    ),
    Edge(
        "a victim is seen that nobody knew of",
        (node("a"), loader(), loader_pod("a", READY), tmpfs("older", size="40Gi", on="a")),
        apply(tmpfs("older", size="8Gi", on="a"), LOW),
    ),
]


@pytest.mark.parametrize("edge", EDGES, ids=[edge.what for edge in EDGES])
def test_what_preempt_looks_at_wakes_when_it_changes(edge: Edge) -> None:
    room = Room(edge.more.get("policy"))
    room.stale = ("Pod",) if edge.more.get("stale") else ()
    for obj in (node("cold"), *edge.before):
        room.state.upsert(obj)
    if "r" in edge.more:
        room.state.hold(edge.more["r"])
    refuse(room, edge.waits, a=("uid-low",))
    assert room.woken() == [], "it is refused"
    assert room.woken() == [], "and stays so while nothing changes"
    edge.change(room)
    assert room.woken() == [edge.waits.metadata.name]
    assert room.woken() == [], "it has been told"
    assert room.preempted(edge.waits, a=("uid-low",)) == {"a"}


@pytest.fixture
def room() -> Room:
    """A node that is too full even without the victim on it."""
    room = Room()
    for obj in (node("cold"), *READY_HERE):
        room.state.upsert(obj)
    room.state.hold(OTHER)
    return room


def test_a_victim_that_went_elsewhere_frees_nothing_any_more(room: Room) -> None:
    """What another pod took of its room is not there."""
    refuse(room, PREEMPTOR, a=("uid-low",))
    room.state.delete(LOW)
    room.state.upsert(tmpfs("next", size="40Gi", on="a"))
    room.now = 1_010.0
    assert room.woken() == []


def test_a_pod_waits_no_more_for_the_evictions_that_were_proposed_before(room: Room) -> None:
    refuse(room, PREEMPTOR, a=("uid-low",))
    room.refuse(PREEMPTOR, "cold")
    room.now = 1_010.0
    assert room.woken() == []


def test_a_pod_that_is_gone_leaves_none_of_its_victims_in_memory(room: Room) -> None:
    refuse(room, PREEMPTOR, a=("uid-low",))
    assert room.woken() == []
    room.state.delete(PREEMPTOR)
    assert room.woken() == []
    assert room.pods.evictions("uid-high") is None


def test_of_many_that_wait_for_one_eviction_one_is_woken_at_a_time(room: Room) -> None:
    """The first of them that comes has the room; nobody knows before whom it is made for."""
    for number in range(30):
        refuse(room, big(vllm(f"p{number:02}")), a=("uid-low",))
    room.now = 1_010.0
    assert room.woken() == ["p00"]
    room.now += TOLD_SECONDS / 2
    assert room.woken() == []
    refuse_again = big(vllm("p00"))
    room.refuse(refuse_again, "cold")
    assert room.preempted(refuse_again, a=("uid-low",)) == {"a"}
    assert room.woken() == [], "the room is about to be made for it"
    room.now += room.context.hold_seconds
    assert room.woken() == ["p01"], "and was not"


def test_an_eviction_in_vain_is_looked_at_again_where_its_node_changed_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.state.upsert(node("b"))
    for number in range(30):
        refuse(room, big(vllm(f"p{number:02}")), a=("uid-low",), b=("uid-low",))
    judged: list[str] = []
    judge_one = Judge.reason

    def noted(judge: Judge, name: str, *, freed: int = 0) -> Reason | None:
        judged.append(name)
        return judge_one(judge, name, freed=freed)

    assert room.woken() == []
    monkeypatch.setattr(Judge, "reason", noted)
    assert room.woken() == []
    assert judged == []
    room.state.upsert(tmpfs("more", size="1Gi", on="b"))
    assert room.woken() == []
    assert set(judged) == {"b"}


def test_evictions_are_remembered_within_bounds(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the pods that were refused longest ago are forgotten first; none is too large."""
    monkeypatch.setattr(waiting_pods, "refused_evictions", lambda: refused_evictions(6))
    room.pods = WaitingPods()
    for number in range(4):
        refuse(room, big(vllm(f"p{number}")), a=("uid-low", "uid-other"))
    kept = [room.pods.evictions(f"uid-p{number}") is not None for number in range(4)]
    assert kept == [False, False, True, True]
    refuse(room, big(vllm("vast")), a=tuple(f"uid-{number}" for number in range(7)))
    assert room.pods.evictions("uid-vast") is None


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_of_evictions_changes_nothing_about_who_is_woken(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "MOST_AGAIN", 100_000)  # for a new one it is not used up
    random, room = Random(seed), Room()
    names = [f"n{number}" for number in range(4)]
    room.state.upsert(loader())
    room.state.upsert(node("cold"))
    woken = 0
    for name in names:
        room.state.upsert(node(name))
        room.state.upsert(loader_pod(name, LOADING))
    for step in range(200):
        name = random.choice(names)
        match random.randrange(6):
            case 0:
                room.state.upsert(loader_pod(name, random.choice([READY, LOADING])))
            case 1:
                room.state.upsert(tmpfs(f"on-{name}", size="40Gi", on=name))
            case 2:
                delete(tmpfs(f"on-{name}", size="40Gi", on=name))(room)
            case 3:
                room.state.hold(msgspec.structs.replace(OTHER, node=name, expires=room.now + 5))
            case 4:
                room.now += 3
            case _:
                victims = {
                    each: (f"uid-on-{each}",) for each in random.sample(names, random.randrange(4))
                }
                pod = big(vllm(f"{random.randrange(9)}"))
                room.refuse(pod, "cold")
                room.preempted(pod, **victims)
        anew = Waker(
            room.state, room.pods, room.context.policy, stale=tuple, may_tell=lambda _: True
        )
        found, expected = list(room.waker.due()), list(anew.due())
        assert [one.request.uid for one in found] == [one.request.uid for one in expected], step
        woken += len(found)
    assert woken


def test_whose_time_comes_while_others_are_woken_goes_before_the_less_urgent(room: Room) -> None:
    """A round may last for minutes: whoever was told that others leave has his time in it."""
    for name in ("a", "b"):
        room.state.upsert(node(name, memory="1000Gi"))
        room.state.upsert(tmpfs(f"taker-{name}", size="990Gi", on=name))
    urgent = above(tmpfs("urgent", size="20Gi"))
    room.refuse(urgent, "b")
    room.evict_nobody(urgent, "b", again_at=room.now + 5)
    for number in range(400):
        room.refuse(tmpfs(f"ready-{number}", size="100Mi", memory="1Mi"), "a")
    assert room.woken() == []
    room.state.delete(tmpfs("taker-a", on="a"))
    begun = room.now
    for waiting in room.waker.due():
        if waiting.request.name == "urgent":
            break
        room.pods.touched(waiting.request.uid, room.state)
        room.now += 0.02
    assert 5.0 <= room.now - begun < 5.1


@pytest.mark.parametrize(("policy", "woken"), [("Never", []), ("PreemptLowerPriority", ["big"])])
def test_after_a_restart_who_may_evict_nobody_takes_no_turn_of_those_who_may(
    policy: str, woken: list[str]
) -> None:
    room = Room()
    room.state.upsert(node("full"))
    room.state.upsert(tmpfs("on-full", size="60Gi", on="full"))
    big = above(tmpfs("big", size="50Gi"))
    spec = msgspec.structs.replace(big.spec, preemption_policy=policy)
    room.state.upsert(msgspec.structs.replace(big, spec=spec))
    room.pods.recover(room.state, {""}, room.context.request_of)
    assert room.woken() == woken


def test_after_a_restart_who_might_evict_others_keeps_nobody_waiting_who_could_run() -> None:
    room = Room()
    for name, size in (("full", "60Gi"), ("free", "30Gi")):
        room.state.upsert(node(name))
        room.state.upsert(tmpfs(f"on-{name}", size=size, on=name))
    for number in range(500):
        room.state.upsert(above(tmpfs(f"big-{number}", size="50Gi")))
    room.state.upsert(tmpfs("able", size="20Gi"))
    room.pods.recover(room.state, {""}, room.context.request_of)
    begun = room.now
    woken: list[str] = []
    while len(woken) <= 500 and room.now - begun < 60:
        for waiting in room.waker.due():
            room.pods.touched(waiting.request.uid, room.state)
            woken.append(waiting.request.name)
            room.now += 0.02
            if waiting.request.name == "able":
                assert room.now - begun < 1.0
        room.now += 1.0
    assert "able" in woken
    assert len(set(woken)) == 501, "each has his turn"
    assert room.now - begun >= 500 / AGAIN_PER_SECOND - 5.0, "each is a try of evictions"
