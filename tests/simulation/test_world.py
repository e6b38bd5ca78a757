"""A minute of fresh seeds, printed, so that any failure can be run again; in CI always the same.

``make test-simulation SECONDS=600`` goes on for longer, ``SEED=N`` runs that seed alone.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from extender.verbs.bind import BindOutcome
from simulation.history import Failure, run, shrink
from tests.seeds import FRESH, seed_of
from tests.simulation.clusters import SCENARIOS

STEPS = 1_500
SECONDS = 55
SEEDS = 40
"""In CI: see ``tests.seeds``."""
SHRINK_SECONDS = 60
"""Less than what is left of a test's time: the seed has to be told."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_no_seed_breaks_a_law() -> None:
    """Memory is never promised twice, bind never says yes wrongly, nobody waits in vain."""
    if alone := os.environ.get("SIMULATION_SEED"):
        attempt(int(alone))
        return
    seconds = float(os.environ.get("SIMULATION_SECONDS") or SECONDS)
    first = seed_of("SIMULATION_SEED")
    began, end = time.process_time(), time.monotonic() + seconds
    outcomes = Counter[BindOutcome]()
    events = seeds = 0
    while seeds < 3 or (time.monotonic() < end if FRESH else seeds < SEEDS):
        done, bound = attempt(first + seeds)
        events += done
        outcomes += bound
        seeds += 1
    speed = events / (time.process_time() - began) * 60
    tried = f"seeds {first}..{first + seeds - 1}, {events} events ({speed:.0f} a minute of CPU)"
    print(f"\nsimulation: {tried}, binds {_words(outcomes)}")  # noqa: T201 - to run it again
    # Every fate was met, or the run shows nothing.
    assert set(outcomes) >= {BindOutcome.BOUND, BindOutcome.REFUSED, BindOutcome.UNKNOWN}


def attempt(seed: int) -> tuple[int, Counter[BindOutcome]]:
    """Run one seed; what it breaks is made short and told, with how to run it again."""
    scenario = SCENARIOS[seed % len(SCENARIOS)]
    ran = run(scenario, seed, STEPS)
    if ran.failure is not None:
        end = time.monotonic() + SHRINK_SECONDS
        short = shrink(scenario, ran.failure, lambda: time.monotonic() < end)
        pytest.fail(_told(seed, short), pytrace=False)
    return ran.events, ran.outcomes


def _told(seed: int, failure: Failure) -> str:
    return "\n  ".join(
        [
            failure.text,
            *failure.trace,
            f"-- {len(failure.moves)} moves; again: make test-simulation SEED={seed}",
        ]
    )


def _words(outcomes: Counter[BindOutcome]) -> str:
    return ", ".join(f"{outcome.value} {number}" for outcome, number in outcomes.most_common())
