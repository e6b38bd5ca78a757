"""A run can be repeated exactly, and what breaks a law is told in a few lines."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from extender.verbs.bind import _Binder
from simulation.history import play, run, shrink
from simulation.law import Law
from simulation.moves import Player
from tests.simulation.clusters import CROWDED, SCENARIOS

STEPS = 600
_PRINT_TRACES = """
from simulation.moves import Player
from tests.simulation.clusters import SCENARIOS
for number, scenario in enumerate(SCENARIOS):
    player = Player(scenario, number)
    for _ in range(600):
        player.step()
    print(chr(10).join(player.world.trace), flush=True)
"""

pytestmark = pytest.mark.timeout(900)
"""A busy machine may give it a tenth of a processor."""


def traces(hash_seed: str) -> str:
    """Return what happens in each scenario by one seed, in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", _PRINT_TRACES],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=400,
    ).stdout


def test_a_seed_is_the_same_run_in_every_process() -> None:
    first = traces("1")
    assert len(first.splitlines()) > 100 * len(SCENARIOS)
    assert traces("2") == first


def test_the_moves_of_a_run_played_again_are_the_same_run() -> None:
    player = Player(CROWDED, 11)
    for _ in range(STEPS):
        player.step()
    begin, *moves = player.moves
    again = Player(CROWDED, begin=begin)
    for move in moves:
        again.play(move)
    assert again.world.trace == player.world.trace
    assert again.moves == player.moves


def test_a_broken_law_is_shown_by_a_short_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that does not look again when it binds: two pods, one node, and little else."""
    monkeypatch.setattr(_Binder, "_check", lambda *_: None)
    law = Law.MEMORY
    failures = (run(CROWDED, seed, STEPS).failure for seed in range(120))
    failure = next(f for f in failures if f and f.law == law)
    short = shrink(CROWDED, failure)
    assert short.law == law
    assert len(short.moves) <= 12
    assert len(short.trace) <= 10
    again = play(CROWDED, short.moves)
    assert again is not None
    assert again.text == short.text


def test_a_run_without_a_fault_breaks_nothing() -> None:
    assert run(CROWDED, 3, STEPS).failure is None
