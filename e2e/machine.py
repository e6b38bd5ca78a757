"""The machine under a node: namespaces within the run's, with disks and a cgroup of its own.

A machine can be switched off as by a power cut: all that ran on it ends at once, its memory (every
tmpfs, ``/run``, every mount) is gone, and what its disks hold is there at the next boot. It shares
the run's network, where every machine has an address of its own.

``python -m e2e.machine FOLDER`` is what runs first in it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from e2e.apart import Run
from e2e.cgroups import hierarchies, remove_cgroups
from e2e.inside import command
from tests.controlplane.processes import Process

DISKS = ("/var/lib", "/var/log")
MEMORY = "/run"
IMAGES = "/var/lib/containerd"
"""It outlives a boot as a disk does, but lies in memory (2 GB with all images): that goes with the
run's namespaces at once, where 60,000 files would have to be removed one by one.
"""
SYSCTLS = {  # setupKernelTunables, pkg/kubelet/cm/container_manager_linux.go
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet insists on, and no namespace has: it gets files that hold it in their places."""
BOOT_ID = "kernel/random/boot_id"
"""Another one after each boot: by this a kubelet knows that its machine was restarted."""
NAMESPACES = {"mount": "mnt", "uts": "uts", "ipc": "ipc", "pid": "pid_for_children"}
"""nsenter's options, and the files in /proc of the process that made the namespaces."""


class Machine:
    """One machine of a run. ``number`` (1, 2, ...) makes its address and its pods' network."""

    def __init__(self, run: Run, name: str, number: int, log: Path) -> None:
        self.name = name
        self.number = number
        self.address = f"10.254.0.{10 + number}"
        self.cgroup = f"{run.name}-{self.name}"
        self.folder = run.folder / self.name
        self._log = log
        self._first: Process | None = None
        self.boot_id = ""

    def boot(self) -> None:
        """Switch it on."""
        shutil.rmtree(self._disk(MEMORY), ignore_errors=True)
        for place in (*DISKS, MEMORY):
            self._disk(place).mkdir(parents=True, exist_ok=True)
        images = self._disk(IMAGES)
        if not images.is_mount():
            images.mkdir()
            command("mount", "-t", "tmpfs", "-o", "mode=0711", "images", str(images))
        self.boot_id = str(uuid.uuid4())
        for name, value in {**SYSCTLS, BOOT_ID: self.boot_id}.items():
            stand_in = self.folder / "sysctl" / name
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text(f"{value}\n", encoding="ascii")
        for hierarchy in hierarchies():
            (hierarchy / self.cgroup).mkdir()
        command("ip", "address", "replace", f"{self.address}/32", "dev", "lo")
        apart = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc"]
        first = [sys.executable, "-m", "e2e.machine", str(self.folder)]
        process = Process(self.name, [*apart, "--kill-child", *first], self._log)
        process.wait_ready((self._disk(MEMORY) / "booted").exists, 60)
        self._first = process

    def cut_power(self) -> None:
        """Switch it off: nothing that runs on it is asked to end."""
        assert self._first is not None, f"{self.name} is not running"
        self._first.kill()
        self._first = None
        remove_cgroups(lambda: [c for h in hierarchies() if (c := h / self.cgroup).exists()])

    def running(self) -> bool:
        """Say whether it is switched on."""
        return self._first is not None

    def path(self, place: str | Path) -> Path:
        """Return where a path of the machine is seen from here; its disks alone while it is off."""
        if self._first is None:
            return self._disk(str(place))
        return Path(f"/proc/{self._first.pid}/root{place}")

    def _disk(self, place: str) -> Path:
        return self.folder / "root" / place.removeprefix("/")

    def command(self, words: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs another one on the machine."""
        assert self._first is not None, f"{self.name} is not running"
        spaces = f"/proc/{self._first.pid}/ns"
        enter = [f"--{kind}={spaces}/{file}" for kind, file in NAMESPACES.items()]
        return ["nsenter", *enter, *words]

    def run(self, *words: str) -> str:
        """Run a command on the machine and return what it prints."""
        command = self.command(words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done.stderr}"
        return done.stdout


def set_up(folder: Path) -> None:
    """Give the namespaces that this process is in what makes them a machine."""
    for file in (folder / "sysctl").rglob("*"):
        if file.is_file():
            command(
                "mount", "--bind", str(file), f"/proc/sys/{file.relative_to(folder / 'sysctl')}"
            )
    for place in (*DISKS, MEMORY):
        command("mount", "--rbind", str(folder / "root" / place.removeprefix("/")), place)
    command("hostname", folder.name)
    Path(MEMORY, "booted").touch()


if __name__ == "__main__":
    set_up(Path(sys.argv[1]))
    # What the kernel leaves to the first process is reaped by it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        time.sleep(3600)
