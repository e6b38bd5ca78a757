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
    apps = _together(pod, "requests", resource)
    containers = max(apps, _peak(pod, "requests", resource))
    whole = spec.get("resources", {}).get("requests", {}).get(resource)
    if whole is None:
        return containers + _overhead(spec, resource)
    status = pod.get("status", {})
    has = [status.get("allocatedResources", {}), status.get("resources", {}).get("requests", {})]
    return _in_force(pod, amount(whole), has, resource) + _overhead(spec, resource)


def demand(pod: Object) -> Decimal:
    """Return the bytes that a pod may take: what it requests, and its tmpfs, up to its limit."""
    spec = pod["spec"]
    tmpfs = sum((_counted(volume, pod) for volume in spec.get("volumes", [])), Decimal())
    takes = _together(pod, "requests", "memory") + tmpfs + _overhead(spec, "memory")
    limit = _limit(pod)
    return max(requested(pod), takes if limit is None else min(takes, limit))


def taken(pods: Iterable[Object]) -> Decimal:
    """Return the bytes that pods may take together."""
    return sum((demand(pod) for pod in pods if not finished(pod)), Decimal())


def _in_force(pod: Object, wanted: Decimal, has: list[Object], resource: str) -> Decimal:
    """Return the larger of what is wanted and had; what is had, of a resize that cannot be.

    What could not be of an older generation says nothing of this one.
    """
    status = pod.get("status", {})
    had = max((amount(one[resource]) for one in has if resource in one), default=Decimal())
    never = any(
        (one["type"], one.get("reason")) == ("PodResizePending", "Infeasible")
        and one.get("observedGeneration", 0) in {0, pod.get("metadata", {}).get("generation")}
        for one in status.get("conditions", [])
    )
    return had if never and had else max(wanted, had)


def _of(pod: Object, container: Object, kind: str, resource: str) -> Decimal:
    """Return a container's request or limit; a request that is left out is the limit."""
    resources = container.get("resources", {})
    stated = resources.get(kind, {}).get(resource)
    if stated is None and kind == "requests":
        stated = resources.get("limits", {}).get(resource)
    wanted = amount(stated) if stated is not None else Decimal()
    status = _status(pod, container)
    has = [status.get("resources", {}).get(kind, {})]
    if kind == "requests":
        has.append(status.get("allocatedResources", {}))
    elif not wanted or ("resources" in status and not amount(has[0].get(resource, "0"))):
        return Decimal()  # none is wanted, or none is there yet
    return _in_force(pod, wanted, has, resource)


def _status(pod: Object, container: Object) -> Object:
    told = pod.get("status", {})
    every = [*told.get("containerStatuses", []), *told.get("initContainerStatuses", [])]
    of_it: list[Object] = [one for one in every if one["name"] == container.get("name")]
    return of_it[0] if of_it else {}


def _is_sidecar(container: Object) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def _together(pod: Object, kind: str, resource: str) -> Decimal:
    """Return what the containers have that run side by side."""
    spec = pod["spec"]
    sidecars = [one for one in spec.get("initContainers", []) if _is_sidecar(one)]
    running = [*spec["containers"], *sidecars]
    return sum((_of(pod, one, kind, resource) for one in running), Decimal())


def _peak(pod: Object, kind: str, resource: str) -> Decimal:
    """Return the most that the init containers have, each beside the sidecars before it."""
    beside = peak = Decimal()
    for container in pod["spec"].get("initContainers", []):
        peak = max(peak, beside + _of(pod, container, kind, resource))
        if _is_sidecar(container):
            beside += _of(pod, container, kind, resource)
    return peak


def _overhead(spec: Object, resource: str) -> Decimal:
    return amount(spec.get("overhead", {}).get(resource, "0"))


def _limit(pod: Object) -> Decimal | None:
    """Return a pod's limit; it has one only where all containers do, or the pod itself.

    What the kubelet tells of a pod has its overhead in it.
    """
    spec = pod["spec"]
    whole = spec.get("resources", {}).get("limits", {}).get("memory")
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    limits: Decimal | None = None
    if all(_of(pod, one, "limits", "memory") for one in containers):
        together, peak = _together(pod, "limits", "memory"), _peak(pod, "limits", "memory")
        limits = max(together, peak) + _overhead(spec, "memory")
    wanted = limits if whole is None else amount(whole) + _overhead(spec, "memory")
    told = pod.get("status", {}).get("resources")
    if wanted is None or told is None:
        return wanted
    has = told.get("limits", {})
    if not amount(has.get("memory", "0")):
        return limits
    return max(_in_force(pod, wanted, [has], "memory"), _overhead(spec, "memory"))


def _counted(volume: Object, pod: Object) -> Decimal:
    """Return the bytes of a tmpfs that no request covers; /dev/shm is capacity, not use."""
    spec = pod["spec"]
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
    covered = any(one in running and _holds(pod, one) for one, _ in mounts)
    return Decimal() if covered else size


def _holds(pod: Object, container: Object) -> bool:
    """Tell whether a container requests its limit, and has room in it for all it mounts."""
    limit = _of(pod, container, "limits", "memory")
    if not limit or limit > _of(pod, container, "requests", "memory"):
        return False
    spec = pod["spec"]
    names = {mount["name"] for mount in container.get("volumeMounts", [])}
    every = [
        mount
        for one in [*spec["containers"], *spec.get("initContainers", [])]
        for mount in one.get("volumeMounts", [])
    ]
    used = {each["name"] for each in every if each["mountPath"].rstrip("/") != "/dev/shm"}
    sizes = [
        amount(volume["emptyDir"].get("sizeLimit", "0"))
        for volume in spec.get("volumes", [])
        if volume["name"] in names & used and volume.get("emptyDir", {}).get("medium") == "Memory"
    ]
    return sum(sizes, Decimal()) <= limit
