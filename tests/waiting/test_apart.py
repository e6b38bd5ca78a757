"""Where this program fails at one pod, it looks at the others all the same."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from extender.cluster.view import PodFacts
from extender.placement.reasons import Reason
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.waiting.fetching import Bounds
from extender.waiting.wishes import changes
from tests.builders import node, tmpfs
from tests.waiting.room import Room


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Room:
    """Two pods wait for the room of one, and the program cannot judge the older."""
    judge_one = Judge.reason

    def reason(judge: Judge, name: str, *, freed: int = 0) -> Reason | None:
        if judge.request.name == "bad":
            text = "a fault"
            raise ValueError(text)
        return judge_one(judge, name, freed=freed)

    monkeypatch.setattr(Judge, "reason", reason)
    room = Room()
    room.state.upsert(node("a"))
    room.state.upsert(tmpfs("taker", size="60Gi", on="a"))
    room.refuse(tmpfs("bad", size="21Gi"), "a", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("good", size="20Gi"), "a", created="2026-01-02T00:00:00Z")
    room.state.delete(tmpfs("taker", size="60Gi", on="a"))
    return room


def test_the_others_are_woken(faulty: Room) -> None:
    assert faulty.woken() == ["good"]


def test_it_is_said_once_for_each_cause_and_counted(faulty: Room) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            faulty.woken()
    assert [(entry["namespace"], entry["pod"]) for entry in logs] == [("inference", "bad")]
    assert faulty.pods.apart.failures == 3


def test_what_loaders_are_asked_for_is_decided_for_the_others(
    faulty: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def wish(_: object, request: PodRequest, *_more: object) -> None:
        asked.append(request.name)
        if request.name == "bad":
            raise ValueError

    monkeypatch.setattr("extender.waiting.fetching.Wishing._wish", wish)
    changes(faulty.state, faulty.pods, faulty.context.policy, Bounds())
    assert asked == ["bad", "good"]


def test_the_others_are_recovered_after_a_restart() -> None:
    room = Room()
    for name in ("bad", "good"):
        room.state.upsert(tmpfs(name, size="20Gi"))

    def request_of(facts: PodFacts) -> PodRequest:
        if facts.name == "bad":
            raise ValueError
        return room.context.request_of(facts)

    room.pods.recover(room.state, {""}, request_of)
    assert [pod.request.name for pod in room.pods.all()] == ["good"]
