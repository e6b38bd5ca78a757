"""Tuning: what a value has to show before it is called better."""

from __future__ import annotations

import pytest

from bench.placement.tune import MORE_VALUES, VALUES, changed, shipped, verdict
from extender.config import ExtenderConfiguration


@pytest.mark.parametrize(
    ("mean", "p99", "said"),
    [
        ((0.9, 0.8, 0.99), (0.9, 0.8, 0.99), "better"),
        ((0.9, 0.8, 0.99), (0.9, 0.8, 1.01), "no difference"),
        ((1.0, 0.9, 1.1), (0.5, 0.4, 0.6), "no difference"),
        ((1.2, 1.1, 1.3), (1.2, 1.1, 1.3), "worse"),
        ((1.2, 1.1, 1.3), (0.8, 0.7, 0.9), "no difference"),
    ],
)
def test_chance_changes_no_default(
    mean: tuple[float, float, float], p99: tuple[float, float, float], said: str
) -> None:
    assert verdict(mean, p99) == said


@pytest.mark.parametrize("values", [VALUES, MORE_VALUES])
def test_every_key_changes_one_thing_and_its_shipped_value_is_among_those_tried(
    values: dict[str, tuple[float, ...]],
) -> None:
    for key, tried in values.items():
        made = [changed(shipped(), key, value) for value in tried]
        assert len(set(made)) == len(tried)
        assert shipped() in made


def test_what_is_tried_against_is_what_is_shipped() -> None:
    assert shipped().policy == ExtenderConfiguration().policy()
    assert shipped().weight == 15
