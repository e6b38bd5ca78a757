"""Whether a nomination leads anywhere, where nobody could tell when kube-scheduler asked.

By old knowledge no eviction is worth it, nor in an answer that would come too late, and
kube-scheduler keeps a pod's nomination then. It is tried again later and that decides; but not
where every node failed by kube-scheduler's own rules, for nothing that may be written to such a pod
has it tried again. What is in doubt by fresh knowledge is decided here.
"""

from __future__ import annotations

from extender.cluster.state import ClusterState
from extender.placement.evictions import has_room_soon
from extender.placement.in_tree import Objections, all_requests
from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.workload.constraints import Constraints

IN_DOUBT_SECONDS = 5.0
"""So long after knowledge is fresh again kube-scheduler may ask by itself: those are woken at once
that are tried again for that."""


def leads_somewhere(request: PodRequest, name: str, state: ClusterState, policy: Policy) -> bool:
    """Tell whether a pod could run where it is nominated once those are gone that make way there.

    By fresh knowledge. What kube-scheduler holds against a node besides its room, taints say, may
    end without a word to anybody: such a nomination is left to it.
    """
    judge = Judge(request, state.view(), policy)
    making_way = state.making_way(name, request.priority)
    if not has_room_soon(judge, name, making_way, state.pod):
        return False
    pod = state.pod(request.uid)
    if pod is None:
        return False
    others = (other for other in state.pods_on(name) if other.uid not in making_way)
    objections = Objections(
        judge.view, others, Constraints(), namespace=request.namespace, uid=request.uid
    )
    objection = objections.of(all_requests(pod.requests, pod.demand), name)
    return objection is None or not objection.short
