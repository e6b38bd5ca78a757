"""Scores: integers from 0 to 10 that follow the estimated start."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.policy import Policy
from extender.placement.score import HEADROOM_SECONDS, MAX_SCORE, crowding_seconds, scores

SECONDS = st.floats(0, 10**9)
TABLES = st.dictionaries(st.text(min_size=1, max_size=4), SECONDS, min_size=1, max_size=30)
POLICIES = st.builds(Policy, half_life=st.floats(min_value=1e-300, max_value=86_400))
GI = 2**30


@given(TABLES, POLICIES)
def test_a_score_is_an_integer_from_0_to_10_for_every_node(
    seconds: dict[str, float], policy: Policy
) -> None:
    table = scores(seconds, policy)
    assert set(table) == set(seconds)
    assert all(type(score) is int and 0 <= score <= MAX_SCORE for score in table.values())


@given(TABLES, POLICIES)
def test_a_node_that_starts_later_never_scores_higher(
    seconds: dict[str, float], policy: Policy
) -> None:
    table = scores(seconds, policy)
    for sooner, later in pairwise(sorted(seconds, key=lambda name: seconds[name])):
        assert table[sooner] >= table[later]


@given(TABLES, POLICIES)
def test_the_soonest_node_has_the_highest_score(seconds: dict[str, float], policy: Policy) -> None:
    best = min(seconds, key=lambda name: seconds[name])
    assert scores(seconds, policy)[best] == MAX_SCORE


@given(TABLES, POLICIES)
def test_equal_starts_have_equal_scores(seconds: dict[str, float], policy: Policy) -> None:
    twins = seconds | {f"{name}-twin": value for name, value in seconds.items()}
    table = scores(twins, policy)
    assert all(table[name] == table[f"{name}-twin"] for name in seconds)


@given(TABLES.flatmap(lambda table: st.tuples(st.just(table), st.permutations(list(table)))))
def test_the_order_of_the_question_does_not_matter(
    asked: tuple[dict[str, float], list[str]],
) -> None:
    table, order = asked
    assert scores({name: table[name] for name in order}, Policy()) == scores(table, Policy())


@given(TABLES, st.floats(0, 10**6), POLICIES)
def test_a_node_that_is_no_better_than_the_best_changes_no_other_score(
    seconds: dict[str, float], later: float, policy: Policy
) -> None:
    extended = seconds | {"another": min(seconds.values()) + later}
    table = scores(extended, policy)
    assert {name: table[name] for name in seconds if name != "another"} == {
        name: score for name, score in scores(seconds, policy).items() if name != "another"
    }


@given(TABLES, SECONDS)
def test_no_other_node_turns_the_order_of_two_round(
    seconds: dict[str, float], another: float
) -> None:
    """A better node takes points from the others; it never makes a later one pass a sooner one."""
    before, after = (
        scores(seconds, Policy()),
        scores(seconds | {"another-one": another}, Policy()),
    )
    for left in seconds:
        for right in seconds:
            if before[left] > before[right]:
                assert after[left] >= after[right]


@given(st.floats(0, 3600), st.floats(0, 1))
def test_a_second_behind_the_best_does_not_show(best: float, behind: float) -> None:
    assert scores({"a": best, "b": best + behind}, Policy()) == {"a": 10, "b": 10}


@pytest.mark.parametrize(
    ("behind", "score"),
    [(0, 10), (5, 8), (15, 5), (30, 2), (45, 1), (80, 0), (1e9, 0)],
)
def test_a_half_life_behind_is_half_the_score(behind: float, score: int) -> None:
    assert scores({"best": 20, "other": 20 + behind}, Policy(half_life=15))["other"] == score


def test_no_nodes_have_no_scores() -> None:
    assert scores({}, Policy()) == {}


# -- headroom ------------------------------------------------------------------------------------

BYTES = st.integers(0, 2**45)


@given(BYTES, st.integers(-(2**45), 2**45), BYTES)
def test_headroom_is_worth_two_seconds_at_most(allocatable: int, free: int, demand: int) -> None:
    free = min(free, allocatable)
    assert 0 <= crowding_seconds(allocatable, free, demand) <= HEADROOM_SECONDS


@given(BYTES, st.integers(-(2**45), 2**45), BYTES, BYTES)
def test_a_fuller_node_is_never_less_crowded(
    allocatable: int, free: int, more: int, demand: int
) -> None:
    emptier = crowding_seconds(allocatable, free, demand)
    assert emptier <= crowding_seconds(allocatable, free - more, demand)


def test_crowding_is_the_share_of_the_node_that_would_be_taken() -> None:
    assert crowding_seconds(64 * GI, 48 * GI, 16 * GI) == HEADROOM_SECONDS / 2
    assert crowding_seconds(64 * GI, 48 * GI, 48 * GI) == HEADROOM_SECONDS
