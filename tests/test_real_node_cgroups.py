"""What a real node's run borrows of the machine's cgroups, and that it is given back.

The kernel's part is played by files, which obey as its own do: what it does itself is seen by the
runs on a real node.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path, PosixPath

import pytest

from e2e import apart, cgroups
from e2e.apart import Run
from e2e.cgroups import Controllers, see_writable

ROOT = Path(cgroups.__file__).parents[1]
SWITCH = "cgroup.subtree_control"


class Kernel(PosixPath):
    """The root of a hierarchy of version 2: what is written to its switch changes what is on.

    A controller called ``busy`` refuses.
    """

    def write_text(self, data: str, *args: str | None, **how: str | None) -> int:
        if self.name != SWITCH:
            return super().write_text(data, *args, **how)
        if data == "+busy":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        on = set(self.read_text().split())
        on = on | {data[1:]} if data[0] == "+" else on - {data[1:]}
        return super().write_text(" ".join(sorted(on)))


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Return a hierarchy of which the kernel has four controllers, and one is on."""
    root = Kernel(tmp_path / "cgroup")
    root.mkdir()
    (root / SWITCH).touch()
    (root / SWITCH).write_text("+cpu")
    (root / "cgroup.controllers").write_text("cpu io memory pids\n")
    return root


def test_what_a_kubelet_wants_is_lent_and_only_that_is_given_back(
    kernel: Kernel, tmp_path: Path
) -> None:
    controllers = Controllers(kernel, tmp_path / "controllers")
    controllers.lend()
    assert controllers.on() == {"cpu", "memory", "pids"}
    controllers.give_back()
    assert controllers.on() == {"cpu"}


def test_what_was_lent_before_one_refused_is_given_back_and_the_one_is_named(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "CONTROLLERS", frozenset({"cpu", "memory", "busy"}))
    (kernel / "cgroup.controllers").write_text("busy cpu memory\n")
    (kernel / SWITCH).write_text("+a-controller-of-others")
    controllers = Controllers(kernel, tmp_path / "controllers")
    with pytest.raises(OSError, match=r"controller busy, .*busy; .*--privileged.*subtree_control"):
        controllers.lend()
    controllers.give_back()
    assert controllers.on() == {"cpu", "a-controller-of-others"}


NOTES = """
import resource, signal, sys
from pathlib import Path
from e2e.cgroups import Controllers
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # the first byte that it writes is its end
Controllers(Path(sys.argv[1]), Path(sys.argv[2])).lend()
"""


def test_who_is_killed_while_it_notes_what_was_on_has_nothing_of_it_switched_off(
    kernel: Kernel, tmp_path: Path
) -> None:
    noted = tmp_path / "controllers"
    words = [sys.executable, "-c", NOTES, str(kernel), str(noted)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGXFSZ
    controllers = Controllers(kernel, noted)
    controllers.give_back()
    assert controllers.on() == {"cpu"}


def test_without_version_2_nothing_is_lent(tmp_path: Path) -> None:
    controllers = Controllers(tmp_path, tmp_path / "controllers")
    controllers.lend()
    controllers.give_back()
    assert controllers.on() == set()
    assert list(tmp_path.iterdir()) == []


def test_each_hierarchy_is_tried_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    see_writable("probe")
    assert list(tmp_path.iterdir()) == []


def test_where_no_cgroups_can_be_made_it_names_the_hierarchy_and_what_a_container_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [Path("/proc")])
    with pytest.raises(OSError, match=r"--privileged.*'/proc'"):
        see_writable("probe")


def test_of_a_run_that_is_ended_while_it_tries_a_hierarchy_nothing_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hierarchy = tmp_path / "memory"
    hierarchy.mkdir()
    monkeypatch.setattr(apart, "CGROUPS", tmp_path)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [hierarchy])
    remove = Path.rmdir

    def ended(_: Path) -> None:
        monkeypatch.setattr(Path, "rmdir", remove)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rmdir", ended)
    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.make()
    assert len(list(hierarchy.iterdir())) == 1
    run.clean()
    assert list(hierarchy.iterdir()) == []
