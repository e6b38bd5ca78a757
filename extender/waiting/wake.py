"""Whom to wake: the waiting pods that could go to a node which refused them before.

The judge of filter itself is asked again, so that every input of filter wakes: a model that became
ready, memory given back, a claim bound, a Job complete, a reservation, a grace or a pod's patience
that ran out, knowledge that is fresh again. Pods that ask for the same are judged once together,
and only over the nodes that changed since they were last found to have no place (``places``).

A pod for which nobody was evicted is woken, too, when the evictions that kube-scheduler proposed
would let it run; and where another one was expected in that room (``awaited``), when that is
decided: only kube-scheduler can tell whom it would evict now.

Thousands may be due at once, and they are woken one after another. So before each of them it is
looked whether it still waits and still has a place, and whether somebody more urgent has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from extender.cluster.state import ClusterState
from extender.cluster.view import View
from extender.placement.patience import impatient
from extender.placement.policy import Policy
from extender.placement.tables import Kind, kind_of
from extender.placement.verdict import Judge
from extender.waiting.places import Choice, Hopeless, Places
from extender.waiting.pods import WaitingPod, WaitingPods

FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 60.0
"""A pod that was woken and not asked about again is woken again, after 5, 10, ... 60 s."""

MISSED_RETRY_SECONDS = 1.0
"""One that could not be told is told again after so long: nobody knows of it yet. Where the
apiserver is there and would not take it, after 1, 2, 4, ... 60 s."""

TOLD_SECONDS = 1.0
"""So long a pod that was woken counts as on its way to its place: kube-scheduler takes it up within
milliseconds, or in a moment of its own. Each that was not asked about by then, perhaps for reasons
of kube-scheduler's own, lets one more try: a row of thousands of those ends within seconds."""

