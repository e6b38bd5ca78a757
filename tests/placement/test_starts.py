"""The order of starts: the soonest first, and never another one than a fresh sort would give."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from extender.placement.policy import Policy
from extender.placement.score import MAX_SCORE, score
from extender.placement.starts import Starts

SECONDS = st.sampled_from([20.0, 22.5, 23.0, 28.0, 30.0, 45.5, 100.0, 3600.0])
NAMES = st.sampled_from("abcdefghijxyz")
ANSWERS = st.dictionaries(st.sampled_from("abcdefghij"), SECONDS, max_size=10)


@given(ANSWERS, st.lists(ANSWERS, max_size=4))
def test_the_order_is_kept_as_answers_change(
    first: dict[str, float], later: list[dict[str, float]]
) -> None:
    table = Starts(first)
    for answers in later:
        assert table.order == sorted(table.answers, key=lambda n: (table.answers[n], n))
        table = table.replaced(answers)
    assert table.order == sorted(table.answers, key=lambda n: (table.answers[n], n))


@given(ANSWERS, st.sampled_from([MAX_SCORE, MAX_SCORE - 1]))
def test_a_rank_has_the_nodes_of_one_score_and_the_highest_comes_first(
    answers: dict[str, float], most: int
) -> None:
    table, policy = Starts(answers), Policy()
    best = min(answers.values(), default=0.0)

    def its(name: str) -> int:
        return min(most, score(answers[name] - best, policy))

    ranks = list(table.ranks(best, policy, most=most))
    expected = [list(names) for _, names in groupby(table.order, key=its)]
    assert [list(rank.nodes()) for rank in ranks] == expected
    for rank in ranks:
        assert rank.size == len(list(rank.nodes()))
        assert set(rank.select(iter(answers))) == set(rank.nodes())
    beaten = [rank for rank in ranks if rank.beaten]
    if most == MAX_SCORE and ranks and its(next(iter(ranks[-1].nodes()))) == 0:
        assert beaten == [ranks[-1]]
    else:
        assert beaten == []


@given(
    ANSWERS, st.lists(ANSWERS, max_size=4), st.lists(NAMES, unique=True, max_size=14), st.booleans()
)
def test_the_nodes_asked_about_come_in_the_order_of_all(
    first: dict[str, float], later: list[dict[str, float]], names: list[str], again: bool
) -> None:
    """Also where very few are asked about, and where the same ones were before a change."""
    table, asked = Starts(first), frozenset(names)
    for answers in later:
        if again:
            table.among(names, asked)
        table = table.replaced(answers)
    assert list(table.among(names, asked)) == [name for name in table.order if name in asked]
