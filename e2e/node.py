"""A real node: containerd and a kubelet on a machine of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.apart import Run
from e2e.machine import Machine
from tests.controlplane.processes import Process

SOCKET = "/run/containerd/containerd.sock"
STATIC_PODS = "/var/lib/kubelet/manifests"
ALLOCATABLE = 4 << 30
"""Bytes of memory that a real node offers to pods; the machine's rest is reserved."""
NODES = 2
"""So many real nodes there can be at a time."""


def node_name(number: int) -> str:
    """Return the name of a node, the first being number 1."""
    return f"real-{number}"


def node_user(number: int) -> str:
    """Return the user that a kubelet is to the apiserver."""
    return f"system:node:{node_name(number)}"


class RealNode:
    """One node. ``workdir`` holds its configuration and logs.

    ``programs`` has containerd and kubelet; ``ready`` asks the apiserver whether a node is Ready,
    since a boot with this id.
    """

    def __init__(
        self,
        run: Run,
        number: int,
        *,
        programs: Path,
        kubeconfig: Path,
        workdir: Path,
        environment: Mapping[str, str],
        pause: str,
        ready: Callable[[str, str], bool],
    ) -> None:
        self.name = node_name(number)
        self.machine = Machine(run, self.name, number, workdir / f"{self.name}.log")
        self._programs = programs
        self._kubeconfig = kubeconfig
        self._workdir = workdir
        # Where containerd looks for its shim.
        path = f"{programs}{os.pathsep}{environment['PATH']}"
        self._environment = {**environment, "PATH": path}
        self._pause = pause
        self._ready = ready
        self._processes: list[Process] = []

    def start(self, images: Mapping[str, Path]) -> None:
        """Switch the machine on, give it images, and wait until the node is Ready."""
        self.machine.boot()
        self._start_containerd()
        for archive in images.values():
            self.ctr("images", "import", str(archive))
        self._start_kubelet()

    def start_again(self) -> None:
        """Switch the machine on again, and wait until the node is Ready."""
        self.machine.boot()
        self._start_containerd()
        self._start_kubelet()

    def cut_power(self) -> None:
        """Switch the machine off in the middle of everything."""
        self.machine.cut_power()
        for process in self._processes:
            process.kill()  # nsenter, whose child is gone
        self._processes.clear()

    def stop(self) -> None:
        """End it, if it runs."""
        if self.machine.running():
            self.cut_power()

    def path(self, place: str | Path) -> Path:
        """Return where a path on the node is seen from here; its disks alone while it is off."""
        return self.machine.path(place)

    def ctr(self, *words: str) -> str:
        """Run containerd's own client and return what it prints."""
        ctr = str(self._programs / "ctr")
        return self.machine.run(ctr, f"--address={SOCKET}", "--namespace=k8s.io", *words)

    def _spawn(self, name: str, *words: str | Path) -> Process:
        log = self._workdir / f"{name}-{self.name}.log"
        process = Process(name, self.machine.command(words), log, env=self._environment)
        self._processes.append(process)
        return process

    def _start_containerd(self) -> None:
        networks = self._workdir / f"cni-{self.name}"
        networks.mkdir(exist_ok=True)
        conflist = json.dumps(network(self.machine.number))
        (networks / "10-pods.conflist").write_text(conflist, encoding="utf-8")
        config = self._workdir / f"containerd-{self.name}.toml"
        config.write_text(containerd_config(networks, self._pause), encoding="utf-8")
        process = self._spawn("containerd", self._programs / "containerd", f"--config={config}")
        process.wait_ready(self._answers, 60)

    def _answers(self) -> bool:
        if not self.path(SOCKET).exists():
            return False
        try:
            self.ctr("version")
        except AssertionError:
            return False
        return True

    def _start_kubelet(self) -> None:
        self.path(STATIC_PODS).mkdir(parents=True, exist_ok=True)
        config = self._workdir / f"kubelet-{self.name}.yaml"
        config.write_text(yaml.safe_dump(kubelet_config(self.machine)), encoding="utf-8")
        process = self._spawn(
            "kubelet",
            self._programs / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self._kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.machine.address}",
            "--v=2",
        )
        process.wait_ready(lambda: self._ready(self.name, self.machine.boot_id), 90)


def network(number: int) -> dict[str, Any]:
    """Return a node's part of the pods' network: a bridge in the run's namespace only."""
    ranges = [[{"subnet": f"10.244.{number}.0/24"}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    plugin = {"type": "bridge", "bridge": f"cni{number}", "isGateway": True, "ipMasq": False}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{**plugin, "ipam": ipam}]}


def containerd_config(networks: Path, pause: str) -> str:
    """Return containerd's configuration.

    Without CAP_SYS_RESOURCE no sandbox starts unless restrict_oom_score_adj is set. A profile of
    AppArmor would be loaded into the kernel, which no namespace holds; the opt plugin makes its
    folders when containerd starts, by default in the machine's /opt.
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
disable_apparmor = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{networks}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
"""


def kubelet_config(machine: Machine) -> dict[str, Any]:
    """Return the kubelet's configuration: everything below one cgroup, the machine left alone."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": machine.address,
        "authentication": {"anonymous": {"enabled": True}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.cgroup}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        # By default a node that was short of memory takes no pod without requests for five minutes.
        "evictionPressureTransitionPeriod": "5s",
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzPort": 0,  # on 127.0.0.1, which the nodes share
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
        "staticPodPath": STATIC_PODS,
        "systemReserved": {"memory": str(meminfo("MemTotal") - ALLOCATABLE - (100 << 20))},
    }


def meminfo(name: str) -> int:
    """Return an amount of the machine's memory, bytes: MemTotal, MemAvailable and others."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/meminfo names no {name}")
