"""Cold start, memory, a stream of changes, and requests while every pod is listed anew.

The pods come from the local apiserver in pages, each as large as a real one. A relist is what
follows a watch that the apiserver has ended with 410; filters about 5,000 nodes go on meanwhile.
Each load in a relist lasts about as long as one, or most of it would be calm; of several the worst
percentiles count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from bench.answer import Case, decisions, write_bodies
from bench.fleet import Fleet
from bench.latency import Latency
from bench.programs import (
    START_SECONDS,
    Plan,
    cpu_seconds,
    extender,
    load,
    local_apiserver,
    post,
    resident_bytes,
)
from bench.results import Row
from bench.stocked import stocked
from tests.controlplane.cluster import Extender

BOUND_MS = 250.0
"""No request may take longer, relist or not: kube-scheduler decides about a pod in some ten
milliseconds, and a quarter of a second is what nobody notices in the start of a model server."""

_RATE = 50.0
_STREAM = 100_000.0
"""More changes a second than anybody makes or takes."""

_ROUNDS = 3
_CALM_SECONDS = 0.5
"""Of each load before its relist begins."""

_COUNTER = r'^model_cache_extender_watch_{}_total\{{resource="Pod"\}} (\S+)'


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each number of pods, and one of a start on a real apiserver."""
    yield _start_on_the_real_one(Fleet(nodes=5_000, pods=2_000 if quick else 20_000), folder)
    for pods in (2_000,) if quick else (20_000, 100_000):
        fleet = Fleet(nodes=5_000, pods=pods)
        with local_apiserver(fleet, folder) as apiserver:
            begun = time.monotonic()
            with extender(apiserver, folder) as ours:
                ready = time.monotonic() - begun
                cpu = cpu_seconds(ours)
                table = decisions(ours, fleet)
                bodies = {"filter": write_bodies(Case(), fleet, table, folder)["filter"]}
                plan = Plan(
                    url=ours.url,
                    connections=1,
                    rate=_RATE,
                    seconds=2.0 if quick else 10.0,
                    warm_up=1.0,
                    bodies=bodies,
                )
                calm = load(plan, folder)["filter"]
                resident = resident_bytes(ours)
                stream, stream_cpu = _stream(ours, apiserver, 2.0 if quick else 5.0)
                short = msgspec.structs.replace(plan, seconds=ready + 1.0)
                times = range(1 if quick else _ROUNDS)
                rounds = [_relisted(apiserver, short, folder) for _ in times]
                grown = resident_bytes(ours)
        p99 = max(busy.percentile(99) for busy, _ in rounds)
        longest = max(busy.max for busy, _ in rounds)
        yield Row(
            benchmark="cold start and relist",
            case={"nodes": fleet.nodes, "pods": pods},
            figures={
                "start to ready s": ready,
                "CPU s": cpu,
                "resident MB": resident / 1e6,
                "resident after relists MB": grown / 1e6,
                "events/s taken": stream,
                "CPU us/event": stream_cpu,
                "relist s": max(seconds for _, seconds in rounds),
                "filter p99 ms": calm.percentile(99),
                "p99 in relist ms": p99,
                "p99 ratio": p99 / calm.percentile(99),
                "filter max ms": calm.max,
                "max in relist ms": longest,
                "max of the bound": longest / BOUND_MS,
            },
        )


def _start_on_the_real_one(fleet: Fleet, folder: Path) -> Row:
    with stocked(fleet, folder) as cluster:
        servers = cluster.processes()
        before, begun = sum(map(cpu_seconds, servers)), time.monotonic()
        ours = cluster.start_extender(timeout=START_SECONDS)
        ready = time.monotonic() - begun
        served = sum(map(cpu_seconds, servers)) - before
        _must_know(ours, fleet)
        figures = {
            "start to ready s": ready,
            "CPU s": cpu_seconds(ours),
            "apiserver and etcd CPU s": served,
            "resident MB": resident_bytes(ours) / 1e6,
        }
    return Row(
        benchmark="cold start on a kube-apiserver",
        case={"nodes": fleet.nodes, "pods": fleet.pods},
        figures=figures,
    )


def _relisted(apiserver: str, plan: Plan, folder: Path) -> tuple[Latency, float]:
    """Ask while every pod is listed anew; return what was seen, and the seconds of the relist."""
    with ThreadPoolExecutor(1) as beside:
        relist = beside.submit(_expire, apiserver, plan.warm_up + _CALM_SECONDS)
        seen = load(plan, folder)["filter"]
        return seen, relist.result()


def _expire(apiserver: str, after: float) -> float:
    """End the watch of pods after some seconds; return how many the list that follows takes."""
    time.sleep(after)
    return float(post(f"{apiserver}/expire", patience=120.0))


def _stream(ours: Extender, apiserver: str, seconds: float) -> tuple[float, float]:
    """Send as many changes as are taken.

    Returns how many a second that was, and what each cost in microseconds of processor time.
    """
    before, cpu = _counted(ours, "events"), cpu_seconds(ours)
    post(f"{apiserver}/events?rate={_STREAM:.0f}")
    begun = time.monotonic()
    time.sleep(seconds)
    taken = _counted(ours, "events") - before
    lasted = time.monotonic() - begun
    post(f"{apiserver}/events?rate=0")
    return taken / lasted, (cpu_seconds(ours) - cpu) / taken * 1e6


def _must_know(ours: Extender, fleet: Fleet) -> None:
    """Raise unless the fleet is known, and its models: storage that was misread would be quick."""
    log = ours.log()
    pods = fleet.pods + len(list(fleet.loader_pods()))
    for kind, objects in (("Node", fleet.nodes), ("Pod", pods)):
        if not re.search(rf'"kind": "{kind}", "objects": {objects}, "unreadable": 0', log):
            raise RuntimeError(f"not every {kind} of the fleet was listed:\n{log[-2000:]}")


def _counted(ours: Extender, counter: str) -> float:
    found = re.search(_COUNTER.format(counter), ours.get("/metrics")[1], re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/metrics does not count {counter} of pods")
    return float(found[1])
