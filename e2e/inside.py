"""The first process inside the namespaces: prepares their network, then runs a command.

The addresses exist on this network's loopback only. What a node does to its machine happens in
namespaces within these: see ``machine``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOST_ADDRESS = "10.254.0.1"
"""Where the control plane and the tests' own servers answer."""
SERVICE_ADDRESS = "10.96.0.1"
"""The apiserver's, as pods are told it: on loopback here, so that no kube-proxy is needed."""


def set_up() -> None:
    """Make a network of the namespaces."""
    command("mount", "--make-rprivate", "/")
    command("ip", "link", "set", "lo", "up")
    for address in (HOST_ADDRESS, SERVICE_ADDRESS):
        command("ip", "address", "add", f"{address}/32", "dev", "lo")


def place(folder: Path, at: str) -> None:
    """Have what is written into a place of the machine land in a folder of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    command("mount", "--bind", str(folder), at)


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
    set_up()
    sys.exit(init(sys.argv[1:]))
