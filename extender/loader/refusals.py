"""What is to go and stays, because the file system keeps it: why, and when that is tried again.

A try is announced before, and taken back where it fails, and both are news that make kube-scheduler
try all refused pods again. So the tries become rare; but where somebody has changed the owner, the
mode or the flags of the directory since, or unmounted what was there, the next one comes at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from extender.backoff import Backoff
from extender.loader.layout import CacheDirectory

FIRST_SECONDS = 600.0
MOST_SECONDS = 86_400.0

_OCTAL = re.compile(rb"\\([0-7]{3})")


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """``seen``: what the directory was like; ``not_before`` by the clock of ``Refusals``."""

    why: str
    seen: tuple[int, ...]
    backoff: Backoff
    not_before: float


class Refusals:
    """Those of one cache directory, by model path. ``clock`` is monotonic seconds."""

    def __init__(
        self, cache: CacheDirectory, *, clock: Callable[[], float], random: Random
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._random = random
        self._found: dict[str, _Refusal] = {}

    def note(self, path: str, why: str) -> None:
        """Note that a model could not be removed."""
        before = self._found.get(path)
        backoff = before.backoff if before is not None else self._backoff()
        self._found[path] = _Refusal(
            why=why,
            seen=_seen(self._cache.final(path)),
            backoff=backoff,
            not_before=self._clock() + backoff.wait(),
        )

    def all(self) -> dict[str, str]:
        """Return why each model could not be removed that is still there."""
        self._found = {p: one for p, one in self._found.items() if _seen(self._cache.final(p))}
        return {path: one.why for path, one in self._found.items()}

    def standing(self) -> dict[str, str]:
        """Return the same of those of which a removal is not to be tried now."""
        return {
            path: one.why
            for path, one in self._found.items()
            if self._clock() < one.not_before and one.seen == _seen(self._cache.final(path))
        }

    def _backoff(self) -> Backoff:
        return Backoff(
            random=self._random,
            clock=self._clock,
            first=FIRST_SECONDS,
            most=MOST_SECONDS,
            peace=MOST_SECONDS,
        )


def _seen(directory: Path) -> tuple[int, ...]:
    """Return what changes when a directory is made removable; empty where there is none.

    A change of its own owner, mode or flags is one of its ctime; its parent's ctime changes with
    everything that comes and goes there. What is mounted there may look as what is below it.
    """
    try:
        own, parent = directory.lstat(), directory.parent.stat()
    except OSError:
        return ()
    owned = parent.st_mode, parent.st_uid, parent.st_gid
    return own.st_dev, own.st_ino, own.st_ctime_ns, *owned, *_mounted_at(directory)


def _mounted_at(directory: Path) -> list[int]:
    """Return the kernel's numbers of what is mounted at a directory, as far as they can be read."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    # proc_pid_mountinfo(5): the first field is the number, the fifth the place, with \ooo in it.
    place = os.fsencode(os.path.realpath(directory))
    fields = [line.split(b" ", 5) for line in lines]
    return sorted(int(each[0]) for each in fields if _OCTAL.sub(_byte, each[4]) == place)


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])
