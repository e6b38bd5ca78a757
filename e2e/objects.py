"""Pods of these tests, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e2e.cluster import RealCluster

Object = dict[str, Any]


def pod(name: str, image: str, command: Sequence[str], **spec: Any) -> Object:
    """Return a pod of one container that runs once.

    It requests a little memory: one that requests none is refused by a kubelet that has just been
    short of it.
    """
    main: Object = {"name": "main", "image": image, "command": list(command)}
    main["resources"] = {"requests": {"memory": "16Mi"}}
    main.update(spec.pop("container", {}))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [main],
            **spec,
        },
    }


def phase(cluster: RealCluster, namespace: str, name: str) -> str:
    """Return a pod's phase."""
    return str(cluster.pod(namespace, name)["status"]["phase"])


def ended(found: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return why the main container ended and its exit code; None while it has not."""
    for status in found["status"].get("containerStatuses", []):
        state = status["state"].get("terminated")
        if state:
            return state["reason"], state["exitCode"]
    return None
