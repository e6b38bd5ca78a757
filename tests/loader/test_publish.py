"""What stands at a final path: a whole model or none, whatever happens on the way there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from safetensors import safe_open
from structlog.testing import capture_logs

from extender.errors import CacheError
from extender.loader.damaged import DamagedError
from extender.loader.disk import Disk
from extender.loader.disk_space import is_memory
from extender.loader.layout import IN_PLACE, MARKER, CacheDirectory, Writing, writing
from extender.loader.mend import condemn, mend, missing
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sweep import sweep
from tests.clock import Clock
from tests.loader.dying import WithoutExchange
from tests.loader.models import contents, listing, put, real_model, small_model
from tests.loader.mounts import mounted

SHARD = "model-00001-of-00002.safetensors"
OLD, NEW = small_model(1), small_model(2)
PATH = "org/small"


def publish(root: Path, files: dict[str, bytes], disk: Disk | None = None, **more: str) -> Marker:
    """Fetch (as a transfer would) and publish a model."""
    publisher = Publisher(disk=disk, writer="loader-abc", clock=Clock(1_800_000_000.0))
    with writing(CacheDirectory(root), PATH) as held:
        put(publisher.begin(held, listing(files)), files)
        return publisher.publish(held, listing(files, **more))


def test_a_published_model_is_whole_marked_and_alone(tmp_path: Path) -> None:
    marker = publish(tmp_path, OLD)
    final = tmp_path / PATH
    assert contents(final) == OLD
    assert read_marker(final) == marker
    assert (marker.source, marker.revision, marker.path) == ("hf://org/small", "r1", PATH)
    assert (marker.proven_at, marker.level) == ("2027-01-15T08:00:00Z", Level.CONTENT)
    assert all(file.sha256 and file.inode and file.mtime_ns for file in marker.files)
    assert verify(final, level=Level.CONTENT).ok
    assert not list((tmp_path / ".modelcache/staging").iterdir())


@pytest.mark.parametrize("disk", [Disk, WithoutExchange])
def test_a_new_revision_takes_the_place_of_the_old_one(
    tmp_path: Path, disk: Callable[[], Disk]
) -> None:
    publish(tmp_path, {**OLD, "only-old.json": b"1"}, disk())
    publish(tmp_path, NEW, disk(), revision="r2")
    assert contents(tmp_path / PATH) == NEW
    for room in ("incoming", "trash", "staging"):
        assert not list((tmp_path / ".modelcache").glob(f"{room}/*"))


@pytest.mark.parametrize("disk", [Disk, WithoutExchange])
def test_what_a_foreign_loader_left_is_replaced_whatever_it_is(
    tmp_path: Path, disk: Callable[[], Disk]
) -> None:
    final = tmp_path / PATH
    for leave in (
        lambda: put(final, {"config.json": b"{}"}),
        lambda: put(final.parent, {"small": b"a file"}),
        lambda: final.symlink_to("/nowhere"),
        final.mkdir,
    ):
        final.parent.mkdir(exist_ok=True, parents=True)
        leave()
        publish(tmp_path, NEW, disk())
        assert contents(final) == NEW
        with writing(CacheDirectory(tmp_path), PATH) as held:
            Publisher().remove(held)
        assert not final.exists()


def test_readers_never_find_nothing_while_a_model_is_replaced(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Watching(Disk):
        def exchange(self, one: Path, other: Path) -> bool:
            seen.append((tmp_path / PATH / SHARD).exists())
            assert super().exchange(one, other)
            seen.append((tmp_path / PATH / SHARD).exists())
            return True

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            seen.append((tmp_path / PATH / SHARD).exists())

    publish(tmp_path, OLD)
    publish(tmp_path, NEW, Watching())
    assert len(seen) > 3
    assert all(seen)


def test_everything_is_on_the_disk_before_it_is_shown(tmp_path: Path) -> None:
    done: list[tuple[str, Path]] = []

    class Recording(Disk):
        def sync_file(self, path: Path) -> None:
            super().sync_file(path)
            done.append(("file", path))

        def sync_directory(self, path: Path) -> None:
            super().sync_directory(path)
            done.append(("directory", path))

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            done.append(("rename", target))

    publish(tmp_path, {**OLD, "sub/dir/extra.json": b"{}"}, Recording())
    staging = CacheDirectory(tmp_path).staging(PATH)
    shown = done.index(("rename", tmp_path / PATH))
    marked = done.index(("rename", staging / MARKER))
    for path in (*OLD, "sub/dir/extra.json"):
        assert done.index(("file", staging / path)) < marked
    for directory in (staging, staging / "sub", staging / "sub/dir"):
        assert done.index(("directory", directory)) < marked
    assert ("directory", staging) in done[marked:shown]
    assert ("directory", (tmp_path / PATH).parent) in done[shown:]


def test_a_damaged_download_is_not_shown_and_only_its_damaged_file_is_fetched_again(
    tmp_path: Path,
) -> None:
    publish(tmp_path, OLD)
    wrong = {**NEW, SHARD: NEW[SHARD][:-1] + b"!"}
    publisher = Publisher()
    with writing(CacheDirectory(tmp_path), PATH) as held:
        put(publisher.begin(held, listing(NEW)), wrong)
        with pytest.raises(DamagedError, match=r"model-00001.*SHA-256"):
            publisher.publish(held, listing(NEW))
        assert contents(held.final) == OLD
        assert set(contents(held.staging)) == set(NEW) - {SHARD}
        put(held.staging, {SHARD: NEW[SHARD]})
        publisher.publish(held, listing(NEW))
        assert contents(held.final) == NEW


def test_what_does_not_belong_to_the_model_is_not_published(tmp_path: Path) -> None:
    with writing(CacheDirectory(tmp_path), PATH) as held:
        staging = Publisher().begin(held, listing(NEW))
        put(staging, {**NEW, "old-shard.safetensors": b"x", f"{SHARD}.part": b"y"})
        Publisher().publish(held, listing(NEW))
    assert contents(tmp_path / PATH) == NEW


def test_a_foreign_model_that_is_whole_is_adopted_and_a_damaged_one_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    put(tmp_path / PATH, OLD)
    with writing(CacheDirectory(tmp_path), PATH) as held:
        marker = Publisher(writer="me").adopt(held)
        assert (marker.adopted, marker.writer, marker.source) == (True, "me", "")
        assert read_marker(held.final) == marker
        (held.final / MARKER).unlink()
        (held.final / SHARD).unlink()
        before = contents(held.final)
        with pytest.raises(DamagedError, match=SHARD):
            Publisher().adopt(held)
        assert contents(held.final) == before
        assert read_marker(held.final) is None


def test_a_file_that_was_touched_is_read_again_at_once_and_only_a_changed_one_is_damage(
    tmp_path: Path,
) -> None:
    marker = publish(tmp_path, OLD)
    shard = tmp_path / PATH / SHARD
    os.utime(shard, ns=(1, 1))
    verdict = verify(shard.parent, level=Level.SIZES)
    assert verdict.ok
    with writing(CacheDirectory(tmp_path), PATH) as held:
        renewed = Publisher().renew(held, marker, verdict)
    assert renewed.proven_at == marker.proven_at
    assert {f.path: f.sha256 for f in renewed.files} == {f.path: f.sha256 for f in marker.files}

    shard.write_bytes(NEW[SHARD])
    verdict = verify(shard.parent, level=Level.SIZES)
    assert [(p.file, p.kind.value) for p in verdict.problems] == [(SHARD, "content")]


def test_one_damaged_shard_is_set_aside_and_replaced_alone(tmp_path: Path) -> None:
    if is_memory(tmp_path):
        pytest.skip("in memory nothing is kept aside")
    publish(tmp_path, OLD)
    final = tmp_path / PATH
    (final / SHARD).write_bytes(b"damaged")
    others = {n: (final / n).stat().st_ino for n in OLD if n != SHARD}
    publisher = Publisher()
    with writing(CacheDirectory(tmp_path), PATH) as held:
        condemn(publisher, held, [SHARD])
        assert not (final / SHARD).exists()
        assert not verify(final, level=Level.MARKER).ok
        (aside,) = held.directory.quarantine(PATH).iterdir()
        assert aside.read_bytes() == b"damaged"

        wanted = missing(held, listing(OLD))
        assert [file.path for file in wanted.files] == [SHARD]
        put(held.directory.mending(PATH), {SHARD: NEW[SHARD]})
        with pytest.raises(DamagedError, match="SHA-256"):
            mend(publisher, held, listing(OLD))
        assert not verify(final, level=Level.MARKER).ok

        put(held.directory.mending(PATH), {SHARD: OLD[SHARD]})
        mended = mend(publisher, held, listing(OLD))
        assert mended.damaged == ()
        assert not held.directory.quarantine(PATH).exists()
    assert verify(final, level=Level.CONTENT).ok
    assert others == {n: (final / n).stat().st_ino for n in OLD if n != SHARD}


def test_in_memory_nothing_damaged_is_kept_aside(fast: Path) -> None:
    if not is_memory(fast):
        pytest.skip("needs a file system in memory")
    publish(fast, OLD)
    directory = CacheDirectory(fast)
    with writing(directory, PATH) as held:
        condemn(Publisher(), held, [SHARD])
    assert not (fast / PATH / SHARD).exists()
    assert not list(directory.work_area.glob("quarantine/*/*"))


def test_what_a_source_without_hashes_gives_again_is_compared_with_what_was_proven(
    tmp_path: Path,
) -> None:
    publish(tmp_path, OLD)
    bare = listing(OLD)
    files = tuple(msgspec.structs.replace(file, sha256=None, git_oid=None) for file in bare.files)
    bare = msgspec.structs.replace(bare, files=files)
    with writing(CacheDirectory(tmp_path), PATH) as held:
        condemn(Publisher(), held, [SHARD])
        put(held.directory.mending(PATH), {SHARD: NEW[SHARD]})
        with pytest.raises(DamagedError, match="SHA-256"):
            mend(Publisher(), held, bare)


def test_a_shard_cannot_be_mended_from_another_revision(tmp_path: Path) -> None:
    publish(tmp_path, OLD)
    with writing(CacheDirectory(tmp_path), PATH) as held:
        condemn(Publisher(), held, [SHARD])
        with pytest.raises(CacheError, match="revision r2 and not the one of r1"):
            missing(held, listing(NEW, revision="r2"))
        with pytest.raises(CacheError, match="no file of it"):
            condemn(Publisher(), held, ["../../etc/passwd"])


def test_in_place_the_marker_goes_first_and_comes_last(tmp_path: Path) -> None:
    held = Writing(CacheDirectory(tmp_path), IN_PLACE)
    publisher = Publisher()
    put(tmp_path, {"lost+found/x": b"", "another/model.gguf": b"GGUF"})
    put(publisher.begin(held, listing(OLD)), OLD)
    assert read_marker(tmp_path) is None
    publisher.publish(held, listing(OLD))
    assert verify(tmp_path, level=Level.CONTENT).ok
    publisher.begin(held, listing({"config.json": b"{}"}))
    assert read_marker(tmp_path) is None
    assert set(contents(tmp_path)) == {"config.json", "lost+found/x", "another/model.gguf"}


def test_sweeping_keeps_what_is_being_fetched_and_forgets_what_nobody_wants(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path)
    for path in ("a", "b"):
        put(directory.staging(path), {"part": b"x"})
        put(directory.quarantine(path), {"old": b"x" * 10, "new": b"y" * 10})
        os.utime(directory.quarantine(path) / "old", (1, 1))
    put(directory.trash("a"), NEW)
    swept = sweep(Publisher(), directory, wanted={"a": ""}, quarantine_bytes=20)
    assert swept.deleted == 4
    assert directory.staging("a").is_dir()
    assert not directory.staging("b").exists()
    assert [f.name for f in directory.work_area.glob("quarantine/*/*")] == ["new", "new"]
    assert not list((directory.work_area / "trash").iterdir())


def test_what_was_fetched_to_mend_a_model_goes_once_that_is_whole_in_another_way(
    tmp_path: Path,
) -> None:
    directory = CacheDirectory(tmp_path)
    publish(tmp_path, NEW)
    for path in (PATH, "gone"):
        put(directory.mending(path), {SHARD: b"half"})
        put(directory.mending_journal(path).parent, {directory.mending_journal(path).name: b"{}"})
    put(directory.staging(PATH), {SHARD: b"of the next revision"})
    with writing(directory, PATH) as held:
        condemn(Publisher(), held, [SHARD])
    wanted = {PATH: "", "gone": ""}
    sweep(Publisher(), directory, wanted=wanted)
    assert directory.mending(PATH).exists()
    assert not directory.mending("gone").exists()
    publish(tmp_path, NEW)
    put(directory.staging(PATH), {SHARD: b"of the next revision"})
    sweep(Publisher(), directory, wanted=wanted)
    assert not directory.mending(PATH).exists()
    assert not directory.mending_journal(PATH).exists()
    assert directory.staging(PATH).exists()


def test_what_cannot_be_deleted_is_said_once_and_keeps_nothing_else_from_being_swept(
    tmp_path: Path,
) -> None:
    directory = CacheDirectory(tmp_path)
    room = directory.work_area
    for path in ("a", "b"):
        put(directory.staging(path), {"part": b"x"})
        put(room / "trash" / path, NEW)
    (directory.quarantine("a") / "no file").mkdir(parents=True)  # what unlink(2) refuses
    put(directory.quarantine("b"), {"shard": b"x" * 10})
    staged, trashed = directory.staging("a"), room / "trash" / "a" / "mount"
    with mounted(staged, size="1m"), mounted(trashed, size="1m"), capture_logs() as logs:
        for _ in range(2):
            sweep(Publisher(), directory, wanted={}, quarantine_bytes=-1)
        assert [entry.name for entry in (room / "staging").iterdir()] == ["a"]
        assert [entry.name for entry in (room / "trash").iterdir()] == ["a"]
        assert [file.name for file in room.glob("quarantine/*/*")] == ["no file"]
    assert {line["entry"]: line["error"] for line in logs} == {
        str(room / "staging/a"): "Device or resource busy",
        str(room / "quarantine/a/no file"): "Is a directory",
        str(room / "trash/a"): "Device or resource busy",
    }
    assert len(logs) == 3


def test_a_revision_is_published_though_the_one_before_cannot_be_deleted(tmp_path: Path) -> None:
    publish(tmp_path, OLD)
    with mounted(tmp_path / PATH / "mount", size="1m"):
        publish(tmp_path, NEW, revision="r2")
        assert contents(tmp_path / PATH) == NEW


def test_a_model_that_another_process_writes_is_not_swept(tmp_path: Path) -> None:
    directory = CacheDirectory(tmp_path)
    put(directory.staging("b"), {"part": b"x"})
    with writing(directory, "b"):
        sweep(Publisher(), directory, wanted={})
    assert directory.staging("b").is_dir()


def test_a_real_model_opens_in_the_real_reader_after_it_was_published(tmp_path: Path) -> None:
    files = real_model()
    marker = publish(tmp_path, files)
    assert marker.bytes == sum(map(len, files.values())) > 90_000_000
    with safe_open(tmp_path / PATH / "model.safetensors", framework="numpy") as reader:
        names = list(reader.keys())
        assert reader.get_tensor("embeddings.word_embeddings.weight").shape == (30522, 384)
    verdict = verify(tmp_path / PATH, level=Level.HEADERS)
    assert (verdict.ok, verdict.tensors, verdict.kind) == (True, len(names), "safetensors")
