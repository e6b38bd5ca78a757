"""What a pod requests beside memory, by Kubernetes' own rule."""

from __future__ import annotations

from collections.abc import Mapping

from extender.cluster.memory import MEMORY, effective_request
from extender.cluster.resizes import Amount
from extender.kube.objects import Node, Pod, Quantity, ResourceRequirements, Resources
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
    maps = [
        table
        for container in (*spec.containers, *spec.init_containers)
        for table in (container.resources.requests, container.resources.limits)
    ]
    level = spec.resources
    maps += [level.requests, level.limits] if level is not None else []
    names = dict.fromkeys(name for table in (*maps, spec.overhead) for name in table)
    wanted = {name: effective_request(pod, _reader(name)) for name in names if name != MEMORY}
    for name, quantity in spec.overhead.items():
        if name != MEMORY:
            wanted[name] += amount(name, quantity)
    return {**wanted, PODS: 1}


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
