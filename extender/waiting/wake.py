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
from extender.placement.verdict import Judge
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.slots import slots

FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 60.0
"""A pod that was woken and not asked about again is woken again, after 5, 10, ... 60 s."""

MISSED_RETRY_SECONDS = 1.0
"""One that could not be told is told again after so long: nobody knows of it yet."""


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
        self._pods.prune(self._state, blind=bool(self._stale()))
        waiting = self._pods.all()
        if not waiting:
            return
        view = self._state.view()
        ready = [pod for pod in waiting if _may_be_woken(pod, view.now)]
        keys = {pod.request.uid: self._key(pod, view.now) for pod in ready}
        groups = _groups(ready, keys)
        self._hopeless = {key: self._hopeless[key] for key in groups if key in self._hopeless}
        found = {key: self._room(key, pods, view) for key, pods in groups.items()}
        room = {key: slots for key, (slots, _) in found.items()}
        for pod in ready:
            key = keys[pod.request.uid]
            if room[key] > 0:
                room[key] -= 1
                yield msgspec.structs.replace(pod, right_node=found[key][1])

    def _room(self, key: _Key, pods: list[WaitingPod], view: View) -> tuple[int, str]:
        """Return how many pods of a group could go somewhere, and the node where one alone is left.

        More than enough is enough: with two nodes, the name is empty.
        """
        request, asked = pods[0].request, pods[0].asked
        judge = Judge(request, view, self._policy, stale=self._stale())
        names: Iterable[str] = view.nodes if asked is None else asked
        changed = self._changed(key, judge)
        if changed is not None:
            names = changed.intersection(names)
        room = 0
        fitting: list[str] = []
        for name in names:
            if room >= len(pods) and len(fitting) > 1:
                break
            if judge.reason(name) is None:
                room += slots(request, view, name)
                fitting.append(name)
        if room:
            self._hopeless.pop(key, None)
        else:
            self._hopeless[key] = _Judged(judge, judge.claims)
        return room, fitting[0] if asked is not None and len(fitting) == 1 else ""

    def _key(self, pod: WaitingPod, now: float) -> _Key:
        request = pod.request
        facts = self._state.pod(request.uid)
        return _Key(
            own=request.uid if facts is not None and facts.nominated else "",
            namespace=request.namespace,
            workload=id(request.workload),
            demand=request.demand.bytes,
            unbounded=request.demand.unbounded,
            priority=request.priority,
            asked=pod.asked,
            impatient=impatient(request, self._policy, now),
        )

    def _changed(self, key: _Key, judge: Judge) -> set[str] | None:
        """Return the nodes that changed since a group had no place anywhere; None for all.

        The clock alone opens no node: what is reserved runs out by a change of its node, a pod's
        patience by its key, and the grace of old files only ever ends.
        """
        before, now = self._hopeless.get(key), judge.view
        if before is None or before.judge.stale != judge.stale:
            return None
        old = before.judge.view.nodes
        if now.inventory is not before.judge.view.inventory or judge.claims != before.claims:
            return None
        return {name for name, node in now.nodes.items() if node is not old.get(name)}


class _Judged(msgspec.Struct, frozen=True):
    """A group found no place anywhere by this judge, with what was known of its claims.

    The judge also keeps the workload alive that the group's key has the identity of.
    """

    judge: Judge
    claims: tuple[object, ...]


def _may_be_woken(pod: WaitingPod, now: float) -> bool:
    if pod.touched_at is None:
        return True
    if pod.asked is None and pod.touches:
        return False
    wait = MISSED_RETRY_SECONDS
    if pod.touches:
        wait = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(pod.touches - 1, 10))
    return bool(now - pod.touched_at >= wait)


class _Key(msgspec.Struct, frozen=True, order=False):
    """Pods with the same key get the same answers.

    ``own`` is the UID of a pod that is nominated: what it waits for is kept from all others.
    ``impatient`` is part of it: a pod whose patience ends leaves the group that has no place, and
    is judged on every node at once; the younger ones stay.
    """

    own: str
    namespace: str
    workload: int
    demand: int
    unbounded: bool
    priority: int
    asked: frozenset[str] | None
    impatient: bool


def _groups(pods: list[WaitingPod], keys: Mapping[str, _Key]) -> dict[_Key, list[WaitingPod]]:
    table: dict[_Key, list[WaitingPod]] = {}
    for pod in pods:
        table.setdefault(keys[pod.request.uid], []).append(pod)
    return table
