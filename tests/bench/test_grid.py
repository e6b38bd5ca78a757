"""The row of a setting in the grid: who is ahead, and how near the best of the others comes."""

from __future__ import annotations

from bench.placement.measure import BOUND, grid_row
from bench.placement.outcome import Outcome
from bench.placement.settings import OMNISCIENT, POLICIES


def _took(*seconds: float) -> list[Outcome]:
    """Return runs in which every pod took as long."""
    return [
        Outcome(
            starts=[each] * 10,
            pending=[0.0],
            warm=1.0,
            fetched_bytes=0.0,
            evicted=0,
            fairness=1.0,
            unready=0,
        )
        for each in seconds
    ]


def test_those_ahead_are_named_and_the_best_of_the_others_with_its_ratio() -> None:
    outcomes = {policy: _took(200.0, 100.0) for policy in (*POLICIES, BOUND)}
    outcomes |= {
        "on demand": _took(100.0, 50.0),
        OMNISCIENT: _took(50.0, 25.0),
        "preferring": _took(10.0, 5.0),  # this extender, too
        "OME": _took(90.0, 45.0),
        "Fluid": _took(50.0, 60.0),  # ahead once, behind once
        "KServe": _took(80.0, 45.0),
    }
    row = grid_row("a setting", outcomes)
    assert row.case == {"setting": "a setting"}
    assert row.figures["seeds"] == 2
    assert row.figures["p99 s"] == 75.0
    assert row.figures["x omniscient interval"] == "2.00 to 2.00"
    assert row.figures["best other"] == "Fluid"
    assert row.figures["ahead"] == "KServe, OME"


def test_where_nobody_is_ahead_nobody_is_named() -> None:
    outcomes = {policy: _took(100.0, 50.0) for policy in (*POLICIES, BOUND)}
    row = grid_row("a setting", outcomes)
    assert (row.figures["ahead"], row.figures["its x on demand"]) == ("", 1.0)
