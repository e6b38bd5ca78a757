"""The machine's cgroups: no namespace of a run's holds them, so it makes and removes its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
VERSION_1 = not (CGROUPS / "cgroup.controllers").is_file()
"""Of cgroups: a hierarchy for each controller. On version 2 there is one for all."""
CONTROLLERS = frozenset({"cpu", "cpuset", "hugetlb", "memory", "pids"})
"""A kubelet wants those of them that the kernel has in the cgroup below which it makes its own
(getSupportedUnifiedControllers, pkg/kubelet/cm/cgroup_v2_manager_linux.go).
"""
GONE_SECONDS = 20.0


def hierarchies() -> list[Path]:
    """Return the hierarchies that a kubelet uses: of version 1, else the one of version 2."""
    if not VERSION_1:
        return [CGROUPS]
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    mounts = [line.split() for line in lines]
    return [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup"]


def see_writable(name: str) -> None:
    """See that a cgroup, which is called so, can be made in each hierarchy. Raises OSError."""
    for hierarchy in hierarchies():
        probe = hierarchy / name
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise OSError(
                error.errno,
                f"a kubelet needs cgroups, and none can be made here ({error.strerror}; in a "
                "container: --privileged --cgroupns=host)",
                str(hierarchy),
            ) from error


def remove_cgroups(find: Callable[[], list[Path]]) -> None:
    """Remove cgroups and those below them, until none is found; the last processes may linger."""
    deadline = time.monotonic() + GONE_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        for top in found:
            with contextlib.suppress(OSError):  # its last process is still on its way out
                for folder, _, _ in os.walk(top, topdown=False):
                    Path(folder).rmdir()
        time.sleep(0.05)


class Controllers:
    """Which controllers the cgroups below the root of version 2 have: a setting of the machine's.

    On a machine on which no container ever ran some are off. A kubelet and runc switch on
    whatever the kernel has, for good (CreateCgroupPath, github.com/opencontainers/cgroups/fs2);
    a run puts back what it found. ``root``: of the hierarchy; ``noted``: where that is kept, from
    before the first is switched on. Without a note, which is there whole or not at all, none was.
    """

    def __init__(self, root: Path, noted: Path) -> None:
        self._switch = root / "cgroup.subtree_control"
        self._there = root / "cgroup.controllers"
        self._noted = noted

    def on(self) -> set[str]:
        """Return those that are on; none on version 1."""
        return words(self._switch) if self._switch.is_file() else set()

    def lend(self) -> None:
        """Switch on what a kubelet wants, and note what was on. Raises OSError."""
        if not self._switch.is_file():
            return
        before = self.on()
        unfinished = self._noted.with_suffix(".new")
        unfinished.write_text(" ".join(sorted(before)), encoding="ascii")
        unfinished.replace(self._noted)
        for name in sorted((CONTROLLERS & words(self._there)) - before):
            try:
                self._switch.write_text(f"+{name}", encoding="ascii")
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"a kubelet needs the cgroup controller {name}, which cannot be switched on "
                    f"({error.strerror}; in a container: --privileged --cgroupns=host)",
                    str(self._switch),
                ) from error

    def give_back(self) -> None:
        """Switch off what was not on; what another uses by now stays on."""
        if self._noted.is_file():
            for name in sorted(self.on() - words(self._noted)):
                with contextlib.suppress(OSError):
                    self._switch.write_text(f"-{name}", encoding="ascii")


def words(file: Path) -> set[str]:
    """Return the words of a file."""
    return set(file.read_text(encoding="ascii").split())
