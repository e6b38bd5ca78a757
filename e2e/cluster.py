"""A control plane with real nodes and fake ones, inside the run's namespaces."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2e import images
from e2e.apart import Run
from e2e.inside import HOST_ADDRESS
from e2e.node import NODES, RealNode, node_name, node_user
from extender.watch.client import Transport, connect
from extender.watch.paths import pod_path
from tests.controlplane.cluster import CONTROLLERS, ControlPlane, fake_node, is_ready
from tests.controlplane.processes import Process, wait_for

NODE = node_name(1)
"""The real node that is always there."""
FAKE_TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""Keeps off the fake nodes what has to be really run."""
FORWARDED = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ")
"""What kubectl port-forward says when it listens."""


class RealCluster(ControlPlane):
    """A control plane that answers at the address that pods are told, and real nodes."""

    def __init__(self, run: Run, binaries: Path, programs: Path, workdir: Path) -> None:
        kubelets = {node_user(number): ["system:nodes"] for number in range(1, NODES + 1)}
        users = {"admin": ["system:masters"], "system:kube-scheduler": [], **kubelets}
        super().__init__(binaries, workdir, users)
        self.run = run
        self.programs = programs
        self.real: dict[str, RealNode] = {}

    def _api_server_address(self) -> list[str]:
        self.server = f"https://{HOST_ADDRESS}"
        return [
            "--bind-address=0.0.0.0",
            "--secure-port=443",
            f"--advertise-address={HOST_ADDRESS}",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _controllers(self) -> list[str]:
        names = (*CONTROLLERS, "root-ca-certificate-publisher-controller")
        authority = self.workdir / "certs" / "apiserver.crt"
        return [f"--controllers={','.join(names)}", f"--root-ca-file={authority}"]

    def stop(self) -> None:
        """Stop the nodes, then the control plane."""
        for node in self.real.values():
            node.stop()
        super().stop()

    def add_real_node(self, number: int) -> RealNode:
        """Start a real node that has every image but those that a test brings; wait for Ready."""
        node = RealNode(
            self.run,
            number,
            programs=self.programs,
            kubeconfig=self.kubeconfig(node_user(number)),
            workdir=self.workdir,
            environment=self._environment(),
            pause=images.PAUSE,
            ready=self.node_ready,
        )
        self.real[node.name] = node
        node.start(images.given(self.binaries))
        return node

    def remove_real_node(self, name: str) -> None:
        """Let a real node leave the cluster: drained as far as this goes, then switched off."""
        self.kubectl("cordon", name)
        drain = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--grace-period=1"]
        self.kubectl("drain", name, *drain, "--timeout=60s")
        self.real.pop(name).stop()
        self.kubectl("delete", "node", name)
        on_node = f"--field-selector=spec.nodeName={name}"
        self.kubectl("delete", "pods", "-A", on_node, "--force", "--grace-period=0")

    def kubeconfig_with_authority(self, user: str) -> str:
        """Return a kubeconfig that holds the apiserver's authority, for use in a container."""
        text = self.kubeconfig(user).read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        cluster = document["clusters"][0]["cluster"]
        authority = Path(cluster.pop("certificate-authority")).read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
        return yaml.safe_dump(document)

    def node_ready(self, name: str, boot_id: str) -> bool:
        """Say whether a node is there and Ready, since this boot."""
        for node in self.read("/api/v1/nodes")["items"]:
            if node["metadata"]["name"] == name:
                return is_ready(node) and node["status"]["nodeInfo"]["bootID"] == boot_id
        return False

    def add_fake_nodes(self, *names: str, memory: str = "64Gi") -> None:
        """Add nodes of kwok, where only pods go that tolerate them."""
        resources = {"memory": memory, "cpu": "32", "pods": "110"}
        nodes = [fake_node(name, resources, {}) for name in names]
        for node in nodes:
            node["spec"] = {"taints": [FAKE_TAINT]}
        self.apply(nodes)
        self.nodes += names

        def ready() -> bool:
            return all(is_ready(self.read(f"/api/v1/nodes/{name}")) for name in names)

        wait_for(ready, 60, "the fake nodes to be Ready")

    @contextmanager
    def forwarded(self, namespace: str, pod: str, port: int) -> Iterator[str]:
        """Forward a port of a pod, as a user with that right does; give its URL."""
        words = ["port-forward", f"--kubeconfig={self.kubeconfig()}", "-n", namespace, pod]
        log = self.workdir / f"forward-{secrets.token_hex(3)}.log"
        command = [str(self.binaries / "kubectl"), *words, f":{port}"]
        process = Process("port-forward", command, log, env=self._environment())
        try:
            process.wait_ready(lambda: FORWARDED.search(process.log()), 60)
            (place,) = FORWARDED.findall(process.log())
            yield f"http://{place}"
        finally:
            process.stop()

    def logs(self, namespace: str, pod: str, *more: str) -> str:
        """Return what a pod's container has written."""
        return self.kubectl("logs", "-n", namespace, pod, *more)

    def write_down(self, when: str) -> None:
        """Write how nodes and pods are, and every event, to a log of this name."""
        log = self._log(re.sub(r"\W+", "-", when))
        with log.open("w", encoding="utf-8") as file, suppress(AssertionError):
            for words in (["get", "nodes,pods,events", "-o=wide"], ["describe", "nodes,pods"]):
                file.write(self.kubectl(*words, "-A"))

    def pod(self, namespace: str, name: str) -> Any:
        """Return a pod as it stands."""
        return self.read(pod_path(namespace, name))

    def read(self, path: str, **query: str) -> Any:
        """GET a path of the apiserver, as whoever asks often should: kubectl takes far longer."""
        answer = self._transport.request("GET", path, query=query)
        assert answer.ok, f"{path}: {answer.problem().message}"
        return json.loads(answer.body)

    @cached_property
    def _transport(self) -> Transport:
        return connect(str(self.kubeconfig()))
