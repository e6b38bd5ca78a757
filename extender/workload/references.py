"""Any pod spec -> the models that it asks for, with no annotation needed."""

from __future__ import annotations

from extender.kube.objects import ObjectMeta, PodSpec
from extender.workload.fills import pod_views
from extender.workload.model import ModelReference, Role, Workload
from extender.workload.resolve import resolve
from extender.workload.stacks import recognise
from extender.workload.stacks.view import ContainerView

_ORDER = {Role.MODEL: 0, Role.DRAFT: 1, Role.ADAPTER: 2}


def read_workload(metadata: ObjectMeta, spec: PodSpec) -> Workload:
    """Return what a pod (or a pod template) asks for; the serving model comes first."""
    serving = [
        ContainerView(container, f"containers[{index}]", metadata, spec)
        for index, container in enumerate(spec.containers)
    ]
    before = [
        ContainerView(container, f"initContainers[{index}]", metadata, spec)
        for index, container in enumerate(spec.init_containers)
    ]
    sidecars = [view for view in before if view.container.restart_policy == "Always"]
    found = [(view, model) for view in (*serving, *sidecars) for model in recognise(view)]
    pod = pod_views(serving, before, frozenset(view.field for view, _ in found))
    references = [resolve(model, view, pod) for view, model in found]
    return Workload(references=_ordered(references))


def _ordered(references: list[ModelReference]) -> tuple[ModelReference, ...]:
    unique = dict.fromkeys(references)
    return tuple(sorted(unique, key=lambda reference: _ORDER[reference.role]))
