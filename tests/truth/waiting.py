"""Who waits though he could run, judged by fresh lists and by what was written.

A pod could run where a node is Ready and takes new pods, has what the pod requests by
kube-scheduler's own count, has the memory that it may take, and has its model. What a loader left
there before it fell silent is no model here, so that nobody is said to wait in vain for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from extender.watch.resources import CLAIMS, DAEMON_SETS, JOBS, NODES, PODS, VOLUMES
from tests.truth.bindings import World, claims_of
from tests.truth.memory import Object, amount, demand, finished, requested, taken

COUNTED = ("cpu", "memory")


class Lists(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that there are, as JSON."""

    nodes: list[Object]
    pods: list[Object]
    claims: list[Object]
    jobs: list[Object]


class InVain(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that waits and could run. ``kinds``: the API paths of what it takes to know that."""

    name: str
    nodes: tuple[str, ...]
    kinds: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name} on {', '.join(self.nodes)}"


def in_vain(
    waiting: Iterable[Object], lists: Lists, world: World, *, reads_cache: str
) -> list[InVain]:
    """Return those of the waiting pods that could run."""
    on: dict[str, list[Object]] = {node["metadata"]["name"]: [] for node in lists.nodes}
    for pod in lists.pods:
        if pod["spec"].get("nodeName") in on and not finished(pod):
            on[pod["spec"]["nodeName"]].append(pod)
    filled = {one["metadata"]["name"] for one in lists.jobs if _is_complete(one)}
    bound = {one["metadata"]["name"] for one in lists.claims if one["status"]["phase"] == "Bound"}
    found = []
    for pod in waiting:
        cached = pod["spec"]["containers"][0]["name"] == reads_cache
        claims = claims_of(pod)
        if not set(claims) <= filled & bound:
            continue
        nodes = tuple(
            name
            for node in lists.nodes
            if has_room(node, pod, on[name := node["metadata"]["name"]])
            and (not cached or world.loaded[name].now or not world.owned.now)
        )
        if nodes:
            kinds = [PODS, NODES]
            kinds += [DAEMON_SETS] if cached else []
            kinds += [CLAIMS, VOLUMES, JOBS] if claims else []
            name, paths = pod["metadata"]["name"], frozenset(kind.path for kind in kinds)
            found.append(InVain(name=name, nodes=nodes, kinds=paths))
    return found


def has_room(node: Object, pod: Object, others: Collection[Object]) -> bool:
    """Tell whether a node takes a pod beside others, by requests and by what all may take."""
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
    return taken(others) + demand(pod) <= amount(has["memory"])


def overdue(
    waiting: Iterable[InVain], world: World, *, quiet: float, now: float, patience: float
) -> list[InVain]:
    """Return who has waited for too long: since nothing changes any more, and that is known.

    What is excused is sight alone, and only of the kinds that this pod's answer rests on.
    """
    return [one for one in waiting if now - world.known(quiet, one.kinds) > patience]


def _is_complete(job: Mapping[str, Object]) -> bool:
    conditions: list[Object] = list(job.get("status", {}).get("conditions", []))
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)
