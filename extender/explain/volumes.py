"""Memory-backed volumes that deserve a word: not counted, or too small for what goes into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from extender.cluster.memory import CAPACITY, MEMORY, NO_SIZE_LIMIT, MemoryVolume
from extender.cluster.requests import requested
from extender.kube.objects import Container, Pod, PodSpec
from extender.kube.quantity import format_bytes, format_quantity, parse_quantity
from extender.placement.estimate import bytes_from_name
from extender.placement.request import PodRequest
from extender.workload.model import ModelReference

Warned = tuple[str, str]
"""A CamelCase reason and a message."""

_INIT = "initContainers"
_MIB, _GIB = 2**20, 2**30
_MORE_PERCENT = 110
"""Of what a name tells: Qwen2.5-7B has 7.6 billion parameters (its model card on the hub)."""


class VolumeWarning(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a volume, and what to write where instead."""

    reason: str
    message: str
    remedy: str

    @property
    def told(self) -> Warned:
        """Return its reason, and all of it in one message."""
        return self.reason, f"{self.message}; {self.remedy}"


class _Fields:
    """The fields that say how much memory a pod's volumes and containers may take.

    ``at`` makes a path in the pod's owner of one in the pod. Without the pod itself they are told
    in words: what is kept of one in the cluster has no fields.
    """

    def __init__(self, request: PodRequest, pod: Pod | None, at: Callable[[str], str]) -> None:
        self._request = request
        self._pod = pod
        self._at = at

    def size_limit(self, volume: str) -> str:
        """Name the size of a volume."""
        spec = self._pod.spec if self._pod is not None else None
        names = [one.name for one in spec.volumes] if spec is not None else []
        if volume not in names:
            return "emptyDir.sizeLimit"
        return self._at(f"spec.volumes[{names.index(volume)}].emptyDir.sizeLimit")

    def limits(self, volume: str, size: int) -> str:
        """Say which limits hold a volume of so many bytes beside what the containers request.

        What is in it is charged to the container that writes it, and to the pod: so the limits of
        all that mount it count, and the pod's where it has one of its own.
        """
        whole = _quantity(self._request.demand.request + size)
        level = self._pod.spec.resources if self._pod is not None else None
        of_the_pod = level is not None and MEMORY in level.limits
        said = [f"{self._at('spec.resources.limits.memory')}: {whole}"] if of_the_pod else []
        for field, container in self._mounters(volume):
            limit = _limit(container)
            if limit is not None and not (of_the_pod and limit >= size):
                path = self._at(f"spec.{field}.resources.limits.memory")
                said.append(f"{path}: {_quantity(requested(container.resources, MEMORY) + size)}")
        return " and ".join(said) or f"a memory limit of {whole} for the pod as a whole"

    def filler(self, volume: str) -> Container | None:
        """Return the init container that fills a volume, as far as its mount tells."""
        writers = [
            container
            for field, container in self._mounters(volume)
            if field.startswith(_INIT)
            and any(one.name == volume and not one.read_only for one in container.volume_mounts)
        ]
        return writers[0] if len(writers) == 1 else None

    def _mounters(self, volume: str) -> Iterator[tuple[str, Container]]:
        """Yield the containers that mount a volume, with their field of the spec."""
        spec = self._pod.spec if self._pod is not None else PodSpec()
        for field, listed in ((_INIT, spec.init_containers), ("containers", spec.containers)):
            for number, container in enumerate(listed):
                if any(mount.name == volume for mount in container.volume_mounts):
                    yield f"{field}[{number}]", container


def volume_warnings(
    request: PodRequest, pod: Pod | None = None, at: Callable[[str], str] = str
) -> Iterator[VolumeWarning]:
    """Yield what is to be said of a pod's memory-backed volumes; none of it refuses a node.

    ``pod`` is the one that asks, where it is at hand, and ``at`` returns the path of one of its
    fields in what one edits.
    """
    fields = _Fields(request, pod, at)
    for volume in request.demand.volumes:
        yield from _of_size(request, volume, fields)
        yield from _too_small(request, volume, fields)


def filled_bytes(request: PodRequest, volume: str) -> int:
    """Return the bytes that a volume needs for what goes into it, as far as known; else 0."""
    return sum(_needed(one) for one in request.workload.references if one.volume == volume)


