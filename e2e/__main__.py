"""``make e2e``: find or build the parts, then run the tests of this folder on a real node.

``python -m e2e [PYTEST ARGUMENTS]``. As root, on Linux. Whatever happens, the machine is left as it
was.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from controlplane.build import BuildError, build, build_node, say
from e2e import images
from e2e.apart import Run, new_run

TOOLS = (
    "containerd",
    "ctr",
    "runc",
    "busybox",
    "buildah",
    "debootstrap",
    "ip",
    "unshare",
    "setpriv",
)
PLUGINS = Path("/usr/lib/cni")


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


def prepare(run: Run) -> None:
    """Build what the cache lacks: control plane, kubelet, images."""
    begin = time.monotonic()
    folder = build()
    build_node()
    wanted = images.missing(folder)
    if wanted:
        say(f"==> {len(wanted)} images to build (about four minutes the first time)")
        command = [sys.executable, "-m", "e2e.images", str(folder), str(run.folder)]
        if run.command(command, network=True):
            raise BuildError("the images cannot be built")
    say(f"==> everything is there after {time.monotonic() - begin:.0f} s")


def test(run: Run, arguments: list[str]) -> int:
    """Run the tests inside the namespaces."""
    os.environ["E2E_RUN"] = str(run.folder)
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly"]
    pytest += [f"--basetemp={run.folder / 'tests'}", "--ignore=e2e/test_kills.py", "e2e"]
    pytest += arguments
    inside = [sys.executable, "-m", "e2e.inside", str(run.folder), *pytest]
    return run.command(inside, network=False)


def main() -> int:
    """Run the command line."""
    try:
        check()
        with new_run() as run:
            prepare(run)
            return test(run, sys.argv[1:])
    except (BuildError, NotHereError) as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
