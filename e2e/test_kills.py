"""Nothing of a run stays on the machine, whenever and whatever of it is killed.

Runs outside the namespaces: ``make e2e-kills`` (KILLS, KILL_SEED). While Go builds, while an image
is built or while the tests run, the run's starter, its keeper, the namespaces' first process, or
starter and keeper together are killed by SIGKILL. What a run writes is known by a group of its own.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.build import assets, binaries, build_node
from e2e import images
from e2e.apart import CGROUPS, PREFIX, TOO_LONG, new_run, runs, sweep
from e2e.inside import command
from tests.controlplane.processes import HarnessError, wait_for

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(10**6))
GROUP = 54321
"""Of every process and file of a run here, so that what it left is told from everybody else's."""
PLACES = ("/tmp", "/var", "/run", "/dev/shm", "/etc", "/opt", "/root")
DEPTH = 3
STAYS_SECONDS = 20
BLOCKS = Path("/sys/block")
COUNTERS = {
    "aio-nr",
    "dentry-state",
    "file-nr",
    "inode-nr",
    "inode-state",
    "nf_conntrack_count",
    "nr",
    "ns_last_pid",
    "perf_event_max_sample_rate",
    "random",
}
"""Of /proc/sys: what the kernel sets there itself."""
VICTIMS = {
    "starter": ("e2e",),
    "keeper": ("e2e.apart",),
    "namespaces": ("first",),
    "starter and keeper": ("e2e", "e2e.apart"),
}


@dataclass(frozen=True)
class Process:
    """One process of a run: its command line, and what it is called where it can be a victim."""

    pid: int
    words: tuple[str, ...]
    numbers: tuple[str, ...]  # its process id in each PID namespace that it is in

    @property
    def role(self) -> str:
        """Return the module that it is, or ``first``: of the namespaces right within these."""
        if self.numbers[1:] == ("1",):
            return "first"
        return self.words[2] if self.words[1:2] == ("-m",) else Path(self.words[0]).name


