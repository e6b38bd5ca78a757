"""How far knowledge may lag: what counts as proof, and when a kind is stale."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.watch.client import Transport
from extender.watch.freshness import Tracker
from extender.watch.resources import NODES, PODS, RESOURCES
from extender.watch.watching import Watching
from tests.clock import Clock
from tests.watch import fake_apiserver, faults
from tests.watch.fake_apiserver import Exchange, FakeApiserver
from tests.watch.harness import QUICK, RecordingSink, access_to, eventually, quick_backoff

# -- one kind ------------------------------------------------------------------------------------

Act = Callable[[Tracker], Any]
PROOF: dict[str, Act] = {
    "a complete list": Tracker.listed,
    "an event": Tracker.event,
    "a bookmark, or the orderly end of a watch": Tracker.heard,
}
NO_PROOF: dict[str, Act] = {
    "an accepted connection": Tracker.connected,
    "a failure": lambda tracker: tracker.failed("reset"),
    "an object that cannot be read": Tracker.unreadable,
    "an event of an unknown type": Tracker.unknown,
}


def tracked(clock: Clock) -> Tracker:
    tracker = Tracker("Node", clock)
    tracker.listed()
    return tracker


def test_an_event_of_a_backlog_is_counted_and_proves_nothing_of_the_present() -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    clock.now += 500
    tracker.event(proof=False)
    seen = tracker.freshness()
    assert (seen.age_seconds, seen.events) == (500, 1)


def test_a_list_is_as_old_as_its_question() -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    asked_at = clock.now
    clock.now += 30
    tracker.listed(asked_at)
    assert tracker.freshness().age_seconds == 30


def test_older_proof_does_not_make_a_kind_older() -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    tracker.heard(clock.now - 30)
    assert tracker.freshness().age_seconds == 0


@pytest.mark.parametrize("case", PROOF)
def test_proof_makes_a_kind_fresh(case: str) -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    clock.now += 500
    PROOF[case](tracker)
    assert tracker.freshness().age_seconds == 0
    assert not tracker.stale(120)


@pytest.mark.parametrize("case", NO_PROOF)
def test_what_proves_nothing_does_not(case: str) -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    clock.now += 500
    NO_PROOF[case](tracker)
    assert tracker.freshness().age_seconds == 500
    assert tracker.stale(120)


@pytest.mark.parametrize(("age", "old"), [(0, False), (120, False), (120.001, True), (1e6, True)])
def test_a_kind_is_stale_when_it_was_not_heard_of_for_longer_than_the_bound(
    age: float, *, old: bool
) -> None:
    clock = Clock(1000.0)
    tracker = tracked(clock)
    clock.now += age
    assert tracker.stale(120) is old


def test_a_kind_that_was_never_listed_is_stale_however_lively_it_is() -> None:
    tracker = Tracker("Node", Clock(1000.0))
    tracker.connected()
    tracker.event()
    assert not tracker.freshness().synced
    assert tracker.stale(120)


def test_before_the_first_proof_the_age_counts_from_the_start() -> None:
    clock = Clock(1000.0)
    tracker = Tracker("Node", clock)
    clock.now += 42
    assert tracker.freshness().age_seconds == 42


def test_a_kind_that_was_listed_stays_synced_through_failures() -> None:
    tracker = tracked(Clock(1000.0))
    tracker.failed("reset")
    assert tracker.freshness().synced


def test_the_last_error_is_said_until_there_is_proof_again() -> None:
    tracker = tracked(Clock(1000.0))
    tracker.failed("reset by peer")
    assert tracker.freshness().last_error == "reset by peer"
    tracker.connected()
    assert tracker.freshness().last_error == "reset by peer"
    tracker.heard()
    assert tracker.freshness().last_error is None


def test_a_failure_is_news_when_it_differs_from_the_one_before() -> None:
    """So that a log has one line for an outage, not one for each attempt."""
    tracker = tracked(Clock(1000.0))
    assert [tracker.failed(text) for text in ("a", "a", "b", "a")] == [True, False, True, True]
    tracker.heard()
    assert tracker.failed("a")


acts = st.lists(
    st.one_of(
        st.sampled_from([*PROOF, *NO_PROOF]),
        st.floats(0, 1000),
    ),
    max_size=40,
)


@given(acts)
def test_the_age_is_the_time_since_the_last_proof_whatever_happened_since(
    history: list[str | float],
) -> None:
    clock = Clock(1000.0)
    tracker = Tracker("Node", clock)
    proven_at, counted = clock.now, dict.fromkeys([*PROOF, *NO_PROOF], 0)
    for step in history:
        if isinstance(step, str):
            (PROOF | NO_PROOF)[step](tracker)
            counted[step] += 1
            proven_at = clock.now if step in PROOF else proven_at
        else:
            clock.now += step
    seen = tracker.freshness()
    assert seen.age_seconds == clock.now - proven_at
    assert seen.synced is (counted["a complete list"] > 0)
    assert seen.events == counted["an event"]
    assert seen.relists == max(0, counted["a complete list"] - 1)
    assert seen.reconnects == max(0, counted["an accepted connection"] - 1)
    assert seen.failures == counted["a failure"]
    assert seen.unreadable == counted["an object that cannot be read"]
    assert seen.unknown == counted["an event of an unknown type"]


# -- each kind by itself -------------------------------------------------------------------------


def test_the_stale_kinds_are_named_one_by_one() -> None:
    clock = Clock(1000.0)
    trackers = [Tracker(resource.name, clock) for resource in RESOURCES]
    for tracker in trackers:
        tracker.listed()
    clock.now += 121
    for tracker in trackers[2:]:
        tracker.heard()
    names = [tracker.kind for tracker in trackers if tracker.stale(120)]
    assert names == [resource.name for resource in RESOURCES[:2]]


def only(path: str, fault: fake_apiserver.Fault) -> fake_apiserver.Fault:
    """Let requests for other paths go on as if nothing had been."""

    def act(exchange: Exchange) -> bool | None:
        return fault(exchange) if exchange.path == path else False

    return act


# The clock stands still, so that the length of a watch must not be measured by it.
TIMING = msgspec.structs.replace(QUICK, calm=-1.0, list_read_timeout=0.7, question_read_timeout=0.7)

BREAKDOWNS = {
    "failing": faults.answers(500),
    "forbidden": faults.answers(403, "Forbidden"),
    "resetting connections": faults.reset_before_head,
    "half open": faults.half_open,
}


@pytest.mark.parametrize("breakdown", BREAKDOWNS)
def test_a_kind_whose_watch_is_broken_for_longer_than_the_bound_is_stale_until_it_is_mended(
    api: FakeApiserver, sink: RecordingSink, breakdown: str
) -> None:
    """The other kind is watched over the same apiserver and stays fresh."""
    clock = Clock(1000.0)
    watch = Watching(
        Transport(access_to(api)),
        sink,
        resources=(NODES, PODS),
        clock=clock,
        random=Random(1),
        timing=TIMING,
        make_backoff=quick_backoff,
    )
    watch.start()
    try:
        assert watch.wait_synced(30)
        assert watch.stale() == ()
        for verb in ("list", "watch"):
            api.always[verb] = only(fake_apiserver.NODES, BREAKDOWNS[breakdown])
        api.drop()
        assert eventually(lambda: watch.freshness()[0].failures > 0)
        clock.now += 121
        api.put(fake_apiserver.PODS, "pod")
        assert eventually(lambda: [one.kind for one in watch.stale()] == ["Node"])
        assert watch.stale(300) == ()
        api.always.clear()
        api.drop()
        api.put(fake_apiserver.NODES, "node")
        assert eventually(lambda: watch.stale() == ())
        assert eventually(lambda: set(sink.state()) == {"node"})
    finally:
        api.stopped.set()
        assert watch.stop(timeout=30)
