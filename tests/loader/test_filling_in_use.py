"""``loader fill`` and what is read meanwhile: told by the kernel, as no API is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from extender.loader.disk_space import file_system_type
from extender.loader.filling import Filling
from extender.loader.layout import CacheDirectory
from extender.loader.obtaining import Obtainer
from extender.loader.open_files import UntoldError, is_open
from extender.loader.origin import Origin, opener
from extender.loader.placing import InUse, InUseError, ReadersUnknownError
from extender.loader.proof.marker import read_marker
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.transfer.limits import Limits
from tests.cli.program import run
from tests.loader.hub import Hub, Repository
from tests.loader.models import contents, small_model

OLD, NEW = (small_model(seed, size=2**20) for seed in (1, 2))
SHARD, OTHER = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
ORIGIN = Origin(source="hf://org/small")

READ = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("reads", flush=True)
sys.stdin.readline()
sys.stdout.write(str(mapped[:] == open(sys.argv[2], "rb").read()))
"""


@contextmanager
def reader(file: Path, tmp_path: Path, content: bytes) -> Iterator[subprocess.Popen[str]]:
    """Let another process map a file as servers do; asked, it says whether it sees ``content``."""
    compared = tmp_path / "compared"
    compared.write_bytes(content)
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(file), str(compared)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "reads\n"
        try:
            if not is_open(file):
                pytest.skip("the file system of this test does not tell who reads")
            yield process
        finally:
            process.kill()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.repositories["org/small"] = Repository(dict(OLD), large=500)
        yield running


def fill(hub: Hub, dest: Path, *, replace_in_use: bool = False) -> None:
    Filling(
        dest,
        credentials=Credentials(hub_endpoint=hub.url),
        connections=4,
        bytes_per_second=0,
        replace_in_use=replace_in_use,
    ).fill(ORIGIN)


def newer(hub: Hub) -> None:
    hub.repositories["org/small"] = Repository(dict(NEW), large=500)


def test_a_file_is_open_while_a_process_maps_it_and_not_after(fast: Path, tmp_path: Path) -> None:
    file = fast / "file"
    file.write_bytes(OLD[SHARD])
    assert not is_open(file)
    with reader(file, tmp_path, OLD[SHARD]):
        assert is_open(file)
    assert not is_open(file)
    assert not is_open(fast / "gone")


