"""A control plane with one real node: containerd and a kubelet, inside the run's namespaces."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.inside import NODE_ADDRESS
from tests.controlplane.cluster import CONTROLLERS, ControlPlane, fake_node, is_ready
from tests.controlplane.processes import Process, wait_for

NODE = "real-1"
NODE_USER = f"system:node:{NODE}"
SOCKET = Path("/run/containerd/containerd.sock")
ALLOCATABLE = 4 << 30
"""Bytes of memory that the real node offers to pods; the machine's rest is reserved."""
FAKE_TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""Keeps off the fake nodes what has to be really run."""


class RealCluster(ControlPlane):
    """A control plane that answers at the address that pods are told, and a real node."""

    def __init__(self, binaries: Path, kubelet: Path, workdir: Path, cgroup: str) -> None:
        users = {"admin": ["system:masters"], NODE_USER: ["system:nodes"]}
        super().__init__(binaries, workdir, users)
        self.kubelet = kubelet
        self.cgroup = cgroup

    def _api_server_address(self) -> list[str]:
        self.server = f"https://{NODE_ADDRESS}"
        return [
            "--bind-address=0.0.0.0",
            "--secure-port=443",
            f"--advertise-address={NODE_ADDRESS}",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _controllers(self) -> list[str]:
        names = (*CONTROLLERS, "root-ca-certificate-publisher-controller")
        authority = self.workdir / "certs" / "apiserver.crt"
        return [f"--controllers={','.join(names)}", f"--root-ca-file={authority}"]

    def start_containerd(self, archives: Mapping[str, Path], pause: str) -> Process:
        """Start containerd and give it the images."""
        networks = self.workdir / "cni"
        networks.mkdir()
        (networks / "10-pods.conflist").write_text(json.dumps(network()), encoding="utf-8")
        config = self.workdir / "containerd.toml"
        config.write_text(containerd_config(networks, pause), encoding="utf-8")
        process = Process(
            "containerd",
            ["containerd", f"--config={config}"],
            self._log("containerd"),
            env=self._environment(),
        )
        self._processes.append(process)
        process.wait_ready(lambda: SOCKET.exists() and self._answers(), 30)
        for archive in archives.values():
            self.ctr("images", "import", str(archive))
        return process

    def _answers(self) -> bool:
        command = ["ctr", f"--address={SOCKET}", "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def ctr(self, *words: str) -> str:
        """Run containerd's own client and return what it prints."""
        command = ["ctr", f"--address={SOCKET}", "--namespace=k8s.io", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def start_kubelet(self) -> Process:
        """Start the kubelet and wait until its node is Ready."""
        config = self.workdir / "kubelet.yaml"
        config.write_text(yaml.safe_dump(kubelet_config(self.cgroup)), encoding="utf-8")
        process = Process(
            "kubelet",
            [
                self.kubelet,
                f"--config={config}",
                f"--kubeconfig={self.kubeconfig(NODE_USER)}",
                f"--hostname-override={NODE}",
                f"--node-ip={NODE_ADDRESS}",
                "--v=2",
            ],
            self._log("kubelet"),
            env=self._environment(),
        )
        self._processes.append(process)
        process.wait_ready(self._node_ready, 60)
        return process

    def _node_ready(self) -> bool:
        found = self.get_json("nodes")["items"]
        return any(node["metadata"]["name"] == NODE and is_ready(node) for node in found)

    def add_fake_nodes(self, *names: str, memory: str = "64Gi") -> None:
        """Add nodes of kwok, where only pods go that tolerate them."""
        resources = {"memory": memory, "cpu": "32", "pods": "110"}
        nodes = [fake_node(name, resources, {}) for name in names]
        for node in nodes:
            node["spec"] = {"taints": [FAKE_TAINT]}
        self.apply(nodes)
        self.nodes += names

        def ready() -> bool:
            return all(is_ready(self.get_json("node", name)) for name in names)

        wait_for(ready, 60, "the fake nodes to be Ready")

    def logs(self, namespace: str, pod: str, *more: str) -> str:
        """Return what a pod's container has written."""
        return self.kubectl("logs", "-n", namespace, pod, *more)

    def pod(self, namespace: str, name: str) -> Any:
        """Return a pod as it stands."""
        return self.get_json("pod", name, "-n", namespace)


def network() -> dict[str, Any]:
    """Return the pods' network: a bridge that exists in the run's namespace only."""
    ranges = [[{"subnet": "10.244.0.0/24"}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def containerd_config(networks: Path, pause: str) -> str:
    """Return containerd's configuration.

    Without CAP_SYS_RESOURCE no sandbox starts unless restrict_oom_score_adj is set.
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[{cri}]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{networks}"
"""


def kubelet_config(cgroup: str) -> dict[str, Any]:
    """Return the kubelet's configuration: everything below one cgroup, the machine left alone."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {"anonymous": {"enabled": True}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        # By default a node that was short of memory takes no pod without requests for five minutes.
        "evictionPressureTransitionPeriod": "5s",
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
        "systemReserved": {"memory": str(machine_memory() - ALLOCATABLE - (100 << 20))},
    }


def machine_memory() -> int:
    """Return the machine's memory, bytes."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/meminfo names no MemTotal")
