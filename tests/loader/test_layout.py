"""Names inside a cache directory, and the lock that makes one process a model's writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import CacheError, LockHeldError, UsageError
from extender.loader.layout import (
    IN_PLACE,
    CacheDirectory,
    checked_path,
    escaped,
    unescaped,
    writing,
)

HOLD = """
import sys
from pathlib import Path
from extender.loader.layout import CacheDirectory, writing
with writing(CacheDirectory(Path(sys.argv[1])), sys.argv[2], name="loader-abc"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(root: Path, path: str) -> subprocess.Popen[str]:
    """Start a process that holds a model's lock until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@given(st.text(max_size=80))
def test_a_path_that_is_accepted_has_one_name_and_stays_below_the_root(path: str) -> None:
    try:
        checked_path(path)
    except CacheError:
        return
    directory = CacheDirectory(Path("/cache"))
    assert unescaped(escaped(path)) == path
    assert "/" not in escaped(path)
    assert directory.final(path).resolve().is_relative_to("/cache")
    assert directory.staging(path).parent == directory.work_area / "staging"
    assert len(escaped(path).encode()) <= 180


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        ".modelcache",
        "a/b\0",
        "x" * 181,
        "a/b/c/d/e",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(CacheError, match="model path"):
        CacheDirectory(Path("/cache")).final(path)


def test_a_mount_point_is_written_in_place_and_any_other_directory_below_its_parent() -> None:
    assert CacheDirectory.of_model(Path("/proc")) == (CacheDirectory(Path("/proc")), IN_PLACE)
    assert CacheDirectory.of_model(Path("/proc/self")) == (CacheDirectory(Path("/proc")), "self")
    directory, path = CacheDirectory.of_model(Path("/proc"))
    assert directory.staging(path) == directory.final(path) == Path("/proc")


@pytest.mark.parametrize(
    ("dest", "why"),
    [
        ("/", "root of all files"),
        ("/data/.modelcache/x", "the loader's own"),
        ("/data/.modelcache", "the loader's own"),
        ("/data/lost+found", "no model is looked for there"),
        ("/data/a\nb", "cannot be shown"),
        ("/data/x\udcff", "not UTF-8"),
        ("/data/" + "x" * 200, "too long"),
    ],
)
def test_what_no_model_can_be_called_is_wrong_use_and_no_failure(dest: str, why: str) -> None:
    """A Job would try it again and again."""
    with pytest.raises(UsageError, match=why) as refused:
        CacheDirectory.of_model(Path(dest))
    assert str(refused.value).isprintable()


def test_a_second_writer_is_told_who_is_first_and_gets_the_lock_once_that_one_is_killed(
    tmp_path: Path,
) -> None:
    directory = CacheDirectory(tmp_path)
    process = holder(tmp_path, "org/llama")
    try:
        with (
            pytest.raises(LockHeldError, match=f"process {process.pid} of loader-abc is at work"),
            writing(directory, "org/llama", wait=0.1),
        ):
            pytest.fail("two writers")
        with writing(directory, "org/other") as other:
            assert other.final == tmp_path / "org/other"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with writing(directory, "org/llama", wait=5) as held:
        assert held.staging == tmp_path / ".modelcache/staging/org%2Fllama"


def test_who_waits_long_enough_gets_the_lock(tmp_path: Path) -> None:
    process = holder(tmp_path, "m")
    assert process.stdin is not None
    process.stdin.close()
    with writing(CacheDirectory(tmp_path), "m", wait=20):
        pass
    assert process.wait(10) == 0


def test_a_full_disk_keeps_nobody_from_being_the_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds a lock is noted in it for a message alone."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    directory = CacheDirectory(tmp_path)
    with writing(directory, "m"), pytest.raises(LockHeldError), writing(directory, "m"):
        pass


def test_a_directory_that_cannot_be_written_is_named_with_the_remedy() -> None:
    with (
        pytest.raises(CacheError, match=r"must be writable for this user"),
        writing(CacheDirectory(Path("/proc")), "m"),
    ):
        pytest.fail("wrote to /proc")


def test_a_directory_that_was_removed_while_it_is_mounted_needs_another_loader(
    tmp_path: Path,
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)  # as a mount keeps it
    root.rmdir()
    try:
        seen = CacheDirectory(Path(f"/proc/self/fd/{descriptor}"))
        with pytest.raises(CacheError, match="delete the loader's pod"), writing(seen, "m"):
            pytest.fail("wrote to a directory that is gone")
    finally:
        os.close(descriptor)
