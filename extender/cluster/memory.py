"""How much memory a pod may take: its requests by Kubernetes' own rule, and its tmpfs on top.

kube-scheduler counts requests and no byte of a memory-backed emptyDir, yet the kernel charges
tmpfs pages to the pod, also after the init container that wrote them has ended. The demand here is

    max(effective request,
        min(effective pod limit, requests of the app containers + counted volumes not included))

The request and limit rules are those of k8s.io/component-helpers/resource (PodRequests, PodLimits).
All figures are bytes. Huge pages are a resource of their own and never part of ``memory``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from extender.kube.objects import (
    Container,
    ContainerStatus,
    Pod,
    PodSpec,
    Resources,
    Volume,
)
from extender.kube.quantity import parse_quantity
from extender.workload.volumes import normal

MEMORY = "memory"
SHARED_MEMORY_MOUNT = "/dev/shm"  # noqa: S108 - a mount path in containers, not a file of ours

NO_SIZE_LIMIT = "no sizeLimit"
CAPACITY = f"{SHARED_MEMORY_MOUNT} is capacity, not use"


Amount = Callable[[Resources], int | None]
"""Reads one resource out of requests or limits; None where it is not among them."""


class VolumeCounting(StrEnum):
    """``memory.volumes`` of the configuration: which memory-backed volumes count."""

    SIZED = "sized"
    STRICT = "strict"
    OFF = "off"


class MemoryVolume(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One memory-backed volume. ``bytes`` is its sizeLimit, or the model's size where that is less.

    ``counted`` tells whether it is part of the demand; ``why`` says why not, for people.
    """

    name: str
    bytes: int | None
    counted: bool
    why: str = ""


