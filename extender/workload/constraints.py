"""The part of a pod's spec that only kube-scheduler reads, and what of it is not judged here."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import without_nulls
from extender.kube.objects import KubeStruct, NodeSelector, Taint


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


class _Affinity(KubeStruct, frozen=True):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class _Gate(KubeStruct, frozen=True):
    name: str = ""


class Constraints(KubeStruct, frozen=True):
    """The part of a pod's spec that only kube-scheduler reads."""

    node_name: str = ""
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: _Affinity = _Affinity()
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()
    resource_claims: tuple[dict[str, Any], ...] = ()
    scheduling_gates: tuple[_Gate, ...] = ()
    containers: tuple[dict[str, Any], ...] = ()

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
        fields = (
            ("affinity.podAffinity", self.affinity.pod_affinity),
            ("affinity.podAntiAffinity", self.affinity.pod_anti_affinity),
            ("topologySpreadConstraints", self.topology_spread_constraints),
            ("resourceClaims", self.resource_claims),
            ("containers[].ports[].hostPort", ports),
        )
        return tuple(name for name, given in fields if given)


ANYWHERE = Constraints()
"""Of a pod that asks nothing of kube-scheduler but room."""


def read_constraints(spec: Any) -> Constraints:
    """Read a raw pod spec. Raises InvalidObjectError that names the field below it."""
    try:
        return msgspec.convert(without_nulls(spec), Constraints, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidObjectError(str(error)) from error
