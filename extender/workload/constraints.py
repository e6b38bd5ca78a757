"""The part of a pod's spec that only kube-scheduler reads, and what of it is not judged here."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import without_nulls
from extender.kube.objects import (
    KubeStruct,
    NodeSelector,
    Resources,
    SpreadConstraint,
    Taint,
    Volume,
)
from extender.workload.claim_templates import ClaimTemplates


class Toleration(KubeStruct, frozen=True):
    """``spec.tolerations[]``."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Tell whether it lets a pod onto a node with this taint; unknown operators do not."""
        if self.effect not in {"", taint.effect} or self.key not in {"", taint.key}:
            return False
        if self.operator == "Exists":
            return True
        return self.operator in {"", "Equal"} and bool(self.key) and self.value == taint.value


class _NodeAffinity(KubeStruct, frozen=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class _PodAffinity(KubeStruct, frozen=True):
    """Of other pods; what is only preferred refuses no node."""

    required_during_scheduling_ignored_during_execution: tuple[dict[str, Any], ...] = ()


class _Affinity(KubeStruct, frozen=True):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity = _PodAffinity()
    pod_anti_affinity: _PodAffinity = _PodAffinity()


class _Gate(KubeStruct, frozen=True):
    name: str = ""


class Constraints(KubeStruct, frozen=True):
    """The part of a pod's spec that only kube-scheduler reads.

    ``claim_templates`` stand beside the pod's template in its StatefulSet.
    """

    node_name: str = ""
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: _Affinity = _Affinity()
    topology_spread_constraints: tuple[SpreadConstraint, ...] = ()
    resource_claims: tuple[dict[str, Any], ...] = ()
    scheduling_gates: tuple[_Gate, ...] = ()
    containers: tuple[dict[str, Any], ...] = ()
    volumes: tuple[Volume, ...] = ()
    priority: int | None = None
    priority_class_name: str = ""
    runtime_class_name: str = ""
    overhead: Resources = msgspec.field(default_factory=dict)
    claim_templates: ClaimTemplates = ClaimTemplates()

    @property
    def required_affinity(self) -> NodeSelector | None:
        """Return the terms of which a node has to match one; None where there are none."""
        affinity = self.affinity.node_affinity
        return affinity.required_during_scheduling_ignored_during_execution if affinity else None

    def not_judged(self) -> tuple[str, ...]:
        """Name the fields that could refuse a node and are not looked at here."""
        ports = any(
            isinstance(port, dict) and port.get("hostPort")
            for container in self.containers
            for port in container.get("ports") or ()
        )
        affinity, anti = self.affinity.pod_affinity, self.affinity.pod_anti_affinity
        spread = (s.when_unsatisfiable for s in self.topology_spread_constraints)
        fields = (
            ("affinity.podAffinity", affinity.required_during_scheduling_ignored_during_execution),
            ("affinity.podAntiAffinity", anti.required_during_scheduling_ignored_during_execution),
            ("topologySpreadConstraints", any(when != "ScheduleAnyway" for when in spread)),
            ("resourceClaims", self.resource_claims),
            ("containers[].ports[].hostPort", ports),
            ("volumes[].ephemeral", any(v.ephemeral is not None for v in self.volumes)),
            (
                f"priorityClassName {self.priority_class_name} (whether it exists; the pod counts "
                "as priority 0)",
                self.priority_class_name and self.priority is None,
            ),
            (
                f"runtimeClassName {self.runtime_class_name} (whether it exists; the nodes and the "
                "overhead that it asks for)",
                self.runtime_class_name and not self.overhead,
            ),
        )
        return tuple(name for name, given in fields if given)


ANYWHERE = Constraints()
"""Of a pod that asks nothing of kube-scheduler but room."""


def read_constraints(spec: Any) -> Constraints:
    """Read a raw pod spec. Raises InvalidObjectError that names the field below it."""
    try:
        read = msgspec.convert(without_nulls(spec), Constraints, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidObjectError(str(error)) from error
    return msgspec.structs.replace(read, claim_templates=ClaimTemplates())
