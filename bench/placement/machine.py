"""One machine: its GPUs, its disk, its page cache, and how a model gets into an engine there."""

from __future__ import annotations

from collections.abc import Callable

from bench.placement.flows import Flow, Flows, evenly
from bench.placement.hardware import Hardware
from bench.placement.workload import Model
from simulation.timeline import Timeline

Then = Callable[[], None]


class Lru:
    """Whole models in a bounded space; the ones used longest ago go first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.models: dict[Model, None] = {}

    def use(self, model: Model) -> None:
        """Note that a model is used now."""
        if model in self.models:
            del self.models[model]
            self.models[model] = None

    def put(self, model: Model, keep: Callable[[Model], bool] = lambda _: False) -> list[Model]:
        """Put a model in, if there is or can be made room; return what went for it.

        What ``keep`` says so of stays. Where all that may go is too little, nothing changes.
        """
        if model in self.models:
            self.use(model)
            return []
        gone: list[Model] = []
        room = self.capacity - self.used
        for other in self.models:
            if room >= model.bytes:
                break
            if not keep(other):
                gone.append(other)
                room += other.bytes
        if room < model.bytes:
            return []
        for other in gone:
            self.drop(other)
        self.models[model] = None
        self.used += model.bytes
        return gone

    def drop(self, model: Model) -> None:
        """Take a model out."""
        if model in self.models:
            del self.models[model]
            self.used -= model.bytes

    def clear(self) -> None:
        """Take everything out."""
        self.models.clear()
        self.used = 0


class _Coming:
    """A model that is being fetched or read, and what waits for it."""

    def __init__(self) -> None:
        self.flow: Flow | None = None
        self.then: list[Then] = []


class Machine:
    """``network`` is shared by all machines, ``read`` is this one's disk.

    Everything that comes over the network goes to the disk, where there is room, and through the
    page cache, as any file that is written does. What is read from the disk comes through the page
    cache too: who opens the same file meanwhile reads behind it.
    """

    def __init__(
        self,
        name: str,
        hardware: Hardware,
        *,
        disk_speed: float,
        network: Flows,
        timeline: Timeline,
        changed: Callable[[Machine], None],
    ) -> None:
        self.name = name
        self.hardware = hardware
        self.disk_speed = disk_speed
        self.alive = True
        self.busy_gpus = 0
        self.open: dict[Model, int] = {}
        """How many pods on the machine have a model open."""
        self.disk = Lru(hardware.disk_bytes)
        self.page_cache = Lru(hardware.page_cache_bytes)
        self.fetching: dict[Model, _Coming] = {}
        self.reading: dict[Model, _Coming] = {}
        self.network = network
        self.read = Flows(timeline, evenly(disk_speed))
        self.evicted = 0
        self._fetched_at: dict[Model, float] = {}
        self._timeline = timeline
        self._changed = changed
        self._life = 0

    @property
    def free_gpus(self) -> int:
        """Return the GPUs that no pod has."""
        return self.hardware.gpus - self.busy_gpus if self.alive else 0

    def holds(self, model: Model) -> bool:
        """Tell whether the whole model is on the disk."""
        return model in self.disk.models

    def still_to_read(self) -> float:
        """Return the bytes of all models that are being read from the disk, less what is there."""
        return sum(self.read.left(flow) for flow in self.read.active)

    def held_since(self, model: Model, moment: float) -> bool:
        """Tell whether the whole model has been on the disk since a moment on the timeline."""
        return self.holds(model) and self._fetched_at.get(model, moment) <= moment

    def fail(self) -> None:
        """Lose everything."""
        self.alive = False
        self._life += 1
        for flows, coming in ((self.network, self.fetching), (self.read, self.reading)):
            for one in coming.values():
                if one.flow is not None:
                    flows.stop(one.flow)
            coming.clear()
        self.disk.clear()
        self.page_cache.clear()
        self.open.clear()
        self.busy_gpus = 0
        self._changed(self)

    def repair(self) -> None:
        """Come back, empty."""
        self.alive = True
        self._changed(self)

    def weights(self, model: Model, then: Then) -> None:
        """Bring a model from wherever it is into an engine; ``then`` is called when it is there."""
        if self.holds(model):
            self.disk.use(model)
            self._read(model, then)
        else:
            self.fetch(model, lambda: self._from_page_cache(model, then))

    def fetch(self, model: Model, then: Then = lambda: None) -> None:
        """Download a model, or wait for the download that is under way."""
        coming = self.fetching.get(model)
        if coming is not None:
            coming.then.append(then)
            return
        coming = self.fetching[model] = _Coming()
        coming.then.append(then)
        coming.flow = self.network.begin(self.name, model.bytes, lambda: self._fetched(model))
        self._changed(self)

    def _fetched(self, model: Model) -> None:
        coming = self.fetching.pop(model)
        self.evicted += len(self.disk.put(model, self.open.__contains__))
        self.page_cache.put(model)
        self._fetched_at[model] = self._timeline.now
        self._changed(self)
        for then in coming.then:
            then()

    def _read(self, model: Model, then: Then) -> None:
        if model in self.page_cache.models:
            self.page_cache.use(model)
            self._from_page_cache(model, then)
            return
        behind = self._timeline.now + model.bytes / self.hardware.page_cache

        def arrived() -> None:
            """Nobody reads faster than the page cache gives."""
            self._later(behind - self._timeline.now, then)

        coming = self.reading.get(model)
        if coming is None:
            coming = self.reading[model] = _Coming()
            coming.flow = self.read.begin(self.name, model.bytes, lambda: self._was_read(model))
        coming.then.append(arrived)

    def _was_read(self, model: Model) -> None:
        coming = self.reading.pop(model)
        self.page_cache.put(model)
        for then in coming.then:
            then()

    def _from_page_cache(self, model: Model, then: Then) -> None:
        self._later(model.bytes / self.hardware.page_cache, then)

    def _later(self, seconds: float, then: Then) -> None:
        life = self._life

        def happen() -> None:
            if self._life == life:
                then()

        self._timeline.after(max(0.0, seconds), happen)
