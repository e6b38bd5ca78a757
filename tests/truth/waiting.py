"""Who waits though he could run, judged by fresh lists and by what was written.

A pod could run where a node is Ready and takes new pods, has what the pod requests by
kube-scheduler's own count, has the memory that it may take, and has its model; or would have it all
without the pods that kube-scheduler would evict there. What a loader left there before it fell
silent is no model here, so that nobody is said to wait in vain for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from extender.watch.resources import CLAIMS, DAEMON_SETS, JOBS, NODES, PODS, VOLUMES
from tests.truth.bindings import World, claims_of
from tests.truth.evictions import left_by_evictions, may_evict, priority, takes
from tests.truth.memory import Object, amount, demand, finished, taken


class Lists(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that there are, as JSON."""

    nodes: list[Object]
    pods: list[Object]
    claims: list[Object]
    jobs: list[Object]


class InVain(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that waits and could run, on ``nodes`` as they are, or ``evicting`` others from some.

    ``kinds``: the API paths of what it takes to know that.
    """

    name: str
    nodes: tuple[str, ...]
    evicting: tuple[str, ...] = ()
    kinds: frozenset[str]

    def __str__(self) -> str:
        if self.nodes:
            return f"{self.name} on {', '.join(self.nodes)}"
        return f"{self.name} with evictions on {', '.join(self.evicting)}"


def in_vain(
    waiting: Iterable[Object], lists: Lists, world: World, *, reads_cache: str
) -> list[InVain]:
    """Return those of the waiting pods that could run."""
    on: dict[str, list[Object]] = {node["metadata"]["name"]: [] for node in lists.nodes}
    for pod in lists.pods:
        bound = pod["spec"].get("nodeName")
        if bound in on and not finished(pod):
            on[bound].append(pod)

    def has_it(pod: Object, node: str) -> bool:
        cached = pod["spec"]["containers"][0]["name"] == reads_cache
        return not cached or world.loaded[node].now or not world.owned.now

    meant = {
        node["metadata"]["name"]: [
            pod
            for pod in lists.pods
            if _comes(pod, node, on[node["metadata"]["name"]])
            and has_it(pod, node["metadata"]["name"])
        ]
        for node in lists.nodes
    }
    filled = {one["metadata"]["name"] for one in lists.jobs if _is_complete(one)}
    bound_claims = {
        one["metadata"]["name"] for one in lists.claims if one["status"]["phase"] == "Bound"
    }
    found = []
    for pod in waiting:
        cached = pod["spec"]["containers"][0]["name"] == reads_cache
        claims = claims_of(pod)
        if not set(claims) <= filled & bound_claims:
            continue
        there = {name: [*on[name], *_before(pod, meant[name])] for name in on}
        have_it = [node for node in lists.nodes if has_it(pod, node["metadata"]["name"])]
        nodes, evicting = _places(pod, have_it, there), _evicting(pod, have_it, there, lists)
        if nodes or evicting:
            kinds = [PODS, NODES]
            kinds += [DAEMON_SETS] if cached else []
            kinds += [CLAIMS, VOLUMES, JOBS] if claims else []
            name, paths = pod["metadata"]["name"], frozenset(kind.path for kind in kinds)
            found.append(InVain(name=name, nodes=nodes, evicting=evicting, kinds=paths))
    return found


def _comes(pod: Object, node: Object, others: Iterable[Object]) -> bool:
    """Tell whether a node is kept for a pod: it is nominated there, and has room or will have.

    A nomination that leads nowhere keeps nobody out.
    """
    if pod["spec"].get("nodeName"):
        return False
    if pod["status"].get("nominatedNodeName") != node["metadata"]["name"]:
        return False
    stay = [other for other in others if "deletionTimestamp" not in other["metadata"]]
    return takes(node, pod, stay) and _fits(node, pod, stay)


def _before(pod: Object, nominated: Iterable[Object]) -> list[Object]:
    """Return those of the nominated pods that a node is kept for against this one."""
    return [
        other
        for other in nominated
        if other["metadata"]["name"] != pod["metadata"]["name"] and priority(other) >= priority(pod)
    ]


def _places(
    pod: Object, nodes: Iterable[Object], there: Mapping[str, list[Object]]
) -> tuple[str, ...]:
    return tuple(
        name
        for node in nodes
        if takes(node, pod, there[name := node["metadata"]["name"]])
        and _fits(node, pod, there[name])
    )


def _evicting(
    pod: Object, nodes: Iterable[Object], there: Mapping[str, list[Object]], lists: Lists
) -> tuple[str, ...]:
    """Return the nodes where the pod would fit, whomever kube-scheduler evicted there.

    Where no node at all takes the pod by kube-scheduler's own count, it asks no filter, and nothing
    that can be written to the pod has it tried again (docs/explanation/limits.md).
    """
    asked = any(takes(node, pod, there[node["metadata"]["name"]]) for node in lists.nodes)
    if not asked or not may_evict(pod, lists.pods):
        return ()
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        ways = left_by_evictions(node, pod, there[name])
        if ways and all(_fits(node, pod, left) for left in ways):
            found.append(name)
    return tuple(found)


def _fits(node: Object, pod: Object, others: Iterable[Object]) -> bool:
    return taken(others) + demand(pod) <= amount(node["status"]["allocatable"]["memory"])


def _is_complete(job: Mapping[str, Object]) -> bool:
    conditions: list[Object] = list(job.get("status", {}).get("conditions", []))
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)
