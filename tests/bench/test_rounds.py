"""Ratios on a machine whose speed changes: what runs side by side is compared, and no other."""

from __future__ import annotations

import pytest

from bench.rounds import parts, summed_up, turns

ALL = ("none", "ours", "ours again", "theirs")


def test_all_take_turns_and_every_second_round_goes_backwards() -> None:
    assert list(turns(ALL, {}, 2)) == [
        *(["none"], ["ours"], ["ours again"], ["theirs"]),
        *(["theirs"], ["ours again"], ["ours"], ["none"]),
    ]


def test_those_that_one_process_serves_run_one_after_the_other() -> None:
    assert list(turns(ALL, {"ours again": "ours"}, 2)) == [
        *(["none"], ["ours", "ours again"], ["theirs"]),
        *(["theirs"], ["ours again", "ours"], ["none"]),
    ]


@pytest.mark.parametrize(
    ("whole", "rounds", "expected"), [(2000, 3, [667, 667, 666]), (750, 3, [250] * 3), (7, 1, [7])]
)
def test_the_rounds_have_all_pods_among_them(whole: int, rounds: int, expected: list[int]) -> None:
    assert parts(whole, rounds) == expected


def test_a_machine_that_slows_down_for_a_round_changes_no_ratio() -> None:
    seen = {
        "none": [{"pods/s": 100.0}, {"pods/s": 40.0}, {"pods/s": 80.0}],
        "ours": [{"pods/s": 90.0}, {"pods/s": 36.0}, {"pods/s": 72.0}],
    }
    ours = summed_up(seen, figure="pods/s", base="none", ratio="x none")["ours"]
    assert ours == {
        "pods/s": 72.0,
        "x none": pytest.approx(0.9),
        "x none least": pytest.approx(0.9),
        "x none most": pytest.approx(0.9),
    }


def test_a_round_that_went_wrong_shows_and_does_not_count() -> None:
    seen = {
        "none": [{"pods/s": 100.0, "bound": 5}] * 3,
        "ours": [{"pods/s": pods, "bound": 5} for pods in (95.0, 20.0, 105.0)],
    }
    ours = summed_up(seen, figure="pods/s", base="none", ratio="x none")["ours"]
    assert (ours["x none least"], ours["x none"], ours["x none most"]) == (0.2, 0.95, 1.05)
    assert ours["bound"] == 15
