"""What pods may take of a node's memory, counted a second time.

By the words of docs/explanation/memory.md, from the JSON that the apiserver sends, and with nothing
of the program's own: what it counts is judged by this. ``memory.volumes`` is ``sized``.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Object = dict[str, Any]

_SUFFIXES = {
    **{letter + "i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    "m": Decimal("0.001"),
    "": Decimal(1),
}


def amount(text: str) -> Decimal:
    """Return a Kubernetes quantity as a number; of memory, in bytes."""
    suffix = text.lstrip("+-.0123456789")
    return Decimal(text.removesuffix(suffix)) * _SUFFIXES[suffix]


def finished(pod: Object) -> bool:
    """Tell whether a pod's containers have ended for good: then it takes nothing."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def requested(pod: Object, resource: str = "memory") -> Decimal:
    """Return what kube-scheduler counts for a pod."""
    spec = pod["spec"]
    apps = _together(spec, "requests", resource)
    containers = max(apps, _peak(spec, "requests", resource))
    whole = spec.get("resources", {}).get("requests", {}).get(resource)
    return (containers if whole is None else amount(whole)) + _overhead(spec, resource)


def demand(pod: Object) -> Decimal:
    """Return the bytes that a pod may take: what it requests, and its tmpfs, up to its limit."""
    spec = pod["spec"]
    tmpfs = sum((_counted(volume, spec) for volume in spec.get("volumes", [])), Decimal())
    takes = _together(spec, "requests", "memory") + tmpfs + _overhead(spec, "memory")
    limit = _limit(spec)
    return max(requested(pod), takes if limit is None else min(takes, limit))


def taken(pods: Iterable[Object]) -> Decimal:
    """Return the bytes that pods may take together."""
    return sum((demand(pod) for pod in pods if not finished(pod)), Decimal())


def _of(container: Object, kind: str, resource: str) -> Decimal:
    """Return a container's request or limit; a request that is left out is the limit."""
    resources = container.get("resources", {})
    stated = resources.get(kind, {}).get(resource)
    if stated is None and kind == "requests":
        stated = resources.get("limits", {}).get(resource)
    return amount(stated) if stated is not None else Decimal()


def _is_sidecar(container: Object) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def _together(spec: Object, kind: str, resource: str) -> Decimal:
    """Return what the containers have that run side by side."""
    sidecars = [one for one in spec.get("initContainers", []) if _is_sidecar(one)]
    running = [*spec["containers"], *sidecars]
    return sum((_of(one, kind, resource) for one in running), Decimal())


def _peak(spec: Object, kind: str, resource: str) -> Decimal:
    """Return the most that the init containers have, each beside the sidecars before it."""
    beside = peak = Decimal()
    for container in spec.get("initContainers", []):
        peak = max(peak, beside + _of(container, kind, resource))
        if _is_sidecar(container):
            beside += _of(container, kind, resource)
    return peak


def _overhead(spec: Object, resource: str) -> Decimal:
    return amount(spec.get("overhead", {}).get(resource, "0"))


def _limit(spec: Object) -> Decimal | None:
    """Return a pod's limit; it has one only where all containers do, or the pod itself."""
    whole = spec.get("resources", {}).get("limits", {}).get("memory")
    if whole is not None:
        return amount(whole) + _overhead(spec, "memory")
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    if not all(_of(one, "limits", "memory") for one in containers):
        return None
    limits = max(_together(spec, "limits", "memory"), _peak(spec, "limits", "memory"))
    return limits + _overhead(spec, "memory")


def _counted(volume: Object, spec: Object) -> Decimal:
    """Return the bytes of a tmpfs that no request covers; /dev/shm is capacity, not use."""
    directory = volume.get("emptyDir", {})
    size = amount(directory.get("sizeLimit", "0"))
    if directory.get("medium") != "Memory" or not size:
        return Decimal()
    mounts = [
        (container, mount["mountPath"].rstrip("/"))
        for container in [*spec["containers"], *spec.get("initContainers", [])]
        for mount in container.get("volumeMounts", [])
        if mount["name"] == volume["name"]
    ]
    running = [*spec["containers"], *filter(_is_sidecar, spec.get("initContainers", []))]
    if mounts and all(path == "/dev/shm" for _, path in mounts):
        return Decimal()
    covered = any(one in running and _is_guaranteed(one) for one, _ in mounts)
    return Decimal() if covered else size


def _is_guaranteed(container: Object) -> bool:
    limit = _of(container, "limits", "memory")
    return bool(limit) and limit == _of(container, "requests", "memory")
