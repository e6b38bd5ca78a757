"""Where the defaults come from: what each setting of the extender makes of the times to start.

One key after another is varied around the shipped values. A value is *better* where both the mean
and the 99th percentile are lower than with the shipped one on the same seeds, the whole interval of
each ratio below 1: what lies within chance changes no default, and a 99th percentile alone is made
by four pods of a run. Pods that fetch and pods whose loaders fetch count alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import msgspec

from bench.placement.cluster import Cluster
from bench.placement.core import Core, Settings, shipped_weight
from bench.placement.hardware import Hardware
from bench.placement.measure import ratio, spread_over
from bench.placement.outcome import outcome, percentile
from bench.placement.settings import ONE_BY_ONE, Setting
from bench.results import Row
from extender.config import ExtenderConfiguration

BENCHMARK = "tuning"
SEEDS, FULL_SEEDS = 4, 30
WORKLOADS = ONE_BY_ONE[:3]
"""Catalogues that fit, that fit a few times, and that fit once: where keys could matter most."""

OPEN = "OPEN_LATELY"
"""No key of the configuration, but a constant of extender/cluster/ledger.py."""

VALUES: Mapping[str, Sequence[float]] = {
    "extenders[].weight": (1, 5, 15, 45),
    "estimate.halfLifeSeconds": (5, 15, 45),
}
MORE_VALUES: Mapping[str, Sequence[float]] = {
    "extenders[].weight": (1, 2, 5, 10, 15, 30, 45, 141),
    "estimate.halfLifeSeconds": (3, 7.5, 15, 30, 60, 120),
    "estimate.engineStartSeconds": (0, 10, 20, 40),
    "estimate.bandwidths.disk": (0.5, 1, 2, 4),
    "estimate.bandwidths.hub": (0.05, 0.1, 0.2, 0.4, 1),
    OPEN: (0, 1, 2, 3, 4, 8),
}
"""Keys of config/scheduler-config.yaml and config/extender-config.yaml, and what is tried."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run with settings."""

    setting: Setting
    seed: int
    settings: Settings


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a pod's creation to Ready in one run."""

    mean: float
    p99: float


def measure(*, quick: bool = False, full: bool = False) -> Iterator[Row]:
    """Yield a row for each value of each key."""
    seeds = 1 if quick else FULL_SEEDS if full else SEEDS
    workloads = WORKLOADS[:1] if quick else WORKLOADS
    keys = MORE_VALUES if full else VALUES
    keys = dict(list(keys.items())[:1]) if quick else keys
    base = _trials(shipped(), workloads, seeds)
    for key, values in keys.items():
        for value in values:
            settings = changed(shipped(), key, value)
            same = settings == shipped()
            came = base if same else _trials(settings, workloads, seeds)
            yield Row(
                benchmark=BENCHMARK,
                case={"key": key, "value": value},
                figures=_figures(came, base, shipped=same),
            )


def _figures(
    came: Sequence[Times], base: Sequence[Times], *, shipped: bool
) -> dict[str, float | int | str]:
    mean = ratio([one.mean for one in came], [one.mean for one in base])
    p99 = ratio([one.p99 for one in came], [one.p99 for one in base])
    return {
        "mean s": fmean(one.mean for one in came),
        "p99 s": fmean(one.p99 for one in came),
        "mean x shipped": mean[0],
        "mean interval": f"{mean[1]:.2f} to {mean[2]:.2f}",
        "p99 x shipped": p99[0],
        "p99 interval": f"{p99[1]:.2f} to {p99[2]:.2f}",
        "verdict": "shipped" if shipped else verdict(mean, p99),
    }


def verdict(*ratios: tuple[float, float, float]) -> str:
    """Say what ratios with their intervals show: nothing, unless all of them show it."""
    if all(high < 1 for _, _, high in ratios):
        return "better"
    return "worse" if all(low > 1 for _, low, _ in ratios) else "no difference"


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
    if key == OPEN:
        return replace(settings, open_lately=int(value))
    field = key.rpartition(".")[2]
    speeds = replace(policy.bandwidths, **{field: float(value)})
    return replace(settings, policy=replace(policy, bandwidths=speeds))


def trial(one: Trial) -> Times:
    """Return how one run went."""
    setting = one.setting
    cluster = Cluster(
        setting.workload,
        one.seed,
        lambda cluster: Core(cluster, one.settings),
        hardware=Hardware(),
        failures=setting.failures,
    )
    cluster.run()
    starts = outcome(cluster).starts
    return Times(mean=fmean(starts), p99=percentile(starts, 0.99))


def _trials(settings: Settings, workloads: Sequence[Setting], seeds: int) -> list[Times]:
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
