"""Memory-backed volumes that deserve a word: not counted, or too small for what goes into them."""

from __future__ import annotations

from collections.abc import Iterator

from extender.cluster.memory import CAPACITY, NO_SIZE_LIMIT, MemoryVolume
from extender.kube.quantity import format_bytes
from extender.placement.estimate import bytes_from_name
from extender.placement.request import PodRequest
from extender.workload.model import ModelReference

Warned = tuple[str, str]
"""A CamelCase reason and a message."""


def volume_warnings(request: PodRequest) -> Iterator[Warned]:
    """Yield what is to be said of a pod's memory-backed volumes; none of it refuses a node."""
    for volume in request.demand.volumes:
        if volume.why == NO_SIZE_LIMIT:
            yield (
                "UnsizedMemoryVolume",
                f"memory-backed volume {volume.name} has no sizeLimit and is not counted; "
                "set emptyDir.sizeLimit to what will be written there",
            )
        elif volume.why == CAPACITY:
            yield (
                "SharedMemoryVolume",
                f"memory-backed volume {volume.name} is mounted at /dev/shm and is not counted: "
                "servers reserve it and use little; memory.volumes: strict counts it",
            )
        limit = request.demand.limit
        if volume.bytes is not None and limit is not None and volume.bytes > limit:
            yield (
                "OversizedMemoryVolume",
                f"memory-backed volume {volume.name} may hold {format_bytes(volume.bytes)}, the "
                f"pod's memory limit is {format_bytes(limit)}: filled to its sizeLimit, the pod is "
                "killed; raise the limit or lower emptyDir.sizeLimit",
            )
        yield from _too_small(request, volume)


def _too_small(request: PodRequest, volume: MemoryVolume) -> Iterator[Warned]:
    """Compare what goes into a volume, as its name tells, with its size and the pod's limit."""
    limit = request.demand.limit
    for reference in request.workload.references:
        if reference.volume != volume.name:
            continue
        size = model_size(reference) or 0
        room = volume.bytes
        if limit is not None and size > limit:
            yield (
                "ModelExceedsLimit",
                f"{reference.model} seems to have {format_bytes(size)}, and what is in the "
                f"memory-backed volume {volume.name} counts against the pod's memory limit of "
                f"{format_bytes(limit)}: the pod is killed while it is filled; raise the limit of "
                "its containers",
            )
        if room is not None and size > room:
            yield (
                "VolumeTooSmall",
                f"{reference.model} seems to have {format_bytes(size)}, the memory-backed "
                f"volume {volume.name} takes {format_bytes(room)}; raise emptyDir.sizeLimit",
            )


def model_size(reference: ModelReference) -> int | None:
    """Return the bytes of what fills a volume: as stated, else as its name or its source tells."""
    told = [one for one in (reference, reference.origin) if one is not None]
    stated = next((one.bytes for one in told if one.bytes), None)
    return stated or next(filter(None, (bytes_from_name(one.model or "") for one in told)), None)