def _of_size(request: PodRequest, volume: MemoryVolume, fields: _Fields) -> Iterator[VolumeWarning]:
    """Compare a volume's size with the pod's limit, if it has one."""
    limit, filled = request.demand.limit, filled_bytes(request, volume.name)
    if volume.why == NO_SIZE_LIMIT:
        figure = f": {_quantity(filled)}" if filled else " to what will be written there"
        yield VolumeWarning(
            reason="UnsizedMemoryVolume",
            message=f"memory-backed volume {volume.name} has no sizeLimit and is not counted",
            remedy=f"set {fields.size_limit(volume.name)}{figure}",
        )
    elif volume.why == CAPACITY:
        yield VolumeWarning(
            reason="SharedMemoryVolume",
            message=f"memory-backed volume {volume.name} is mounted at /dev/shm and is not "
            "counted: servers reserve it and use little",
            remedy="memory.volumes: strict counts it",
        )
    if volume.bytes is not None and limit is not None and volume.bytes > limit:
        left = (limit - request.demand.request) // _MIB * _MIB
        lower = f", or {fields.size_limit(volume.name)}: {format_quantity(left)}"
        yield VolumeWarning(
            reason="OversizedMemoryVolume",
            message=f"memory-backed volume {volume.name} may hold {format_bytes(volume.bytes)}, "
            f"the pod's memory limit is {format_bytes(limit)}: filled to its sizeLimit, the pod is "
            "killed",
            remedy=f"set {fields.limits(volume.name, volume.bytes)}{lower * (left > filled)}",
        )


def _too_small(
    request: PodRequest, volume: MemoryVolume, fields: _Fields
) -> Iterator[VolumeWarning]:
    """Compare what goes into a volume, as its name tells, with its size and the pod's limit."""
    limit, filler = request.demand.limit, fields.filler(volume.name)
    of_filler = _limit(filler) if filler is not None else None
    for reference in request.workload.references:
        if reference.volume != volume.name:
            continue
        size = model_size(reference) or 0
        has = f"{reference.model} seems to have {format_bytes(size)}"
        room, against = volume.bytes, ""
        if limit is not None and size > limit:
            against = f"the pod's memory limit of {format_bytes(limit)}: the pod"
        elif filler is not None and of_filler is not None and size > of_filler:
            against = f"the memory limit of container {filler.name}, {format_bytes(of_filler)}: it"
        if against:
            yield VolumeWarning(
                reason="ModelExceedsLimit",
                message=f"{has}, and what is written into the memory-backed volume {volume.name} "
                f"counts against {against} is killed while it is filled",
                remedy=f"set {fields.limits(volume.name, max(_needed(reference), room or 0))}",
            )
        if room is not None and size > room:
            yield VolumeWarning(
                reason="VolumeTooSmall",
                message=f"{has}, the memory-backed volume {volume.name} takes {format_bytes(room)}",
                remedy=f"set {fields.size_limit(volume.name)}: {_quantity(_needed(reference))}",
            )


def _needed(reference: ModelReference) -> int:
    """Return the bytes that a model needs: more than was guessed from a name, which rounds."""
    stated, guessed = _stated(reference), _guessed(reference)
    return _rounded(stated or guessed * _MORE_PERCENT // 100)


def _limit(container: Container) -> int | None:
    quantity = container.resources.limits.get(MEMORY)
    return None if quantity is None else parse_quantity(quantity)


def _rounded(size: int) -> int:
    """Round up to whole GiB, which leaves what is small beside a model some room; less to MiB."""
    unit = _GIB if size >= _GIB else _MIB
    return -(-size // unit) * unit


def _quantity(size: int) -> str:
    return format_quantity(_rounded(size))


def model_size(reference: ModelReference) -> int | None:
    """Return the bytes of what fills a volume: as stated, else as its name or its source tells."""
    return _stated(reference) or _guessed(reference) or None


def _stated(reference: ModelReference) -> int:
    told = (one for one in (reference, reference.origin) if one is not None)
    return next((one.bytes for one in told if one.bytes), 0)


def _guessed(reference: ModelReference) -> int:
    told = (one for one in (reference, reference.origin) if one is not None)
    return next(filter(None, (bytes_from_name(one.model or "") for one in told)), 0)
