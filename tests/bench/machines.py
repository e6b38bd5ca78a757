"""Clusters of the placement benchmark in a known state."""

from __future__ import annotations

from collections.abc import Sequence

from bench.placement.cluster import Cluster, Pod, Policy
from bench.placement.hardware import GB, Hardware
from bench.placement.machine import Machine
from bench.placement.workload import Arrival, Model, Workload

SMALL = Workload(models=20, pods=60)
MODEL = Model(name="model-0-8b", bytes=16 * GB, gpus=1)
OTHER = Model(name="model-1-8b", bytes=16 * GB, gpus=1)


class Nobody:
    """Lets every pod wait."""

    def choose(self, pod: Pod, fitting: Sequence[Machine]) -> Machine | None:
        return None


def empty(machines: int = 4) -> Cluster:
    """Return a cluster with nothing on its disks, in which nothing is going to happen."""
    cluster = Cluster(
        Workload(models=1, pods=1), 0, lambda _: Nobody(), hardware=Hardware(machines=machines)
    )
    for machine in cluster.machines:
        machine.disk.clear()
    return cluster


def pod(model: Model = MODEL) -> Pod:
    arrival = Arrival(number=0, at=0.0, model=model, engine=20.0, serving=300.0)
    return Pod(arrival, 0, 0.0)


def chosen(policy: Policy, cluster: Cluster, model: Model = MODEL) -> str | None:
    machine = policy.choose(pod(model), cluster.machines)
    return machine.name if machine else None
