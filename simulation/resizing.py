"""Resizes in place: what a pod asks for, what its kubelet gives it, and what it says of that.

After kubernetes/pkg/kubelet (allocation, kuberuntime): a resize is carried out at once, later (it
is deferred, or a limit cannot be lowered below what is used), or never (it is infeasible). What is
in force is told in the status a moment after it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from extender.kube.objects import Condition, ContainerStatus, KubeObject, Pod
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.scenario import INFEASIBLE, Ask, Delays, Size
from simulation.timeline import Timeline

_TOLD_SECONDS = (0.0, 2.0)
_PENDING, _IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
_DONE = Condition()
_FATES = (
    _DONE,
    Condition(type=_IN_PROGRESS, status="True"),
    Condition(type=_PENDING, status="True", reason="Deferred"),
    Condition(type=_PENDING, status="True", reason=INFEASIBLE),
)


class Resizing:
    """What kubelets do of it. Pods that come are looked up in ``asks`` by their UID."""

    def __init__(
        self,
        *,
        api: Apiserver,
        timeline: Timeline,
        choices: Choices,
        delays: Delays,
        asks: Mapping[str, Ask],
        say: Callable[[str], None],
    ) -> None:
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._delays = delays
        self._asks = asks
        self._say = say
        self._in_force: dict[str, int] = {}
        """By UID: the number of the size that a running pod really has."""
        api.listeners.append(self._happened)

    def in_force(self, uid: str) -> Size | None:
        """Return what a pod really has; None where it does not run, or always has the same."""
        number = self._in_force.get(uid)
        return None if number is None else self._asks[uid].sizes[number]

    def statuses(self, pod: Pod) -> tuple[ContainerStatus, ...]:
        """Return what is told of the containers of a pod that runs, from now on at the latest."""
        uid = pod.metadata.uid
        ask = self._asks.get(uid)
        if ask is None or not ask.sizes:
            return ()
        size = ask.sizes[self._in_force.setdefault(uid, ask.wanted(pod))]
        (container,) = pod.spec.containers
        given = ContainerStatus(
            name=container.name,
            resources=size.resources,
            allocated_resources=size.resources.requests,
        )
        return (given,)

    def resizable(self) -> list[Pod]:
        """Return the pods that run and can be resized."""
        pods = (pod for pod in self._api.all(Pod) if pod.metadata.uid in self._in_force)
        return [pod for pod in pods if not pod.metadata.deletion_timestamp]

    def resize(self, pod: Pod) -> None:
        """Have a pod ask for another size."""
        uid = pod.metadata.uid
        ask = self._asks[uid]
        wanted = ask.wanted(pod)
        size = self._choices.one([one for n, one in enumerate(ask.sizes) if n != wanted])
        self._say(f"{pod.metadata.name} resized to {size.demand / 2**30:.0f} GiB")
        container = msgspec.structs.replace(pod.spec.containers[0], resources=size.resources)
        spec = msgspec.structs.replace(pod.spec, containers=(container,))
        generation = pod.metadata.generation + 1
        metadata = msgspec.structs.replace(pod.metadata, generation=generation)
        self._api.put(msgspec.structs.replace(pod, metadata=metadata, spec=spec))
        self._try_later(pod)

    def _try_later(self, pod: Pod) -> None:
        delay = self._choices.between(*self._delays.resize)
        self._timeline.after(delay, lambda: self._try(pod.metadata.name, pod.metadata.uid))

    def _try(self, name: str, uid: str) -> None:
        """Carry out what a pod asks for by now, or say why not."""
        pod = self._api.get(Pod, name, uid)
        if pod is None or uid not in self._in_force:
            return
        wanted = self._asks[uid].wanted(pod)
        done = wanted == self._in_force[uid]
        fate = msgspec.structs.replace(
            _DONE if done else self._choices.one(_FATES),
            observed_generation=pod.metadata.generation,
        )
        if not fate.type:
            self._in_force[uid] = wanted
        elif fate.reason != INFEASIBLE:
            self._try_later(pod)
        self._say(f"{name} resize: {fate.reason or fate.type or 'carried out'}")
        delay = self._choices.between(*_TOLD_SECONDS)
        self._timeline.after(delay, lambda: self._tell(name, uid, fate))

    def _tell(self, name: str, uid: str, fate: Condition) -> None:
        pod = self._api.get(Pod, name, uid)
        if pod is None or uid not in self._in_force:
            return
        others = (one for one in pod.status.conditions if one.type not in {_PENDING, _IN_PROGRESS})
        status = msgspec.structs.replace(
            pod.status,
            conditions=(*others, fate) if fate.type else tuple(others),
            container_statuses=self.statuses(pod),
        )
        self._api.put(msgspec.structs.replace(pod, status=status))

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        """Note a pod's end."""
        if not isinstance(now, Pod) or now.status.phase == "Succeeded":
            self._in_force.pop(before.metadata.uid, None)
