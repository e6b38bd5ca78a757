"""A minute of seeds: fresh ones each time, printed, so that any failure can be run again.

``SIMULATION_SEED=N`` runs that seed alone; ``SIMULATION_SECONDS`` sets how long fresh ones run.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter

from extender.verbs.bind import BindOutcome
from tests.simulation.world import World

STEPS = 1_500


def run(seed: int) -> World:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.settle()
    return world


def test_no_seed_breaks_a_law() -> None:
    """Memory is never promised twice, bind never says yes wrongly, nobody waits in vain."""
    given = os.environ.get("SIMULATION_SEED")
    if given is not None:
        run(int(given))
        return
    end = time.monotonic() + float(os.environ.get("SIMULATION_SECONDS", "60"))
    first = secrets.randbelow(2**32)
    events, outcomes = 0, Counter[BindOutcome]()
    seeds = 0
    while seeds < 3 or time.monotonic() < end:
        world = run(first + seeds)
        events += world.events
        outcomes.update(world.binds)
        seeds += 1
    tried = f"seeds {first}..{first + seeds - 1}, {events} steps"
    print(f"\nsimulation: {tried}, binds {_words(outcomes)}")  # noqa: T201 - to run it again
    # Every fate was met, or the run shows nothing.
    assert set(outcomes) >= {BindOutcome.BOUND, BindOutcome.REFUSED, BindOutcome.UNKNOWN}


def _words(outcomes: Counter[BindOutcome]) -> str:
    return ", ".join(f"{outcome.value} {number}" for outcome, number in outcomes.most_common())
