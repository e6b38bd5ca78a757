"""Nothing of a run stays on the machine, whenever and whatever of it is killed.

Runs outside the namespaces: ``make e2e-kills`` (KILLS, KILL_SEED). After a while the run's starter,
its keeper, the namespaces' first process, or starter and keeper together are killed by SIGKILL.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.apart import CGROUPS, PREFIX, TOO_LONG, new_run, runs, sweep
from e2e.machine import SYSCTLS
from tests.controlplane.processes import wait_for

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(10**6))
BLOCKS = Path("/sys/block")
ROOT = Path(__file__).resolve().parents[1]
VICTIMS = {
    "starter": ("-m e2e -q",),
    "keeper": ("-m e2e.apart",),
    "namespaces": ("-m e2e.inside",),
    "starter and keeper": ("-m e2e -q", "-m e2e.apart"),
}


def of_run(mark: str) -> dict[int, str]:
    """Every process with a variable in its environment, with its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if mark.encode() in environment:
                found[int(folder.name)] = line
    return found


def machine() -> dict[str, object]:
    """Return everything that a node changes on a machine, the processes aside."""
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return {
        "mounts": sorted(lines),
        "loops": sorted(path.read_text() for path in BLOCKS.glob("loop*/loop/backing_file")),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "cgroups": sorted(str(path) for path in CGROUPS.rglob("*kubepods*"))
        + sorted(str(path) for path in CGROUPS.glob(f"*/{PREFIX}*")),
        "sysctls": {
            name: Path("/proc/sys", name).read_text(encoding="ascii")
            for name in (*SYSCTLS, "net/ipv4/ip_forward")
        },
        "places": {
            place: sorted(path.name for path in Path(place).iterdir() if path.is_dir())
            for place in ("/var/lib", "/var/log", "/run")
        },
        "runs": sorted(path.name for path in runs().iterdir()) if runs().is_dir() else [],
    }


def test_nothing_stays_of_a_command_that_takes_too_long() -> None:
    before = machine()
    with new_run() as run:
        assert run.command(["sleep", "600"], network=False, seconds=1) == TOO_LONG
    assert machine() == before


@pytest.fixture(scope="module")
def built() -> None:
    """Have everything built before: a run that built first would outlive what is waited for."""
    subprocess.run([sys.executable, "-m", "e2e", "-q", "--collect-only"], cwd=ROOT, check=True)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("number", range(KILLS))
def test_nothing_stays_of_a_run_that_was_killed(number: int, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {number}")
    victim = list(VICTIMS)[number % len(VICTIMS)]
    seconds = chance.uniform(1, 20)
    sweep()  # of what earlier runs left, so that its going is no difference
    before = machine()
    mark = f"E2E_KILL={SEED}-{number}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "e2e", "-q", "-k", "real_node"],
            cwd=ROOT,
            env={**os.environ, "E2E_KILL": f"{SEED}-{number}"},
            stdout=log,
            stderr=log,
        )
        time.sleep(seconds)
        killed = [
            pid for pid, line in of_run(mark).items() if any(w in line for w in VICTIMS[victim])
        ]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(
            # Where the victim had not come yet, the run goes on to its own end.
            lambda: process.poll() is not None and not of_run(mark),
            300,
            "all processes to end",
        )
    if victim == "starter and keeper":
        sweep()  # nobody is left to clean up: the next run does it first of all
    print(f"killed {victim} after {seconds:.1f} s (seed {SEED}): {len(killed)} processes")
    assert machine() == before
