"""Whom to wake: the waiting pods that could go to a node which refused them before.

The judge of filter itself is asked again, so that every input of filter wakes: a model that became
ready, memory given back, a claim bound, a Job complete, a reservation, a grace or a pod's patience
that ran out, knowledge that is fresh again. Pods that ask for the same are judged once together,
and only over the nodes that changed since they were last found to have no place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from extender.cluster.state import ClusterState
from extender.cluster.view import View
from extender.placement.patience import impatient
from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.waiting.pods import WaitingPod, WaitingPods

FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 60.0
"""A pod that was woken and not asked about again is woken again, after 5, 10, ... 60 s."""

RECHECK_SECONDS = 1.0
"""How often every node is judged again, for what changes by the clock alone."""


class Waker:
    """Decides; somebody else touches. Used from one thread."""

    def __init__(
        self,
        state: ClusterState,
        pods: WaitingPods,
        policy: Policy,
        *,
        stale: Callable[[], tuple[str, ...]],
    ) -> None:
        self._state = state
        self._pods = pods
        self._policy = policy
        self._stale = stale
        self._hopeless: dict[_Key, _Judged] = {}

    def due(self) -> Iterator[WaitingPod]:
        """Yield the pods to wake now, in order, no more than there seems to be room for."""
        self._pods.prune(self._state)
        waiting = self._pods.all()
        if not waiting:
            return
        view = self._state.view()
        ready = [pod for pod in waiting if _may_be_woken(pod, view.now)]
        keys = {pod.request.uid: self._key(pod, view.now) for pod in ready}
        groups = _groups(ready, keys)
        self._hopeless = {key: self._hopeless[key] for key in groups if key in self._hopeless}
        room = {key: self._room(key, pods, view) for key, pods in groups.items()}
        for pod in ready:
            key = keys[pod.request.uid]
            if room[key] > 0:
                room[key] -= 1
                yield pod

    def _room(self, key: _Key, pods: list[WaitingPod], view: View) -> int:
        """Return how many pods of a group could go somewhere; more than enough is enough."""
        request, asked = pods[0].request, pods[0].asked
        judge = Judge(request, view, self._policy, stale=self._stale())
        names: Iterable[str] = view.nodes if asked is None else asked
        changed = self._changed(key, judge)
        if changed is not None:
            names = changed.intersection(names)
        room = 0
        for name in names:
            if room >= len(pods):
                break
            if judge.reason(name) is None:
                room += _slots(request, view, name)
        if room:
            self._hopeless.pop(key, None)
        else:
            at = view.now if changed is None else self._hopeless[key].at
            self._hopeless[key] = _Judged(view, judge.stale, at)
        return room

    def _key(self, pod: WaitingPod, now: float) -> _Key:
        request = pod.request
        return _Key(
            namespace=request.namespace,
            workload=id(request.workload),
            demand=request.demand.bytes,
            unbounded=request.demand.unbounded,
            priority=request.priority,
            asked=id(pod.asked),
            impatient=impatient(request, self._policy, now),
        )

    def _changed(self, key: _Key, judge: Judge) -> set[str] | None:
        """Return the nodes that changed since a group had no place anywhere; None for all."""
        before, now = self._hopeless.get(key), judge.view
        if before is None or now.now - before.at >= RECHECK_SECONDS or before.stale != judge.stale:
            return None
        then = before.view
        if now.inventory is not then.inventory or now.claims != then.claims:
            return None
        others = (now.volumes, now.classes, now.jobs, now.completed_writes)
        if others != (then.volumes, then.classes, then.jobs, then.completed_writes):
            return None
        old = then.nodes
        return {name for name, node in now.nodes.items() if node is not old.get(name)}


class _Judged(msgspec.Struct, frozen=True):
    """A group found no place over this view; every node was last judged ``at`` (UNIX seconds)."""

    view: View
    stale: tuple[str, ...]
    at: float


def _may_be_woken(pod: WaitingPod, now: float) -> bool:
    if pod.touched_at is None:
        return True
    if pod.asked is None:
        return False
    wait = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(pod.touches - 1, 10))
    return bool(now - pod.touched_at >= wait)


def _slots(request: PodRequest, view: View, name: str) -> int:
    """Return how many such pods a node has the memory for; many where memory sets no bound."""
    node = view.nodes.get(name)
    wanted = request.demand.on(node.allocatable) if node else 0
    if node is None or wanted <= 0:
        return 1_000
    return max(1, node.free_for(request.uid, request.priority) // wanted)


class _Key(msgspec.Struct, frozen=True, order=False):
    """Pods with the same key get the same answers.

    ``impatient`` is part of it: a pod whose patience ends leaves the group that has no place, and
    is judged on every node at once; the younger ones stay.
    """

    namespace: str
    workload: int
    demand: int
    unbounded: bool
    priority: int
    asked: int
    impatient: bool


def _groups(pods: list[WaitingPod], keys: Mapping[str, _Key]) -> dict[_Key, list[WaitingPod]]:
    table: dict[_Key, list[WaitingPod]] = {}
    for pod in pods:
        table.setdefault(keys[pod.request.uid], []).append(pod)
    return table