def of_run() -> Iterator[Process]:
    """Every process of the group that all processes of a run have."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdigit():
                continue
            lines = (folder / "status").read_text(encoding="utf-8").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            words = (folder / "cmdline").read_text(encoding="utf-8").split("\0")
            if str(GROUP) in status["Gid"].split() and words[0]:
                yield Process(int(folder.name), tuple(words), tuple(status["NSpid"].split()))


def roles() -> dict[str, list[int]]:
    """Return the process ids of a run by what they are."""
    found: dict[str, list[int]] = {}
    for process in of_run():
        found.setdefault(process.role, []).append(process.pid)
    return found


@dataclass(frozen=True)
class Moment:
    """When to kill: some seconds after a process of the run was seen; ``lacks``: in the cache."""

    after: tuple[str, ...]
    seconds: float
    lacks: str = ""


MOMENTS = {
    "Go builds": Moment(("compile", "link"), 1, lacks="kubelet"),
    "an image is built": Moment(("buildah", "buildah-chroot-runtime"), 15, lacks="images"),
    "the tests run": Moment(("pytest",), 25),
}


def sysctls() -> set[str]:
    """Return every setting of the kernel with its value, without what it counts itself."""
    found = set()
    for folder, _, files in os.walk("/proc/sys"):
        for file in files:
            path = Path(folder, file)
            if not {path.name, path.parent.name} & COUNTERS:
                with suppress(OSError, UnicodeDecodeError):
                    found.add(f"{path} = {path.read_text(encoding='utf-8')}")
    return found


def machine() -> dict[str, set[str]]:
    """Return everything that a run can leave on a machine, the processes aside."""
    names = (f"*{PREFIX}*", "*kubepods*", "*buildah*")
    find = ["find", *PLACES, "-xdev", "-maxdepth", str(DEPTH), "-gid", str(GROUP)]
    written = subprocess.run(find, capture_output=True, text=True, check=False).stdout
    ours = (str(assets()), str(images.ROOT))  # what it has built, and its tables
    return {
        "mounts": set(Path("/proc/mounts").read_text(encoding="utf-8").splitlines()),
        "loops": {path.read_text() for path in BLOCKS.glob("loop*/loop/backing_file")},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        # In every hierarchy of version 1, and in that of version 2.
        "cgroups": {str(path) for name in names for path in CGROUPS.rglob(name)},
        "sysctls": sysctls(),
        "files": {path for path in written.splitlines() if not path.startswith(ours)},
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
    assert left == {}


def test_nothing_stays_of_a_command_that_takes_too_long() -> None:
    before = machine()
    with new_run() as run:
        assert run.command(["sleep", "600"], network=False, seconds=1) == TOO_LONG
    nothing_stays(before)


def test_what_cannot_be_removed_is_said_and_the_next_run_tries_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with new_run() as run:
        held = run.folder / "held"
        held.mkdir()
        command("mount", "-t", "tmpfs", "held", str(held))
    try:
        assert f"{run.folder}: Device or resource busy: held" in capfd.readouterr().err
        assert list(run.folder.iterdir()) == [held]
        sweep()
        assert "next one tries again" in capfd.readouterr().err
    finally:
        command("umount", str(held))
    sweep()
    assert not run.folder.exists()
    assert not run.lock.exists()
    assert capfd.readouterr().err == ""


def test_a_full_disk_ends_a_run_with_what_the_system_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("mount", "-t", "tmpfs", "-o", "nr_inodes=3", "full", str(tmp_path))
    monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", str(tmp_path))
    try:
        run = [sys.executable, "-m", "e2e"]
        done = subprocess.run(run, cwd=images.ROOT, capture_output=True, text=True, check=False)
    finally:
        command("umount", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: [Errno 28] No space left on device: ")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def built() -> None:
    """Have everything built before: a moment is what a run does, and not what it waits for."""
    subprocess.run(
        [sys.executable, "-m", "e2e", "-q", "--collect-only"], cwd=images.ROOT, check=True
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what makes a cache of its own that lacks something."""

    def make(lacks: str) -> None:
        programs, node, kept = binaries(), build_node(), images.folder()
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(programs))
        monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", str(tmp_path / "cache"))
        there = tmp_path / "cache" / "node" / node.name
        shutil.copytree(node, there)
        if lacks == "kubelet":
            (there / lacks).unlink()
        for archive in kept.glob("*.tar" if lacks != "images" else "base-*.tar"):
            shutil.copy2(archive, images.folder())

    return make


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("number", range(KILLS))
def test_nothing_stays_of_a_run_that_was_killed(
    number: int, cache: Callable[[str], None], tmp_path: Path
) -> None:
    chance = random.Random(f"{SEED} {number}")
    victim = list(VICTIMS)[number % len(VICTIMS)]
    name = list(MOMENTS)[number % len(MOMENTS)]
    moment = MOMENTS[name]
    if moment.lacks:
        cache(moment.lacks)
    sweep()  # of what earlier runs left, so that its going is no difference
    before = machine()
    assert not roles(), "another run is on this machine"
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "e2e", "-q", "-k", "real_node or kernel"],
            cwd=images.ROOT,
            group=GROUP,
            stdout=output,
            stderr=output,
        )
    try:

        def come() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return bool(set(moment.after) & set(roles()))

        wait_for(come, 300, f"{moment.after} to run", poll=0.02)
        seconds = chance.uniform(0, moment.seconds)
        time.sleep(seconds)
        found = roles()
        killed = [(role, pid) for role in VICTIMS[victim] for pid in found.get(role, [])]
        for _, pid in killed:
            os.kill(pid, signal.SIGKILL)
        print(f"{seconds:.1f} s after {name} (seed {SEED}): killed {killed}")
        assert [role for role, _ in killed] == list(VICTIMS[victim])
    finally:
        wait_for(lambda: process.poll() is not None and not roles(), 300, "all processes to end")
    assert process.returncode != 0, "the run was over"
    if victim == "starter and keeper":
        sweep()  # nobody is left to clean up: the next run does it first of all
    nothing_stays(before)
