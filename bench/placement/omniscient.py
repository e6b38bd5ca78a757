"""How well it could be done: a placement that knows everything, and a bound that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence

from bench.placement.cluster import Cluster, Pod, Policy
from bench.placement.hardware import Hardware
from bench.placement.machine import Machine
from bench.placement.workload import Arrival, Model

COPIES = 3
"""As many machines fetch a model at once under the extender's bounds."""


def omniscient(cluster: Cluster) -> Policy:
    """Take the machine that has the weights soonest, of those that have GPUs and hold the model.

    It knows what nobody can: what is in each page cache, and what every transfer has left. Where no
    machine with GPUs holds the model, it is fetched while the pods wait, on as many machines as
    have the GPUs for them and ``COPIES`` at most. GPUs stay free meanwhile: the pod goes there, or
    before that where a machine that holds the model has GPUs again. It is greedy: it does not know
    which pods come next, and so it is no bound; another policy may be luckier.
    """
    return _Omniscient(cluster)


class _Omniscient:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def choose(self, pod: Pod, fitting: Sequence[Machine]) -> Machine | None:
        """Return the machine, or None where the pod waits while its model is fetched."""
        model = pod.model

        def order(one: Machine) -> tuple[float, int, str]:
            return _weights(model, one), one.busy_gpus, one.name

        holders = [machine for machine in fitting if machine.holds(model)]
        if holders:
            return min(holders, key=order)
        coming = [machine for machine in self._cluster.machines if model in machine.fetching]
        waiting = 1 + sum(other.model is model for other in self._cluster.waiting)
        for machine in sorted(set(fitting) - set(coming), key=order):
            room = sum(one.free_gpus // model.gpus for one in coming)
            if room >= waiting or len(coming) >= COPIES:
                break
            machine.fetch(model)
            coming.append(machine)
        return None


def _weights(model: Model, machine: Machine) -> float:
    """Return the seconds until the weights are read."""
    hardware, network = machine.hardware, machine.network
    cached = model.bytes / hardware.page_cache
    if machine.holds(model):
        if model in machine.page_cache.models:
            return cached
        coming = machine.reading.get(model)
        if coming is not None and coming.flow is not None:
            rate = machine.disk_speed / len(machine.read.active)
            return max(cached, machine.read.left(coming.flow) / rate)
        return model.bytes * (1 + len(machine.read.active)) / machine.disk_speed
    own = sum(flow.owner == machine.name for flow in network.active) + 1
    rate = min(hardware.hub / own, hardware.egress / (len(network.active) + 1))
    return model.bytes / rate + cached


def bound(arrivals: Sequence[Arrival], hardware: Hardware, fastest_disk: float) -> list[float]:
    """Return for each pod a time to start that no placement can beat.

    As if all machines were one: every model is on its disk, which is as fast as the fastest there
    is and serves everyone at once, its page cache forgets nothing, and no pod that came before is
    in the way of a later one. A model has to be read from a disk once.
    """
    read_at: dict[Model, float] = {}
    starts = []
    for arrival in arrivals:
        model, now = arrival.model, arrival.at
        read = read_at.setdefault(model, now + model.bytes / fastest_disk)
        weights = max(model.bytes / hardware.page_cache, read - now)
        starts.append(weights + arrival.engine)
    return starts
