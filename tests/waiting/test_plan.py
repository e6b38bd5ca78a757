"""How long it may take to find out who could run: no namespace takes the time of the others."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from extender.kube.objects import Pod
from extender.placement.verdict import Judge
from extender.waiting.wake import MOST_PLAN_SECONDS
from tests.builders import node, tmpfs
from tests.verbs.test_preempt import above
from tests.waiting.room import Room

KINDS = 100
JUDGING_SECONDS = 0.1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Room:
    """Return a room where a tenant's pods, each of a kind of its own, come before all others."""
    room = Room()
    room.state.upsert(node("a", memory="640Gi"))
    room.state.upsert(tmpfs("taker", size="620Gi", on="a"))
    for number in range(KINDS):
        room.refuse(of_tenant(number), "a")
    real = Judge.__init__

    def judged(self: Judge, *args: Any, **more: Any) -> None:
        room.now += JUDGING_SECONDS
        real(self, *args, **more)

    monkeypatch.setattr(Judge, "__init__", judged)
    return room


def of_tenant(number: int) -> Pod:
    pod = above(tmpfs(f"tenant-{number}", size=f"{30 + number}Gi", memory=f"{number + 1}Mi"))
    return replace(pod, metadata=replace(pod.metadata, namespace="tenant"))


def test_many_kinds_of_one_namespace_keep_no_other_waiting(crowded: Room) -> None:
    crowded.woken()
    for number in range(20):
        able = tmpfs(f"able-{number}", size="1Gi")
        crowded.refuse(able, "a")
        since = crowded.now
        assert crowded.woken() == [f"able-{number}"]
        assert crowded.now - since <= MOST_PLAN_SECONDS + 2 * JUDGING_SECONDS
        crowded.state.delete(able)


def test_kinds_that_there_was_no_time_for_are_the_first_of_the_next_plan(crowded: Room) -> None:
    crowded.state.upsert(node("a", memory="64000Gi"))
    begun, woken = crowded.now, set[str]()
    while len(woken) < KINDS:
        woken |= set(crowded.woken())
        assert crowded.now - begun <= 3 * KINDS * JUDGING_SECONDS


def test_a_plan_that_took_long_is_kept_as_long(crowded: Room) -> None:
    """Else each pod that is woken would cost a plan."""
    crowded.state.upsert(node("a", memory="64000Gi"))
    for number in range(50):
        crowded.refuse(tmpfs(f"able-{number}", size="1Gi"), "a")
    begun, woken = crowded.now, list[str]()
    for waiting in crowded.waker.due():
        crowded.pods.touched(waiting.request.uid, crowded.state)
        woken.append(waiting.request.name)
        crowded.now += 0.02
        crowded.state.upsert(tmpfs(f"new-{len(woken)}", size="1Mi", on="a"))
        if len([name for name in woken if name.startswith("able")]) == 50:
            break
    told = len(woken) * (0.02 + JUDGING_SECONDS)  # each is looked at again once something changed
    assert crowded.now - begun <= 2 * told + MOST_PLAN_SECONDS + JUDGING_SECONDS
