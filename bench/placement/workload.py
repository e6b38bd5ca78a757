"""Which pods come when: models of a catalogue by Zipf's law, at the times of a trace or in bursts.

Two traces are real: gaps between the requests of two services in Azure's LLM inference trace of
2023 (``azure-2023.json`` says more). Requests are not pods, so only their rhythm is taken: a run's
arrivals are a stretch of consecutive gaps, scaled to the rate that the cluster can bear. The
measured coefficient of variation of the gaps is 1.09 (conversation) and 13.2 (code), over the
whole trace; the gamma distributions with 1, 4 and 8 lie between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from random import Random

import msgspec

from bench.placement.hardware import SIZES, Hardware

TRACE_FILE = Path(__file__).with_name("azure-2023.json")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue; its name tells its size, as names do."""

    name: str
    bytes: int
    gpus: int


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that comes: when (seconds from the beginning), and what no placement changes."""

    number: int
    at: float
    model: Model
    engine: float
    serving: float


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between settings.

    ``rhythm`` is ``gamma`` with the coefficient of variation ``cv``, or one of the traces. ``load``
    is the share of GPU time that pods would take if all of them started warm.
    """

    models: int = 60
    zipf: float = 1.0
    rhythm: str = "gamma"
    cv: float = 4.0
    load: float = 0.4
    pods: int = 400


class _Trace(msgspec.Struct, frozen=True):
    about: str
    gaps_ms: dict[str, list[int]]


def catalogue(number: int, random: Random) -> list[Model]:
    """Return models in the order of their popularity; sizes have nothing to do with it."""
    share = number / 100
    edges = [round(edge * share) for edge in accumulate(percent for *_, percent in SIZES)]
    kinds = [
        next(kind for kind, edge in zip(SIZES, edges, strict=True) if place < edge)
        for place in range(number)
    ]
    random.shuffle(kinds)
    return [
        Model(name=f"model-{place:03d}-{name}", bytes=size, gpus=gpus)
        for place, (name, size, gpus, _) in enumerate(kinds)
    ]


def zipf(number: int, exponent: float) -> list[float]:
    """Return the cumulative chances of ranks 1 to ``number``: each is as 1 / rank ** exponent."""
    chances = [1 / rank**exponent for rank in range(1, number + 1)]
    return [chance / sum(chances) for chance in accumulate(chances)]


def arrivals(
    workload: Workload, hardware: Hardware, models: Sequence[Model], random: Random
) -> list[Arrival]:
    """Draw the pods of one run; ``models`` is the catalogue, the most popular first."""
    weights = zipf(workload.models, workload.zipf)
    chosen = random.choices(models, cum_weights=weights, k=workload.pods)
    gap = _mean_gap(workload, hardware, models, weights)
    at = accumulate(_gaps(workload, random), lambda now, step: now + step * gap, initial=0.0)
    return [
        Arrival(
            number=number,
            at=moment,
            model=model,
            engine=random.lognormvariate(math.log(hardware.engine_median), hardware.engine_sigma),
            serving=random.expovariate(1 / hardware.serving),
        )
        for number, (moment, model) in enumerate(zip(at, chosen, strict=False))
    ]


def _mean_gap(
    workload: Workload, hardware: Hardware, models: Sequence[Model], weights: Sequence[float]
) -> float:
    """Return the seconds between pods that bring the load wanted (Little's law, in GPU seconds)."""
    before = [0.0, *weights[:-1]]
    gpu_seconds = sum(
        (now - was)
        * model.gpus
        * (hardware.serving + hardware.engine_median + model.bytes / hardware.page_cache)
        for model, now, was in zip(models, weights, before, strict=True)
    )
    return gpu_seconds / (workload.load * hardware.machines * hardware.gpus)


def _gaps(workload: Workload, random: Random) -> list[float]:
    """Return gaps whose mean is 1."""
    if workload.rhythm == "gamma":
        shape = 1 / workload.cv**2
        gaps = [random.gammavariate(shape, 1 / shape) for _ in range(workload.pods)]
    else:
        trace = msgspec.json.decode(TRACE_FILE.read_bytes(), type=_Trace)
        whole = trace.gaps_ms[workload.rhythm]
        first = random.randrange(len(whole) - workload.pods + 1)
        gaps = [float(gap) for gap in whole[first : first + workload.pods]]
    mean = sum(gaps) / len(gaps)
    return [gap / mean for gap in gaps]
