"""The bandwidth that all downloads of a process share."""

from __future__ import annotations

from extender.loader.transfer.limits import Limits
from tests.clock import Clock


def limits(clock: Clock, rate: float) -> Limits:
    def sleep(seconds: float) -> None:
        clock.now += seconds

    return Limits(bytes_per_second=rate, clock=clock, sleep=sleep)


def adjust(bound: Limits, rate: float) -> None:
    bound.adjust(connections=8, bytes_per_second=rate, reserve_bytes=0)


def test_the_mean_holds_and_what_was_not_used_is_not_saved_up() -> None:
    clock = Clock(0.0)
    bound = limits(clock, 100)
    clock.now = 1000.0
    for _ in range(10):
        bound.take(50, lambda: False)
    assert 1005.0 <= clock.now < 1005.2


def test_a_raised_bound_holds_for_what_came_before_it_and_for_whoever_waits() -> None:
    clock = Clock(0.0)
    bound = limits(clock, 100)

    def raise_it_later() -> bool:
        if clock.now > 1 and bound.bytes_per_second == 100:
            adjust(bound, 1_000_000)
        return False

    bound.take(1_000_000, raise_it_later)  # three hours at 100 bytes a second
    assert clock.now < 3
    bound.take(1, lambda: False)
    assert clock.now < 3


def test_a_bound_that_is_taken_away_lets_whoever_waits_go() -> None:
    clock = Clock(0.0)
    bound = limits(clock, 100)

    def no_bound_later() -> bool:
        if clock.now > 1:
            adjust(bound, 0)
        return False

    bound.take(1_000_000, no_bound_later)
    assert clock.now < 2
    adjust(bound, 100)
    bound.take(100, lambda: False)
    assert clock.now < 3.2
