"""The first process inside the namespaces: makes a machine of them, then runs a command.

What a node writes to goes to the run's folder: ``/run``, ``/var/lib``, ``/var/log``. The addresses
exist on this network's loopback only. The sysctls that a kubelet insists on are not of any
namespace, so that it gets files that hold what it wants to see, and the machine keeps its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.apart import CGROUPS, Run

NODE_ADDRESS = "10.254.0.1"
SERVICE_ADDRESS = "10.96.0.1"
"""The apiserver's, as pods are told it: on loopback here, so that no kube-proxy is needed."""

REDIRECTED = ("/run", "/var/lib", "/var/log")
SYSCTLS = {  # setupKernelTunables, pkg/kubelet/cm/container_manager_linux.go
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def set_up(run: Run) -> None:
    """Make the namespaces look like a machine of their own."""
    command("mount", "--make-rprivate", "/")
    for name, value in SYSCTLS.items():
        stand_in = run.folder / "sysctl" / name
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(f"{value}\n", encoding="ascii")
        command("mount", "--bind", str(stand_in), f"/proc/sys/{name}")
    for place in REDIRECTED:
        instead = run.folder / "root" / place.removeprefix("/")
        instead.mkdir(parents=True)
        command("mount", "--bind", str(instead), place)
    command("ip", "link", "set", "lo", "up")
    for address in (NODE_ADDRESS, SERVICE_ADDRESS):
        command("ip", "address", "add", f"{address}/32", "dev", "lo")
    for hierarchy in hierarchies():
        (hierarchy / run.name).mkdir()


def hierarchies() -> list[Path]:
    """Return the cgroup hierarchies that a kubelet uses: of version 1, else of version 2."""
    if (CGROUPS / "cgroup.controllers").is_file():
        return [CGROUPS]
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    mounts = [line.split() for line in lines]
    return [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup"]


def command(*words: str) -> None:
    """Run a command of the system."""
    subprocess.run(words, check=True)


def init(words: Sequence[str]) -> int:
    """Run a command, and reap whatever else ends meanwhile; return its exit status."""
    process = subprocess.Popen(words)
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    set_up(Run(Path(sys.argv[1])))
    sys.exit(init(sys.argv[2:]))
