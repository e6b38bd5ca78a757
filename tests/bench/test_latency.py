"""Percentiles: exact, of all turns together, and left out where few requests are slower."""

from __future__ import annotations

from bench.latency import SLOWER, Latency, together


def _latency(number: int) -> Latency:
    return Latency(milliseconds=[float(n) for n in range(number)])


def test_a_percentile_is_one_of_the_times_that_were_seen() -> None:
    seen = _latency(1_000)
    assert [seen.percentile(percent) for percent in (50, 90, 99, 99.9)] == [500, 900, 990, 999]
    assert seen.max == 999


def test_a_percentile_that_hardly_any_request_exceeds_is_not_told() -> None:
    assert set(_latency(5).figures()) == {"p50", "max"}
    assert set(_latency(48).figures()) == {"p50", "p90", "max"}
    assert set(_latency(600).figures()) == {"p50", "p90", "p99", "max"}
    enough = _latency(SLOWER * 1_000 + 1_000)
    assert set(enough.figures()) == {"p50", "p90", "p99", "p99.9", "max"}
    assert sum(time > enough.figures()["p99.9"] for time in enough.milliseconds) == SLOWER


def test_turns_count_together_and_not_one_by_one() -> None:
    quick, slow = Latency(milliseconds=[1.0] * 90), Latency(milliseconds=[9.0] * 10)
    both = together([slow, quick])
    assert (both.percentile(50), both.percentile(90)) == (1.0, 9.0)
    assert len(both.milliseconds) == 100
