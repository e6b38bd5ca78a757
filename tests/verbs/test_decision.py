"""The decision log: the latest of each verb for each pod, and never more than its size."""

from __future__ import annotations

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.reasons import Reason
from extender.verbs.decision import Decision, DecisionLog, count
from extender.workload.model import Need, Strategy


def made(
    pod: str = "p", *, time: float = 0, verb: str = "filter", uid: str | None = None
) -> Decision:
    return Decision(
        time=time,
        verb=verb,
        namespace="inference",
        pod=pod,
        uid=f"uid-{pod}" if uid is None else uid,
        strategy=Strategy.NONE,
        need=Need.IGNORE,
        model=None,
        asked=1,
        passed=1,
    )


decisions = st.lists(
    st.builds(made, st.sampled_from("abcdef"), time=st.integers(0, 50), verb=st.sampled_from("fp")),
    max_size=60,
)


@given(decisions, st.integers(1, 8))
def test_the_log_never_holds_more_than_its_size(history: list[Decision], size: int) -> None:
    log = DecisionLog(size)
    for decision in history:
        log.add(decision)
    assert len(log.recent()) <= size


@given(decisions)
def test_the_log_holds_the_last_decision_of_each_verb_for_each_pod(
    history: list[Decision],
) -> None:
    log = DecisionLog()
    for decision in history:
        log.add(decision)
    last = {(decision.pod, decision.verb): decision for decision in history}
    recent = log.recent()
    assert {(decision.pod, decision.verb): decision for decision in recent} == last
    assert len(recent) == len(last)


@given(decisions)
def test_the_newest_decision_comes_first(history: list[Decision]) -> None:
    log = DecisionLog()
    for decision in history:
        log.add(decision)
    times = [decision.time for decision in log.recent()]
    assert times == sorted(times, reverse=True)


def test_the_decision_that_has_not_been_renewed_for_longest_makes_room() -> None:
    log = DecisionLog(2)
    for number, pod in enumerate("abac"):
        log.add(made(pod, time=number))
    assert [decision.pod for decision in log.recent()] == ["c", "a"]


def test_reading_the_log_keeps_nothing_in_it() -> None:
    log = DecisionLog(2)
    log.add(made("a", time=1))
    log.add(made("b", time=2))
    log.recent()
    log.add(made("c", time=3))
    assert [decision.pod for decision in log.recent()] == ["c", "b"]


def test_a_pod_that_was_recreated_under_its_name_has_decisions_of_its_own() -> None:
    log = DecisionLog()
    log.add(made(uid="old"))
    log.add(made(uid="new"))
    assert {decision.uid for decision in log.recent()} == {"old", "new"}


def test_a_pod_without_a_uid_is_known_by_its_name() -> None:
    log = DecisionLog()
    log.add(made("a", uid="", time=1))
    log.add(made("a", uid="", time=2))
    log.add(made("b", uid="", time=3))
    assert [(decision.pod, decision.time) for decision in log.recent()] == [("b", 3), ("a", 2)]


def test_the_log_can_be_written_and_read_from_many_threads() -> None:
    log = DecisionLog(20)
    faults: list[Exception] = []

    def work(number: int) -> None:
        try:
            for step in range(200):
                log.add(made(f"{number}-{step % 9}", time=step))
                log.recent()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test names it
            faults.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert len(log.recent()) == 20


@pytest.mark.parametrize(
    ("reasons", "counted"),
    [
        ({}, {}),
        (
            {
                "a": Reason.MODEL_ABSENT,
                "b": Reason.MODEL_ABSENT,
                "c": Reason.INSUFFICIENT_MEMORY,
            },
            {"ModelAbsent": 2, "InsufficientMemory": 1},
        ),
    ],
    ids=["none", "some"],
)
def test_refused_nodes_are_counted_by_reason(
    reasons: dict[str, Reason], counted: dict[str, int]
) -> None:
    assert count(reasons) == counted
