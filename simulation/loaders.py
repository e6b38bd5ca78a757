"""Loaders that report: what is on each machine's disk, and what its loader says of it.

After ``extender/loader``: a loader reports on its own pod when something changes, renews its Lease
as it works, and begins with what its predecessor left on the disk. One that hangs stays Ready, and
says nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.kube.objects import KubeObject, Lease, LeaseSpec, Node, ObjectMeta, Pod
from extender.kube.times import time_text
from extender.report import (
    LEASE_LABEL,
    PROGRESS_ANNOTATION,
    REPORT_ANNOTATION,
    WANTED_ANNOTATION,
    Disk,
    Progress,
    Report,
    ReportedModel,
    ReportedState,
    Transfer,
    lease_name,
    write,
)
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.scenario import Delays
from simulation.timeline import Timeline

LEASE_SECONDS = 90
"""``leaseDurationSeconds``, as the loader writes it (extender/loader/reporting.py)."""

_START_SECONDS = 0.01
_BEAT_SECONDS = 25.0
_LOOK_SECONDS = 1.0
_HANG_SECONDS = (10.0, 400.0)
_TOTAL_BYTES = 16 * 10**9


class Loaders:
    """The processes in the loaders' pods. ``path`` is the model's host path.

    ``on_demand``: they fetch it where they are asked to on their Lease, and nowhere else.
    """

    def __init__(
        self,
        path: str,
        *,
        on_demand: bool,
        api: Apiserver,
        timeline: Timeline,
        choices: Choices,
        delays: Delays,
        say: Callable[[str], None],
    ) -> None:
        self._directory, _, self._model = path.rpartition("/")
        self._on_demand = on_demand
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._delays = delays
        self._say = say
        self._disks: dict[str, ReportedState] = {}
        """How far the model is on each machine's disk; a new machine has nothing."""
        self._hung: set[str] = set()
        self._gone: set[str] = set()
        """Pods whose machine is gone, though another has its name."""
        self._runs = 0
        self._running: dict[str, int] = {}
        """By UID of the pod: which of its processes runs, one number for each."""
        api.listeners.append(self._happened)

    def take_back(self, pod: Pod) -> None:
        """Let a loader find its model wrong; it says so and fetches it again."""
        node = pod.spec.node_name
        if self._works(pod) and self._disks.get(node) is ReportedState.READY:
            self._say(f"{pod.metadata.name} takes its model back")
            state = self._choices.one((ReportedState.FAILED, ReportedState.ABSENT))
            self._put(pod, state)
            if self._on_demand and state is ReportedState.ABSENT:
                self._timeline.after(_LOOK_SECONDS, lambda: self._look(node))
            else:
                self._fetch(pod)

    def hang(self, pod: Pod) -> None:
        """Let a loader's process stand still for a while."""
        uid = pod.metadata.uid
        if not self._works(pod):
            return
        self._hung.add(uid)
        seconds = self._choices.between(*_HANG_SECONDS)
        self._say(f"{pod.metadata.name} hangs for {seconds:.0f} s")

        def go_on() -> None:
            self._hung.discard(uid)
            self._begin(pod)

        self._timeline.after(seconds, go_on)

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Node) and now is None:
            self._disks.pop(before.metadata.name, None)
            lost = (p for p in self._api.all(Pod) if p.spec.node_name == before.metadata.name)
            self._gone.update(pod.metadata.uid for pod in lost)
        elif isinstance(now, Pod) and now.metadata.controller() is not None:
            began = _ready(now) and not (isinstance(before, Pod) and _ready(before))
            if began:  # not at once: others have to hear of the pod as it is first
                self._timeline.after(_START_SECONDS, lambda: self._begin(now))
        elif isinstance(now, Lease) and _wanted(now) not in {_wanted(before), ""}:
            self._look(now.metadata.name.removeprefix(lease_name("")))

    def _begin(self, pod: Pod) -> None:
        """Start a process: it looks at the disk, reports, and fetches what is not there."""
        present = self._present(pod)
        if present is None or not _ready(present) or pod.metadata.uid in self._gone:
            return
        self._runs += 1
        self._running[pod.metadata.uid] = self._runs
        self._beat(pod, self._runs)
        state = self._disks.get(pod.spec.node_name)
        if state is ReportedState.READY:
            self._put(pod, state)
        else:
            self._begin_to_fetch(pod)

    def _begin_to_fetch(self, pod: Pod) -> None:
        """Fetch the model, if it is wanted here."""
        if not self._on_demand or self._is_wanted(pod.spec.node_name):
            self._put(pod, ReportedState.LOADING)
            self._fetch(pod)
        else:
            self._put(pod, ReportedState.ABSENT)

    def _is_wanted(self, node: str) -> bool:
        lease = self._api.get(Lease, lease_name(node))
        return lease is not None and bool(_wanted(lease))

    def _look(self, node: str) -> None:
        """Fetch what was asked for on a node's Lease, if its loader works and has it not."""
        if self._disks.get(node) is not ReportedState.ABSENT or not self._is_wanted(node):
            return
        for pod in list(self._api.all(Pod)):
            on = pod.metadata.controller() is not None and pod.spec.node_name == node
            if on and self._works(pod):
                self._begin_to_fetch(pod)

    def _fetch(self, pod: Pod) -> None:
        run = self._running[pod.metadata.uid]

        def done() -> None:
            if self._works(pod, run):
                self._put(pod, ReportedState.READY)

        self._timeline.after(self._choices.between(*self._delays.load), done)

    def _put(self, pod: Pod, state: ReportedState) -> None:
        """Let the disk be so, and report it."""
        self._disks[pod.spec.node_name] = state
        present = self._present(pod)
        if present is None:
            return
        report = Report(
            directory=self._directory,
            models=(ReportedModel(path=self._model, state=state, on_demand=self._on_demand),),
        )
        text = write(report)
        if present.metadata.annotations.get(REPORT_ANNOTATION) != text:
            self._say(f"{pod.metadata.name} reports {state}")
            annotations = {**present.metadata.annotations, REPORT_ANNOTATION: text}
            metadata = msgspec.structs.replace(present.metadata, annotations=annotations)
            self._api.put(msgspec.structs.replace(present, metadata=metadata))

    def _beat(self, pod: Pod, run: int) -> None:
        """Renew the Lease, with the progress of what is being fetched, again and again."""
        if not self._works(pod, run):
            return
        node = pod.spec.node_name
        transfers: tuple[Transfer, ...] = ()
        if self._disks.get(node) is ReportedState.LOADING:
            done = _TOTAL_BYTES // 2
            transfers = (Transfer(path=self._model, bytes_done=done, bytes_total=_TOTAL_BYTES),)
        disk = Disk(free_bytes=2 * _TOTAL_BYTES, total_bytes=4 * _TOTAL_BYTES)
        progress = write(Progress(transfers=transfers, disk=disk))
        before = self._api.get(Lease, lease_name(node))
        annotations = {} if before is None else before.metadata.annotations
        metadata = ObjectMeta(
            name=lease_name(node),
            namespace=pod.metadata.namespace,
            labels={LEASE_LABEL: "true"},
            annotations={**annotations, PROGRESS_ANNOTATION: progress},
        )
        spec = LeaseSpec(
            renew_time=time_text(self._timeline.now), lease_duration_seconds=LEASE_SECONDS
        )
        self._api.put(Lease(metadata=metadata, spec=spec))
        self._timeline.after(_BEAT_SECONDS, lambda: self._beat(pod, run))

    def _works(self, pod: Pod, run: int | None = None) -> bool:
        """Tell whether a process (the one with this number) runs in a pod and does not hang."""
        uid, present = pod.metadata.uid, self._present(pod)
        running = self._running.get(uid)
        return (
            present is not None
            and _ready(present)
            and not present.metadata.deletion_timestamp
            and uid not in self._hung | self._gone
            and running is not None
            and run in {None, running}
        )

    def _present(self, pod: Pod) -> Pod | None:
        return self._api.get(Pod, pod.metadata.name, pod.metadata.uid)


def _ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _wanted(lease: KubeObject) -> str:
    return lease.metadata.annotations.get(WANTED_ANNOTATION, "")
