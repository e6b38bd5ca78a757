"""One run: a workload on a cluster under one policy.

Pods are tried one after another, oldest first, as kube-scheduler's queue does without priorities;
one that a policy puts nowhere waits until something has changed. A machine that fails takes its
pods along; each comes again at once, as its ReplicaSet would make it, and is a start of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from bench.placement.flows import Flows, by_owner
from bench.placement.hardware import Hardware
from bench.placement.machine import Machine
from bench.placement.workload import Arrival, Model, Workload, arrivals, catalogue
from simulation.timeline import Timeline
from simulation.world import BEGIN

CYCLE_SECONDS = 0.01
"""A scheduling cycle: kube-scheduler binds about 100 pods a second (docs/performance.md)."""

PATIENCE_SECONDS = 3600.0
"""A pod that is not ready so long after the last one came counts as if it were ready then."""


class Pod:
    """One pod. Times are seconds from the beginning, None for what has not happened yet."""

    def __init__(self, arrival: Arrival, number: int, created: float) -> None:
        self.arrival = arrival
        self.number = number
        self.created = created
        self.machine: Machine | None = None
        self.bound: float | None = None
        self.ready: float | None = None
        self.gone: float | None = None
        self.warm = False
        """Whether the model was on the machine's disk when the pod came: nobody fetched for it."""

    @property
    def model(self) -> Model:
        """Return what it serves."""
        return self.arrival.model


class Policy(Protocol):
    """What places pods."""

    def choose(self, pod: Pod, fitting: Sequence[Machine]) -> Machine | None:
        """Return one of the machines that have the GPUs, or None to let the pod wait."""


class Watcher(Protocol):
    """What hears of everything that happens, at once."""

    def came(self, pod: Pod) -> None:
        """Hear of a pod that was created."""

    def was_bound(self, pod: Pod) -> None:
        """Hear of a pod that was bound."""

    def is_ready(self, pod: Pod) -> None:
        """Hear of a pod that serves."""

    def gone(self, pod: Pod) -> None:
        """Hear of a pod that has ended, or was lost with its machine."""

    def changed(self, machine: Machine) -> None:
        """Hear of a machine that failed, came back, fetches something or has fetched it."""


