"""Bindings in doubt: when they are looked at, how often, and what becomes of their memory."""

from __future__ import annotations

from collections import Counter, deque

import msgspec
import pytest

from extender.cluster.reservations import Reservation
from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.verbs.doubt import (
    AT_ONCE,
    HALF,
    LAST_RETRY_SECONDS,
    UNCLEAR_SECONDS,
    Doubt,
    Doubts,
)
from tests.builders import node, tmpfs

DOUBT = Doubt(
    namespace="inference", name="ram", uid="uid-ram", node="a", claim=1, seconds=UNCLEAR_SECONDS
)


class Settled:
    """A doubt that is looked at by hand, and an apiserver that answers as told."""

    def __init__(self, *answers: Pod | str | None) -> None:
        self.state = ClusterState(clock=lambda: 1_000.0)
        self.state.upsert(node("a", memory="64Gi"))
        entry = Reservation(uid="uid-ram", node="a", bytes=2**34, expires=1_300.0, claim=1)
        self.state.hold(entry)
        self.answers = deque(answers)
        self.asked: list[float] = []
        self.doubts = Doubts(self.state)
        self.now = 0.0
        self.doubts.add(DOUBT, self.now)

    def _ask(self, doubt: Doubt) -> Pod | str | None:
        assert doubt is DOUBT
        self.asked.append(self.now)
        return self.answers.popleft()

    def look_until(self, seconds: int) -> None:
        """Look once a second from the time of the doubt on."""
        for second in range(seconds + 1):
            self.now = float(second)
            for doubt in self.doubts.take(self.now):
                self.doubts.answer(doubt, self._ask(doubt))


@pytest.mark.parametrize("found", [tmpfs("ram"), None], ids=["not bound", "gone"])
def test_memory_that_nobody_needs_is_given_back_seconds_after_the_answer(found: Pod | None) -> None:
    settled = Settled(found)
    settled.look_until(int(UNCLEAR_SECONDS) - 1)
    assert settled.asked == []
    assert settled.state.reserved() == 1
    settled.look_until(int(UNCLEAR_SECONDS) + 60)
    assert settled.asked == [UNCLEAR_SECONDS]
    assert settled.state.reserved() == 0


def test_the_memory_of_a_pod_that_is_there_stays_until_the_watch_tells_of_it() -> None:
    settled = Settled(tmpfs("ram", on="a"))
    settled.look_until(60)
    assert settled.asked == [UNCLEAR_SECONDS]
    assert settled.state.reserved() == 1
    settled.state.upsert(tmpfs("ram", on="a"))
    assert settled.state.reserved() == 0


def test_where_there_is_no_answer_it_is_asked_again_seldomer_and_seldomer() -> None:
    settled = Settled(*["no answer"] * 7, tmpfs("ram"))
    settled.look_until(200)
    waits = [
        after - before for before, after in zip(settled.asked, settled.asked[1:], strict=False)
    ]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, LAST_RETRY_SECONDS, LAST_RETRY_SECONDS]
    assert settled.state.reserved() == 0


def test_what_the_watch_has_settled_costs_no_request() -> None:
    settled = Settled()
    settled.state.upsert(tmpfs("ram", on="a"))
    settled.look_until(60)
    assert settled.asked == []


class Many:
    """Doubts of several namespaces, which are due at once."""

    def __init__(self, **namespaces: int) -> None:
        self.state = ClusterState(clock=lambda: 1_000.0)
        self.state.upsert(node("a", memory="640Gi"))
        self.doubts = Doubts(self.state)
        for namespace, number in namespaces.items():
            for each in range(number):
                self.add(namespace, f"{namespace}-{each}")

    def add(self, namespace: str, uid: str, now: float = 0.0) -> None:
        self.state.hold(Reservation(uid=uid, node="a", bytes=2**30, expires=1_300.0, claim=1))
        doubt = msgspec.structs.replace(DOUBT, namespace=namespace, name=uid, uid=uid)
        self.doubts.add(doubt, now)


def of(taken: list[Doubt]) -> Counter[str]:
    return Counter(doubt.namespace for doubt in taken)


def test_doubts_whose_writes_hang_leave_room_for_those_of_others() -> None:
    many = Many(hanging=1_000, other=3)
    assert of(many.doubts.take(UNCLEAR_SECONDS)) == {"hanging": HALF, "other": 3}
    assert many.doubts.take(UNCLEAR_SECONDS) == [], "they are under way"
    many.add("third", "late", now=1.0)
    assert of(many.doubts.take(UNCLEAR_SECONDS + 1.0)) == {"third": 1}


def test_what_was_not_answered_leaves_room_for_what_nobody_was_asked_about() -> None:
    """However many namespaces hang: of two of them there are all that may be under way."""
    many = Many(hanging=HALF, too=HALF)
    taken = many.doubts.take(UNCLEAR_SECONDS)
    assert len(taken) == AT_ONCE
    for doubt in taken:
        many.doubts.answer(doubt, "no answer")
    many.add("other", "late", now=30.0)
    assert of(many.doubts.take(60.0)) == {"hanging": HALF // 2, "too": HALF // 2, "other": 1}


def test_what_waited_for_its_turn_is_asked_about_before_what_was_asked_about_already() -> None:
    many = Many(hanging=2 * HALF)
    first = many.doubts.take(UNCLEAR_SECONDS)
    for doubt in first:
        many.doubts.answer(doubt, "no answer")
    second = many.doubts.take(UNCLEAR_SECONDS + 1.0)
    assert len(second) == HALF
    assert not set(first) & set(second)
