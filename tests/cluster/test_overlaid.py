"""Pictures of a table are what it was when each was made, whatever has happened to it since."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from extender.cluster.overlaid import MOST_OVER, Kept

KEYS = [f"node-{number}" for number in range(MOST_OVER * 3)]


@pytest.mark.parametrize("seed", range(5))
def test_every_picture_stays_as_the_table_was(seed: int) -> None:
    chance = random.Random(seed)
    table: Kept[int] = Kept()
    model: dict[str, int] = {}
    pictures: list[tuple[Mapping[str, int], dict[str, int]]] = []
    for number in range(3_000):
        key = chance.choice(KEYS)
        if chance.random() < 0.02:
            assert table.pop(key) == model.pop(key, None)
        elif key in model or chance.random() < 0.1:
            table.put(key, number)
            model[key] = number
        if chance.random() < 0.3:
            pictures.append((table.picture(), dict(model)))
    assert dict(table.values) == model
    for picture, was in pictures:
        assert dict(picture.items()) == was
        assert list(picture.values()) == [was[key] for key in picture]
        assert picture.keys() == set(picture) == was.keys()
        assert len(picture) == len(was)
        for key in KEYS:
            assert picture.get(key) == was.get(key)
            assert (key in picture) == (key in was)
        assert {key: picture[key] for key in was} == was
        assert all(key in was or not _has(picture, key) for key in KEYS)


def _has(picture: Mapping[str, int], key: str) -> bool:
    try:
        picture[key]
    except KeyError:
        return False
    return True


def test_two_pictures_are_never_the_same_object() -> None:
    """Whoever compares them by identity asks whether anything has happened."""
    table: Kept[int] = Kept()
    table.put("a", 1)
    assert table.picture() is not table.picture()
