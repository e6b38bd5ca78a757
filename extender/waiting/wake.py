"""Whom to wake: the waiting pods that could go to a node which refused them before.

The judge of filter itself is asked again, so that every input of filter wakes: a model that became
ready, memory given back, a claim bound, a Job complete, a reservation, a grace or a pod's patience
that ran out, knowledge that is fresh again. Pods that ask for the same are judged once together,
and only over the nodes that changed since they were last found to have no place.

Thousands may be due at once, and they are woken one after another. So before each of them it is
looked whether it still waits and still has a place, and whether somebody more urgent has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from extender.cluster.state import ClusterState
from extender.cluster.view import NodeView, View
from extender.placement.patience import impatient
from extender.placement.policy import Policy
from extender.placement.tables import Kind, kind_of
from extender.placement.verdict import Judge
from extender.waiting.asked import AskedNodes
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.slots import slots

FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 60.0
"""A pod that was woken and not asked about again is woken again, after 5, 10, ... 60 s."""

MISSED_RETRY_SECONDS = 1.0
"""One that could not be told is told again after so long: nobody knows of it yet."""

PLAN_SECONDS_PER_POD = 15e-6
"""After a change it is planned anew once so long has passed for each waiting pod, about six times
what that takes; before, only the next pod is looked at again. That is 0.3 s for 20,000 pods.
"""


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
        """Yield the pods to wake now, the most urgent first, no more than there seems room for.

        Each is chosen when it is asked for: what has happened since the one before counts.
        """
        plan = self._plan()
        while plan.ready:
            pod, key = plan.ready.popleft()
            group = plan.groups[key]
            if group.room <= 0 or not self._still_waits(pod):
                continue
            if not self._still_has_room(group, plan.view):
                group.room = 0
                continue
            group.room -= 1
            yield msgspec.structs.replace(pod, right_node=group.right_node)
            if self._is_old(plan):
                plan = self._plan()

    def _plan(self) -> _Plan:
        """Judge all who wait."""
        stale, refusals = self._stale(), self._pods.refusals
        self._pods.prune(self._state, blind=bool(stale))
        waiting, view = self._pods.all(), self._state.view()
        plan = _Plan(view, stale, refusals, patience=len(waiting) * PLAN_SECONDS_PER_POD)
        members: dict[_Key, list[WaitingPod]] = {}
        for pod in waiting:
            if _may_be_woken(pod, view.now):
                key = self._key(pod, view, stale)
                members.setdefault(key, []).append(pod)
                plan.ready.append((pod, key))
        self._hopeless = {key: self._hopeless[key] for key in members if key in self._hopeless}
        plan.groups = {key: self._judged(key, pods, view) for key, pods in members.items()}
        return plan

    def _is_old(self, plan: _Plan) -> bool:
        """Tell whether a plan has to be made anew: something changed, and it is worth its while."""
        passed = abs(self._state.now() - plan.view.now)  # clocks are set back
        if passed < plan.patience:
            return False
        changed = self._pods.refusals != plan.refusals or self._stale() != plan.stale
        return changed or self._state.view().nodes is not plan.view.nodes

    def _still_waits(self, pod: WaitingPod) -> bool:
        """Tell whether a pod of the plan is neither bound, gone nor asked about meanwhile."""
        uid = pod.request.uid
        now, facts = self._pods.get(uid), self._state.pod(uid)
        if now is None or now.touched_at != pod.touched_at or now.refused_at != pod.refused_at:
            return False
        return not pod.seen if facts is None else facts.counts and not facts.node

    def _still_has_room(self, group: _Group, planned: View) -> bool:
        """Tell whether one of the nodes that had a place for these pods still has one."""
        stale, view = self._stale(), self._state.view()
        if view.nodes is planned.nodes and stale == group.judge.stale:
            return True  # no event came
        judge = Judge(group.judge.asked, view, self._policy, stale=stale)
        return any(judge.reason(name) is None for name in group.fitting)

    def _judged(self, key: _Key, pods: list[WaitingPod], view: View) -> _Group:
        """Find out how many pods of a group could go somewhere. More than enough is enough."""
        request, asked = pods[0].request, pods[0].asked
        judge = Judge(request, view, self._policy, stale=key.kind.stale)
        group = _Group(judge)
        nodes = self._changed(key, judge)
        if nodes is None:
            names: Iterable[str] = view.nodes if asked is None else asked.among(view.nodes)
        else:
            names = [name for name, node in nodes.items() if asked is None or asked.has(node)]
        for name in names:
            if group.room >= len(pods) and len(group.fitting) > 1:
                break
            if judge.reason(name) is None:
                group.room += slots(request, view, name)
                group.fitting.append(name)
        if group.room:
            self._hopeless.pop(key, None)
        else:
            self._hopeless[key] = _Judged(judge, judge.claims)
        if asked is not None and len(group.fitting) == 1:
            group.right_node = group.fitting[0]
        return group

    def _key(self, pod: WaitingPod, view: View, stale: tuple[str, ...]) -> _Key:
        request = pod.request
        hurried = impatient(request, self._policy, view.now)
        return _Key(
            own=request.uid if request.uid in view.own else "",
            kind=kind_of(request, impatient=hurried, stale=stale),
            asked=pod.asked,
        )

    def _changed(self, key: _Key, judge: Judge) -> Mapping[str, NodeView] | None:
        """Return the nodes that changed since a group had no place anywhere; None for all.

        The clock alone opens no node: what is reserved runs out by a change of its node, a pod's
        patience by its key, and the grace of old files only ever ends.
        """
        before, now = self._hopeless.get(key), judge.view
        if before is None:
            return None
        old = before.judge.view.nodes
        if now.inventory is not before.judge.view.inventory or judge.claims != before.claims:
            return None
        return {name: node for name, node in now.nodes.items() if node is not old.get(name)}


class _Judged(msgspec.Struct, frozen=True):
    """A group found no place anywhere by this judge, with what was known of its claims.

    The judge also keeps the workload alive that the group's key has the identity of.
    """

    judge: Judge
    claims: tuple[object, ...]


class _Group:
    """How many pods of a group could go somewhere: ``room`` on the nodes that are ``fitting``.

    ``right_node`` is the only one that has a place, empty where there are several.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.room = 0
        self.fitting: list[str] = []
        self.right_node = ""


class _Plan:
    """Who is due by one view, in order, and where they could go.

    ``refusals`` counts those of before it; ``patience`` is how many seconds it is kept for.
    """

    def __init__(
        self, view: View, stale: tuple[str, ...], refusals: int, *, patience: float
    ) -> None:
        self.view = view
        self.stale = stale
        self.refusals = refusals
        self.patience = patience
        self.ready: deque[tuple[WaitingPod, _Key]] = deque()
        self.groups: dict[_Key, _Group] = {}


class _Key(msgspec.Struct, frozen=True, order=False):
    """Pods with the same key get the same answers.

    ``own`` is the UID of a pod that something is kept for on some node, a reservation, a hold or a
    nomination: that memory is free for it alone. A pod whose patience ends is of another kind: it
    leaves the group that has no place, and is judged on every node at once; the younger ones stay.
    """

    own: str
    kind: Kind
    asked: AskedNodes | None


def _may_be_woken(pod: WaitingPod, now: float) -> bool:
    if pod.touched_at is None:
        return True
    if pod.asked is None and pod.touches:
        return False
    wait = MISSED_RETRY_SECONDS
    if pod.touches:
        wait = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(pod.touches - 1, 10))
    return bool(now - pod.touched_at >= wait)
