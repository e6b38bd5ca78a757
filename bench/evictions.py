"""What it costs to try evictions on every node: one pod after another, each lets another one go.

Every node is full by what kube-scheduler counts, so that it asks no filter and evicts at once: the
time between two nominations is that of one try. Victims stay, for no kubelet ends them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.fleet import NAMESPACE, Fleet, question
from bench.programs import cpu_seconds
from bench.results import Row
from bench.throughput import PODS, control_plane, create, delete_pods
from extender.watch.client import Transport, connect
from extender.watch.framing import split_lines
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import SCHEDULER, scheduler_config

_LOW = "bench-low"
_HIGH = "app=memory"
_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
_ON_A_NODE = 2
"""Pods of low priority, of 16 processors each: a node has 32."""
_QUIET_SECONDS = 120.0


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each share of the nodes that kube-scheduler tries, in percent."""
    fleet = Fleet(nodes=200 if quick else 5_000, pods=0)
    number = 5 if quick else 50
    with control_plane(fleet, folder) as cluster:
        create(cluster, _CLASSES, iter([_priority_class()]))
        create(cluster, PODS, (_low(n, fleet) for n in range(_ON_A_NODE * fleet.nodes)))
        ours = cluster.start_extender()
        for share in (10, 100):
            create(cluster, PODS, map(_high, range(number)))
            figures = _evicting(cluster, ours, share, number)
            delete_pods(connect(str(cluster.kubeconfig())), _HIGH)
            yield Row(
                benchmark="evictions",
                case={"nodes": fleet.nodes, "pods": number, "tried %": share},
                figures=figures,
            )


def _evicting(
    cluster: ControlPlane, ours: Extender, share: int, number: int
) -> dict[str, float | int | str]:
    """Have pods evict others, and return what one of them takes."""
    configuration = scheduler_config(ours.url)
    (profile,) = configuration["profiles"]
    (preemption,) = (one for one in profile["pluginConfig"] if one["name"] == "DefaultPreemption")
    preemption["args"]["minCandidateNodesPercentage"] = share
    before = cpu_seconds(ours)
    scheduler = cluster.start_scheduler(configuration, "bench-scheduler")
    times = _nominations(connect(str(cluster.kubeconfig())), number)
    figures: dict[str, float | int | str] = {
        "ms/try": (times[-1] - times[0]) * 1000 / (number - 1),
        "scheduler CPU ms/try": cpu_seconds(scheduler) * 1000 / number,
        "extender CPU ms/try": (cpu_seconds(ours) - before) * 1000 / number,
        **_answers(ours, number),
    }
    cluster.stop_process(scheduler)
    return figures


def _nominations(transport: Transport, number: int) -> list[float]:
    """Watch pods being nominated until all are; returns when, in seconds of some clock."""
    query: dict[str, str | int] = {"watch": "true", "labelSelector": _HIGH}
    times: dict[str, float] = {}
    with transport.stream("GET", PODS, query=query, read_timeout=_QUIET_SECONDS) as stream:
        for line in split_lines(stream.chunks()):
            pod = msgspec.json.decode(line)["object"]
            if pod["status"].get("nominatedNodeName"):
                times.setdefault(pod["metadata"]["name"], time.monotonic())
            if len(times) == number:
                break
    return sorted(times.values())


def _answers(ours: Extender, number: int) -> dict[str, float]:
    """Return what the extender logged of the latest answers of preempt."""
    lines = (line for line in ours.log().splitlines() if '"preempt"' in line)
    made = [msgspec.json.decode(line) for line in lines][-number:]
    return {
        "nodes asked": sum(each["asked"] for each in made) / len(made),
        "extender ms/answer": sum(each["milliseconds"] for each in made) / len(made),
    }


def _priority_class() -> dict[str, Any]:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": _LOW},
        "value": -1000,
    }


def _low(number: int, fleet: Fleet) -> dict[str, Any]:
    pod = question("none", number)
    pod["metadata"] |= {"name": f"low-{number}", "namespace": NAMESPACE}
    pod["spec"] |= {"nodeName": fleet.node_name(number % fleet.nodes), "priorityClassName": _LOW}
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "16"}}
    return pod


def _high(number: int) -> dict[str, Any]:
    """Return a pod that takes the place of one of low priority, and some tmpfs."""
    pod = question("memory", number, scheduler=SCHEDULER)
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "16"}}
    return pod
