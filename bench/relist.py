"""Cold start, memory, a stream of changes, and requests while every pod is listed anew.

The pods come from the local apiserver in pages, each as large as a real one. A relist is what
follows a watch that the apiserver has ended with 410; filters about 5,000 nodes go on meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

from bench.answer import Case, decisions, write_bodies
from bench.fleet import Fleet
from bench.programs import (
    Plan,
    cpu_seconds,
    extender,
    load,
    local_apiserver,
    post,
    resident_bytes,
)
from bench.results import Row
from tests.controlplane.cluster import Extender

_RATE = 50.0
_STREAM = 5_000.0
_COUNTER = r'^model_cache_extender_watch_{}_total\{{resource="Pod"\}} (\S+)'


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each number of pods."""
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
                    seconds=4.0 if quick else 15.0,
                    warm_up=1.0,
                    bodies=bodies,
                )
                calm = load(plan, folder)["filter"]
                resident = resident_bytes(ours)
                stream, stream_cpu = _stream(ours, apiserver, 2.0 if quick else 5.0)
                before = _counted(ours, "relists")
                Timer(2.0, post, [f"{apiserver}/expire"]).start()
                busy = load(plan, folder)["filter"]
                relists = _counted(ours, "relists") - before
                grown = resident_bytes(ours)
        yield Row(
            benchmark="cold start and relist",
            case={"nodes": fleet.nodes, "pods": pods},
            figures={
                "start to ready s": ready,
                "CPU s": cpu,
                "resident MB": resident / 1e6,
                "resident after relist MB": grown / 1e6,
                "events/s taken": stream,
                "CPU us/event": stream_cpu,
                "filter p99 ms": calm.p99,
                "filter max ms": calm.max,
                "relists": relists,
                "p99 in relist ms": busy.p99,
                "max in relist ms": busy.max,
            },
        )


def _stream(ours: Extender, apiserver: str, seconds: float) -> tuple[float, float]:
    """Send more changes than are ever seen.

    Returns how many a second were taken, and what each cost in microseconds of processor time.
    """
    before, cpu = _counted(ours, "events"), cpu_seconds(ours)
    post(f"{apiserver}/events?rate={_STREAM:.0f}")
    begun = time.monotonic()
    time.sleep(seconds)
    taken = _counted(ours, "events") - before
    lasted = time.monotonic() - begun
    post(f"{apiserver}/events?rate=0")
    return taken / lasted, (cpu_seconds(ours) - cpu) / taken * 1e6


def _counted(ours: Extender, counter: str) -> float:
    found = re.search(_COUNTER.format(counter), ours.get("/metrics")[1], re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/metrics does not count {counter} of pods")
    return float(found[1])
