"""``loader run`` on disks that refuse: it says so, vouches for what is whole, and goes on later.

The small and the read-only file system are a tmpfs in a mount namespace of its own (``unshare``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import LoaderProcess, catalog, wait_for
from tests.loader.models import contents, small_model
from tests.loader.mounts import run_on_tmpfs

FILES = small_model(size=400_000)
SHARD = "model-00001-of-00002.safetensors"
MODEL = {"name": "small", "source": "hf://org/small"}
NEXT = {"name": "next", "source": "hf://org/next"}


def loader(place: Path, cache: Path, hub: Hub, *models: dict[str, str]) -> LoaderProcess:
    (place / "catalog.yaml").write_text(catalog(*models))
    return LoaderProcess(
        place / "catalog.yaml",
        cache,
        *("--hub-endpoint", hub.url, "--look-seconds", "0.5"),
        log=place / "loader.log",
    )


def hub() -> Hub:
    made = Hub()
    for name in ("small", "next"):
        made.repositories[f"org/{name}"] = Repository(dict(FILES), large=500)
    return made


def fill(file: Path) -> None:
    """Take all the room that there is."""
    with file.open("wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(bytes(4096))


def full(place: Path, cache: Path) -> None:
    """The disk fills while a model is fetched; later there is room."""
    disk_is_full = Event()

    def wait() -> None:
        disk_is_full.wait(240)

    with hub() as running:
        running.troubles[SHARD] = [Trouble(at_hub=False, meanwhile=wait)]
        with loader(place, cache, running, MODEL) as process:
            wait_for(lambda: process.models("loading") == 1)
            rest = cache / "rest"
            fill(rest)
            disk_is_full.set()
            wait_for(lambda: process.models("failed") == 1)
            wait_for(lambda: '"cause": "no-space"' in process.log)
            assert "free space" in process.log
            assert not (cache / "small").exists()
            wait_for(lambda: process.get("/readyz")[0] == 200)
            rest.unlink()
            wait_for(lambda: process.models("ready") == 1)
        assert contents(cache / "small") == FILES


def read_only(place: Path, cache: Path) -> None:
    """A file system that the kernel made read-only, as it does after an error of the disk."""
    with hub() as running:
        with loader(place, cache, running, MODEL) as process:
            wait_for(lambda: process.models("ready") == 1)
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        with loader(place, cache, running, MODEL, NEXT) as process:
            wait_for(lambda: (process.models("ready"), process.models("failed")) == (1, 1))
            wait_for(lambda: "Read-only file system" in process.log)
            wait_for(lambda: process.get("/readyz")[0] == 200)
            subprocess.run(["mount", "-o", "remount,rw", str(cache)], check=True)
            wait_for(lambda: process.models("ready") == 2)


WORK = {"full": full, "read_only": read_only}


@pytest.mark.parametrize("what", WORK)
def test_it_says_that_the_disk_refuses_and_goes_on_when_it_does_not(
    tmp_path: Path, what: str
) -> None:
    (tmp_path / "cache").mkdir()
    run_on_tmpfs("tests.loader.test_refusing_disk", what, tmp_path, at="cache", size="3m")


def shut_out(directory: Path, mode: int) -> None:
    """Let a loader in a user namespace of its own have no more than the mode says.

    Root in there has no power over a file whose owner does not exist in there.
    """
    directory.chmod(mode)
    if os.geteuid() == 0:
        os.chown(directory, 12345, 12345)


def test_without_permission_it_says_whose_directory_it_is(fast: Path) -> None:
    cache = fast / "cache"
    cache.mkdir()
    shut_out(cache, 0o555)
    with hub() as running:
        process = loader(fast, cache, running, MODEL)
        process.arguments[:0] = ["unshare", "-Ur"]
        with process:
            wait_for(lambda: process.models("failed") == 1)
            wait_for(lambda: "must be writable for this user" in process.log)
            wait_for(lambda: process.get("/readyz")[0] == 200)


def test_a_directory_that_cannot_be_listed_is_failed_and_costs_no_byte(fast: Path) -> None:
    cache = fast / "cache"
    with hub() as running:
        with loader(fast, cache, running, MODEL) as process:
            wait_for(lambda: process.models("ready") == 1)
        running.served.clear()
        shut_out(cache / "small", 0o711)  # its marker can be opened by name
        process = loader(fast, cache, running, MODEL)
        process.arguments[:0] = ["unshare", "-Ur"]
        with process:
            wait_for(lambda: process.models("failed") == 1)
            time.sleep(1.2)  # two looks
            assert process.models("failed") == 1
        assert running.served == []


if __name__ == "__main__":
    WORK[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[2], "cache"))
