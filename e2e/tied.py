"""Ends a process as soon as one of those that only wait for it is killed.

``sudo make e2e`` is three processes. Who kills sudo or make by SIGKILL means the run, and would
leave it to its own end: they cannot hand the signal on.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WAITING = frozenset({"make", "gmake", "sudo", "doas", "timeout", "flock"})
"""Programs that have nothing to do but wait for the command that they were given."""
SHELLS = frozenset({"sh", "dash", "bash"})


def waiting() -> list[int]:
    """Return the processes that wait for this one, the nearest first.

    A shell is one of them where such a program started it: another shell may have sent us into
    the background, and end before us.
    """
    found: list[int] = []
    pending: list[int] = []
    for pid, name in ancestors():
        pending.append(pid)
        if name in WAITING:
            found += pending
            pending = []
        elif name not in SHELLS:
            break
    return found


def ancestors() -> Iterator[tuple[int, str]]:
    """Give the parent of this process, its parent, and so on, with their names."""
    pid = os.getppid()
    while pid > 1:
        try:
            lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        yield pid, status["Name"]
        pid = int(status["PPid"])


def tie() -> None:
    """Kill this process, from now on, once one of those that wait for it is gone."""
    watched = []
    for pid in waiting():
        with suppress(ProcessLookupError):  # it is on its way out: so will the next above it be
            watched.append(os.pidfd_open(pid))

    def watch() -> None:
        select.select(watched, [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    if watched:
        threading.Thread(target=watch, daemon=True).start()
