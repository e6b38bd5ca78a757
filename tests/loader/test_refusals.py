"""Real file systems that are full, read-only or not ours; and several writers at once.

The small and the read-only file system are a tmpfs in a mount namespace of its own (``unshare``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest

from extender.errors import CacheError
from extender.loader.filling import Filling
from extender.loader.layout import CacheDirectory, writing
from extender.loader.origin import Origin
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.sweep import sweep
from tests.loader.dying import in_child
from tests.loader.models import contents, listing, put, small_model
from tests.loader.mounts import run_on_tmpfs

PATH = "org/small"
OLD, NEW = small_model(1, size=100_000), small_model(2, size=100_000)


def publish(root: Path, files: dict[str, bytes], wait: float = 0.0) -> None:
    with writing(CacheDirectory(root), PATH, wait=wait) as held:
        put(Publisher().begin(held, listing(files)), files)
        Publisher().publish(held, listing(files))


def refused(root: Path, files: dict[str, bytes]) -> str:
    try:
        publish(root, files)
    except (CacheError, OSError) as error:  # OSError: the test's own writing of the files
        return str(error)
    return ""


def full(root: Path) -> None:
    """Fill the rest of the disk to every possible degree while a new revision is published."""
    publish(root, OLD)
    rest = root / "rest"
    refusals = 0
    for free in range(0, 300_000, 12_288):
        status = os.statvfs(root)
        rest.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - free)))
        refusals += "No space left" in refused(root, NEW)
        assert contents(root / PATH) in (OLD, NEW)
        assert read_marker(root / PATH) is not None
        rest.unlink()
        sweep(Publisher(), CacheDirectory(root), wanted={})
    assert refusals > 10
    publish(root, NEW)
    assert contents(root / PATH) == NEW


def read_only(root: Path) -> None:
    publish(root, OLD)
    put(CacheDirectory(root).trash(PATH), NEW)
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    for work in (
        partial(publish, root, NEW),
        partial(sweep, Publisher(), CacheDirectory(root)),
        partial(remove, root),
    ):
        try:
            work()
        except CacheError as error:
            assert "Read-only file system" in str(error)
            assert "must be writable" in str(error)
        else:
            raise AssertionError("a read-only file system was written")
    assert contents(root / PATH) == OLD


def remove(root: Path) -> None:
    with writing(CacheDirectory(root), PATH) as held:
        Publisher().remove(held)


def fill(dest: Path, source: Path, *nearer: Path) -> Marker:
    filling = Filling(dest, credentials=Credentials(), connections=2, bytes_per_second=0)
    return filling.fill(Origin(source=f"file://{source}"), nearer=nearer)


def filled_before(root: Path) -> None:
    """A claim that a Job filled, and that a pod mounts read-only and fills once more."""
    old, new = put(root / "origins/old", OLD), put(root / "origins/new", NEW)
    marker = fill(root / "claim/model", old)
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    assert fill(root / "claim/model", old) == marker
    assert fill(root / "claim/model", old, root / "nowhere", new) == marker
    for name, source, said in (
        ("model", new, f"holds revision None of file://{old}, not None of file://{new}; mount it"),
        ("absent", old, "does not hold the model whole and proven; mount it for writing"),
    ):
        try:
            fill(root / "claim" / name, source)
        except CacheError as error:
            assert said in str(error), error
        else:
            raise AssertionError("there is nothing that would be it")


WORK = {"full": full, "read_only": read_only, "filled_before": filled_before}


@pytest.mark.parametrize("what", WORK)
def test_on_a_real_disk_that_refuses_the_old_model_stays_whole(tmp_path: Path, what: str) -> None:
    run_on_tmpfs("tests.loader.test_refusals", what, tmp_path, size="1m")


def test_without_permission_it_says_whose_directory_it_is(fast: Path) -> None:
    publish(fast, OLD)
    fast.chmod(0o755)

    def as_somebody_else() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        message = refused(fast, NEW)
        assert "Permission denied" in message, message
        assert f"{fast} must be writable for this user" in message
        with pytest.raises(CacheError, match="Permission denied"):
            remove(fast)

    locked = fast / ".modelcache/locks/org%2Fsmall.lock"
    locked.chmod(0o444)
    assert in_child(as_somebody_else)
    assert contents(fast / PATH) == OLD


def test_of_several_writers_one_writes_at_a_time_and_readers_never_see_a_mixture(
    fast: Path,
) -> None:
    def write(seed: int) -> None:
        random = Random(seed)
        for _ in range(8):
            publish(fast, random.choice([OLD, NEW]), wait=60)

    publish(fast, OLD)
    children = []
    for seed in range(3):
        child = os.fork()
        if child == 0:
            try:
                write(seed)
            except BaseException:  # noqa: BLE001 - nothing of the test may run in the child
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends: list[int] = []
    while len(ends) < len(children):
        directory = os.open(fast / PATH, os.O_RDONLY | os.O_DIRECTORY)  # there at any time
        os.close(directory)
        for child in [c for c in children if c not in ends]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ends.append(child)
                assert status == 0
    assert contents(fast / PATH) in (OLD, NEW)


if __name__ == "__main__":
    WORK[sys.argv[1]](Path(sys.argv[2]))
