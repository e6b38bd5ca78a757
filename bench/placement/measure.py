"""The runs of the benchmark, on all processors, and the rows of its table."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean
from typing import TypeVar

import msgspec

from bench.placement.cluster import Cluster
from bench.placement.hardware import Hardware
from bench.placement.omniscient import bound
from bench.placement.outcome import Outcome, interval, outcome, percentile
from bench.placement.rivals import random_choice
from bench.placement.settings import (
    BASE,
    GRID,
    OMNISCIENT,
    ONE_BY_ONE,
    OURS,
    POLICIES,
    RIVALS,
    Setting,
)
from bench.results import Row

FIRST = next(iter(OURS))
SEEDS = 8
BENCHMARK, FULL = "placement", "placement-full"
BOUND = "bound"


T = TypeVar("T")
Result = TypeVar("Result")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    setting: Setting
    policy: str
    seed: int


def measure(*, quick: bool = False) -> Iterator[Row]:
    """Yield a row for each policy in each setting; percentiles are means over seeds."""
    for setting, outcomes in _outcomes(ONE_BY_ONE, [*POLICIES, BOUND], SEEDS, quick=quick):
        yield from rows(setting, outcomes)


def measure_grid(*, quick: bool = False, seeds: int = SEEDS) -> Iterator[Row]:
    """Yield one row for each combination: how the extender does, and who comes closest."""
    for setting, outcomes in _outcomes(GRID, [FIRST, *RIVALS, OMNISCIENT], seeds, quick=quick):
        yield grid_row(setting, outcomes)


def _outcomes(
    settings: Sequence[Setting], policies: Sequence[str], seeds: int, *, quick: bool
) -> Iterator[tuple[str, dict[str, list[Outcome]]]]:
    """Yield what came of each setting, by policy; a quick run has one small setting."""
    if quick:
        workload = msgspec.structs.replace(BASE.workload, pods=100)
        settings, seeds = [msgspec.structs.replace(BASE, workload=workload)], 2
    cases = [
        Case(setting=setting, policy=policy, seed=seed)
        for setting in settings
        for policy in policies
        for seed in range(seeds)
    ]
    found: dict[str, list[Outcome]] = defaultdict(list)
    done: Iterable[tuple[Case, Outcome]] = zip(cases, spread_over(run, cases), strict=True)
    for case, came in done:
        found[case.policy].append(came)
        if case.policy == policies[-1] and case.seed == seeds - 1:
            yield case.setting.name, dict(found)
            found.clear()


def spread_over(work: Callable[[T], Result], cases: Sequence[T]) -> Iterator[Result]:
    """Run cases on all processors; yield what came of them in their order."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, cases)


def run(case: Case) -> Outcome:
    """Run one case."""
    setting, hardware = case.setting, Hardware()
    make = POLICIES.get(case.policy, random_choice)
    cluster = Cluster(
        setting.workload, case.seed, make, hardware=hardware, failures=setting.failures
    )
    if case.policy == BOUND:
        fastest = max(machine.disk_speed for machine in cluster.machines)
        starts = bound(cluster.arrivals, hardware, fastest)
        return Outcome(
            starts=starts,
            pending=[0.0],
            warm=1.0,
            fetched_bytes=0.0,
            evicted=0,
            fairness=1.0,
            unready=0,
        )
    cluster.run()
    return outcome(cluster)


def rows(setting: str, outcomes: dict[str, list[Outcome]]) -> Iterator[Row]:
    """Yield the rows of one setting, the soonest 99th percentile first.

    Seeds differ more than policies (which sizes are popular): ratios are taken seed by seed.
    """
    p99 = _p99(outcomes)
    for policy, runs in sorted(outcomes.items(), key=lambda item: fmean(p99[item[0]])):
        low, high = interval(p99[policy])
        figures: dict[str, float | int | str] = {
            "mean s": fmean(fmean(one.starts) for one in runs),
            "p50 s": fmean(percentile(one.starts, 0.50) for one in runs),
            "p95 s": fmean(percentile(one.starts, 0.95) for one in runs),
            "p99 s": fmean(p99[policy]),
            "p99 interval": f"{low:.0f} to {high:.0f}",
            **_compared(p99[policy], p99[FIRST], "on demand"),
            **_compared(p99[policy], p99[OMNISCIENT], "omniscient"),
        }
        if policy != BOUND:
            figures |= {
                "warm %": 100 * fmean(one.warm for one in runs),
                "fetched TB": fmean(one.fetched_bytes for one in runs) / 1e12,
                "pending p99 s": fmean(percentile(one.pending, 0.99) for one in runs),
                "fairness": fmean(one.fairness for one in runs),
                "evictions": fmean(one.evicted for one in runs),
                "never ready": fmean(one.unready for one in runs),
            }
        yield Row(benchmark=BENCHMARK, case={"setting": setting, "policy": policy}, figures=figures)


def grid_row(setting: str, outcomes: Mapping[str, list[Outcome]]) -> Row:
    """Return what a setting says of the 99th percentile of the extender, and of all others.

    ``ahead`` names the others whose whole interval is below the extender's, ``best other`` the one
    with the lowest ratio to it.
    """
    p99 = _p99(outcomes)
    ours = p99[FIRST]
    against = {policy: ratio(p99[policy], ours) for policy in RIVALS}
    best = min(against, key=lambda policy: against[policy])
    middle, low, high = against[best]
    figures: dict[str, float | int | str] = {
        "seeds": len(ours),
        "p99 s": fmean(ours),
        **_compared(ours, p99[OMNISCIENT], OMNISCIENT),
        "best other": best,
        "its p99 s": fmean(p99[best]),
        "its x on demand": middle,
        "its interval": f"{low:.2f} to {high:.2f}",
        "ahead": ", ".join(policy for policy, its in against.items() if its[2] < 1),
    }
    return Row(benchmark=FULL, case={"setting": setting}, figures=figures)


def _p99(outcomes: Mapping[str, list[Outcome]]) -> dict[str, list[float]]:
    return {
        policy: [percentile(one.starts, 0.99) for one in runs] for policy, runs in outcomes.items()
    }


def ratio(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of values to others, pair by pair: the geometric mean, and its interval."""
    logarithms = [math.log(mine / its) for mine, its in zip(values, others, strict=True)]
    low, high = interval(logarithms)
    return math.exp(fmean(logarithms)), math.exp(low), math.exp(high)


def _compared(
    values: Sequence[float], others: Sequence[float], name: str
) -> dict[str, float | str]:
    middle, low, high = ratio(values, others)
    return {f"x {name}": middle, f"x {name} interval": f"{low:.2f} to {high:.2f}"}
