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

Thousands may wait that could run as far as filter goes, and that kube-scheduler refuses by its own
rules without a word: a queue behind GPUs. They are woken after everybody else, and seldom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from extender.cluster.state import ClusterState
from extender.cluster.view import View
from extender.placement.patience import impatient
from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.placement.tables import kind_of
from extender.placement.verdict import Judge
from extender.waiting.allowance import Allowance
from extender.waiting.places import Choice, Hopeless, Places
from extender.waiting.plan import Candidate, Entry, Found, KindKey, Plan
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.shares import in_turn

FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
"""A pod that was woken and not asked about again was woken in vain: kube-scheduler has reasons of
its own against it. It is woken again after 5, 10, ... 300 s, which is when kube-scheduler tries it
by itself (DefaultPodMaxInUnschedulablePodsDuration in kubernetes/pkg/scheduler/backend/queue), and
sooner once a node opens for it."""

REPEATS_PER_SECOND = 5.0
MOST_REPEATS = 10
"""So many are woken again, and so many at once after a while without any: a tenth of what is
written by the shipped ``waking.perSecond``, however many wait for something else."""

AGAIN_PER_SECOND = 10.0
MOST_AGAIN = 20
"""So many are woken of whom only kube-scheduler can tell whether it would evict others for them,
and so many at once: each is a try of evictions on all nodes. After a restart of this program it may
be all that wait."""

MISSED_RETRY_SECONDS = 1.0
LAST_MISSED_SECONDS = 60.0
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


MOST_PLAN_SECONDS = 1.0
"""Once that took so long, other kinds of pods are judged by the next plan: the first that somebody
waits for may be thousands of models, each looked for on thousands of nodes."""


