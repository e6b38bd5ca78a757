"""What kube-scheduler retries by itself: every update of a bound pod wakes every refused pod.

Pods that fit nowhere wait, then pods that are bound are changed at a rate, as loaders that report
and kubelets that probe do. Counted are the filter calls that follow and what they cost. At worst
each update would have each waiting pod tried again; kube-scheduler's back-off keeps it below that.
Pods whose affinity leaves out another node each are asked about on another set of nodes each: what
is worked out for one is less use for the others.
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
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.processes import Process, wait_for
from tests.controlplane.shipped import SCHEDULER, scheduler_config

_CALLS = 'model_cache_extender_requests_total{code="200",verb="filter"}'
_WAITING = 'model_cache_extender_waiting_pods_by_reason{reason="InsufficientMemory"}'
_RETRIES = 'model_cache_extender_retries_total{{by="{}"}}'
_PATCH = {"Content-Type": "application/merge-patch+json"}
_BOUND = 10
_CALM_SECONDS = 3.0
"""Longer than the back-off of pods that were refused a moment ago (1 to 2 s)."""


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each number of waiting pods and rate of updates."""
    fleet = Fleet(nodes=500 if quick else 5_000, pods=0)
    cases = [(20, 2.0, True)]
    if not quick:
        cases = [(10, 1.0, False), (100, 1.0, False), (100, 10.0, False), (500, 1.0, False)]
        cases += [(100, 1.0, True), (500, 1.0, True)]
    with control_plane(fleet, folder) as cluster:
        ours = cluster.start_extender()
        bound = (_bound(number, fleet) for number in range(_BOUND))
        for waiting, rate, apart in cases:
            create(cluster, PODS, bound)
            bound = (_bound(number, fleet) for number in range(_BOUND))
            without = (fleet.node_name(number) if apart else None for number in range(waiting))
            create(cluster, PODS, map(_refused, range(waiting), without))
            scheduler = cluster.start_scheduler(scheduler_config(ours.url), "bench-scheduler")
            _wait_refused(ours, waiting)
            time.sleep(_CALM_SECONDS)
            figures = _updated(cluster, ours, scheduler, rate, 3.0 if quick else 10.0)
            cluster.stop_process(scheduler)
            delete_pods(connect(str(cluster.kubeconfig())))
            yield Row(
                benchmark="retries",
                case={
                    "nodes": fleet.nodes,
                    "waiting pods": waiting,
                    "sets of nodes": waiting if apart else 1,
                    "updates/s": rate,
                },
                figures={"waiting x updates /s": waiting * rate, **figures},
            )


def _updated(
    cluster: ControlPlane, ours: Extender, scheduler: Process, rate: float, seconds: float
) -> dict[str, float]:
    """Change bound pods, and return what followed."""
    transport = connect(str(cluster.kubeconfig()))
    calls, cpu, theirs = _metric(ours, _CALLS), cpu_seconds(ours), cpu_seconds(scheduler)
    tried = {by: _metric(ours, _RETRIES.format(by)) for by in ("scheduler", "woken")}
    begun = time.monotonic()
    updates = 0
    while time.monotonic() < begun + seconds:
        _touch(transport, updates)
        updates += 1
        time.sleep(max(0.0, begun + updates / rate - time.monotonic()))
    lasted = time.monotonic() - begun
    made = _metric(ours, _CALLS) - calls
    by_itself, woken = (_metric(ours, _RETRIES.format(by)) - n for by, n in tried.items())
    return {
        "filter calls/s": made / lasted,
        "retried by itself /s": by_itself / lasted,
        "woken /s": woken / lasted,
        "calls/update": made / updates,
        "extender CPU %": (cpu_seconds(ours) - cpu) / lasted * 100,
        "extender CPU ms/call": (cpu_seconds(ours) - cpu) * 1000 / max(1.0, made),
        "scheduler CPU %": (cpu_seconds(scheduler) - theirs) / lasted * 100,
    }


def _touch(transport: Transport, number: int) -> None:
    body = msgspec.json.encode({"metadata": {"annotations": {"bench": str(number)}}})
    path = f"{PODS}/bound-{number % _BOUND}"
    transport.request("PATCH", path, body=body, headers=_PATCH)


def _bound(number: int, fleet: Fleet) -> dict[str, Any]:
    pod = question("none", number)
    pod["metadata"] |= {"name": f"bound-{number}", "namespace": NAMESPACE}
    pod["spec"] |= {"nodeName": fleet.node_name(number)}
    return pod


def _refused(number: int, without: str | None) -> dict[str, Any]:
    """Return a pod whose volume is larger than any node's memory, not to be put on one node."""
    pod = question("memory", number, scheduler=SCHEDULER)
    pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] = "100Gi"
    if without is not None:
        other = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [without]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [other]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        pod["spec"]["affinity"] = {"nodeAffinity": required}
    return pod


def _wait_refused(ours: Extender, number: int) -> None:
    wait_for(lambda: _metric(ours, _WAITING) >= number, 120, f"{number} pods to be refused")


def _metric(ours: Extender, name: str) -> float:
    """Return a metric, 0 where it has not been counted yet."""
    lines = ours.get("/metrics")[1].splitlines()
    found = (line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} "))
    return float(next(found, 0))
