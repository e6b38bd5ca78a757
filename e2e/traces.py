"""What a run has and leaves on a machine: its processes, and everything else that can stay."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IWUSR

from controlplane.build import assets
from e2e import images
from e2e.apart import PREFIX, runs
from e2e.cgroups import CGROUPS
from tests.controlplane.processes import HarnessError, wait_for

GROUP = 54321
"""Of every process and file of a run here, so that what it left is told from everybody else's."""
PLACES = ("/tmp", "/var", "/run", "/dev/shm", "/etc", "/opt", "/root", "/home", "/srv", "/usr")  # noqa: S108
DEPTH = 3
NODES_OWN = (
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/containers",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/models",
    "/var/lib/stores",
    "/var/log/containers",
    "/var/log/pods",
)
"""Where a node writes, whatever group its containers have."""
STAYS_SECONDS = 20
BLOCKS = Path("/sys/block")
KERNELS_OWN = {"ns_last_pid", "perf_event_max_sample_rate"}
"""Of /proc/sys: what can be set, and the kernel sets itself all the time."""


@dataclass(frozen=True)
class Process:
    """One process of a run: its command line, and what it is called where it can be a victim."""

    pid: int
    words: tuple[str, ...]
    numbers: tuple[str, ...]  # its process id in each PID namespace that it is in

    @property
    def role(self) -> str:
        """Return the module or script that it is, or ``first``: of the namespaces within these."""
        if self.numbers[1:] == ("1",):
            return "first"
        if self.words[1:2] == ("-m",):
            return self.words[2]
        script = self.words[0].endswith("sh") and self.words[1].startswith("/")
        return Path(self.words[1] if script else self.words[0]).name


def of_run() -> Iterator[Process]:
    """Every process of the group, and those of containers, which are in a run's cgroups."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdigit():
                continue
            lines = (folder / "status").read_text(encoding="utf-8").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            words = (folder / "cmdline").read_text(encoding="utf-8").split("\0")
            contained = f"/{PREFIX}" in (folder / "cgroup").read_text(encoding="utf-8")
            if (contained or str(GROUP) in status["Gid"].split()) and words[0]:
                yield Process(int(folder.name), tuple(words), tuple(status["NSpid"].split()))


def roles() -> dict[str, list[int]]:
    """Return the process ids of a run by what they are."""
    found: dict[str, list[int]] = {}
    for process in of_run():
        found.setdefault(process.role, []).append(process.pid)
    return found


def sysctls() -> set[str]:
    """Return every setting of the kernel with its value.

    What nobody can write is none: there the kernel tells what it counts, such as how often
    somebody on the machine has had it sync.
    """
    found = set()
    for folder, _, files in os.walk("/proc/sys"):
        for path in (Path(folder, file) for file in files):
            with suppress(OSError, UnicodeDecodeError):
                if path.stat().st_mode & S_IWUSR and path.name not in KERNELS_OWN:
                    found.add(f"{path} = {path.read_text(encoding='utf-8')}")
    return found


def files() -> set[str]:
    """Return the files of the group, and those where a node writes."""
    written = ["find", *PLACES, "-xdev", "-maxdepth", str(DEPTH), "-gid", str(GROUP)]
    nodes = ["find", *(place for place in NODES_OWN if Path(place).exists())]
    ours = (str(assets()), str(images.ROOT))  # what it has built, and its tables
    return {path for path in (*lines(written), *lines(nodes)) if not path.startswith(ours)}


def network() -> dict[str, set[str]]:
    """Return the machine's links, addresses and routes."""
    return {
        "links": set(lines(["ip", "-oneline", "link"])),
        "addresses": {" ".join(line.split()[1:4]) for line in lines(["ip", "-oneline", "address"])},
        "routes": set(lines(["ip", "route", "show", "table", "all"])),
    }


def disks() -> set[str]:
    """Return the files that are mounted as disks, by loop devices."""
    return {path.read_text().strip() for path in BLOCKS.glob("loop*/loop/backing_file")}


def machine() -> dict[str, set[str]]:
    """Return everything that a run can leave on a machine, the processes aside."""
    names = (f"*{PREFIX}*", "*kubepods*", "*buildah*", "k8s.io*")
    controllers = CGROUPS / "cgroup.subtree_control"
    return {
        **network(),
        "mounts": set(Path("/proc/mounts").read_text(encoding="utf-8").splitlines()),
        "disks": disks(),
        # In every hierarchy of version 1, and in that of version 2.
        "cgroups": {str(path) for name in names for path in CGROUPS.rglob(name)},
        "controllers": set(controllers.read_text().split()) if controllers.is_file() else set(),
        "sysctls": sysctls(),
        "files": files(),
        "runs": {path.name for path in runs().iterdir()} if runs().is_dir() else set(),
    }


def nothing_stays(before: Mapping[str, set[str]]) -> None:
    """See that nothing is there that was not before.

    What others do on the machine comes and goes, such as their mounts; what a run leaves stays.
    """
    left: dict[str, set[str]] = {}

    def clean() -> bool:
        left.clear()
        left.update({kind: new for kind, now in machine().items() if (new := now - before[kind])})
        return not left

    with suppress(HarnessError):
        wait_for(clean, STAYS_SECONDS, "the machine to be as before", poll=1)
    assert left == {}, left


def lines(command: list[str]) -> list[str]:
    """Return what a command prints; one that finds something gone has printed the rest."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
