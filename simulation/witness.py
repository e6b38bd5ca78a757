"""What the extender was told, kept apart from what it made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf

from extender.cluster.kept import KeptDraft
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject, Lease, Node, ObjectMeta, Pod
from extender.kube.times import unix_time
from extender.report import REPORT_ANNOTATION, Report, ReportedState, lease_name, read
from extender.watch.reflector import Sink
from simulation.loaders import LEASE_SECONDS
from simulation.timeline import Timeline

_NEVER = (-inf, "")


class Witness:
    """A sink in front of the real one."""

    def __init__(self, sink: Sink, timeline: Timeline, *, reporting: bool) -> None:
        self.pods: dict[str, Pod] = {}
        self.others: dict[tuple[type[KubeObject], str], KubeObject] = {}
        """What was told of all other kinds, by kind and name."""
        self._sink = sink
        self._timeline = timeline
        self._reporting = reporting
        self.listed_at = -inf
        """When the last list of pods that was told had been asked for."""
        self._heard: dict[str, tuple[str, float]] = {}
        """By node: the last renewal of its loader's Lease, and when that was told."""
        self._machines: dict[str, str] = {}
        self._ready: dict[str, Pod] = {}
        self._ready_until: dict[str, tuple[float, str]] = {}
        """By node: until when a loader's pod was Ready there, and when that pod was created."""

    def vouched(self, node: str) -> float:
        """Return how many seconds ago a loader was last known to vouch for this machine.

        One that reports does so while it is Ready, renews its Lease, and says that it is there.
        """
        if node in self._ready:
            silent = self.silent(node)
            return silent if silent > LEASE_SECONDS else 0.0
        return self._timeline.now - self._ready_until.get(node, _NEVER)[0]

    def silent(self, node: str) -> float:
        """Return for how many seconds no renewal of a loader's Lease was told."""
        return self._timeline.now - self._heard.get(node, ("", self._timeline.now))[1]

    def on(self, node: str) -> list[Pod]:
        """Return the pods that are known to be on a node and are not finished."""
        return [
            pod
            for pod in self.pods.values()
            if pod.spec.node_name == node and pod.status.phase not in {"Succeeded", "Failed"}
        ]

    # -- the sink --------------------------------------------------------------------------------

    def listing(self, kind: type[KubeObject]) -> Draft:
        """Take a complete list, which is asked for now."""
        return KeptDraft(self._sink.listing(kind), partial(self._listed, kind, self._timeline.now))

    def _listed(
        self, kind: type[KubeObject], asked_at: float, objects: Sequence[KubeObject]
    ) -> None:
        if kind is Pod:
            present = {obj.metadata.uid for obj in objects}
            for pod in [pod for uid, pod in self.pods.items() if uid not in present]:
                self._forget(pod)
            self.listed_at = asked_at
        if kind is Node:
            listed = {obj.metadata.name for obj in objects}
            for name in [name for name in self._machines if name not in listed]:
                self._machine(name, None)
        self.others = {key: obj for key, obj in self.others.items() if key[0] is not kind}
        for obj in objects:
            self._note(obj)

    def upsert(self, obj: KubeObject) -> None:
        """Take one object."""
        self._note(obj)
        self._sink.upsert(obj)

    def delete(self, obj: KubeObject) -> None:
        """Take one object's end."""
        if isinstance(obj, Pod):
            self._forget(obj)
        elif isinstance(obj, Lease):
            self._heard.pop(_node_of(obj), None)
        elif isinstance(obj, Node):
            self._machine(obj.metadata.name, None)
        self.others.pop((type(obj), obj.metadata.name), None)
        self._sink.delete(obj)

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Pass it on; every object here can be read."""
        self._sink.unreadable(kind, metadata, error)

    def knows(self, obj: KubeObject) -> bool:
        """Pass the question on."""
        return self._sink.knows(obj)

    def differs(self, obj: KubeObject) -> bool:
        """Pass the question on."""
        return self._sink.differs(obj)

    # -- keeping ---------------------------------------------------------------------------------

    def _note(self, obj: KubeObject) -> None:
        if not isinstance(obj, Pod):
            self.others[type(obj), obj.metadata.name] = obj
        if isinstance(obj, Node):
            self._machine(obj.metadata.name, obj.metadata.creation_timestamp)
            return
        if isinstance(obj, Lease):
            self._renewed(obj)
            return
        if not isinstance(obj, Pod):
            return
        before = self.pods.get(obj.metadata.uid)
        self.pods[obj.metadata.uid] = obj
        node = obj.spec.node_name
        if obj.metadata.controller() is None:
            return
        if self._reporting and not self._says_ready(obj, before):
            return
        conditions = {c.type: c for c in obj.status.conditions}
        ready, deleted = conditions["Ready"], obj.metadata.deletion_timestamp
        if ready.status == "True" and not deleted:
            if obj.metadata.creation_timestamp >= self._machines.get(node, ""):
                self._ready[node] = obj  # else it is of another machine by this name
            return
        if before is not None:
            self._no_longer_ready(before)
        if conditions["Initialized"].status == "True":  # it had loaded everything until then
            at = unix_time(deleted if ready.status == "True" else ready.last_transition_time)
            loaded = (at or -inf, obj.metadata.creation_timestamp)
            self._ready_until[node] = max(self._ready_until.get(node, _NEVER), loaded)

    def _says_ready(self, pod: Pod, before: Pod | None) -> bool:
        """Tell whether a pod's report says that the model is there; another one takes it back."""
        text = pod.metadata.annotations.get(REPORT_ANNOTATION)
        created = pod.metadata.creation_timestamp
        if text is None or created < self._machines.get(pod.spec.node_name, ""):
            return False
        (model,) = read(text, Report).models
        if model.state is ReportedState.READY:
            return True
        node = pod.spec.node_name
        if before is None or text != before.metadata.annotations.get(REPORT_ANNOTATION):
            self._ready.pop(node, None)
            self._ready_until.pop(node, None)
        return False

    def _renewed(self, lease: Lease) -> None:
        node, now = _node_of(lease), self._timeline.now
        renewed = lease.spec.renew_time
        before = self._heard.get(node)
        if before is None:
            self._heard[node] = renewed, min(now, unix_time(renewed) or now)
        elif before[0] != renewed:
            self._heard[node] = renewed, now

    def _forget(self, pod: Pod) -> None:
        before = self.pods.pop(pod.metadata.uid, None)
        if before is not None:
            self._no_longer_ready(before)

    def _no_longer_ready(self, pod: Pod) -> None:
        node = pod.spec.node_name
        held = self._ready.get(node)
        if held is not None and held.metadata.uid == pod.metadata.uid:
            del self._ready[node]
            created = held.metadata.creation_timestamp
            if created >= self._machines.get(node, ""):
                self._ready_until[node] = self._timeline.now, created

    def _machine(self, name: str, created: str | None) -> None:
        """Note a machine, or its end; what loaders of an older one by its name did is gone."""
        if created is None:
            self._machines.pop(name, None)
            return
        self._machines[name] = created
        held = self._ready.get(name)
        if held is not None and held.metadata.creation_timestamp < created:
            del self._ready[name]
        if self._ready_until.get(name, _NEVER)[1] < created:
            self._ready_until.pop(name, None)


def _node_of(lease: Lease) -> str:
    return lease.metadata.name.removeprefix(lease_name(""))
