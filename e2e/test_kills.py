"""Nothing of a run stays on the machine, whenever and whatever of it is killed.

Runs outside the namespaces: ``make e2e-kills`` (KILLS, KILL_SEED). From the first build to the last
test, those who wait for a run, its starter, its keeper, the namespaces' first process, or starter
and keeper together are killed by SIGKILL.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from controlplane.build import binaries, build_node
from e2e import images
from e2e.apart import TOO_LONG, new_run, runs, sweep
from e2e.inside import HOST_ADDRESS, command
from e2e.traces import GROUP, disks, machine, network, nothing_stays, roles
from tests.controlplane.processes import wait_for

KILLS = int(os.environ.get("KILLS", "4"))
FIRST = int(os.environ.get("KILL_FIRST", "0"))
SEED = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(10**6))
BEGINNINGS = 10
BEGINNING_SECONDS = 4.0
"""In which a run makes its folder, looks what is built, and starts its namespaces three times."""
VICTIMS = {
    "make": ("make",),
    "what waits for make": ("timeout",),
    "starter": ("e2e",),
    "keeper": ("e2e.apart",),
    "namespaces": ("first",),
    "starter and keeper": ("e2e", "e2e.apart"),
}


@dataclass(frozen=True)
class Moment:
    """When to kill: some seconds after so many processes of a run have one of these roles.

    ``disk``: after it has a disk of its own, instead; ``lacks``: in the cache; ``tests``: which of
    them run.
    """

    after: tuple[str, ...]
    seconds: float
    count: int = 1
    disk: bool = False
    lacks: str = ""
    tests: str = "real_node or kernel"

    def come(self) -> bool:
        """Say whether the processes are there, or the disk."""
        if self.disk:
            return any(file.startswith(str(runs())) for file in disks())
        found = roles()
        return sum(len(found.get(role, [])) for role in self.after) >= self.count


MOMENTS = {
    "Go builds": Moment(("compile", "link"), 1, lacks="kubelet"),
    "debootstrap makes the base": Moment(("debootstrap",), 20, lacks="base"),
    "an image is built": Moment(("buildah", "buildah-chroot-runtime"), 25, lacks="images"),
    "the control plane starts": Moment(("etcd",), 5),
    "containerd is there": Moment(("containerd",), 8),
    "a kubelet is there": Moment(("kubelet",), 10),
    "containers run": Moment(("containerd-shim-runc-v2",), 20, tests="deployed"),
    "memory is filled": Moment(("dd",), 1),
    "a disk of its own is made": Moment((), 20, disk=True, tests="disk_that_fills"),
    "a second node is there": Moment(("kubelet",), 60, count=2, tests="two_nodes"),
    "any moment of a whole run": Moment(("pytest",), 300, tests=""),
}


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


STARTER = """
import time
from e2e.apart import new_run
with new_run() as run:
    print(run.folder, run.keeper.pid, flush=True)
    time.sleep(300)
"""


def test_the_next_run_leaves_to_a_keeper_what_that_is_about_to_remove() -> None:
    words = [sys.executable, "-c", STARTER]
    with subprocess.Popen(words, cwd=images.ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        folder, keeper = starter.stdout.readline().split()
        os.kill(int(keeper), signal.SIGSTOP)
        starter.kill()
    try:
        sweep()
        assert Path(folder).exists()
    finally:
        os.kill(int(keeper), signal.SIGCONT)
    wait_for(lambda: not list(Path(folder).parent.glob(f"{Path(folder).name}*")), 60, "its end")


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


KEPT = {"kubelet": "*.tar", "base": "pause-*.tar", "images": "base-*.tar"}
"""The archives that a cache has which lacks one of these."""


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
        for archive in kept.glob(KEPT[lacks]):
            shutil.copy2(archive, images.folder())

    return make


@pytest.mark.usefixtures("built")
def test_nothing_stays_of_a_run_that_came_to_its_end(tmp_path: Path) -> None:
    before = machine()
    with (tmp_path / "log").open("wb") as output:
        assert start("real_node", output).wait() == 0
    nothing_stays(before)


@pytest.mark.usefixtures("built")
def test_nothing_stays_of_a_run_that_is_killed_as_it_begins(tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} beginnings")
    before = machine()
    for _ in range(BEGINNINGS):
        with (tmp_path / "log").open("wb") as output:
            process = start("real_node", output)
        wait_for(lambda: "e2e" in roles(), 60, "the run to begin", poll=0.005)
        seconds = chance.uniform(0, BEGINNING_SECONDS)
        time.sleep(seconds)
        (starter,) = roles()["e2e"]
        os.kill(starter, signal.SIGKILL)
        print(f"{seconds:.2f} s after it began (seed {SEED}): killed the starter")
        all_end(process)
        nothing_stays(before)


def all_end(process: subprocess.Popen[bytes]) -> None:
    """Wait until a run's processes have ended, with the one that was started as its first."""
    wait_for(lambda: process.poll() is not None and not roles(), 300, "all processes to end")


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("number", range(FIRST, FIRST + KILLS))
def test_nothing_stays_of_a_run_that_was_killed(
    number: int, cache: Callable[[str], None], tmp_path: Path
) -> None:
    chance = random.Random(f"{SEED} {number}")
    # Their numbers have no common divisor: every pair comes up.
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
        process = start(moment.tests, output)
    try:

        def come() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return moment.come()

        wait_for(come, 300, name, poll=0.02)
        seconds = chance.uniform(0, moment.seconds)
        time.sleep(seconds)
        nothing_outside(before)
        found = roles()
        killed = [(role, pid) for role in VICTIMS[victim] for pid in found.get(role, [])]
        for _, pid in killed:
            os.kill(pid, signal.SIGKILL)
        print(f"{seconds:.1f} s after {name} (seed {SEED}): killed {killed}")
        assert [role for role, _ in killed] == list(VICTIMS[victim])
    finally:
        all_end(process)
    assert process.returncode != 0, "the run was over"
    if victim == "starter and keeper":
        sweep()  # nobody is left to clean up: the next run does it first of all
    nothing_stays(before)


def start(tests: str, output: BinaryIO) -> subprocess.Popen[bytes]:
    """Start a run, all of it in the group, as a user does who bounds its time."""
    words = ["timeout", "3000", "make", "e2e", f"E2E=-q -k '{tests}'"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.Popen(
        words, cwd=images.ROOT, group=GROUP, stdout=output, stderr=output, env=environment
    )


def nothing_outside(before: Mapping[str, set[str]]) -> None:
    """See that the machine's network is as it was while a run is on it."""
    now = network()
    assert {kind: found - before[kind] for kind, found in now.items() if found - before[kind]} == {}
    assert not [address for address in now["addresses"] if HOST_ADDRESS in address]
