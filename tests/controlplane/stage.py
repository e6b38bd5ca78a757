"""A kube-scheduler and an extender of a test's own, under a scheduler name of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import SCHEDULER, Object, scheduler_config

ROOM = {"cpu": "4", "memory": "64Gi", "pods": "110"}


class Stage:
    """One scheduler name in one namespace, its extender, and the pods put there."""

    def __init__(self, control_plane: ControlPlane, namespace: str, extender: Extender) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.extender = extender
        self.scheduler = f"{SCHEDULER}-{namespace}"

    def schedule(self, change: Callable[[Object], None] = lambda _: None) -> None:
        """Start kube-scheduler with the shipped configuration, changed as the test needs it."""
        config = scheduler_config(self.extender.url)
        (profile,) = config["profiles"]
        profile["schedulerName"] = self.scheduler
        change(config)
        self.control_plane.start_scheduler(config, name=self.scheduler)

    def pod(self, name: str, **wants: str) -> None:
        """Create a pod (see ``manifest``)."""
        self.control_plane.apply(self.manifest(name, **wants), self.namespace)

    def manifest(
        self, name: str, *, ram: str = "", cpu: str = "10m", priority: str = "", node: str = ""
    ) -> Object:
        """Return a pod, with tmpfs where ``ram`` is a size."""
        container: Object = {
            "name": "main",
            "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"memory": "64Mi", "cpu": cpu}},
        }
        spec: Object = {"schedulerName": self.scheduler, "containers": [container]}
        if ram:
            container["volumeMounts"] = [{"name": "ram", "mountPath": "/ram"}]
            volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": ram}}
            spec["volumes"] = [volume]
        if priority:
            spec["priorityClassName"] = priority
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def node_of(self, name: str) -> str | None:
        return self.control_plane.pod_node(self.namespace, name)

    def wait_bound(self, *names: str) -> None:
        self.control_plane.wait_for(
            lambda: all(self.node_of(name) for name in names), 60, f"{', '.join(names)} to be bound"
        )

    def wait_said(self, name: str, text: str) -> None:
        self.control_plane.wait_for(
            lambda: any(text in line for line in self.control_plane.events(self.namespace, name)),
            60,
            f"an event of {name} that says: {text}",
        )

    def decisions(self, name: str, verb: str) -> list[dict[str, Any]]:
        """Return what the extender logged of a pod, the oldest first."""
        whole, _, _ = self.extender.log().rpartition("\n")  # the last line may be being written
        entries = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
        return [e for e in entries if e.get("pod") == name and e.get("verb") == verb]

    def nominated(self, name: str) -> str:
        """Return the node that a pod is nominated to, empty for none."""
        path = "-o=jsonpath={.status.nominatedNodeName}"
        return self.control_plane.kubectl("get", "pod", name, "-n", self.namespace, path)
