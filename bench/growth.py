"""The same questions in clusters of one, two, four and eight times the size: what grows, and how.

Each cluster is listed from the local apiserver by a fresh extender, with four pods a node. Then
every node is asked about at a fixed rate, over one connection. What a request costs in processor
time, and what a node costs in memory, tell best where growth is more than the cluster's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.answer import OFFERS_ALL, Case, decisions, write_bodies
from bench.fleet import Fleet, question
from bench.programs import (
    Plan,
    cpu_seconds,
    extender,
    load,
    local_apiserver,
    resident_bytes,
)
from bench.results import Row

_NODES = 2_500
_TIMES = (1, 2, 4, 8)
_PODS_A_NODE = 4
_RATE = 20.0
"""Requests a second, half for each verb: few enough that none waits at the largest size."""


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each size."""
    nodes, sizes, seconds = (500, _TIMES[:2], 2.0) if quick else (_NODES, _TIMES, 10.0)
    for times in sizes:
        fleet = Fleet(nodes=times * nodes, pods=times * nodes * _PODS_A_NODE)
        case = Case(names=fleet.nodes)
        with local_apiserver(fleet, folder) as apiserver:
            begun = time.monotonic()
            with extender(apiserver, folder, OFFERS_ALL) as ours:
                ready = time.monotonic() - begun
                ready_cpu = cpu_seconds(ours)
                args = {"Pod": question("preferred", 0), "NodeNames": fleet.node_names()}
                cpu = cpu_seconds(ours)
                for verb in ("filter", "prioritize"):
                    ours.post(f"/{verb}", args)
                first = cpu_seconds(ours) - cpu
                bodies = write_bodies(case, fleet, decisions(ours, fleet), folder)
                plan = Plan(
                    url=ours.url,
                    connections=1,
                    rate=_RATE,
                    seconds=seconds,
                    warm_up=1.0,
                    bodies=bodies,
                )
                cpu = cpu_seconds(ours)
                seen = load(plan, folder)
                each = (cpu_seconds(ours) - cpu) / (_RATE * (plan.seconds + plan.warm_up))
                resident = resident_bytes(ours)
        yield Row(
            benchmark="growth",
            case={"size": f"{times} x", "nodes": fleet.nodes, "pods": fleet.pods},
            figures={
                "start to ready s": ready,
                "CPU to ready s": ready_cpu,
                "resident MB": resident / 1e6,
                "resident KB/node": resident / 1e3 / fleet.nodes,
                "first pod of a kind CPU ms": first * 1000,
                "CPU ms/request": each * 1000,
                "CPU us/name": each * 1e6 / fleet.nodes,
                **{
                    f"{verb} {name} ms": value
                    for verb, latency in seen.items()
                    for name, value in latency.figures().items()
                },
            },
        )