PLAN_SECONDS_PER_POD = 25e-6
"""After a change it is planned anew once so long has passed for each waiting pod, five to ten times
what that takes with a set of nodes for each; before, only the next pod is looked at again. That is
0.5 s for 20,000 pods.
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
        self._hopeless: dict[_Key, Hopeless] = {}
        self._told: dict[str, str] = {}  # by UID: the node that a pod was woken for

    def due(self) -> Iterator[WaitingPod]:
        """Yield the pods to wake now, the most urgent first, no more than there seems room for.

        Each is chosen when it is asked for: what has happened since the one before counts.
        """
        plan = self._plan()
        yield from filter(self._still_waits, plan.again)
        while plan.ready:
            pod, choice = plan.ready.popleft()
            node = choice.next()
            if not node or not self._still_waits(pod):
                continue
            if not self._still_has_room(choice, plan.view):
                choice.close()
                continue
            choice.places.taken[node] += 1
            self._told[pod.request.uid] = node
            yield msgspec.structs.replace(pod, right_node=choice.right_node)
            if self._is_old(plan):
                plan = self._plan()

    def _plan(self) -> _Plan:
        """Judge all who wait."""
        stale, refusals = self._stale(), self._pods.refusals
        waiting = self._pods.present(self._state, blind=bool(stale))
        view = self._state.view()
        kept_for = len(waiting) * PLAN_SECONDS_PER_POD
        plan = _Plan(view, stale, refusals, made=self._state.steady(), kept_for=kept_for)
        groups: dict[_Key, Places] = {}
        told, self._told = self._told, {}
        for pod in waiting:
            if _is_due_again(pod, plan.made, fresh=not stale):
                plan.again.append(pod)
                continue
            node = told.get(pod.request.uid, "") if pod.touches else ""
            ready = _may_be_woken(pod, plan.made)
            if not node and not ready:
                continue
            key = self._key(pod, view, stale)
            places = groups.get(key)
            if places is None:
                judge = Judge(pod.request, view, self._policy, stale=stale)
                places = groups[key] = Places(judge, self._hopeless.get(key), self._state.pod)
            if node:
                self._told[pod.request.uid] = node
                if not key.own:  # else the view shows what is kept for it
                    places.taken[node] += 1 if _told_lately(pod, plan.made) else -1
            if ready and (choice := self._choice(pod, places)).any:
                plan.ready.append((pod, choice))
        self._hopeless = {key: places.hopeless() for key, places in groups.items()}
        return plan

    def _choice(self, pod: WaitingPod, places: Places) -> Choice:
        """Return where a pod could go; where it could go nowhere, where it could be made room."""
        choice = places.choice(pod.asked)
        refused = None if choice.any else self._pods.evictions(pod.request.uid)
        return choice if refused is None else places.eviction(refused)

    def _is_old(self, plan: _Plan) -> bool:
        """Tell whether a plan has to be made anew: something changed, and it is worth its while."""
        if self._state.steady() - plan.made < plan.kept_for:
            return False
        changed = self._pods.refusals != plan.refusals or self._stale() != plan.stale
        return changed or self._state.view().nodes is not plan.view.nodes

    def _still_waits(self, pod: WaitingPod) -> bool:
        """Tell whether a pod of the plan is neither bound, gone nor asked about meanwhile."""
        uid = pod.request.uid
        now, facts = self._pods.get(uid), self._state.pod(uid)
        if now is None or _times(now) != _times(pod):
            return False
        return not pod.seen if facts is None else facts.has_no_place

    def _still_has_room(self, choice: Choice, planned: View) -> bool:
        """Tell whether one of the nodes that had a place for these pods still has one."""
        before, stale, view = choice.places.judge, self._stale(), self._state.view()
        if view.nodes is planned.nodes and stale == before.stale:
            return True  # no event came
        return choice.stands(Judge(before.asked, view, self._policy, stale=stale))

    def _key(self, pod: WaitingPod, view: View, stale: tuple[str, ...]) -> _Key:
        request = pod.request
        hurried = impatient(request, self._policy, view.now)
        return _Key(
            own=request.uid if request.uid in view.own else "",
            kind=kind_of(request, impatient=hurried, stale=stale),
        )


class _Plan:
    """Who is due by one view, in order, and where they could go.

    ``refusals`` counts those of before it; it was ``made`` at a time of the clock that nobody sets,
    and is ``kept_for`` so many seconds.
    """

    def __init__(
        self,
        view: View,
        stale: tuple[str, ...],
        refusals: int,
        *,
        made: float,
        kept_for: float,
    ) -> None:
        self.view = view
        self.stale = stale
        self.refusals = refusals
        self.made = made
        self.kept_for = kept_for
        self.ready: deque[tuple[WaitingPod, Choice]] = deque()
        self.again: list[WaitingPod] = []


class _Key(msgspec.Struct, frozen=True, order=False):
    """Pods with the same key get the same answers from a node.

    ``own`` is the UID of a pod that something is kept for on some node, a reservation, a hold or a
    nomination: that memory is free for it alone. A pod whose patience ends is of another kind: it
    leaves the group that has no place, and is judged on every node at once; the younger ones stay.
    """

    own: str
    kind: Kind


def _times(pod: WaitingPod) -> tuple[float, float | None]:
    return pod.refused_steady, pod.touched_steady


def _told_lately(pod: WaitingPod, steady: float) -> bool:
    return pod.touched_steady is not None and steady - pod.touched_steady < TOLD_SECONDS


def _is_due_again(pod: WaitingPod, steady: float, *, fresh: bool) -> bool:
    """Tell whether a pod's time has come, and it was not told since (or could not be)."""
    if pod.once_fresh and fresh:
        return _may_be_woken(pod, steady)
    if pod.again_at is None or steady < pod.again_at:
        return False
    told_since = pod.touched_steady is not None and pod.touched_steady >= pod.again_at
    return not told_since or (not pod.touches and _may_be_woken(pod, steady))


def _may_be_woken(pod: WaitingPod, steady: float) -> bool:
    if pod.touched_steady is None:
        return True
    if pod.asked is None and pod.touches:
        return False
    wait = _wait(FIRST_RETRY_SECONDS, pod.touches) if pod.touches else missed_wait(pod.misses)
    return steady - pod.touched_steady >= wait


def missed_wait(misses: int) -> float:
    """Return after how many seconds it is tried again what so many times could not be written."""
    return _wait(MISSED_RETRY_SECONDS, misses)


def _wait(first: float, times: int) -> float:
    return min(LAST_RETRY_SECONDS, first * 2.0 ** min(max(times - 1, 0), 10))
