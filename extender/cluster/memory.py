"""How much memory a pod may take: its requests by Kubernetes' own rule, and its tmpfs on top.

kube-scheduler counts requests and no byte of a memory-backed emptyDir, yet the kernel charges
tmpfs pages to the pod, also after the init container that wrote them has ended. The demand here is

    max(effective request,
        min(effective pod limit, requests of the app containers + counted volumes not included))

The request and limit rules are those of k8s.io/component-helpers/resource (PodRequests, PodLimits).
Of a resize in place that is not carried out, the larger side counts (``cluster.resizes``).
All figures are bytes. Huge pages are a resource of their own and never part of ``memory``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

from extender.cluster.resizes import Amount, Resizes
from extender.kube.objects import Container, Pod, PodSpec, Resources, Volume
from extender.kube.quantity import parse_quantity
from extender.workload.volumes import normal

MEMORY = "memory"
SHARED_MEMORY_MOUNT = "/dev/shm"  # noqa: S108 - a mount path in containers, not a file of ours

NO_SIZE_LIMIT = "no sizeLimit"
CAPACITY = f"{SHARED_MEMORY_MOUNT} is capacity, not use"


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
    overhead = _memory_in(spec.overhead) or 0
    resizes = Resizes(pod, _memory_in)
    apps, request = _requests(spec, resizes)
    limit = _limit(spec, resizes)
    volumes = _memory_volumes(spec, counting, model_bytes or {}, resizes)
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


def _memory_in(resources: Resources) -> int | None:
    quantity = resources.get(MEMORY)
    return None if quantity is None else parse_quantity(quantity)


def effective_request(pod: Pod, amount: Amount) -> int:
    """Return a pod's effective request of one resource, without overhead.

    Raises InvalidQuantityError where a quantity of the pod cannot be read.
    """
    return _requests(pod.spec, Resizes(pod, amount))[1]


def _requests(spec: PodSpec, resizes: Resizes) -> tuple[int, int]:
    """Return the long-running containers' requests, and the pod's effective request."""
    apps = sum(resizes.request(container) for container in spec.containers)
    before = peak = 0
    for container in spec.init_containers:
        request = resizes.request(container)
        peak = max(peak, before + request)
        if container.restart_policy == "Always":
            before += request
    apps += before
    return apps, resizes.pod_request(max(apps, peak))


def _limit(spec: PodSpec, resizes: Resizes) -> int | None:
    """Return the effective pod limit, or None where the kernel is given none.

    Pod-level limits win; else the kubelet sets one only where every container has one
    (kubernetes/kubernetes#125852).
    """
    return resizes.pod_limit(_limit_of_containers(spec, resizes))


def _limit_of_containers(spec: PodSpec, resizes: Resizes) -> int | None:
    if not (spec.containers or spec.init_containers):
        return None
    before = peak = apps = 0
    for container in spec.init_containers:
        limit = resizes.limit(container)
        if not limit:
            return None
        peak = max(peak, before + limit)
        if container.restart_policy == "Always":
            before += limit
    for container in spec.containers:
        limit = resizes.limit(container)
        if not limit:
            return None
        apps += limit
    return max(before + apps, peak)


def _memory_volumes(
    spec: PodSpec, counting: VolumeCounting, model_bytes: Mapping[str, int], resizes: Resizes
) -> tuple[MemoryVolume, ...]:
    sizes = {
        volume.name: _size(volume)
        for volume in spec.volumes
        if volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
    }
    if not sizes:  # as of most pods: nothing has to be looked for in their containers
        return ()
    known = {
        name: min((one for one in (size, model_bytes.get(name)) if one is not None), default=None)
        for name, size in sizes.items()
    }
    capacity = _only_shared_memory(spec, sizes)
    use = {name: 0 if name in capacity else size or 0 for name, size in known.items()}
    held = _held(spec, use, resizes)
    return tuple(
        MemoryVolume(name=name, bytes=known[name], counted=not why, why=why)
        for name, size in sizes.items()
        for why in [_not_counted(name, size, counting, held, capacity)]
    )


def _size(volume: Volume) -> int | None:
    assert volume.empty_dir is not None
    stated = volume.empty_dir.size_limit
    if stated is None:
        return None
    return parse_quantity(stated) or None  # the API takes a sizeLimit of 0 for none


def _only_shared_memory(spec: PodSpec, volumes: Collection[str]) -> frozenset[str]:
    """Return which of these volumes are mounted, and nowhere but at /dev/shm."""
    mounted, elsewhere = set(), set()
    for container in (*spec.containers, *spec.init_containers):
        for mount in container.volume_mounts:
            if mount.name in volumes:
                mounted.add(mount.name)
                if normal(mount.mount_path) != SHARED_MEMORY_MOUNT:
                    elsewhere.add(mount.name)
    return frozenset(mounted - elsewhere)


def _held(spec: PodSpec, use: Mapping[str, int], resizes: Resizes) -> frozenset[str]:
    """Return which volumes a long-running container with request = limit holds.

    Its limit has to hold all that it mounts: beside one with less, the volumes come on top. ``use``
    has each volume's bytes, as far as they are use and known.
    """
    held: set[str] = set()
    sidecars = (one for one in spec.init_containers if one.restart_policy == "Always")
    for container in (*spec.containers, *sidecars):
        mounted = {mount.name for mount in container.volume_mounts if mount.name in use}
        limit = _guaranteed(container, resizes) if mounted else 0
        if limit and sum(use[name] for name in mounted) <= limit:
            held |= mounted
    return frozenset(held)


def _not_counted(
    name: str,
    size: int | None,
    counting: VolumeCounting,
    held: Collection[str],
    capacity: Collection[str],
) -> str:
    """Return why a memory-backed volume is not counted; empty where it is."""
    if counting is VolumeCounting.OFF:
        return "memory.volumes is off"
    if name in held:
        return "a container that mounts it has request = limit, which already holds it"
    if counting is VolumeCounting.STRICT:
        return ""
    if name in capacity:
        return CAPACITY
    return NO_SIZE_LIMIT if size is None else ""


def _guaranteed(container: Container, resizes: Resizes) -> int:
    """Return a container's limit where what counts as its request is all of it; else 0."""
    limit = resizes.limit(container) or 0
    return limit if limit <= resizes.request(container) else 0
