"""What every verb needs: the state, the policy, and how fresh the knowledge is."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge


class ListRejected(StrEnum):
    """When filter lists the nodes that it refuses, with their reasons.

    kube-scheduler reads the reasons only where no node is left, and takes a node that is left out
    for unschedulable and unresolvable: short answers make it faster. ``always`` is for a chain of
    extenders, where another one may refuse the rest.
    """

    WHEN_NONE_PASS = "whenNonePass"  # noqa: S105 - not a password
    ALWAYS = "always"


def _nothing() -> tuple[str, ...]:
    return ()


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """``unsynced`` names resources not listed yet, ``stale`` those not heard of for too long."""

    state: ClusterState
    policy: Policy = Policy()
    list_rejected: ListRejected = ListRejected.WHEN_NONE_PASS
    unsynced: Callable[[], tuple[str, ...]] = _nothing
    stale: Callable[[], tuple[str, ...]] = _nothing

    def request(self, pod: Pod) -> PodRequest:
        """Read what a pod asks for."""
        metadata = pod.metadata
        return PodRequest(
            uid=metadata.uid,
            namespace=metadata.namespace,
            name=metadata.name or metadata.generate_name,
            workload=self.state.templates.workload(pod),
            demand=self.state.demand(pod),
        )

    def judge(self, pod: Pod) -> Judge:
        """Prepare the answers for one pod over the view of this moment."""
        return Judge(self.request(pod), self.state.view(), self.policy, stale=self.stale())
