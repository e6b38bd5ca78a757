"""What came of a run, and of many: percentiles, shares, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean

import msgspec

from bench.placement.cluster import Cluster

RESAMPLES = 1_000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Seconds from a pod's creation to Ready, by pod; bytes over the whole run.

    ``pending`` is seconds from creation to bound, ``warm`` the share of pods that found their model
    on the machine's disk, ``fairness`` Jain's index of the GPU seconds that machines gave.
    ``unready`` counts the pods that never served: their times end with the run.
    """

    starts: list[float]
    pending: list[float]
    warm: float
    fetched_bytes: float
    evicted: int
    fairness: float
    unready: int


def outcome(cluster: Cluster) -> Outcome:
    """Read a run that is over."""
    end, pods = cluster.now, cluster.pods
    given = dict.fromkeys(cluster.machines, 0.0)
    for pod in pods:
        if pod.machine is not None and pod.bound is not None:
            gone = pod.gone if pod.gone is not None else end
            given[pod.machine] += pod.model.gpus * (gone - pod.bound)
    lost = [pod for pod in pods if pod.ready is None and pod.gone is not None]
    counted = [pod for pod in pods if pod not in lost]
    return Outcome(
        starts=[(end if pod.ready is None else pod.ready) - pod.created for pod in counted],
        pending=[(end if pod.bound is None else pod.bound) - pod.created for pod in counted],
        warm=fmean(pod.warm for pod in counted),
        fetched_bytes=cluster.network.moved,
        evicted=sum(machine.evicted for machine in cluster.machines),
        fairness=jain(list(given.values())),
        unready=sum(pod.ready is None for pod in counted),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all values does not exceed, between two by its place."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def jain(given: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 where all are given the same, 1/n where one has all.

    (Jain, Chiu and Hawe, DEC Research Report TR-301, 1984.)
    """
    squares = sum(value * value for value in given)
    return sum(given) ** 2 / (len(given) * squares) if squares else 1.0


def interval(
    values: Sequence[float], middle: Callable[[Sequence[float]], float] = fmean
) -> tuple[float, float]:
    """Return where the middle of values lies in 95 of 100 resamples (percentile bootstrap).

    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.)
    """
    random = Random(len(values))
    middles = [middle(random.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    return percentile(middles, 0.025), percentile(middles, 0.975)
