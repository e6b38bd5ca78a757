"""What a pod would have to ask for to fit: smaller requests, smaller volumes, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from extender.cluster.memory import MEMORY, memory_demand
from extender.cluster.requests import (
    CPU,
    PODS,
    Amounts,
    amount,
    is_of_a_plugin,
    pod_requests,
    requested,
)
from extender.explain.volumes import filled_bytes
from extender.kube.objects import EmptyDirSource, Pod, PodSpec, ResourceRequirements
from extender.kube.quantity import format_quantity
from extender.placement.request import PodRequest

_MIB = 2**20
_AND = ", and "
"""Between a field, or fields, with a value and the next."""


class _Place(msgspec.Struct, frozen=True):
    """Where a request stands: in the pod's own (``field`` is empty), or in a container's."""

    field: str = ""
    number: int = 0


_Way = Mapping[_Place, int]
"""New sizes of requests."""


def what_would_fit(request: PodRequest, pod: Pod, lacking: Amounts) -> list[str]:
    """Return what of a pod could be smaller for it to fit: ways, each of which is enough.

    ``lacking`` is what lacks by resource, and all that is in the way.
    """
    ways = [smaller_requests(pod, lacking)] if lacking else []
    if lacking.keys() == {MEMORY}:
        ways.append(smaller_volume(request, pod, lacking[MEMORY]))
    return [way for way in ways if way]


def smaller_requests(pod: Pod, lacking: Amounts) -> str:
    """Return the requests that, so much smaller, would have a pod fit; empty where none would.

    ``lacking`` is what lacks by resource. One container is changed where that is enough, the
    largest that can make the difference; else those that are too large by themselves, or all in
    proportion.
    """
    said = []
    for resource, missing in lacking.items():
        found = _smaller(pod, missing, resource)
        if found is None:
            return ""
        pod, told = found
        said.append(told)
    return _AND.join(said)


def smaller_volume(request: PodRequest, pod: Pod, missing: int) -> str:
    """Return the size of a memory-backed volume with which the pod would fit; else empty.

    Of one that is larger than what goes into it, where so much less (bytes) is enough; else of all
    of those, and then with smaller requests beside. What the pod requests as a whole is smaller by
    as much: it holds what the volume may take.
    """
    larger = dict(_larger_than_filled(request, pod))
    ways = [({number: size}, False) for number, size in larger.items()]
    ways += [(larger, False), (larger, True)] if larger else []
    found = (_with_volumes(pod, sizes, missing, also=also) for sizes, also in ways)
    return next(filter(None, found), "")


def whole(pod: Pod, resource: str) -> int:
    """Return what a pod asks for of a resource, with its memory-backed volumes."""
    if resource == MEMORY:
        return memory_demand(pod).bytes
    return pod_requests(pod).get(resource, 0)


# -- requests --------------------------------------------------------------------------------------


def _smaller(pod: Pod, missing: int, resource: str) -> tuple[Pod, str] | None:
    has = {} if resource == PODS else dict(_requests(pod.spec, resource))
    for limits in (False, True):  # a limit that equals its request goes with it only if it has to
        for way in _ways(pod, has, missing, resource):
            smaller = _changed(pod, way, resource, limits=limits)
            if whole(pod, resource) - whole(smaller, resource) >= missing:
                return smaller, _told(pod.spec, way, resource, limits=limits)
    return None


def _requests(spec: PodSpec, resource: str) -> Iterator[tuple[_Place, int]]:
    """Yield where a resource is requested, and how much, the largest first."""
    if spec.resources is not None and resource in spec.resources.requests:
        yield _Place(), requested(spec.resources, resource)
        return
    places = [
        _Place(field, number)
        for field in ("containers", "init_containers")
        for number in range(len(getattr(spec, field)))
    ]
    sizes = {place: requested(_resources(spec, place), resource) for place in places}
    yield from sorted(sizes.items(), key=lambda entry: -entry[1])


def _ways(pod: Pod, has: _Way, missing: int, resource: str) -> Iterator[_Way]:
    unit = 1 if resource == CPU or is_of_a_plugin(resource) else _MIB

    def sized(sizes: _Way) -> Iterator[_Way]:
        rounded = {place: size // unit * unit for place, size in sizes.items()}
        if rounded and min(rounded.values()) > 0:
            yield rounded

    for place, size in has.items():
        yield from sized({place: size - missing})
    asked = whole(pod, resource)
    fixed = whole(_changed(pod, dict.fromkeys(has, 0), resource), resource)
    left = asked - missing - fixed
    yield from sized({place: left for place, size in has.items() if size > left})
    if asked > fixed:
        yield from sized({p: size * left // (asked - fixed) for p, size in has.items() if size})


def _resources(spec: PodSpec, place: _Place) -> ResourceRequirements:
    if place.field:
        resources: ResourceRequirements = getattr(spec, place.field)[place.number].resources
        return resources
    return spec.resources or ResourceRequirements()


def _changed(pod: Pod, way: _Way, resource: str, *, limits: bool = False) -> Pod:
    spec = pod.spec
    for place, size in way.items():
        old = _resources(spec, place)
        quantity = {resource: _quantity(resource, size)}
        new = {"requests": {**old.requests, **quantity}}
        if _limit_goes_too(old, resource, limits=limits):
            new["limits"] = {**old.limits, **quantity}
        less = msgspec.structs.replace(old, **new)
        if not place.field:
            spec = msgspec.structs.replace(spec, resources=less)
            continue
        listed = list(getattr(spec, place.field))
        listed[place.number] = msgspec.structs.replace(listed[place.number], resources=less)
        spec = msgspec.structs.replace(spec, **{place.field: tuple(listed)})
    return msgspec.structs.replace(pod, spec=spec)


def _told(spec: PodSpec, way: _Way, resource: str, *, limits: bool) -> str:
    """Name the fields that have to change, with their new values."""
    alone = len(spec.containers) + len(spec.init_containers) == 1
    said = []
    for place, size in way.items():
        fields = _fields(_resources(spec, place), resource, limits=limits)
        if not place.field:
            where, of = " and ".join(f"spec.{field}" for field in fields), ""
        else:
            init = "init " if place.field == "init_containers" else ""
            name = getattr(spec, place.field)[place.number].name
            where, of = " and ".join(fields), "" if alone else f" of {init}container {name}"
        said.append(f"{where}{of}: {_quantity(resource, size)}")
    return _AND.join(said)


def _fields(resources: ResourceRequirements, resource: str, *, limits: bool) -> list[str]:
    request, limit = f"resources.requests.{resource}", f"resources.limits.{resource}"
    if not _limit_goes_too(resources, resource, limits=limits):
        return [request]
    return [request, limit] if resource in resources.requests else [limit]


def _limit_goes_too(resources: ResourceRequirements, resource: str, *, limits: bool) -> bool:
    """Tell whether a limit is changed with its request.

    What cannot be overcommitted has a limit, and a request, where there is one, equal to it
    (kubernetes/pkg/apis/core/validation, ValidateContainerResourceRequirements).
    """
    if is_of_a_plugin(resource) or resource.startswith("hugepages-"):
        return True
    limit = resources.limits.get(resource)
    return (
        limits and limit is not None and amount(resource, limit) == requested(resources, resource)
    )


def _quantity(resource: str, size: int) -> str:
    if resource == CPU:
        return f"{size}m" if size % 1000 else str(size // 1000)
    return str(size) if is_of_a_plugin(resource) else format_quantity(size)


# -- volumes ---------------------------------------------------------------------------------------


def _larger_than_filled(request: PodRequest, pod: Pod) -> Iterator[tuple[int, int]]:
    """Yield the number of each volume that is larger than what goes into it, and that in bytes."""
    counted = {volume.name: volume.bytes or 0 for volume in request.demand.volumes}
    for number, volume in enumerate(pod.spec.volumes):
        needed = filled_bytes(request, volume.name)
        if needed and volume.empty_dir is not None and counted.get(volume.name, 0) > needed:
            yield number, needed


def of_unknown_content(request: PodRequest, pod: Pod) -> list[int]:
    """Return the numbers of the volumes that count though it is not known what goes into them."""
    counted = {volume.name for volume in request.demand.volumes if volume.bytes}
    return [
        number
        for number, volume in enumerate(pod.spec.volumes)
        if volume.name in counted and not filled_bytes(request, volume.name)
    ]


def _with_volumes(pod: Pod, sizes: Mapping[int, int], missing: int, *, also: bool) -> str:
    """Say which volumes of these sizes would have the pod fit; ``also``: with smaller requests."""
    room = whole(pod, MEMORY) - missing
    volumes, said = list(pod.spec.volumes), []
    for number, size in sizes.items():
        less = EmptyDirSource(medium="Memory", size_limit=size)
        volumes[number] = msgspec.structs.replace(volumes[number], empty_dir=less)
        said.append(f"spec.volumes[{number}].emptyDir.sizeLimit: {format_quantity(size)}")
    level = pod.spec.resources
    of_the_pod = level is not None and MEMORY in level.requests
    if level is not None:
        others = {name: size for name, size in level.requests.items() if name != MEMORY}
        level = msgspec.structs.replace(level, requests=others)
    spec = msgspec.structs.replace(pod.spec, volumes=tuple(volumes), resources=level)
    smaller = msgspec.structs.replace(pod, spec=spec)
    if also:
        found = _smaller(smaller, whole(smaller, MEMORY) - room, MEMORY)
        if found is None:
            return ""
        smaller, told = found
        said.append(told)
    size = whole(smaller, MEMORY)
    if of_the_pod:
        said.append(f"spec.resources.requests.memory: {format_quantity(size)}")
    return _AND.join(said) if size <= room else ""
