"""How well it could be done: a placement that knows everything, and a bound that nothing beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.placement.cluster import Cluster, Pod, Policy
from bench.placement.hardware import Hardware
from bench.placement.machine import Machine
from bench.placement.workload import Arrival, Model


def omniscient(cluster: Cluster) -> Policy:
    """Take the machine where the pod serves soonest, if need be once GPUs or weights are there.

    It knows what nobody can: what is in each page cache, the bytes that every transfer has left,
    and when each pod will end. Where nothing is sooner than a download, it has the model fetched
    and keeps the GPUs free meanwhile. It is greedy: it does not know which pods come next, and so
    it is no bound; another policy may be luckier.
    """
    return _Omniscient(cluster)


class _Omniscient:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def choose(self, pod: Pod, fitting: Sequence[Machine]) -> Machine | None:
        """Return the machine, or None where waiting for something is better."""
        model = pod.model
        costs = {machine: self._weights(model, machine) for machine in fitting}
        soonest = min(fitting, key=lambda one: (costs[one], one.busy_gpus, one.name))
        for machine in self._cluster.machines:
            if machine in costs or not machine.alive:
                continue
            wait = self._wait(machine, model.gpus)
            if wait + self._weights(model, machine, wait) < costs[soonest]:
                return None
        if soonest.holds(model):
            return soonest
        if model not in soonest.fetching:
            soonest.fetch(model)
        return None

    def _weights(self, model: Model, machine: Machine, wait: float = 0.0) -> float:
        """Return the seconds from ``wait`` seconds from now until the weights are read."""
        hardware, network = machine.hardware, machine.network
        cached = model.bytes / hardware.page_cache
        if machine.holds(model):
            if model in machine.page_cache.models:
                return cached
            coming = machine.reading.get(model)
            if coming is not None and coming.flow is not None:
                rate = machine.disk_speed / len(machine.read.active)
                return max(cached, machine.read.left(coming.flow) / rate - wait)
            return model.bytes * (1 + len(machine.read.active)) / machine.disk_speed
        coming = machine.fetching.get(model)
        if coming is not None and coming.flow is not None:
            return max(0.0, network.left(coming.flow) / coming.flow.rate - wait) + cached
        own = sum(flow.owner == machine.name for flow in network.active) + 1
        rate = min(hardware.hub / own, hardware.egress / (len(network.active) + 1))
        return model.bytes / rate + cached

    def _wait(self, machine: Machine, gpus: int) -> float:
        """Return the seconds until so many GPUs are free, if nobody else takes them."""
        free = machine.free_gpus
        ends = sorted(self._ends(machine))
        for end, given in ends:
            free += given
            if free >= gpus:
                return max(0.0, end - self._cluster.now)
        return float("inf")

    def _ends(self, machine: Machine) -> Iterator[tuple[float, int]]:
        for pod in self._cluster.running:
            if pod.machine is machine:
                ready = pod.ready
                if ready is None:  # not yet: no sooner than its engine takes
                    ready = self._cluster.now + pod.arrival.engine
                yield ready + pod.arrival.serving, pod.model.gpus


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
