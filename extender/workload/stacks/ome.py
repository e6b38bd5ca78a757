"""OME (Open Model Engine): ``MODEL_PATH`` in the engine's container.

OME mounts the base model's directory of the node read-only into the container ``ome-container``,
and tells its path in ``MODEL_PATH``; runtimes pass it on as ``$(MODEL_PATH)``. Engines that are
known are read by their own stack; this is for the others.
https://docs.sglang.io/ome/docs/concepts/serving_runtime and
sgl-project/ome/pkg/controller/v1beta1/inferenceservice/components/base.go
"""

from __future__ import annotations

from extender.workload.stacks.view import ContainerView, Found

SERVICE_LABEL = "ome.io/inferenceservice"
_CONTAINER = "ome-container"


def recognise(view: ContainerView) -> list[Found]:
    """Return the base model that OME hands to the engine."""
    if view.container.name != _CONTAINER or SERVICE_LABEL not in view.metadata.labels:
        return []
    place = view.env("MODEL_PATH")
    if place is None:
        return []
    return [Found(value=place.text, read_from=place.read_from, unknown=place.unknown)]
