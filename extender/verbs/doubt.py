"""Doubt: a Binding of which nobody knows what became, and how that is settled.

The apiserver binds by a write to its storage that holds only for the version of the pod which it
has read (k8s.io/apiserver, pkg/storage/etcd3, GuaranteedUpdate). So once nobody works at a Binding
any more, a later write to the pod decides: either it finds the pod bound, or whatever is left of
the Binding comes too late for ever. A read would not do: a write that timed out can still be on its
way to the storage.
"""

from __future__ import annotations

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod

UNCLEAR_SECONDS = 5.0
"""After so long nobody works at a Binding that was answered: the answer was its end."""

LOST_SECONDS = 75.0
"""The same for one that was not: the apiserver gives no request more than 60 s unless it is told
otherwise (``--request-timeout``), and a proxy may have held it before."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """One Binding in doubt, its claim on the node's memory, and in how many seconds to look."""

    namespace: str
    name: str
    uid: str
    node: str
    claim: int
    seconds: float


def settle(doubt: Doubt, pod: Pod | None, state: ClusterState) -> bool:
    """Give the memory back unless the pod is on that node; return whether it was given back.

    ``pod`` is what a write to it found, None where there is none. On the node it stays reserved
    until the watch tells of the pod.
    """
    bound = pod is not None and pod.metadata.uid == doubt.uid and pod.spec.node_name == doubt.node
    if not bound:
        state.release(doubt.uid, doubt.node, doubt.claim)
    return not bound