@contextmanager
def another_user() -> Iterator[None]:
    """Be one to whom the kernel does not tell who reads root's files."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else for a while")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_the_kernel_does_not_tell_is_no_answer(fast: Path) -> None:
    file = fast / "file"
    file.write_bytes(OLD[SHARD])
    fast.chmod(0o755)
    with pytest.raises(UntoldError, match="owner and root alone"), another_user():
        is_open(file)
    with pytest.raises(UntoldError, match="does not tell of all readers"):
        is_open(Path("/proc/self/stat"))


def test_in_every_mount_and_subvolume_the_kind_of_a_file_system_is_told(fast: Path) -> None:
    """Device numbers do not tell it: a file of a Btrfs subvolume has one that no mount has."""
    assert file_system_type(Path("/dev/shm")) == "tmpfs"
    assert file_system_type(Path("/proc")) == "0x9fa0"
    assert file_system_type(fast / "gone") == ""


def test_where_it_cannot_be_told_who_reads_nothing_is_replaced_unless_somebody_says_so(
    hub: Hub, fast: Path
) -> None:
    dest = fast / "small"
    fill(hub, dest)
    newer(hub)
    for directory, _, names in os.walk(fast):  # all but the model's files is the other user's
        os.chown(directory, 65534, 65534)
        for name in names if ".modelcache" in directory else ():
            os.chown(Path(directory, name), 65534, 65534)
    with another_user():
        with pytest.raises(ReadersUnknownError, match="give --replace-in-use where nobody does"):
            fill(hub, dest)
        assert contents(dest) == OLD
        sent = hub.bytes_sent()
        fill(hub, dest, replace_in_use=True)
    assert contents(dest) == NEW
    assert hub.bytes_sent() == sent


def test_the_exit_code_tells_waiting_from_failing(hub: Hub, fast: Path, tmp_path: Path) -> None:
    """So that a Job may wait for ever and fail all the same."""
    dest = fast / "small"
    arguments = ("loader", "fill", "hf://org/small", str(dest), "--hub-endpoint", hub.url)
    assert run(*arguments).code == 0
    newer(hub)
    with reader(dest / OTHER, tmp_path, OLD[OTHER]):
        waits = run(*arguments)
    assert waits.code == 3
    assert "waits for 1 reader" in waits.stderr
    del hub.repositories["org/small"]
    assert run(*arguments).code == 1


def test_a_new_revision_waits_for_who_reads_the_old_one_and_is_fetched_once(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    dest = fast / "small"
    fill(hub, dest)
    newer(hub)
    with reader(dest / OTHER, tmp_path, OLD[OTHER]):
        with pytest.raises(InUseError) as waits:
            fill(hub, dest)
        assert str(waits.value) == (
            f"new revision ready, waits for 1 reader of the one before (a process on this machine "
            f"has {OTHER} open); let them end, or give --replace-in-use"
        )
        assert contents(dest) == OLD
    sent = hub.bytes_sent()
    fill(hub, dest)
    assert contents(dest) == NEW
    assert hub.bytes_sent() == sent


def test_told_to_it_takes_its_place_and_the_reader_keeps_what_it_has_open(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    dest = fast / "small"
    fill(hub, dest)
    newer(hub)
    with reader(dest / SHARD, tmp_path, OLD[SHARD]) as reads:
        fill(hub, dest, replace_in_use=True)
        assert contents(dest) == NEW
        told, _ = reads.communicate("\n", timeout=30)
    assert told == "True"
    assert CacheDirectory(fast).arrivals("small") == []


def test_a_damaged_file_is_mended_beside_its_readers_and_never_under_them(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    dest = fast / "small"
    fill(hub, dest)
    damaged = OLD[SHARD][:100_000]
    os.truncate(dest / SHARD, len(damaged))
    inode = (dest / OTHER).stat().st_ino
    with reader(dest / SHARD, tmp_path, damaged) as reads:
        fill(hub, dest)
        assert contents(dest) == OLD
        assert (dest / OTHER).stat().st_ino == inode
        told, _ = reads.communicate("\n", timeout=30)
    assert told == "True"


@pytest.mark.parametrize("below", ["", "small"])
def test_memory_that_is_read_is_not_emptied(
    hub: Hub, memory: Path, tmp_path: Path, below: str
) -> None:
    dest = memory / below
    fill(hub, dest)
    newer(hub)
    room = memory / "rest"
    if below:  # so that there is no room for two
        room.write_bytes(bytes(3 * 2**20))
    with reader(dest / SHARD, tmp_path, OLD[SHARD]):
        with pytest.raises(InUseError, match="waits for 1 reader"):
            fill(hub, dest)
        room.unlink(missing_ok=True)
        assert contents(dest) == OLD
        assert read_marker(dest) is not None
    fill(hub, dest)
    assert contents(dest) == NEW


def test_what_waits_for_pods_beside_it_is_left_to_the_loader_that_knows_them(
    hub: Hub, fast: Path
) -> None:
    cache = CacheDirectory(fast)
    in_use = InUse({"uid-1": "ml/server"})
    publisher = Publisher(uses=lambda _: in_use)
    credentials = Credentials(hub_endpoint=hub.url)
    loader = Obtainer(cache, publisher, open_source=opener(credentials), limits=Limits())
    loader.obtain("waits", ORIGIN)
    in_use = InUse({"uid-1": "ml/server"}, replaced=True)
    loader.obtain("replaced", ORIGIN)
    newer(hub)
    loader.obtain("replaced", ORIGIN)
    in_use = InUse({"uid-1": "ml/server"})
    with pytest.raises(InUseError):
        loader.obtain("waits", ORIGIN)
    fill(hub, fast / "small")
    assert contents(cache.final("waits")) == OLD
    for path in ("waits", "replaced"):
        assert len(cache.arrivals(path)) == 1


def test_what_a_loader_keeps_for_pods_is_kept_where_the_same_model_is_filled(
    hub: Hub, fast: Path
) -> None:
    cache = CacheDirectory(fast)
    publisher = Publisher(uses=lambda _: InUse({"uid-1": "ml/server"}, replaced=True))
    credentials = Credentials(hub_endpoint=hub.url)
    loader = Obtainer(cache, publisher, open_source=opener(credentials), limits=Limits())
    loader.obtain("small", ORIGIN)
    newer(hub)
    loader.obtain("small", ORIGIN)
    fill(hub, fast / "small")
    [(kept, _)] = cache.arrivals("small")
    assert contents(kept) == OLD
