"""Published models are read again: in order, once a round, going on where the last run stopped."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from extender.loader.damaged import DamagedError
from extender.loader.layout import CacheDirectory, writing
from extender.loader.mend import condemn
from extender.loader.proof.marker import read_marker
from extender.loader.proof.reading import Reader, ReadingStoppedError
from extender.loader.proof.verdict import Level
from extender.loader.publish import Publisher
from extender.loader.rereading import Reread, Rereader, confirm
from extender.loader.transfer.limits import Limits
from tests.clock import Clock
from tests.loader.dying import MayBeFull
from tests.loader.models import listing, put, small_model

SHARD = "model-00002-of-00002.safetensors"
FILES = small_model()


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    directory = CacheDirectory(tmp_path)
    for path in ("a", "b"):
        with writing(directory, path) as held:
            put(Publisher().begin(held, listing(FILES)), FILES)
            Publisher(clock=Clock(0.0)).publish(held, listing(FILES))
    return directory


def damage_unseen(shard: Path) -> None:
    """Change the last byte of a file where it lies, so that no stat shows it."""
    before = shard.stat()
    with shard.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([FILES[shard.name][-1] ^ 1]))
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))


def read_until_damage(rereader: Rereader, path: str) -> None:
    while (read := rereader.step(["a", "b"])) is not None:
        if read.problem is not None:
            assert read.path == path
            return
    pytest.fail("nothing was found")


def a_round(rereader: Rereader) -> list[Reread]:
    return list(iter(lambda: rereader.step(["b", "a"]), None))


def test_every_file_of_every_model_is_read_once_a_round(cache: CacheDirectory) -> None:
    rereader = Rereader(cache, Reader())
    for _ in range(2):
        read = a_round(rereader)
        assert [(r.path, r.file) for r in read] == [(p, f) for p in "ab" for f in sorted(FILES)]
        assert [r.path for r in read if r.last] == ["a", "b"]
        assert not any(r.problem for r in read)


def test_a_new_process_goes_on_where_the_last_one_stopped(cache: CacheDirectory) -> None:
    read = [Rereader(cache, Reader()).step(["a", "b"]) for _ in range(2 * len(FILES) + 1)]
    assert [(r.path, r.file) for r in read if r] == [(p, f) for p in "ab" for f in sorted(FILES)]
    assert read[-1] is None
    assert (cache.work_area / "rereading.json").stat().st_size < 200


def test_a_file_at_which_reading_was_stopped_is_read_again(cache: CacheDirectory) -> None:
    with pytest.raises(ReadingStoppedError):
        Rereader(cache, Reader(stop=lambda: True)).step(["a"])
    first = Rereader(cache, Reader()).step(["a"])
    assert first is not None
    assert first.file == min(FILES)


def test_damage_that_no_stat_shows_is_found(cache: CacheDirectory) -> None:
    damage_unseen(cache.final("a") / SHARD)
    found = {(r.path, r.file): r.problem for r in a_round(Rereader(cache, Reader()))}
    assert [key for key, problem in found.items() if problem] == [("a", SHARD)]


def test_on_a_disk_that_takes_nothing_all_is_read_once_a_round_all_the_same(
    cache: CacheDirectory,
) -> None:
    disk = MayBeFull()
    disk.full = True
    (cache.final("a") / SHARD).unlink()
    rereader = Rereader(cache, Reader(), disk=disk)
    for _ in range(2):
        read = a_round(rereader)
        assert [(r.path, r.file) for r in read] == [(p, f) for p in "ab" for f in sorted(FILES)]
        assert [(r.path, r.file) for r in read if r.problem] == [("a", SHARD)]


def test_a_model_that_is_replaced_in_mid_round_is_read_from_its_first_file(
    cache: CacheDirectory,
) -> None:
    """Else it would count as read whole, some of it in the publication before."""
    rereader = Rereader(cache, Reader())
    for _ in range(len(FILES) - 1):
        rereader.step(["a"])
    newer = small_model(1)
    with writing(cache, "a") as held:
        put(Publisher().begin(held, listing(newer)), newer)
        Publisher().publish(held, listing(newer))
    read = a_round(rereader)
    assert [r.file for r in read if r.path == "a"] == sorted(newer)


def test_a_model_that_is_being_mended_is_left_out_and_so_is_one_that_is_gone(
    cache: CacheDirectory,
) -> None:
    with writing(cache, "a") as held:
        condemn(Publisher(), held, [SHARD])
    assert {r.path for r in a_round(Rereader(cache, Reader()))} == {"b"}
    with writing(cache, "b") as held:
        Publisher().remove(held)
    assert a_round(Rereader(cache, Reader())) == []


def test_the_marker_says_when_all_of_it_was_read(cache: CacheDirectory) -> None:
    publisher = Publisher(writer="me", clock=Clock(86_400.0))
    with writing(cache, "a") as held:
        marker = read_marker(held.final)
        assert marker is not None
        confirmed = confirm(publisher, held, marker, Reader())
        assert (confirmed.proven_at, confirmed.level) == ("1970-01-02T00:00:00Z", Level.CONTENT)
        assert (confirmed.files, confirmed.id) == (marker.files, marker.id)
        (held.final / SHARD).unlink()
        with pytest.raises(DamagedError, match=SHARD):
            confirm(publisher, held, marker, Reader())


def test_damage_that_the_marker_does_not_tell_of_is_found_again_by_the_next_process(
    cache: CacheDirectory,
) -> None:
    damage_unseen(cache.final("a") / SHARD)
    for _ in range(2):  # the first one ends before it can say so
        read = a_round(Rereader(cache, Reader()))
        assert [(r.path, r.file) for r in read if r.problem] == [("a", SHARD)]
        assert [r.path for r in read if r.last] == ["b"]
    with writing(cache, "a") as held:
        condemn(Publisher(), held, [SHARD])
    assert {r.path for r in a_round(Rereader(cache, Reader()))} == {"b"}


def test_damage_is_found_again_though_a_marker_tells_of_what_was_found_before_it(
    cache: CacheDirectory,
) -> None:
    for path in ("a", "b"):
        damage_unseen(cache.final(path) / SHARD)
    rereader = Rereader(cache, Reader())
    for path in ("a", "b"):
        read_until_damage(rereader, path)
    with writing(cache, "a") as held:
        condemn(Publisher(), held, [SHARD])
    assert rereader.step(["b"]) is not None  # the file after that
    next_one = a_round(Rereader(cache, Reader()))
    assert [r.path for r in next_one if r.problem] == ["b"]
    assert not any(r.last for r in next_one)


def test_a_marker_that_the_disk_does_not_give_tells_of_no_damage(cache: CacheDirectory) -> None:
    damage_unseen(cache.final("a") / SHARD)
    rereader = Rereader(cache, Reader())
    read_until_damage(rereader, "a")
    marker = cache.marker("a")
    aside = marker.rename(marker.with_name("aside"))
    marker.symlink_to(marker.name)  # ELOOP: an error of the disk, and none that a mode can cause
    assert rereader.step(["a", "b"]) is not None  # of the other one
    aside.rename(marker)
    assert [r.path for r in a_round(Rereader(cache, Reader())) if r.problem] == ["a"]


def test_reading_keeps_to_its_bandwidth(tmp_path: Path) -> None:
    clock = Clock()
    limits = Limits(bytes_per_second=1_000_000, clock=clock, sleep=lambda s: setattr(
        clock, "now", clock.now + s))  # fmt: skip
    path = tmp_path / "large"
    path.write_bytes(bytes(10_000_000))
    Reader(limits=limits).digests(path)
    assert 9.0 <= clock.now <= 11.0


def resident(path: Path) -> int:
    """How many pages of a file are in the page cache."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        where = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        vector = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(where), ctypes.c_size_t(size), vector) == 0
    return sum(page & 1 for page in vector)


@pytest.mark.parametrize("around", [True, False])
def test_reading_around_the_page_cache_leaves_it_as_it_is(tmp_path: Path, around: bool) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1_000_001))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path):
        pytest.skip("this file system keeps its files in memory")
    digests = Reader(around_cache=around).digests(path)
    assert digests.bytes == 1_000_001
    assert digests == Reader().digests(path)
