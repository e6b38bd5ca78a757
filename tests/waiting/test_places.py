"""Pods of one kind that were asked about on nodes of their own: judged once, woken one a place.

kube-scheduler leaves out nodes by its own rules, so that hardly two pods have the same set.
"""

from __future__ import annotations

from random import Random

import pytest

from extender.kube.objects import Pod
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.waiting.asked import asked_nodes
from extender.waiting.evictions import RefusedEvictions
from extender.waiting.places import Choice, Places
from extender.waiting.wake import TOLD_SECONDS, Waker
from tests.builders import LOADING, READY, loader, loader_pod, node, tmpfs, vllm
from tests.waiting.room import Room

NAMES = [f"n{number}" for number in range(40)]
NEXT_TRY_SECONDS = 10.0
"""So long at most a pod that could run waits while others are tried in vain."""


def full(*names: str) -> Room:
    """Return nodes of which each has no memory left."""
    room = Room()
    for name in names:
        room.state.upsert(node(name))
        room.state.upsert(tmpfs(f"on-{name}", size="60Gi", on=name))
    return room


def give_back(room: Room, name: str) -> None:
    room.state.delete(tmpfs(f"on-{name}", size="60Gi", on=name))


def waiting(room: Room, number: int, *asked: str) -> None:
    room.refuse(
        tmpfs(f"p{number:02}", size="40Gi"), *asked, created=f"2026-01-01T00:00:{number:02}"
    )


def places(room: Room, pod: Pod, before: Places | None = None) -> Places:
    """Return what is known of the places for a pod, with what was known before."""
    judge = Judge(room.context.request(pod), room.state.view(), room.context.policy)
    return Places(judge, before.hopeless() if before else None, room.state.pod)


def given(choice: Choice) -> list[str]:
    """Give away one place after another; return the nodes."""
    found = []
    while name := choice.next():
        choice.places.taken[name] += 1
        found.append(name)
    return found


def test_a_change_is_judged_once_for_all_pods_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    room = full(*NAMES)
    for number in range(30):
        waiting(room, number, *(name for name in NAMES if name != NAMES[number]))
    judged: list[str] = []
    judge_one = Judge.reason

    def noted(judge: Judge, name: str) -> Reason | None:
        judged.append(name)
        return judge_one(judge, name)

    monkeypatch.setattr(Judge, "reason", noted)
    assert room.woken() == []
    assert sorted(judged) == sorted(NAMES)
    judged.clear()
    assert room.woken() == []
    assert judged == []
    room.state.upsert(tmpfs("taker", size="1Gi", on="n7"))
    assert room.woken() == []
    assert judged == ["n7"]


def test_a_place_is_given_to_one_pod_whatever_else_each_was_asked_about() -> None:
    room = full("a", "b", "c")
    for number, asked in enumerate([("a", "b"), ("a", "c"), ("c", "b")]):
        waiting(room, number, *asked)
    assert room.woken() == []
    give_back(room, "a")
    assert room.woken() == ["p00"]
    give_back(room, "b")
    assert room.woken() == ["p02"]


def test_whoever_has_a_choice_of_nodes_goes_by_their_names_in_every_process() -> None:
    """The order of a set is another one in each: no history of it could be run again."""
    room, refused = full(*NAMES), RefusedEvictions(dict.fromkeys(sorted(NAMES), ()))
    pod = tmpfs("p", size="40Gi")
    asked = asked_nodes(NAMES, room.state.view().nodes)
    before = places(room, pod)
    assert not before.choice(asked).any
    assert not before.eviction(refused).any
    for name in NAMES[::-1]:
        give_back(room, name)
    assert given(places(room, pod, before).choice(asked)) == sorted(NAMES)
    assert given(places(room, pod, before).eviction(refused)) == sorted(NAMES)


def test_two_places_wake_two_pods_and_no_forty_before_kube_scheduler_takes_one_up() -> None:
    room = full("a", "b")
    for number in range(60):
        waiting(room, number, "a", "b")
    give_back(room, "a")
    give_back(room, "b")
    woken = []
    while room.now < 1_000.0 + TOLD_SECONDS:
        woken += room.woken()
        room.now += 0.05
    assert woken == ["p00", "p01"]


def test_pods_that_never_come_back_keep_a_place_from_no_other_for_long() -> None:
    """kube-scheduler has found reasons of its own against them, of which nobody is told."""
    room = full("a")
    for number in range(60):
        waiting(room, number, "a")
    give_back(room, "a")
    tried: set[str] = set()
    while "p59" not in tried:
        tried |= set(room.woken())
        room.now += TOLD_SECONDS
    assert room.now - 1_000.0 <= NEXT_TRY_SECONDS


def test_who_was_refused_again_is_on_the_way_to_no_place() -> None:
    room = full("a")
    for number in range(2):
        waiting(room, number, "a")
    give_back(room, "a")
    assert room.woken() == ["p00"]
    room.state.upsert(tmpfs("on-a", size="60Gi", on="a"))
    room.now += 0.1
    waiting(room, 0, "a")
    assert room.woken() == []
    give_back(room, "a")
    assert room.woken() == ["p00"]


def test_memory_that_is_held_for_who_was_nominated_is_not_counted_twice() -> None:
    room = Room()
    room.state.upsert(node("a"))
    room.refuse(tmpfs("first", size="30Gi"), "a")
    assert room.nominated() == {"first": "a"}
    room.refuse(tmpfs("second", size="30Gi"), "a")
    assert room.woken() == ["second"]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_changes_nothing_about_who_is_woken(seed: int) -> None:
    random, room = Random(seed), Room()
    names = [f"n{number}" for number in range(6)]
    room.state.upsert(loader())
    for name in names:
        room.state.upsert(node(name))
    for step in range(150):
        name = random.choice(names)
        pods = vllm, tmpfs
        match random.randrange(7):
            case 0:
                room.state.upsert(loader_pod(name, random.choice([READY, LOADING])))
            case 1:
                room.state.upsert(tmpfs(f"on-{name}", size="60Gi", on=name))
            case 2:
                room.state.delete(tmpfs(f"on-{name}", size="60Gi", on=name))
            case 3:
                room.state.delete(node(name))
            case 4:
                room.state.upsert(node(name))
            case 5:
                room.pods.drop(f"uid-{random.randrange(20)}")
            case _:
                asked = random.sample(names, random.randrange(1, 6))
                room.refuse(random.choice(pods)(f"{random.randrange(20)}"), *asked)
        anew = Waker(
            room.state, room.pods, room.context.policy, stale=tuple, may_tell=lambda _: True
        )
        found, expected = list(room.waker.due()), list(anew.due())
        assert [pod.request.uid for pod in found] == [pod.request.uid for pod in expected], step
        assert [pod.right_node for pod in found] == [pod.right_node for pod in expected], step
