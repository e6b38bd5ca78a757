"""What is so, whatever anybody was told of it or made of it.

Counted from the apiserver's objects as they change, and from what is known of a pod since it was
asked for; nothing here is the core's. What is said to be possible here is certain: what a loader
left behind before it fell silent is no model here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from extender.kube.objects import KubeObject, Lease, Node, Pod
from extender.kube.times import unix_time
from extender.report import REPORT_ANNOTATION, ReportedState, lease_name
from simulation.apiserver import Apiserver, may_be_bound
from simulation.loaders import LEASE_SECONDS
from simulation.scenario import Ask

_FINISHED = frozenset({"Succeeded", "Failed"})


class Truth:
    """Where memory is taken and where the model is. ``reporting``: loaders say what they hold."""

    def __init__(self, api: Apiserver, asks: Mapping[str, Ask], *, reporting: bool) -> None:
        self._api = api
        self._asks = asks
        self._reporting = reporting
        self._places: dict[str, str] = {}
        """By UID: the node where a pod takes memory."""
        self._sizes: dict[str, int] = {}
        """By UID: the bytes that a pod may take there."""
        self._nominated: dict[str, Pod] = {}
        """By UID: the pods on no node that are meant for one."""
        self._loaders: dict[str, Pod] = {}
        """By node: the pod of its loader."""
        api.listeners.append(self._happened)

    def taken(self, node: str, *, without: Collection[str] = ()) -> int:
        """Return the bytes that the pods on a node may take, some of them left out by UID."""
        return sum(self._sizes[uid] for uid in self.on(node) if uid not in without)

    def size(self, uid: str) -> int:
        """Return the bytes that a pod on a node may take."""
        return self._sizes[uid]

    def on(self, node: str) -> list[str]:
        """Return the UIDs of the pods that take memory of a node."""
        return [uid for uid, place_of in self._places.items() if place_of == node]

    def could_run(self, pod: Pod, node: str, *, without: Collection[str] = ()) -> bool:
        """Tell whether a node has the memory and the model, once some others are gone from it."""
        ask = self._asks[pod.metadata.uid]
        return self._has_room(pod, node, without) and (not ask.needs_model or self.has_model(node))

    def may_run(self, pod: Pod, node: str, *, without: Collection[str] = ()) -> bool:
        """Tell the same of a node whose loader, where it says nothing, may have the model."""
        ready = self._said(node) in {"", ReportedState.READY}
        needs_model = self._asks[pod.metadata.uid].needs_model
        return self._has_room(pod, node, without) and (not needs_model or ready)

    def states(self, pod: Pod, nodes: Collection[str]) -> set[str]:
        """Return what loaders say of a pod's model where nothing else keeps the pod from running.

        Of nodes whose loader says nothing of it, nothing.
        """
        if not self._asks[pod.metadata.uid].needs_model:
            return set()
        return {self._said(name) for name in nodes if self._has_room(pod, name, ())} - {""}

    def _has_room(self, pod: Pod, name: str, without: Collection[str]) -> bool:
        node, wanted = self._api.get(Node, name), self.demand(pod)
        if node is None:
            return False
        ahead = sum(
            self.demand(other)
            for uid, other in self._nominated.items()
            if other.status.nominated_node_name == name
            and uid != pod.metadata.uid
            and priority(other) >= priority(pod)
        )
        taken = self.taken(name, without=without)
        return not wanted or taken + ahead + wanted <= allocatable(node)

    def has_model(self, name: str) -> bool:
        """Tell whether a loader vouches for the model on a node at this moment."""
        return self._said(name) == ReportedState.READY

    def _said(self, name: str) -> str:
        """Return how far a node's loader is, as it says at this moment; empty where it is silent.

        One that does not report has the model when it is Ready.
        """
        node, pod = self._api.get(Node, name), self._loaders.get(name)
        if node is None or pod is None or pod.metadata.deletion_timestamp:
            return ""
        if pod.metadata.creation_timestamp < node.metadata.creation_timestamp:
            return ""  # of another machine by this name
        conditions = {condition.type: condition.status for condition in pod.status.conditions}
        if conditions.get("Ready") != "True":
            return ""
        if not self._reporting:
            return ReportedState.READY
        report = msgspec.json.decode(pod.metadata.annotations.get(REPORT_ANNOTATION, "{}"))
        states = [model["state"] for model in report.get("models", ())]
        return states[0] if states and self._speaks(name) else ""

    def _speaks(self, name: str) -> bool:
        lease = self._api.get(Lease, lease_name(name))
        renewed = unix_time(lease.spec.renew_time) if lease is not None else None
        return renewed is not None and self._api.now - renewed < LEASE_SECONDS

    def demand(self, pod: Pod) -> int:
        """Return the bytes that a pod can take; a loader's pod takes none."""
        ask = self._asks.get(pod.metadata.uid)
        return ask.demand_of(pod) if ask is not None else 0

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Pod):
            self._forget(before)
            if isinstance(now, Pod):
                self._note(now)

    def _forget(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        for table in (self._nominated, self._places, self._sizes):
            table.pop(uid, None)
        loader = self._loaders.get(pod.spec.node_name)
        if loader is not None and loader.metadata.uid == uid:
            del self._loaders[pod.spec.node_name]

    def _note(self, pod: Pod) -> None:
        uid, node = pod.metadata.uid, place(pod)
        if pod.metadata.controller() is not None:
            self._loaders[node] = pod
        elif node:
            self._places[uid], self._sizes[uid] = node, self.demand(pod)
        elif pod.status.nominated_node_name and not pod.spec.node_name and may_be_bound(pod):
            self._nominated[uid] = pod


def place(pod: Pod) -> str:
    """Return where a pod takes memory, empty where it takes none."""
    return "" if pod.status.phase in _FINISHED else pod.spec.node_name


def priority(pod: Pod) -> int:
    """Return what a pod goes before others by."""
    return pod.spec.priority or 0


def allocatable(node: Node) -> int:
    """Return a node's allocatable memory in bytes, which the models here state as a number."""
    return int(node.status.allocatable["memory"])
