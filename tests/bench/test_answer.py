"""Both servers decide the same, or nothing is measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench.answer import difference


def _passed(*names: str, whole: bool = False) -> dict[str, Any]:
    items = [{"metadata": {"name": name}} for name in names]
    return {
        "NodeNames": None if whole else list(names),
        "Nodes": {"items": items} if whole else None,
    }


def _scored(**scores: int) -> list[dict[str, Any]]:
    return [{"Host": name, "Score": score} for name, score in scores.items()]


@pytest.mark.parametrize("whole", [False, True])
def test_the_same_nodes_in_another_order_are_the_same_decision(whole: bool) -> None:
    assert difference("filter", _passed("a", "b"), _passed("b", "a", whole=whole)) == ""
    assert difference("prioritize", _scored(a=1, b=9), _scored(b=9, a=1)) == ""


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (("a",), ("a", "b"), "b is left out here and passed in the reference"),
        (("a", "b"), ("b",), "a is passed here and left out in the reference"),
        ((), ("b",), "b is left out here and passed in the reference"),
    ],
)
def test_a_node_that_only_one_of_them_passes_is_a_difference(
    ours: tuple[str, ...], theirs: tuple[str, ...], said: str
) -> None:
    assert difference("filter", _passed(*ours), _passed(*theirs)) == said


def test_an_error_passes_no_node() -> None:
    error = {"NodeNames": None, "Nodes": None, "Error": "not listed yet"}
    assert difference("filter", error, _passed("a")) != ""


def test_another_score_is_a_difference_and_so_is_none() -> None:
    said = "b is scored 9 here and scored 8 in the reference"
    assert difference("prioritize", _scored(a=1, b=9), _scored(a=1, b=8)) == said
    assert "b is left out here" in difference("prioritize", _scored(a=1), _scored(a=1, b=0))