class MemoryDemand(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a pod may take of a node's memory.

    ``unbounded`` (strict counting only): a volume without any limit, which may grow to the node's
    allocatable memory; the pod then demands all of it.
    """

    bytes: int
    request: int
    limit: int | None = None
    volumes: tuple[MemoryVolume, ...] = ()
    unbounded: bool = False

    def on(self, allocatable: int) -> int:
        """Return the demand in bytes on a node with so much allocatable memory."""
        return max(self.bytes, allocatable) if self.unbounded else self.bytes

    @property
    def volume_bytes(self) -> int:
        """Return the bytes that only the volumes add to what kube-scheduler sees."""
        return max(0, self.bytes - self.request)


def memory_demand(
    pod: Pod,
    *,
    counting: VolumeCounting = VolumeCounting.SIZED,
    model_bytes: dict[str, int] | None = None,
) -> MemoryDemand:
    """Return a pod's demand. ``model_bytes`` maps volume names to what will be written there.

    Raises InvalidQuantityError where a quantity of the pod cannot be read.
    """
    spec = pod.spec
    overhead = _memory(spec.overhead)
    apps, request = _requests(pod, _memory_in)
    limit = _limit(spec)
    volumes = tuple(
        _memory_volume(volume, spec, counting, (model_bytes or {}).get(volume.name))
        for volume in spec.volumes
        if volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
    )
    counted = sum(volume.bytes or 0 for volume in volumes if volume.counted)
    unbounded = limit is None and any(v.counted and v.bytes is None for v in volumes)
    use = apps + counted
    if limit is not None:
        grows = any(volume.counted and volume.bytes is None for volume in volumes)
        use = limit if grows else min(limit, use)
    return MemoryDemand(
        bytes=max(request, use) + overhead,
        request=request + overhead,
        limit=None if limit is None else limit + overhead,
        volumes=volumes,
        unbounded=unbounded,
    )


def _memory(resources: Resources) -> int:
    return _memory_in(resources) or 0


def _memory_in(resources: Resources) -> int | None:
    quantity = resources.get(MEMORY)
    return None if quantity is None else parse_quantity(quantity)


def effective_request(pod: Pod, amount: Amount) -> int:
    """Return a pod's effective request of one resource, without overhead.

    Raises InvalidQuantityError where a quantity of the pod cannot be read.
    """
    return _requests(pod, amount)[1]


def _requests(pod: Pod, amount: Amount) -> tuple[int, int]:
    """Return the long-running containers' requests, and the pod's effective request."""
    infeasible = _resize_infeasible(pod)
    running = {status.name: status for status in pod.status.container_statuses}
    sidecars = {status.name: status for status in pod.status.init_container_statuses}
    apps = sum(
        _request(c, running.get(c.name), amount, infeasible=infeasible) for c in pod.spec.containers
    )
    before = peak = 0
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            status = sidecars.get(container.name)
            before += _request(container, status, amount, infeasible=infeasible)
            peak = max(peak, before)
        else:
            once = _request(container, None, amount, infeasible=infeasible)
            peak = max(peak, before + once)
    apps += before
    whole = max(apps, peak)
    return apps, _pod_level_request(pod, amount, whole, infeasible=infeasible)


def _request(
    container: Container, status: ContainerStatus | None, amount: Amount, *, infeasible: bool
) -> int:
    """Return one container's request; while it is resized, the larger of wanted and given."""
    resources = container.resources
    wanted = amount(resources.requests)
    if wanted is None:
        wanted = amount(resources.limits) or 0
    if status is None:
        return wanted
    given = max(
        amount(status.allocated_resources) or 0,
        (amount(status.resources.requests) or 0) if status.resources else 0,
    )
    return given if infeasible and given else max(wanted, given)


def _pod_level_request(pod: Pod, amount: Amount, containers: int, *, infeasible: bool) -> int:
    level = pod.spec.resources
    if level is None:
        return containers
    # As the apiserver fills in a missing request (pkg/apis/core/v1/defaults.go).
    wanted = amount(level.requests)
    if wanted is None and not containers:
        wanted = amount(level.limits)
    if wanted is None:
        return containers
    given = max(
        amount(pod.status.allocated_resources) or 0,
        (amount(pod.status.resources.requests) or 0) if pod.status.resources else 0,
    )
    return given if infeasible and given else max(wanted, given)


def _resize_infeasible(pod: Pod) -> bool:
    if pod.status.resize == "Infeasible":
        return True
    return any(
        condition.type == "PodResizePending" and condition.reason == "Infeasible"
        for condition in pod.status.conditions
    )


def _limit(spec: PodSpec) -> int | None:
    """Return the effective pod limit, or None where the kernel is given none.

    Pod-level limits win; else the kubelet sets one only where every container has one
    (kubernetes/kubernetes#125852).
    """
    if spec.resources is not None and MEMORY in spec.resources.limits:
        return _memory(spec.resources.limits)
    everyone = (*spec.containers, *spec.init_containers)
    if not everyone or any(not _memory(c.resources.limits) for c in everyone):
        return None
    before = peak = 0
    for container in spec.init_containers:
        limit = _memory(container.resources.limits)
        if container.restart_policy == "Always":
            before += limit
            peak = max(peak, before)
        else:
            peak = max(peak, before + limit)
    apps = before + sum(_memory(c.resources.limits) for c in spec.containers)
    return max(apps, peak)


def _memory_volume(
    volume: Volume, spec: PodSpec, counting: VolumeCounting, model_bytes: int | None
) -> MemoryVolume:
    assert volume.empty_dir is not None
    stated = volume.empty_dir.size_limit
    size = parse_quantity(stated) if stated is not None else None
    if size == 0:  # the API takes a sizeLimit of 0 for none
        size = None
    known = min((value for value in (size, model_bytes) if value is not None), default=None)
    why = _not_counted(volume, spec, counting, size)
    return MemoryVolume(name=volume.name, bytes=known, counted=not why, why=why)


def _not_counted(volume: Volume, spec: PodSpec, counting: VolumeCounting, size: int | None) -> str:
    """Return why a memory-backed volume is not counted; empty where it is."""
    if counting is VolumeCounting.OFF:
        return "memory.volumes is off"
    mounts = [
        (container, normal(mount.mount_path))
        for container in (*spec.containers, *spec.init_containers)
        for mount in container.volume_mounts
        if mount.name == volume.name
    ]
    sidecars = [c for c in spec.init_containers if c.restart_policy == "Always"]
    if any(c in spec.containers or c in sidecars for c, _ in mounts if _guaranteed(c)):
        return "a container that mounts it has request = limit, which already holds it"
    if counting is VolumeCounting.STRICT:
        return ""
    if mounts and all(path == SHARED_MEMORY_MOUNT for _, path in mounts):
        return CAPACITY
    if size is None:
        return NO_SIZE_LIMIT
    return ""


def _guaranteed(container: Container) -> bool:
    limit = _memory(container.resources.limits)
    wanted = _memory_in(container.resources.requests)
    return limit > 0 and wanted in {None, limit}
