"""Waits that grow, spread, stay within bounds, and are forgotten after a time of peace."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.backoff import Backoff
from tests.clock import Clock


def backoff(clock: Clock, seed: int = 0) -> Backoff:
    return Backoff(random=Random(seed), clock=clock, first=0.5, most=30.0, peace=30.0)


seeds = st.integers(0, 2**32)


@given(seeds, st.integers(1, 100))
def test_the_nth_wait_lies_between_half_and_all_of_a_doubling_bound(
    seed: int, failures: int
) -> None:
    made = backoff(Clock(), seed)
    for number in range(failures):
        bound = min(30.0, 0.5 * 2**number)
        assert bound / 2 <= made.wait() <= bound


@given(seeds, st.floats(0, 120))
def test_a_wait_is_never_shorter_than_what_the_server_asked_for(seed: int, asked: float) -> None:
    made = backoff(Clock(), seed)
    assert all(made.wait(asked) >= asked for _ in range(10))


@given(seeds, st.integers(1, 100))
def test_a_wait_can_be_bounded_where_asking_again_costs_nobody(seed: int, failures: int) -> None:
    made = backoff(Clock(), seed)
    assert all(made.wait(at_most=5.0) <= 5.0 for _ in range(failures))


def test_two_loops_that_fail_together_do_not_come_back_together() -> None:
    first, second = (backoff(Clock(), seed) for seed in (1, 2))
    assert [first.wait() for _ in range(5)] != [second.wait() for _ in range(5)]


def waits(peace: float, *, times: int = 10, cheap: bool = False) -> float:
    """Fail so many times, waiting each out, then have so much peace; return the next wait."""
    clock = Clock(1000.0)
    made = backoff(clock)
    for _ in range(times):
        clock.now += made.wait(cheap=cheap)
    clock.now += peace
    return made.wait(cheap=cheap)


def test_a_success_alone_is_not_forgiveness() -> None:
    """A server that answers every list and breaks every watch must not be listed in a loop."""
    assert waits(29.0) >= 15.0


def test_the_failures_are_forgotten_after_a_time_of_peace() -> None:
    assert waits(31.0) <= 0.5


def test_a_cheap_failure_is_forgotten_after_ten_times_its_wait() -> None:
    assert waits(4.9, times=1, cheap=True) > 0.5
    assert waits(5.1, times=1, cheap=True) <= 0.5
    assert waits(19.9, times=3, cheap=True) > 0.5
    assert waits(20.1, times=3, cheap=True) <= 0.5
    assert waits(29.0, cheap=True) >= 15.0
    assert waits(31.0, cheap=True) <= 0.5


def test_a_cheap_failure_does_not_make_a_dear_one_forgotten() -> None:
    clock = Clock(1000.0)
    made = backoff(clock)
    clock.now += made.wait()
    clock.now += 20.0
    clock.now += made.wait(cheap=True)
    clock.now += 9.0  # 29 s after the dear one
    assert made.wait(cheap=True) > 1.0


def test_the_time_of_peace_begins_when_the_wait_is_over() -> None:
    clock = Clock()
    made = backoff(clock)
    made.wait(at_least=100.0)
    clock.now += 101.0
    assert made.wait() > 0.5


@pytest.mark.parametrize("now", [0.0, 1e-9, 1e9])
def test_the_first_wait_is_short_whatever_the_clock_says(now: float) -> None:
    assert 0.25 <= backoff(Clock(now)).wait() <= 0.5
