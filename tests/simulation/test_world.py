"""Fresh seeds for most of a minute, printed, so that any failure can be run again.

``make test-simulation SECONDS=600`` goes on for longer, ``SEED=N`` runs that seed alone.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter

import pytest

from extender.verbs.bind import BindOutcome
from simulation.history import Failure, run, shrink
from tests.simulation.clusters import SCENARIOS

STEPS = 1_500

pytestmark = pytest.mark.long


def test_no_seed_breaks_a_law() -> None:
    """Memory is never promised twice, bind never says yes wrongly, nobody waits in vain."""
    given = os.environ.get("SIMULATION_SEED")
    if given:
        attempt(int(given))
        return
    began, end = time.process_time(), time.monotonic() + _seconds()
    first = secrets.randbelow(2**32)
    outcomes = Counter[BindOutcome]()
    events = seeds = 0
    while seeds < 3 or time.monotonic() < end:
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
        pytest.fail(_told(seed, shrink(scenario, ran.failure)), pytrace=False)
    return ran.events, ran.outcomes


def _told(seed: int, failure: Failure) -> str:
    return "\n  ".join(
        [
            failure.text,
            *failure.trace,
            f"-- {len(failure.moves)} moves; again: make test-simulation SEED={seed}",
        ]
    )


def _seconds() -> float:
    return float(os.environ.get("SIMULATION_SECONDS") or "55")


def _words(outcomes: Counter[BindOutcome]) -> str:
    return ", ".join(f"{outcome.value} {number}" for outcome, number in outcomes.most_common())
