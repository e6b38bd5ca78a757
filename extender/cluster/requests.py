"""What a pod requests beside memory, by Kubernetes' own rule."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.cluster.memory import MEMORY, effective_request
from extender.cluster.resizes import Amount
from extender.kube.objects import (
    Container,
    ContainerStatus,
    Node,
    Pod,
    Quantity,
    ResourceRequirements,
    Resources,
)
from extender.kube.quantity import format_bytes, parse_milli, parse_quantity

CPU = "cpu"
PODS = "pods"

Amounts = Mapping[str, int]
"""Amounts by resource: CPU in thousandths, all others whole."""


def pod_requests(pod: Pod) -> dict[str, int]:
    """Return a pod's effective requests, and itself as one of ``pods``; without memory.

    Raises InvalidQuantityError.
    """
    spec = pod.spec
    level = spec.resources
    maps = [spec.overhead, *((level.requests, level.limits) if level is not None else ())]
    for container in (*spec.containers, *spec.init_containers):
        maps += [container.resources.requests, container.resources.limits]
    names = dict.fromkeys(name for table in maps for name in table)
    having = _having(pod)
    wanted = {
        name: effective_request(having.get(name, _Having()).alone(pod), _reader(name))
        for name in names
        if name != MEMORY
    }
    for name, quantity in spec.overhead.items():
        if name != MEMORY:
            wanted[name] += amount(name, quantity)
    return {**wanted, PODS: 1}


class _Having:
    """The containers of a pod that have one resource, and their statuses.

    A resource is added up over these alone: each of many containers may have one of its own.
    """

    def __init__(self) -> None:
        self.before: list[Container] = []
        self.main: list[Container] = []
        self.statuses: list[ContainerStatus] = []

    def alone(self, pod: Pod) -> Pod:
        """Return the pod with these containers and no others."""
        spec, status = pod.spec, pod.status
        if len(self.main) == len(spec.containers) and len(self.before) == len(spec.init_containers):
            return pod
        replace = msgspec.structs.replace
        return replace(
            pod,
            spec=replace(spec, containers=tuple(self.main), init_containers=tuple(self.before)),
            status=replace(
                status, container_statuses=tuple(self.statuses), init_container_statuses=()
            ),
        )


def _having(pod: Pod) -> dict[str, _Having]:
    having: dict[str, _Having] = {}
    status = pod.status
    statuses = (*status.init_container_statuses, *status.container_statuses)
    given = {one.name: one for one in statuses}
    for init, containers in ((True, pod.spec.init_containers), (False, pod.spec.containers)):
        for container in containers:
            names = {**container.resources.requests, **container.resources.limits}
            its = given.get(container.name)
            if its is not None:
                actual = its.resources.requests if its.resources is not None else {}
                names |= {**its.allocated_resources, **actual}
            for name in names:
                one = having.setdefault(name, _Having())
                (one.before if init else one.main).append(container)
                if its is not None:
                    one.statuses.append(its)
    return having


def node_room(node: Node) -> dict[str, int]:
    """Return what a node has for pods to request, without memory. Raises InvalidQuantityError."""
    given = node.status.allocatable.items()
    return {name: amount(name, quantity) for name, quantity in given if name != MEMORY}


def amount(name: str, quantity: Quantity) -> int:
    """Read one amount. Raises InvalidQuantityError."""
    return parse_milli(quantity) if name == CPU else parse_quantity(quantity)


def requested(resources: ResourceRequirements, name: str) -> int:
    """Return what a container requests of a resource, its limit where it says nothing.

    Raises InvalidQuantityError.
    """
    return amount(name, resources.requests.get(name, resources.limits.get(name, 0)))


def is_of_a_plugin(name: str) -> bool:
    """Tell whether a device plugin tells of a resource (``nvidia.com/gpu``), not the kubelet."""
    return "/" in name


def in_words(name: str, size: int) -> str:
    """Say an amount of such a resource, for people."""
    if name == CPU:
        return f"{size / 1000:g} {name}"
    in_bytes = name == "ephemeral-storage" or name.startswith("hugepages-")
    return f"{format_bytes(size) if in_bytes else size} {name}"


def _reader(name: str) -> Amount:
    def read(resources: Resources) -> int | None:
        quantity = resources.get(name)
        return None if quantity is None else amount(name, quantity)

    return read
