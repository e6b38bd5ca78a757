"""Kubelets and the controllers beside them: pods start, end, and go with their machine."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.kube.objects import (
    Condition,
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    DaemonSet,
    KubeObject,
    Node,
    ObjectMeta,
    OwnerReference,
    Pod,
    PodStatus,
)
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.resizing import Resizing
from simulation.scenario import Delays, Seconds
from simulation.timeline import Timeline

_EVICTED = Condition(type="DisruptionTarget", status="True", reason="PreemptionByScheduler")
_GONE_WITH_NODE_SECONDS = (0.0, 40.0)
_FINALIZERS_PERCENT = 30
_CRASHED = (
    ContainerStatus(
        restart_count=1,
        state=ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff")),
        last_state=ContainerState(terminated=ContainerStateTerminated(exit_code=1)),
    ),
)


class Kubelets:
    """All kubelets, the DaemonSet controller and the collector of pods whose node is gone.

    ``loading``: how long it takes from a loader pod's creation to Ready.
    """

    def __init__(
        self,
        *,
        api: Apiserver,
        timeline: Timeline,
        choices: Choices,
        delays: Delays,
        loading: Seconds,
        resizing: Resizing,
        say: Callable[[str], None],
    ) -> None:
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._delays = delays
        self._loading = loading
        self._resizing = resizing
        self._say = say
        self._made = 0
        api.listeners.append(self._happened)

    def loader_pods(self) -> list[Pod]:
        """Return the pods of loaders that are not being deleted."""
        return [
            pod
            for pod in self._api.all(Pod)
            if pod.metadata.controller() and not pod.metadata.deletion_timestamp
        ]

    def end(self, pod: Pod) -> None:
        """Delete a pod: when its containers have ended; at once where it is on no node.

        There some are kept by a finalizer until it is taken away.
        """
        if pod.metadata.deletion_timestamp:
            return
        if not pod.spec.node_name and not self._choices.chance(_FINALIZERS_PERCENT):
            self._api.delete(pod)
            return
        metadata = msgspec.structs.replace(pod.metadata, deletion_timestamp=self._api.stamp())
        self._api.put(msgspec.structs.replace(pod, metadata=metadata))
        ends = self._delays.end if pod.spec.node_name else self._delays.finalize
        delay = self._choices.between(*ends)
        self._timeline.after(delay, lambda: self._api.delete(pod))

    def evict(self, pod: Pod) -> None:
        """Delete a pod to make room for another, as kube-scheduler does, which says so on it."""
        if not pod.metadata.deletion_timestamp:
            status = msgspec.structs.replace(
                pod.status, conditions=(*pod.status.conditions, _EVICTED)
            )
            self.end(msgspec.structs.replace(pod, status=status))

    def finish(self, pod: Pod) -> None:
        """End a pod's containers by themselves; the pod stays."""
        self._status(pod, PodStatus(phase="Succeeded"))

    def fail(self, pod: Pod) -> None:
        """Let a loader's container crash; what was loaded before stays on the disk."""
        loaded = any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions)
        status = PodStatus(
            phase="Running" if loaded else "Pending",
            conditions=self._conditions(ready=False, initialized=loaded),
            container_statuses=_CRASHED if loaded else (),
            init_container_statuses=() if loaded else _CRASHED,
        )
        self._status(pod, status)
        self._ready_after(pod, self._loading)

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Node):
            if now is None:
                self._collect(before.metadata.name)
            elif now is before:
                self._make_loaders(before.metadata.name)
        elif isinstance(now, Pod) and now.spec.node_name:
            if not (isinstance(before, Pod) and before.spec.node_name):
                self._ready_after(now, self._delays.start)
                if self._api.get(Node, now.spec.node_name) is None:
                    self._collect(now.spec.node_name)
        elif now is None and isinstance(before, Pod) and before.metadata.controller():
            self._timeline.after(0.1, lambda: self._make_loaders(before.spec.node_name))

    def _collect(self, node: str) -> None:
        """Delete what is on a machine that is gone, some time later."""
        lost = [pod for pod in self._api.all(Pod) if pod.spec.node_name == node]

        def collect() -> None:
            for pod in lost:
                self._api.delete(pod)

        self._timeline.after(self._choices.between(*_GONE_WITH_NODE_SECONDS), collect)

    def _make_loaders(self, node: str) -> None:
        if self._api.get(Node, node) is None:
            return
        for loader in self._api.all(DaemonSet):
            name = f"{loader.metadata.name}-{node}"
            if self._api.get(Pod, name) is None:
                self._made += 1
                pod = _loader_pod(loader, node, name, f"{name}-{self._made}", self._api.stamp())
                loading = self._conditions(ready=False, initialized=False)
                pod = msgspec.structs.replace(
                    pod, status=PodStatus(phase="Pending", conditions=loading)
                )
                self._api.put(pod)
                self._ready_after(pod, self._loading)

    def _ready_after(self, pod: Pod, delay: tuple[float, float]) -> None:
        ready = PodStatus(
            phase="Running", conditions=self._conditions(ready=True, initialized=True)
        )
        self._timeline.after(
            self._choices.between(*delay), lambda: self._status(pod, ready, unless="Succeeded")
        )

    def _status(self, pod: Pod, status: PodStatus, unless: str | None = None) -> None:
        present = self._api.get(Pod, pod.metadata.name, pod.metadata.uid)
        if present is not None and present.status.phase != unless:
            if present.metadata.controller():
                said = "ready" if status.conditions[0].status == "True" else "not ready"
                self._say(f"{present.metadata.name} {said}")
            if is_evicted(present):
                conditions = (*status.conditions, _EVICTED)
                status = msgspec.structs.replace(status, conditions=conditions)
            given = self._resizing.statuses(present) if status.phase == "Running" else ()
            if given:
                status = msgspec.structs.replace(status, container_statuses=given)
            self._api.put(msgspec.structs.replace(present, status=status))

    def _conditions(self, *, ready: bool, initialized: bool) -> tuple[Condition, ...]:
        stamp = self._api.stamp()
        return (
            Condition(type="Ready", status=str(ready), last_transition_time=stamp),
            Condition(type="Initialized", status=str(initialized), last_transition_time=stamp),
        )


def is_evicted(pod: Pod) -> bool:
    """Tell whether a pod ends to make room for another."""
    return _EVICTED in pod.status.conditions


def _loader_pod(loader: DaemonSet, node: str, name: str, uid: str, created: str) -> Pod:
    """Return a loader's pod on a node, as the DaemonSet controller makes it."""
    owner = OwnerReference(
        kind="DaemonSet", name=loader.metadata.name, uid=loader.metadata.uid, controller=True
    )
    template = loader.spec.template
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=loader.metadata.namespace,
            uid=uid,
            labels=template.metadata.labels,
            owner_references=(owner,),
            creation_timestamp=created,
        ),
        spec=msgspec.structs.replace(template.spec, node_name=node),
    )
