"""Nominating: where one node alone is right, kube-scheduler is told to look there first.

It then asks about that node before any other, and reserves there what it counts itself. A wrong
nomination costs one request: kube-scheduler goes on with all nodes, and clears it where none is
left (pkg/scheduler/schedule_one.go, evaluateNominatedNode and handleSchedulingFailure). It would do
harm in four ways, each ruled out here: in place of kube-scheduler's own nomination, whose victims
are on their way out; two pods into one room, of which only one can have it, so a node is given away
once in a while only, and with its memory held; to a node that takes no pods; and of a pod with
``preemptionPolicy: Never``, for which it is not cleared (framework/plugins/defaultpreemption,
PodEligibleToPreemptOthers): it would keep others of no higher priority out for good.
"""

from __future__ import annotations

from collections.abc import Callable

from extender.cluster.reservations import HOLD, Reservation
from extender.cluster.state import ClusterState
from extender.cluster.view import View
from extender.placement.policy import Policy
from extender.placement.verdict import Judge
from extender.waiting.pods import WaitingPod

NOMINATION_SECONDS = 5.0
"""How long a node and its memory are kept for a nominated pod: it is tried within milliseconds,
or, behind other pods, within the shipped configuration's back-off of two seconds."""


class Nominations:
    """Which nodes were given away lately. Used from one thread."""

    def __init__(
        self, state: ClusterState, policy: Policy, *, stale: Callable[[], tuple[str, ...]]
    ) -> None:
        self._state = state
        self._policy = policy
        self._stale = stale
        self._given: dict[str, tuple[str, float]] = {}  # by node: the pod, and until when

    def take(self, pod: WaitingPod) -> str:
        """Return the node to nominate a pod to, with its memory held there; empty for none.

        A pod that was woken in vain before is not nominated again, nor one of which a write was
        refused: it may have been for the nomination, and a touch will do.
        """
        state, uid, name = self._state, pod.request.uid, pod.right_node
        facts = state.pod(uid)
        if not name or pod.touches or pod.misses or facts is None or facts.nominated:
            return ""
        if not (facts.has_no_place and facts.evicts):  # a wrong one would stay
            return ""
        now = state.steady()
        self._given = {node: given for node, given in self._given.items() if given[1] > now}
        node = state.view().nodes.get(name)
        if node is None or name in self._given:
            return ""
        until = now + NOMINATION_SECONDS
        size = pod.request.demand.on(node.allocatable)
        entry = Reservation(uid=uid, node=name, bytes=size, expires=until)
        if state.reserve(entry, lambda view: self._wrong(pod, view)):
            return ""
        self._given[name] = uid, until
        return name

    def undo(self, pod: WaitingPod) -> None:
        """Give a node back: the nomination was not written."""
        uid, _ = self._given.get(pod.right_node, ("", 0.0))
        if uid == pod.request.uid:
            del self._given[pod.right_node]
            self._state.release(uid, pod.right_node, HOLD)

    def _wrong(self, pod: WaitingPod, view: View) -> bool | None:
        """Tell what has changed since the pod was judged; None where nothing is in the way."""
        node = view.nodes.get(pod.right_node)
        if node is None or not node.schedulable or node.nominated:
            return True
        if self._state.has_reservation(pod.request.uid):
            return True  # it is being bound
        stale = self._stale()
        judge = Judge(pod.request, view, self._policy, stale=stale)
        return bool(stale) or judge.reason(pod.right_node) is not None or None
