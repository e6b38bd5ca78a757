"""What the machines' loaders tell the cluster: a report on state changes, a Lease with progress.

``simulation/loaders.py`` has one model and draws what goes wrong with it; here are as many as a
disk holds, moved by the benchmark's machines, and nothing goes wrong but with the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.placement.machine import Machine
from bench.placement.workload import Model
from extender.kube.objects import Node, NodeStatus, ObjectMeta, Pod
from extender.kube.times import time_text
from extender.report import (
    Disk,
    Progress,
    Report,
    ReportedModel,
    ReportedState,
    Transfer,
    Wanted,
    WantedModel,
)
from simulation.apiserver import Apiserver
from simulation.timeline import Timeline
from tests.builders import GPU, READY, loader_lease, reporting_pod

DIRECTORY = "/var/lib/models"
_POD_BYTES = 8 * 2**30
"""What a pod asks for (``builders.vllm``)."""

PROGRESS_SECONDS, RENEW_SECONDS = 5.0, 30.0
"""How often a loader renews its Lease, with a download under way and without
(extender/loader/announcing.py)."""

TURN_SECONDS = 1.0
"""How long a loader takes to do as it is asked (extender/loader/keeping.py)."""


class Loader:
    """The loader of one machine, and the machine's Node.

    ``catalogue`` is what its catalog allows to be fetched on demand; empty where pods fetch.
    """

    def __init__(
        self, machine: Machine, api: Apiserver, timeline: Timeline, catalogue: Sequence[Model] = ()
    ) -> None:
        self._machine = machine
        self._api = api
        self._timeline = timeline
        self._catalogue = {model.name: model for model in catalogue}
        self._wanted: tuple[WantedModel, ...] = ()
        self._joined = 0
        self._alive = False
        self._renewals = 0

    def tell(self) -> None:
        """Tell what has changed: of the models, or that the machine is gone or back."""
        machine = self._machine
        if machine.alive:
            if not self._alive:
                self._join()
            uid = f"loader-{machine.name}-{self._joined}"
            self._api.put(reporting_pod(machine.name, READY, self._report(), uid=uid))
            self._renew()
        elif self._alive:
            self._leave()

    def ask(self, models: tuple[WantedModel, ...]) -> None:
        """Take what the extender wishes for."""
        if models == self._wanted or not self._alive:
            return
        self._wanted = models
        self._renew()
        self._timeline.after(TURN_SECONDS, self._turn)

    def _turn(self) -> None:
        """Fetch what is wished for still."""
        for wanted in self._wanted:
            model = self._catalogue[wanted.path]
            if self._machine.alive and not self._machine.holds(model):
                self._machine.fetch(model)

    def _join(self) -> None:
        self._joined += 1
        self._alive = True
        name = self._machine.name
        metadata = ObjectMeta(
            name=name, uid=f"{name}-{self._joined}", creation_timestamp=self._api.stamp()
        )
        hardware = self._machine.hardware
        memory = hardware.page_cache_bytes + hardware.gpus * _POD_BYTES
        status = NodeStatus(allocatable={"memory": str(memory), GPU: str(hardware.gpus)})
        self._api.put(Node(metadata=metadata, status=status))

    def _leave(self) -> None:
        self._alive = False
        self._wanted = ()
        pod = self._api.get(Pod, f"model-cache-loader-{self._machine.name}")
        node = self._api.get(Node, self._machine.name)
        assert pod is not None
        assert node is not None
        self._api.delete(pod)
        self._api.delete(node)

    def _report(self) -> Report:
        """Say what is there; a path that is not in the report is absent."""
        machine = self._machine
        states = {
            model: ReportedModel(path=model.name, state=ReportedState.ABSENT, on_demand=True)
            for model in self._catalogue.values()
        }
        for model in machine.disk.models:
            states[model] = ReportedModel(
                path=model.name, state=ReportedState.READY, bytes=model.bytes
            )
        for model in machine.fetching:
            states[model] = ReportedModel(
                path=model.name, state=ReportedState.LOADING, bytes=model.bytes
            )
        return Report(directory=DIRECTORY, models=tuple(states.values()))

    def _renew(self) -> None:
        self._renewals += 1
        renewal, machine = self._renewals, self._machine
        transfers = tuple(
            Transfer(
                path=model.name,
                bytes_done=int(model.bytes - machine.network.left(coming.flow)),
                bytes_total=model.bytes,
                bytes_per_second=coming.flow.rate,
            )
            for model, coming in machine.fetching.items()
            if coming.flow is not None
        )
        disk = Disk(
            free_bytes=machine.disk.capacity - machine.disk.used,
            total_bytes=machine.disk.capacity,
            read_bytes_per_second=machine.disk_speed,
        )
        lease = loader_lease(
            machine.name,
            time_text(self._timeline.now),
            progress=Progress(transfers=transfers, disk=disk),
            wanted=Wanted(models=self._wanted) if self._wanted else None,
        )
        self._api.put(lease)

        def again() -> None:
            if self._renewals == renewal and self._alive:
                self._renew()

        self._timeline.after(PROGRESS_SECONDS if transfers else RENEW_SECONDS, again)
