"""Every amount in a pod's spec, with the field that it stands in."""

from __future__ import annotations

from collections.abc import Iterator

from extender.errors import InvalidQuantityError
from extender.kube.objects import PodSpec, Quantity, ResourceRequirements
from extender.kube.quantity import parse_quantity


def wrong_amount(spec: PodSpec, field: str = "spec") -> str:
    """Say what is wrong with the first amount that is none; ``field`` is where the spec stands."""
    for name, quantity in _amounts(spec):
        try:
            parse_quantity(quantity)
        except InvalidQuantityError as error:
            return f"{field}.{name}: {error}"
    return ""


def _amounts(spec: PodSpec) -> Iterator[tuple[str, Quantity]]:
    for field, containers in (
        ("containers", spec.containers),
        ("initContainers", spec.init_containers),
    ):
        for number, container in enumerate(containers):
            yield from _resources(f"{field}[{number}].resources", container.resources)
    if spec.resources is not None:
        yield from _resources("resources", spec.resources)
    yield from ((f"overhead.{name}", quantity) for name, quantity in spec.overhead.items())
    for number, volume in enumerate(spec.volumes):
        if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
            yield f"volumes[{number}].emptyDir.sizeLimit", volume.empty_dir.size_limit


def _resources(field: str, resources: ResourceRequirements) -> Iterator[tuple[str, Quantity]]:
    for part, table in (("requests", resources.requests), ("limits", resources.limits)):
        yield from ((f"{field}.{part}.{name}", quantity) for name, quantity in table.items())
