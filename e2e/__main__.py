"""``make e2e``: find or build the parts, then run the tests of this folder on a real node.

``python -m e2e [PYTEST ARGUMENTS]``. As root, on Linux. Whatever happens, the machine is left as it
was. Ends with 0 where everything passed, 1 where a test failed, 2 where this machine cannot run it
or a part cannot be built, 124 where the tests took longer than E2E_SECONDS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from controlplane.build import BuildError, assets, binaries, say
from e2e import images
from e2e.apart import TOO_LONG, UNSHARE, StartedRun, new_run
from e2e.cgroups import CGROUPS, hierarchies
from e2e.kept import LOGS, keep_logs
from e2e.machine import DISKS, MEMORY
from e2e.node import meminfo
from e2e.tied import tie

TOOLS = (
    "runc",
    "busybox",
    "buildah",
    "debootstrap",
    "mkfs.ext4",
    "bindfs",
    "ip",
    "unshare",
    "setpriv",
)
PLUGINS = Path("/usr/lib/cni")
FUSE = Path("/dev/fuse")
BYTES = 9 * 10**9
"""Of memory: one of two nodes is filled with pods to its 4 GiB, both have their images in memory
(2 GB each), and the control plane takes about one.
"""
BUILD_SECONDS = 3600.0
TEST_SECONDS = 2700.0
"""A run takes a third of it on two cores that have nothing else to do."""


class NotHereError(Exception):
    """This machine cannot run a real node; the message says what to do about it."""


def check() -> None:
    """Raise where this cannot work, before anything is built."""
    if sys.platform != "linux":
        raise NotHereError("a kubelet needs Linux; the other tests run here: make test")
    if os.geteuid() != 0:
        raise NotHereError("a kubelet needs root: sudo make e2e (all of it stays in namespaces)")
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    lacking += [
        str(PLUGINS / name) for name in ("bridge", "host-local") if not (PLUGINS / name).is_file()
    ]
    if lacking:
        raise NotHereError(f"there is no {', '.join(lacking)}; run: sh e2e/install.sh")
    for place in (*DISKS, MEMORY):
        for path in (images.ROOT, assets(), Path(sys.prefix)):
            if path.is_relative_to(place):
                raise NotHereError(
                    f"{path} lies in {place}, in the place of which each node sees a disk of its "
                    "own: move it (MODEL_CACHE_EXTENDER_ASSETS names the cache)"
                )
    if not FUSE.exists():
        raise NotHereError(
            f"there is no {FUSE}, by which a directory stands in for a file server: modprobe fuse "
            "(a container needs --privileged or --device /dev/fuse)"
        )
    available = meminfo("MemAvailable")
    if available < BYTES:
        raise NotHereError(
            f"{available / 1e9:.1f} GB of memory are available, and two nodes that are filled with "
            f"pods take {BYTES / 1e9:.0f} GB: end something else, or take a larger machine"
        )
    refused = subprocess.run(
        [*UNSHARE, "--net", "true"], capture_output=True, text=True, check=False
    )
    if refused.returncode:
        raise NotHereError(
            f"no namespaces can be made here: {refused.stderr.strip()}; in a container of its own "
            "this needs --privileged and a cgroup namespace of the host"
        )
    if not hierarchies():
        raise NotHereError(f"no cgroups are mounted in {CGROUPS}; a kubelet needs them")


def prepare(run: StartedRun) -> None:
    """Build what the cache lacks: control plane, kubelet, images."""
    begin = time.monotonic()
    for what, more in (("control plane", []), ("node", ["--node"])):
        build(run, what, "controlplane.build", *more)
    wanted = images.missing(binaries())
    if wanted:
        say(f"==> images to build: {len(wanted)}")
        build(run, "images", "e2e.building", str(binaries()), str(run.folder))
    say(f"==> everything is there after {time.monotonic() - begin:.0f} s")


def build(run: StartedRun, what: str, module: str, *arguments: str) -> None:
    """Run a module that builds something, with the life of the run."""
    command = [sys.executable, "-m", module, *arguments]
    status = run.command(command, network=True, seconds=BUILD_SECONDS)
    if status:
        late = f" within {BUILD_SECONDS:.0f} s" if status == TOO_LONG else ""
        raise BuildError(f"the {what} could not be built{late}")


def test(run: StartedRun, arguments: list[str]) -> int:
    """Run the tests inside the namespaces; keep the logs where one fails or it takes too long."""

    def keep() -> None:
        keep_logs(run.folder)
        say(f"the logs of this run, pods' and programs', are in {LOGS}")

    os.environ["E2E_RUN"] = str(run.folder)
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    pytest += ["-o", "timeout=600"]  # of a test, on a machine that has other work
    pytest += [f"--basetemp={run.folder / 'tests'}", "--ignore=e2e/test_kills.py", "e2e"]
    pytest += arguments
    inside = [sys.executable, "-m", "e2e.inside", *pytest]
    seconds = float(os.environ.get("E2E_SECONDS") or TEST_SECONDS)
    status = run.command(inside, network=False, seconds=seconds, late=keep)
    if status == TOO_LONG:
        say(f"error: the tests took longer than {seconds:.0f} s (E2E_SECONDS); they were ended")
    elif status:
        keep()
    return status


def main() -> int:
    """Run the command line."""
    try:
        tie()
        check()
        with new_run() as run:
            prepare(run)
            return test(run, sys.argv[1:])
    except (BuildError, NotHereError, OSError) as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