class Waker:
    """Decides; somebody else touches. Used from one thread."""

    def __init__(
        self,
        state: ClusterState,
        pods: WaitingPods,
        policy: Policy,
        *,
        stale: Callable[[], tuple[str, ...]],
        may_tell: Callable[[PodRequest], bool],
    ) -> None:
        self._state = state
        self._pods = pods
        self._policy = policy
        self._stale = stale
        self._may_tell = may_tell
        self._hopeless: dict[KindKey, Hopeless] = {}
        self._told: dict[str, str] = {}  # by UID: the node that a pod was woken for
        self._judged: dict[KindKey, int] = {}  # in which order the kinds that wait were judged last
        self._judgements = 0
        self._served: dict[str, int] = {}  # in which order somebody of each namespace was woken
        self._wakes = 0
        self._repeats = Allowance(REPEATS_PER_SECOND, MOST_REPEATS, state.steady)
        self._again = Allowance(AGAIN_PER_SECOND, MOST_AGAIN, state.steady)

    def due(self) -> Iterator[WaitingPod]:
        """Yield the pods to wake now, the most urgent first, no more than there seems room for.

        Each is chosen when it is asked for: what has happened since the one before counts.
        """
        plan = self._plan()
        while (queue := self._queue(plan)) is not None:
            pod = self._chosen(*queue.popleft(), plan)
            if pod is None:
                continue
            if queue is plan.again:
                self._again.take()
            elif queue is plan.repeats:
                self._repeats.take()
            self._wakes += 1
            self._served[pod.request.namespace] = self._wakes
            yield pod
            if self._is_old(plan):
                plan = self._plan()

    def _queue(self, plan: Plan) -> deque[Entry] | None:
        """Return whose turn it is: who may have come to have a place comes after who has one.

        Unless he is more urgent.
        """
        again = plan.again if plan.again and self._again.any() else None
        if plan.ready:
            first = again is not None and again[0][0].order < plan.ready[0][0].order
            return again if first else plan.ready
        if again is not None:
            return again
        return plan.repeats if plan.repeats and self._repeats.any() else None

    def _chosen(self, pod: WaitingPod, choice: Choice | None, plan: Plan) -> WaitingPod | None:
        """Return a pod of the plan as it is woken; None where that is over."""
        if choice is None:
            return pod if self._still_waits(pod) else None
        node = self._pods.apart.judge(pod.request, partial(self._place, pod, choice, plan), "")
        if not node:
            return None
        choice.places.taken[node] += 1
        self._told[pod.request.uid] = node
        return msgspec.structs.replace(pod, right_node=choice.right_node)

    def _plan(self) -> Plan:
        """Judge all who wait, or as many as there is time for; then those first that were not."""
        stale, refusals = self._stale(), self._pods.refusals
        waiting = self._pods.present(self._state, blind=bool(stale))
        view = self._state.view()
        plan = Plan(view, stale, refusals, made=self._state.steady())
        told, self._told = self._told, {}
        kinds: dict[KindKey, list[Candidate]] = {}
        for pod in waiting:
            again = _is_due_again(pod, plan.made, fresh=not stale)
            node = told.get(pod.request.uid, "") if pod.touches else ""
            if again or node or _may_be_woken(pod, plan.made):
                key = self._pods.apart.judge(
                    pod.request, partial(self._key, pod, view, stale), None
                )
                if key is not None:
                    kinds.setdefault(key, []).append(Candidate(pod, node, again))
        self._judged = {key: self._judged.get(key, 0) for key in kinds}
        for key in self._in_turn(kinds):
            if plan.groups and self._state.steady() - plan.made >= MOST_PLAN_SECONDS:
                self._told.update((one.pod.request.uid, one.node) for one in kinds[key] if one.node)
                continue
            self._judgements += 1
            self._judged[key] = self._judgements
            for one in kinds[key]:
                put = partial(self._put, one, key, plan)
                self._pods.apart.judge(one.pod.request, put, None)
        now = {key: places.hopeless() for key, places in plan.groups.items()}
        before = {key: self._hopeless[key] for key in kinds if key in self._hopeless}
        self._hopeless = before | now
        namespaces = {pod.request.namespace for pod in waiting}
        self._served = {name: at for name, at in self._served.items() if name in namespaces}
        plan.done(self._state.steady(), len(waiting) * PLAN_SECONDS_PER_POD, self._served)
        return plan

    def _in_turn(self, kinds: Mapping[KindKey, Sequence[Candidate]]) -> list[KindKey]:
        """Return a kind of every namespace, then another one of each, the longest not judged first.

        What one namespace waits for may be thousands of things, and takes no time from others.
        """
        oldest = sorted(kinds, key=lambda key: self._judged[key])
        return in_turn(oldest, lambda key: kinds[key][0].pod.request.namespace)

    def _put(self, one: Candidate, key: KindKey, plan: Plan) -> None:
        """Plan for a pod that may be woken now, or was woken for a node, or both."""
        pod, node = one.pod, one.node
        places = plan.groups.get(key)
        if places is None:
            judge = Judge(pod.request, plan.view, self._policy, stale=plan.stale)
            places = Places(judge, self._hopeless.get(key), self._state.pod)
            plan.groups[key] = places
        if node:
            self._told[pod.request.uid] = node
            lately = _told_lately(pod, plan.made)
            if not lately:
                plan.in_vain.update((key, node))
            if not key.own:  # else the view shows what is kept for it
                places.taken[node] += 1 if lately else -1
            if places.opens_for(pod.asked):
                pod = self._pods.opened(pod)
        if not (one.again or _may_be_woken(pod, plan.made)):
            return
        choice = self._choice(pod, places)
        if choice.any:
            plan.found.append(Found(key, pod, choice, one.again))
        elif one.again:
            plan.again.append((pod, None))

    def _place(self, pod: WaitingPod, choice: Choice, plan: Plan) -> str:
        """Return the node to wake a pod of the plan for; empty where that is over."""
        node = choice.next() if self._still_waits(pod) else ""
        if not node:
            return ""
        if not self._still_has_room(choice, plan.view):
            choice.close()
            return ""
        return node

    def _choice(self, pod: WaitingPod, places: Places) -> Choice:
        """Return where a pod could go; where it could go nowhere, where it could be made room."""
        choice = places.choice(pod.asked)
        refused = None if choice.any else self._pods.evictions(pod.request.uid)
        return choice if refused is None else places.eviction(refused)

    def _is_old(self, plan: Plan) -> bool:
        """Tell whether a plan has to be made anew, and it is worth its while.

        Something changed, or it can be told by now whether those were woken in vain that were.
        """
        age = self._state.steady() - plan.made_by
        if age < plan.kept_for:
            return False
        if age >= TOLD_SECONDS:
            return True
        changed = self._pods.refusals != plan.refusals or self._stale() != plan.stale
        return changed or self._state.view().nodes is not plan.view.nodes

    def _still_waits(self, pod: WaitingPod) -> bool:
        """Tell whether a pod of the plan may be told: it waits, and was not asked about since."""
        uid = pod.request.uid
        if not self._may_tell(pod.request):
            return False
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

    def _key(self, pod: WaitingPod, view: View, stale: tuple[str, ...]) -> KindKey:
        request = pod.request
        hurried = impatient(request, self._policy, view.now)
        return KindKey(
            own=request.uid if request.uid in view.own else "",
            kind=kind_of(request, impatient=hurried, stale=stale),
        )


def _times(pod: WaitingPod) -> tuple[float, float | None]:
    return pod.refused_steady, pod.touched_steady


def _told_lately(pod: WaitingPod, steady: float) -> bool:
    return pod.touched_steady is not None and steady - pod.touched_steady < TOLD_SECONDS


def _is_due_again(pod: WaitingPod, steady: float, *, fresh: bool) -> bool:
    """Tell whether a pod's time has come, and it was not told since (or could not be)."""
    if pod.once_fresh and fresh and not pod.touches:
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
    return steady - pod.touched_steady >= _retry_wait(pod)


def _retry_wait(pod: WaitingPod) -> float:
    if not pod.touches:
        return missed_wait(pod.misses)
    return _wait(FIRST_RETRY_SECONDS, 1 if pod.opened else pod.touches, LAST_RETRY_SECONDS)


def missed_wait(misses: int) -> float:
    """Return after how many seconds it is tried again what so many times could not be written."""
    return _wait(MISSED_RETRY_SECONDS, misses, LAST_MISSED_SECONDS)


def _wait(first: float, times: int, last: float) -> float:
    return min(last, first * 2.0 ** min(max(times - 1, 0), 10))
