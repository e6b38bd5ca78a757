"""What the kernel itself says of the memory of pods: charged, limited, killed for."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cgroups import CGROUPS, VERSION_1
from e2e.node import RealNode

MEMORY = CGROUPS / "memory" if VERSION_1 else CGROUPS
PEAK = "memory.max_usage_in_bytes" if VERSION_1 else "memory.peak"
LIMIT = "memory.limit_in_bytes" if VERSION_1 else "memory.max"
LOOK_SECONDS = 0.01
"""A kubelet takes some tenths of a second at least to remove the cgroup of a pod that has ended."""
BOUNDLESS = 1 << 60
"""Version 1 has no word for no limit: it says the most that it can count, in whole pages."""
KILLED = re.compile(r"oom-kill:.*\boom_memcg=([^,]+),task_memcg=([^,]+),")
"""dump_oom_victim, mm/oom_kill.c: whose limit was hit, and whose process was killed for it."""


@dataclass
class Charge:
    """Of a pod's cgroup, bytes: the most that was ever charged, and the limit (None: it has none).

    ``most`` is 0 where the cgroup was never seen.
    """

    most: int = 0
    limit: int | None = None

    def look(self, folder: Path) -> None:
        """Read it once more."""
        self.most = max(self.most, int((folder / PEAK).read_text(encoding="ascii")))
        text = (folder / LIMIT).read_text(encoding="ascii").strip()
        self.limit = None if text == "max" or int(text) > BOUNDLESS else int(text)


@contextmanager
def charged(node: RealNode, uid: str) -> Iterator[Charge]:
    """Watch the cgroup of a pod on a node while a block runs."""
    found = Charge()
    over = threading.Event()

    def watch() -> None:
        folder = None
        while not over.wait(LOOK_SECONDS):
            folder = folder or next((MEMORY / node.machine.cgroup).rglob(f"pod{uid}"), None)
            try:
                if folder is not None:
                    found.look(folder)
            except OSError:  # it is gone
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def kernel_kills(node: RealNode) -> list[tuple[str, str]]:
    """Return whom the kernel has killed for memory on a node.

    Pairs of cgroups below the node's own: whose limit was hit, and whose process was killed.
    """
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    top = f"/{node.machine.cgroup}/"
    return [
        (limited.removeprefix(top), victim.removeprefix(top))
        for limited, victim in KILLED.findall(log)
        if limited.startswith(top)
    ]
