"""The node that was chosen for a pod that is not bound yet.

kube-scheduler says nothing of such a pod in its conditions: it writes ``PodScheduled`` where no
node would do, or once the pod is bound (``schedulingCycle`` in
kubernetes/pkg/scheduler/schedule_one.go). Between those it waits, for a volume that is made where
the pod goes or for a plugin's permission. A node in the pod's status may be this program's choice,
too (``waiting.nominate``).
"""

from __future__ import annotations

import msgspec

from extender.cluster.view import PodFacts, View
from extender.kube.times import unix_time

_UNSEEN_SECONDS = 60.0
"""A pod that no scheduler has looked at for so long waits for no queue any more: kube-scheduler
writes what came of each try, and goes through a queue of thousands in that time."""

_BOUND_SECONDS = _UNSEEN_SECONDS + 15 * 60.0
"""One that a node was chosen for is bound by then, or kube-scheduler has said why not: nobody's
permission takes longer (``maxTimeout`` in kubernetes/pkg/scheduler/framework/runtime/framework.go),
and ``bindTimeoutSeconds``, for volumes, is 600 where it is not set. From the pod's creation on, as
nothing tells when it was chosen: one that was held back until then may be well all the same."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A node, and the claim whose volume is being made for it; empty for none."""

    node: str
    claim: str = ""

    def __str__(self) -> str:
        if self.claim:
            return f"the volume of claim {self.claim} is being made for node {self.node}"
        return f"it is meant for {self.node} (status.nominatedNodeName)"

    def told(self, view: View) -> str:
        """Say it, and whether the node is there."""
        return f"{self}{'' if self.node in view.nodes else ', which is not in the cluster'}"


def chosen_node(facts: PodFacts, view: View) -> Chosen | None:
    """Return what was chosen for a pod that has no node yet; None where nothing was."""
    if facts.node:
        return None
    for name in facts.claims:
        claim = view.claim(facts.namespace, name)
        if claim is not None and not claim.bound and claim.selected_node:
            return Chosen(node=claim.selected_node, claim=name)
    return Chosen(node=facts.nominated) if facts.nominated else None


def unheard_of(facts: PodFacts, view: View) -> float | None:
    """Return for how long no scheduler has said anything of a pod, in seconds.

    None where that may still be well. Whether one has said something is for the caller to know.
    """
    created = unix_time(facts.created)
    if created is None:
        return None
    waited = view.now - created
    patience = _BOUND_SECONDS if chosen_node(facts, view) is not None else _UNSEEN_SECONDS
    return waited if waited >= patience else None