class Cluster:
    """``seed`` draws the pods, the disks, what is where at first, and the failures."""

    def __init__(
        self,
        workload: Workload,
        seed: int,
        policy: Callable[[Cluster], Policy],
        *,
        hardware: Hardware,
        failures: int = 0,
    ) -> None:
        random = Random(f"{seed}")
        self.seed = seed
        self.hardware = hardware
        self.timeline = Timeline(BEGIN)
        self.network = Flows(self.timeline, by_owner(hardware.hub, hardware.egress))
        self.watchers: list[Watcher] = []
        self.models = catalogue(workload.models, random)
        self.arrivals = arrivals(workload, hardware, self.models, random)
        self.machines = [
            Machine(
                f"node-{number:02d}",
                hardware,
                disk_speed=random.uniform(*hardware.disk),
                network=self.network,
                timeline=self.timeline,
                changed=self._changed,
            )
            for number in range(hardware.machines)
        ]
        self.homes = _homes(self.models, self.machines, random)
        for model, homes in self.homes.items():
            for machine in homes:
                machine.disk.put(model)
        self.pods: list[Pod] = []
        self.running: set[Pod] = set()
        self._queue: deque[Pod] = deque()
        self.waiting: list[Pod] = []
        """The pods that were put nowhere when they were last tried."""
        self._busy = False
        self._policy = policy(self)
        for arrival in self.arrivals:
            self.timeline.after(arrival.at, partial(self._come, arrival))
        last = self.arrivals[-1].at
        self._end_at = last + PATIENCE_SECONDS
        self._unfinished = len(self.arrivals)
        for _ in range(failures):
            machine = random.choice(self.machines)
            self.timeline.after(random.uniform(0, last), partial(self._fail, machine))

    @property
    def now(self) -> float:
        """Return the seconds from the beginning."""
        return self.timeline.now - BEGIN

    def run(self) -> None:
        """Let everything happen until every pod has served, as far as the policy lets it."""
        while self._unfinished and self.now < self._end_at and self.timeline.next():
            pass
        if self._unfinished:
            self.timeline.until(BEGIN + self._end_at)

    def try_again(self) -> None:
        """Have the pods that wait tried again: something has changed that may concern them."""
        if self.waiting:
            self._queue.extend(self.waiting)
            self.waiting.clear()
            self._queue = deque(sorted(self._queue, key=lambda pod: pod.number))
            self._cycle_soon()

    # -- pods ------------------------------------------------------------------------------------

    def _come(self, arrival: Arrival) -> None:
        pod = Pod(arrival, len(self.pods), self.now)
        self.pods.append(pod)
        self._queue.append(pod)
        for watcher in self.watchers:
            watcher.came(pod)
        self._cycle_soon()

    def _cycle_soon(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            self.timeline.after(CYCLE_SECONDS, self._cycle)

    def _cycle(self) -> None:
        self._busy = False
        pod = self._queue.popleft()
        fitting = [machine for machine in self.machines if machine.free_gpus >= pod.model.gpus]
        machine = self._policy.choose(pod, fitting) if fitting else None
        if machine is None:
            self.waiting.append(pod)
        else:
            self._bind(pod, machine)
        self._cycle_soon()

    def _bind(self, pod: Pod, machine: Machine) -> None:
        pod.machine, pod.bound = machine, self.now
        pod.warm = machine.held_since(pod.model, BEGIN + pod.created)
        machine.busy_gpus += pod.model.gpus
        machine.open[pod.model] = machine.open.get(pod.model, 0) + 1
        self.running.add(pod)
        for watcher in self.watchers:
            watcher.was_bound(pod)
        machine.weights(pod.model, lambda: self._start_engine(pod))

    def _start_engine(self, pod: Pod) -> None:
        self._if_running(pod.arrival.engine, pod, self._serve)

    def _serve(self, pod: Pod) -> None:
        pod.ready = self.now
        for watcher in self.watchers:
            watcher.is_ready(pod)
        self._if_running(pod.arrival.serving, pod, self._end)

    def _if_running(self, seconds: float, pod: Pod, then: Callable[[Pod], None]) -> None:
        def happen() -> None:
            if pod in self.running:
                then(pod)

        self.timeline.after(seconds, happen)

    def _end(self, pod: Pod) -> None:
        machine = pod.machine
        assert machine is not None
        machine.busy_gpus -= pod.model.gpus
        machine.open[pod.model] -= 1
        if not machine.open[pod.model]:
            del machine.open[pod.model]
        self._gone(pod)
        self._unfinished -= 1
        self.try_again()

    def _gone(self, pod: Pod) -> None:
        self.running.discard(pod)
        pod.gone = self.now
        for watcher in self.watchers:
            watcher.gone(pod)

    # -- machines --------------------------------------------------------------------------------

    def _changed(self, machine: Machine) -> None:
        for watcher in self.watchers:
            watcher.changed(machine)
        self.try_again()

    def _fail(self, machine: Machine) -> None:
        if not machine.alive:
            return
        lost = sorted(
            (pod for pod in self.running if pod.machine is machine), key=lambda pod: pod.number
        )
        for pod in lost:
            self._gone(pod)
        machine.fail()
        self.timeline.after(self.hardware.repair, machine.repair)
        for pod in lost:
            self._come(pod.arrival)


def _homes(
    models: Sequence[Model], machines: Sequence[Machine], random: Random
) -> dict[Model, list[Machine]]:
    """Return where each model is at first: as many copies of all as the disks have room for.

    That is how an operator fills node caches who knows the catalogue and not the future. Big ones
    first, each on the machines with the most room.
    """
    models = sorted(models, key=lambda model: (-model.bytes, model.name))
    for copies in range(len(machines), 0, -1):
        room = {machine: float(machine.hardware.disk_bytes) for machine in machines}
        homes = {}
        for model in models:
            order = sorted(machines, key=lambda one: (-room[one], random.random()))
            homes[model] = order[:copies]
            for machine in homes[model]:
                room[machine] -= model.bytes
        if min(room.values()) >= 0:
            return homes
    raise ValueError("the catalogue does not fit on the disks even once; take larger disks")
