"""Sets of node names: the same one for the same names, however often and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender import name_sets
from extender.name_sets import NameSets

NAMES = st.lists(st.text(max_size=3), max_size=12)


@given(st.lists(NAMES, max_size=8), st.randoms())
def test_the_same_names_give_the_same_object_and_others_another(
    questions: list[list[str]], chance: object
) -> None:
    sets = NameSets()
    before = [sets.of(names) for names in questions]
    for names, known in zip(questions, before, strict=True):
        mixed = [*names, *names[:1]]
        chance.shuffle(mixed)  # type: ignore[attr-defined]
        assert known == set(names)
        assert sets.of(mixed) is known


def test_what_is_kept_is_bounded_and_nothing_is_too_large_to_be_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_sets, "MAX_NAMES", 1_000)
    sets = NameSets()
    for number in range(100):
        sets.of(f"{number}-{name}" for name in range(200))
    large = [f"{name}" for name in range(2_000)]
    assert sets.of(large) == set(large)
    assert sum(map(len, sets._kept.values())) <= 1_000
