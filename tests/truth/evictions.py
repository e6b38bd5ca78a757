"""Whom kube-scheduler would evict on a node, told a second time from the JSON of the apiserver.

By its own rules (pkg/scheduler/framework/plugins/defaultpreemption, SelectVictimsOnNode): pods of
lower priority go, and as many of them stay as leave room by requests: those of the highest
priority are asked first, then those that were started first. Budgets for disruption are not known
here, nor groups of pods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, islice, product

from tests.truth.memory import Object, amount, demand, requested

COUNTED = ("cpu", "memory")
MOST_ORDERS = 200
"""Of pods that were started in the same second any may be asked first."""


def priority(pod: Object) -> int:
    """Return a pod's priority; admission has written it."""
    return int(pod["spec"].get("priority", 0))


def may_evict(pod: Object, pods: Collection[Object]) -> bool:
    """Tell whether kube-scheduler evicts anybody for a waiting pod; ``pods`` are all there are.

    Not for one that does not want it, and for none whose victims are on their way out.
    """
    if pod["spec"].get("preemptionPolicy") == "Never":
        return False
    node = pod.get("status", {}).get("nominatedNodeName")
    return not any(
        node and other["spec"].get("nodeName") == node and "deletionTimestamp" in other["metadata"]
        for other in pods
    )


def takes(node: Object, pod: Object, others: Collection[Object]) -> bool:
    """Tell whether kube-scheduler by itself would send a pod to a node beside others."""
    conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
    spec, has = node["spec"], node["status"]["allocatable"]
    if conditions.get("Ready") != "True" or spec.get("unschedulable") or spec.get("taints"):
        return False
    if len(others) >= amount(has["pods"]):
        return False
    for resource in COUNTED:
        counted = sum(requested(other, resource) for other in others)
        if counted + requested(pod, resource) > amount(has[resource]):
            return False
    return True


def left_by_evictions(
    node: Object, pod: Object, others: Collection[Object]
) -> list[list[Object]] | None:
    """Return who is left on a node for each way in which pods may be evicted there.

    ``others`` are those on the node, and those before this pod that are nominated to it. Empty
    where nobody would be; None where there are too many ways.
    """
    lower = [o for o in others if o["spec"].get("nodeName") and priority(o) < priority(pod)]
    fixed = [o for o in others if o not in lower]
    if not lower or takes(node, pod, others) or not takes(node, pod, fixed):
        return []
    orders = list(islice(_orders(lower), MOST_ORDERS + 1))
    if len(orders) > MOST_ORDERS:
        return None
    found = []
    for order in orders:
        left = list(fixed)
        for other in order:
            if takes(node, pod, [*left, other]):
                left.append(other)
        found.append(left)
    return found


def _orders(pods: Sequence[Object]) -> Iterator[list[Object]]:
    """Yield the orders in which pods may be asked, the most important first."""
    ordered = sorted(pods, key=_importance)
    alike = [list(group) for _, group in groupby(ordered, _importance)]
    for parts in product(*(islice(_permuted(each), MOST_ORDERS + 1) for each in alike)):
        yield [pod for part in parts for pod in part]


def _importance(pod: Object) -> tuple[int, bool, str]:
    started = pod.get("status", {}).get("startTime")
    return -priority(pod), started is None, started or ""


def _permuted(pods: list[Object]) -> Iterator[list[Object]]:
    """Yield the orders of some pods; those that take the same are one another's equal."""
    if not pods:
        yield []
    seen = set()
    for at, pod in enumerate(pods):
        counts = demand(pod), *(requested(pod, resource) for resource in COUNTED)
        if counts not in seen:
            seen.add(counts)
            yield from ([pod, *rest] for rest in _permuted([*pods[:at], *pods[at + 1 :]]))
