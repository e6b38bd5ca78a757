"""The apiserver: the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from extender.kube.objects import DaemonSet, KubeObject, Lease, Node, Pod
from simulation.timeline import Timeline

Listener = Callable[[KubeObject, KubeObject | None], None]
"""Told of an object as it was and is now; None once it is gone."""

Kind = TypeVar("Kind", bound=KubeObject)

KINDS: tuple[type[KubeObject], ...] = (Pod, Node, DaemonSet, Lease)


def may_be_bound(pod: Pod) -> bool:
    """Tell whether a pod gets a node: one that is deleted or that a gate holds back gets none."""
    return not (pod.metadata.deletion_timestamp or pod.spec.scheduling_gates)


class Apiserver:
    """Every object by kind and name. Listeners hear of each change at once."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._objects: dict[type[KubeObject], dict[str, Any]] = {kind: {} for kind in KINDS}
        self.listeners: list[Listener] = []
        self.version = 0
        """The present resource version: how many changes there were."""

    @property
    def now(self) -> float:
        """Return the present, in the timeline's seconds."""
        return self._timeline.now

    def all(self, kind: type[Kind]) -> Iterable[Kind]:
        """Return the objects of one kind."""
        return self._objects[kind].values()

    def get(self, kind: type[Kind], name: str, uid: str | None = None) -> Kind | None:
        """Return an object by name, if it has this UID."""
        found: Kind | None = self._objects[kind].get(name)
        return found if found is None or uid in {None, found.metadata.uid} else None

    def put(self, obj: KubeObject) -> None:
        """Create or change an object, which gets the present resource version."""
        table = self._objects[type(obj)]
        self.version += 1
        metadata = msgspec.structs.replace(obj.metadata, resource_version=str(self.version))
        obj = msgspec.structs.replace(obj, metadata=metadata)
        before = table.get(obj.metadata.name, obj)
        table[obj.metadata.name] = obj
        for listener in self.listeners:
            listener(before, obj)

    def delete(self, obj: KubeObject) -> None:
        """Take an object away, if it is still that very one."""
        table = self._objects[type(obj)]
        before = table.get(obj.metadata.name)
        if before is not None and before.metadata.uid == obj.metadata.uid:
            self.version += 1
            del table[obj.metadata.name]
            for listener in self.listeners:
                listener(before, None)

    def bind(self, name: str, uid: str, node: str, annotations: dict[str, str]) -> bool:
        """Bind a pod as the apiserver does: one that is there, not bound, and may be.

        It does not ask whether there is such a node.
        """
        pod = self.get(Pod, name, uid)
        if pod is None or pod.spec.node_name or not may_be_bound(pod):
            return False
        metadata = msgspec.structs.replace(
            pod.metadata, annotations={**pod.metadata.annotations, **annotations}
        )
        spec = msgspec.structs.replace(pod.spec, node_name=node)
        self.put(msgspec.structs.replace(pod, metadata=metadata, spec=spec))
        return True

    def stamp(self) -> str:
        """Return the present as the apiserver writes it."""
        return datetime.fromtimestamp(self._timeline.now, UTC).isoformat(timespec="seconds")
