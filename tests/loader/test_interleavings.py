"""Whatever the loader's threads do at once, and whatever happens to a node: what is said is true.

Never ready unless the bytes are those of the revision that is told, undamaged as far as is known;
never absent or failed where whole bytes are; at rest where nothing changes; whole in the end.
``make test-interleavings`` plays thousands of histories (INTERLEAVINGS, INTERLEAVINGS_SEED).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extender.loader.looking import Looker
from tests.loader.hub import Hub
from tests.loader.random_cache import Cache

HISTORIES = int(os.environ.get("INTERLEAVINGS", "2"))
FIRST = int(os.environ.get("INTERLEAVINGS_SEED", "1"))
EVENTS = 14


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.mark.parametrize("seed", range(FIRST, FIRST + HISTORIES))
def test_what_is_said_is_true_and_all_is_well_in_the_end(
    fast: Path, hub: Hub, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(fast, hub, seed, monkeypatch, loaders=1 + seed % 2)
    try:
        play(cache)
    except BaseException as error:
        error.add_note("\n".join(cache.told))
        raise
    finally:
        for actor in list(cache.turns.actors):
            actor.kill()


FAULTS: dict[str, tuple[int, tuple[type, str, Any]]] = {
    "known to be damaged": (1, (Looker, "_known", lambda *_: None)),
    "marked as damaged": (20, (Looker, "_marked", lambda *_: False)),
}
"""By the law that it breaks: the first seed to try, and what is planted."""


@pytest.mark.long
@pytest.mark.parametrize("law", FAULTS)
def test_a_planted_fault_is_found(fast: Path, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no marker tells is forgotten; what a marker tells is not looked at."""
    first, fault = FAULTS[law]
    monkeypatch.setattr(*fault)
    for seed in range(first, first + 11):
        with Hub() as hub, monkeypatch.context() as patched:
            root = fast / str(seed)
            root.mkdir()
            cache = Cache(root, hub, seed, patched, loaders=1 + seed % 2)
            try:
                play(cache)
            except AssertionError as error:
                assert law in str(error)
                return
            finally:
                for actor in list(cache.turns.actors):
                    actor.kill()
    pytest.fail("no seed shows it")


def play(cache: Cache) -> None:
    random = cache.random
    come_to_rest(cache)
    for _ in range(EVENTS):
        cache.happens()
        for _ in range(random.choice((5, 20, 80, 200))):
            if random.random() < 0.2:
                cache.begin_something()
            else:
                cache.one_step()
        if random.random() < 0.3:
            cache.round()
            cache.check(at_rest=True)
    for _ in range(8):  # nothing happens, and what is wrong is still wrong
        cache.round(seconds=200)
        cache.check(at_rest=True)
    said = cache.essence()
    for _ in range(5):
        cache.round(seconds=300)
        assert cache.essence() == said, f"news, though nothing has happened: {said}"
    come_to_rest(cache)


def come_to_rest(cache: Cache) -> None:
    cache.heal()
    for _ in range(30):
        cache.round(seconds=120)
        cache.check(at_rest=True)
        if cache.is_healed():
            return
    raise AssertionError(f"{[one.said() for one in cache.loaders]} {cache.leftover()}")
