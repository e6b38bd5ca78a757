"""Where the defaults come from: what each setting of the extender makes of the times to start.

One key after another is varied around the shipped values. A value is *better* where the 99th
percentile is lower than with the shipped one on the same seeds, the whole interval of the ratio
below 1: what lies within chance changes no default. Pods that fetch and pods whose loaders fetch
count alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import msgspec

from bench.placement.cluster import Cluster
from bench.placement.core import Core, Settings, shipped_weight
from bench.placement.hardware import Hardware
from bench.placement.measure import FULL_SEEDS, ratio, spread_over
from bench.placement.outcome import outcome, percentile
from bench.placement.settings import ONE_BY_ONE, Setting
from bench.results import Row
from extender.config import ExtenderConfiguration

BENCHMARK = "tuning"
SEEDS = 4
WORKLOADS = ONE_BY_ONE[:3]
"""Catalogues that fit, that fit a few times, and that fit once: where keys could matter most."""

VALUES: Mapping[str, Sequence[float]] = {
    "extenders[].weight": (1, 5, 15, 45, 141),
    "estimate.halfLifeSeconds": (3, 7.5, 15, 30, 60, 120),
    "estimate.engineStartSeconds": (0, 10, 20, 60),
    "estimate.bandwidths.disk": (0.5, 2, 4),
    "estimate.bandwidths.hub": (0.05, 0.2, 1),
}
"""Keys of config/scheduler-config.yaml and config/extender-config.yaml, and what is tried."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run with settings."""

    setting: Setting
    seed: int
    settings: Settings


def measure(*, quick: bool = False, full: bool = False) -> Iterator[Row]:
    """Yield a row for each value of each key."""
    seeds = 1 if quick else FULL_SEEDS if full else SEEDS
    workloads = WORKLOADS[:1] if quick else WORKLOADS
    keys = dict(list(VALUES.items())[:1]) if quick else VALUES
    base = _p99(shipped(), workloads, seeds)
    for key, values in keys.items():
        for value in values:
            settings = changed(shipped(), key, value)
            p99 = base if settings == shipped() else _p99(settings, workloads, seeds)
            middle, low, high = ratio(p99, base)
            yield Row(
                benchmark=BENCHMARK,
                case={"key": key, "value": value},
                figures={
                    "p99 s": fmean(p99),
                    "x shipped": middle,
                    "x shipped interval": f"{low:.2f} to {high:.2f}",
                    "verdict": "shipped"
                    if settings == shipped()
                    else "better"
                    if high < 1
                    else "worse"
                    if low > 1
                    else "no difference",
                },
            )


def shipped() -> Settings:
    """Return what config/ has: the document's defaults, which a test compares with the files."""
    return Settings(policy=ExtenderConfiguration().policy(), weight=shipped_weight())


def changed(settings: Settings, key: str, value: float) -> Settings:
    """Return settings with one key of the configuration changed."""
    replace, policy = msgspec.structs.replace, settings.policy
    if key == "extenders[].weight":
        return replace(settings, weight=float(value))
    if key == "estimate.halfLifeSeconds":
        return replace(settings, policy=replace(policy, half_life=float(value)))
    if key == "estimate.engineStartSeconds":
        return replace(settings, policy=replace(policy, engine_start=float(value)))
    field = key.rpartition(".")[2]
    speeds = replace(policy.bandwidths, **{field: float(value)})
    return replace(settings, policy=replace(policy, bandwidths=speeds))


def trial(one: Trial) -> float:
    """Return the 99th percentile of one run."""
    setting = one.setting
    cluster = Cluster(
        setting.workload,
        one.seed,
        lambda cluster: Core(cluster, one.settings),
        hardware=Hardware(),
        failures=setting.failures,
    )
    cluster.run()
    return percentile(outcome(cluster).starts, 0.99)


def _p99(settings: Settings, workloads: Sequence[Setting], seeds: int) -> list[float]:
    trials = [
        Trial(
            setting=setting,
            seed=seed,
            settings=msgspec.structs.replace(settings, on_demand=on_demand),
        )
        for setting in workloads
        for seed in range(seeds)
        for on_demand in (False, True)
    ]
    return list(spread_over(trial, trials))
