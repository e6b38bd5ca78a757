"""File systems that do not do what they are asked: they end the process, or say no."""

from __future__ import annotations

import errno
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extender.loader.disk import Disk

STEPS = tuple(name for name in vars(Disk) if not name.startswith("_"))


class WithoutExchange(Disk):
    """As on NFS: two directories cannot be exchanged in one step."""

    def exchange(self, one: Path, other: Path) -> bool:
        return False


class MayBeFull(Disk):
    """Takes nothing while it is ``full``."""

    full = False

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().write(path, data)


def stopping(base: type[Disk], before: int, act: Callable[[], None]) -> Disk:
    """Return a disk that calls ``act`` before its step number ``before`` (from 0)."""
    counted = 0

    def step(name: str) -> Callable[..., Any]:
        def run(self: Disk, *arguments: Any) -> Any:
            nonlocal counted
            if counted == before:
                counted += 1
                act()
            counted += 1
            return getattr(base, name)(self, *arguments)

        return run

    kind = type("Stopping", (base,), {name: step(name) for name in STEPS})
    disk: Disk = kind()
    return disk


def dying(base: type[Disk], before: int) -> Disk:
    """Return a disk that kills its process before a step."""
    return stopping(base, before, lambda: os.kill(os.getpid(), signal.SIGKILL))


def refusing(base: type[Disk], before: int, code: int = errno.ENOSPC) -> Disk:
    """Return a disk whose one step fails as the kernel would have it."""

    def refuse() -> None:
        raise OSError(code, os.strerror(code), "the file")

    return stopping(base, before, refuse)


def in_child(work: Callable[[], object], *, kill_after: float | None = None) -> bool:
    """Run work in a process of its own; True where it came to its end, False where it was killed.

    ``kill_after``: seconds until it is. Raises AssertionError where it failed in any other way.
    """
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - nothing of the test may run in the child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return True
