"""One model, whatever is there already: nothing is fetched that lies there whole."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from extender.errors import LockHeldError, NotRemovedError
from extender.loader.damaged import DamagedError
from extender.loader.downloading import Repeat
from extender.loader.failing import OwnCause, failure_of
from extender.loader.foreign import ForeignError
from extender.loader.layout import IN_PLACE, MARKER, CacheDirectory, escaped, writing
from extender.loader.mend import condemn
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.proof.marker import WHOLE, Marker, marker_text, read_marker
from extender.loader.proof.reading import Digests, Reader
from extender.loader.publish import Publisher
from extender.loader.sources import Cause, Credentials, SourceError
from extender.loader.sweep import sweep
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.transfer.limits import Limits
from extender.report import Transfer
from tests.loader.dying import in_child
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.models import contents, put, small_model

FILES = small_model()
SHARD = "model-00001-of-00002.safetensors"
ORIGIN = Origin(source="hf://org/small")


@pytest.fixture
def cache(fast: Path) -> CacheDirectory:
    return CacheDirectory(fast)


@pytest.fixture
def obtainer(hub: Hub, cache: CacheDirectory) -> Obtainer:
    credentials = Credentials(hub_endpoint=hub.url)
    return Obtainer(cache, Publisher(), open_source=opener(credentials), limits=Limits())


def test_a_model_that_is_not_there_is_fetched_proven_and_shown(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    marker = obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == FILES
    assert marker.source == "hf://org/small"
    assert marker.revision == hub.repositories["org/small"].commit
    assert not cache.journal("small").exists()


def test_what_is_up_to_date_costs_no_byte(obtainer: Obtainer, hub: Hub) -> None:
    first = obtainer.obtain("small", ORIGIN)
    sent = hub.bytes_sent()
    assert obtainer.obtain("small", ORIGIN) == first
    assert hub.bytes_sent() == sent


def test_a_new_revision_takes_the_place_of_the_old_one(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    obtainer.obtain("small", ORIGIN)
    newer = small_model(seed=1)
    hub.repositories["org/small"] = Repository(files=newer, large=500)
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == newer


@pytest.mark.parametrize("pinned", [False, True])
def test_half_of_a_revision_that_was_taken_back_is_deleted(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub, *, pinned: bool
) -> None:
    commit = hub.repositories["org/small"].commit
    first = Origin(source="hf://org/small", revision=commit) if pinned else ORIGIN
    obtainer.obtain("small", first)
    hub.repositories["org/small"] = Repository(files=small_model(seed=1), large=500)
    hub.troubles[SHARD] = [Trouble(status=404) for _ in range(20)]
    with pytest.raises(TransferError):
        obtainer.obtain("small", ORIGIN)
    assert cache.staging("small").exists()
    hub.repositories["org/small"] = Repository(files=dict(FILES), large=500)
    with writing(cache, "small"):
        if pinned:
            assert obtainer.obtain("small", first).revision == commit  # who is at work goes on
    assert cache.staging("small").exists()
    obtainer.obtain("small", first)
    assert not cache.staging("small").exists()
    assert not cache.journal("small").exists()


def test_other_patterns_are_another_model(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    hub.repositories["org/small"].files["README.md"] = b"words"
    obtainer.obtain("small", Origin(source="hf://org/small", exclude=("*.md",)))
    assert not (cache.final("small") / "README.md").exists()
    obtainer.obtain("small", ORIGIN)
    assert (cache.final("small") / "README.md").exists()


def test_a_damaged_file_is_fetched_alone(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    obtainer.obtain("small", ORIGIN)
    with writing(cache, "small") as held:
        condemn(obtainer.publisher, held, [SHARD])
    hub.served.clear()
    marker = obtainer.obtain("small", ORIGIN)
    assert {one.path for one in hub.served} == {SHARD}
    assert not marker.damaged
    assert contents(cache.final("small")) == FILES


def test_a_damaged_model_of_an_older_revision_is_fetched_whole(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    obtainer.obtain("small", ORIGIN)
    with writing(cache, "small") as held:
        condemn(obtainer.publisher, held, [SHARD])
    newer = small_model(seed=1)
    hub.repositories["org/small"] = Repository(files=newer, large=500)
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == newer


def test_what_another_tool_left_whole_is_adopted_without_a_download(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    put(cache.final("small"), FILES)
    marker = obtainer.obtain("small", ORIGIN)
    assert marker.adopted
    assert hub.bytes_sent() == 0
    assert read_marker(cache.final("small")) == marker


HALF = {path: data[: len(data) // 2] for path, data in FILES.items()}


def a_directory(final: Path) -> None:
    put(final, HALF)


def a_file(final: Path) -> None:
    put(final.parent, {final.name: b"by hand"})


def a_link_whose_disk_is_not_mounted(final: Path) -> None:
    final.symlink_to("/nowhere/model")


@pytest.mark.parametrize("leave", [a_directory, a_file, a_link_whose_disk_is_not_mounted])
def test_what_another_program_left_is_never_replaced_unless_somebody_says_so(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub, leave: Callable[[Path], None]
) -> None:
    final = cache.final("small")
    leave(final)
    before = os.lstat(final).st_ino
    with pytest.raises(ForeignError, match=f"{final}: another program put it there") as refused:
        obtainer.obtain("small", ORIGIN)
    assert "remove or rename it, or let it be replaced (replaceForeign" in str(refused.value)
    assert hub.bytes_sent() == 0
    assert os.lstat(final).st_ino == before
    obtainer.obtain("small", ORIGIN, replace_foreign=True)
    assert contents(final) == FILES


def test_what_was_refused_is_read_again_only_once_it_has_changed(
    obtainer: Obtainer, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**FILES, SHARD: FILES[SHARD][:-1] + b"!"}
    shard = put(cache.final("small"), other) / SHARD
    read: list[Path] = []
    digests = Reader.digests

    def noted(self: Reader, path: Path, *, git: bool = False) -> Digests:
        read.append(path)
        return digests(self, path, git=git)

    monkeypatch.setattr(Reader, "digests", noted)
    for _ in range(3):
        with pytest.raises(ForeignError, match="SHA-256"):
            obtainer.obtain("small", ORIGIN)
    assert read.count(shard) == 1
    shard.write_bytes(FILES[SHARD])
    assert obtainer.obtain("small", ORIGIN).adopted


@pytest.mark.parametrize("replace", [False, True])
def test_a_model_that_had_a_path_below_is_waited_for_and_never_replaced(
    obtainer: Obtainer, cache: CacheDirectory, *, replace: bool
) -> None:
    """The catalog gave small/v1 the path small: the one below stays for its grace."""
    obtainer.obtain("small/v1", ORIGIN)
    with pytest.raises(NotRemovedError, match=r"small/v1 lies in this directory; .* once that has"):
        obtainer.obtain("small", ORIGIN, replace_foreign=replace)
    assert contents(cache.final("small/v1")) == FILES
    with writing(cache, "small/v1") as held:
        obtainer.publisher.remove(held)
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == FILES


def test_an_empty_directory_that_a_pod_came_too_early_for_is_nothing(
    obtainer: Obtainer, cache: CacheDirectory
) -> None:
    (cache.final("small") / "original").mkdir(parents=True)
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == FILES


def test_of_a_new_revision_only_what_changed_is_fetched(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    obtainer.obtain("small", ORIGIN)
    newer = {**FILES, "config.json": b'{"model_type": "llama", "vocab_size": 101}'}
    hub.repositories["org/small"] = Repository(files=newer, large=500)
    hub.served.clear()
    asked: list[int] = []
    obtainer.obtain("small", ORIGIN, make_room=lambda needed, _: asked.append(needed))
    assert {one.path for one in hub.served} == {"config.json"}
    assert asked == [len(newer["config.json"])]
    assert contents(cache.final("small")) == newer


def test_what_was_kept_of_an_old_revision_is_proven_with_the_new_one(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    """A byte that turned on the disk since, and shows in no size or time."""
    obtainer.obtain("small", ORIGIN)
    shard = cache.final("small") / SHARD
    seen = shard.stat()
    with shard.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    newer = {**FILES, "config.json": b"{}"}
    hub.repositories["org/small"] = Repository(files=newer, large=500)
    hub.served.clear()
    obtainer.obtain("small", ORIGIN)
    assert {one.path for one in hub.served} == {"config.json", SHARD}
    assert contents(cache.final("small")) == newer


def test_a_commit_that_is_there_is_not_asked_for_again(obtainer: Obtainer, hub: Hub) -> None:
    pinned = Origin(source="hf://org/small", revision=hub.repositories["org/small"].commit)
    first = obtainer.obtain("small", pinned)
    hub.asked.clear()
    assert obtainer.obtain("small", pinned) == first
    assert hub.asked == []
    hub.repositories["org/small"].files["README.md"] = b"words"
    hub.repositories["org/small"].claimed_commit = str(pinned.revision)
    obtainer.obtain("small", msgspec.structs.replace(pinned, exclude=("x",)))
    assert hub.asked != []


def test_a_model_in_doubt_as_a_whole_is_proven_where_it_lies(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    marker = obtainer.obtain("small", ORIGIN)
    with writing(cache, "small") as held:
        obtainer.publisher.write_marker(held, msgspec.structs.replace(marker, damaged=(WHOLE,)))
    hub.served.clear()
    after = obtainer.obtain("small", ORIGIN)
    assert (after.damaged, after.adopted) == ((), False)
    assert hub.served == []


@pytest.mark.parametrize("what", ["whole", "mended"])
@pytest.mark.parametrize("place", ["small", IN_PLACE])
def test_what_a_kill_leaves_after_the_last_step_is_swept(
    obtainer: Obtainer,
    cache: CacheDirectory,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    what: str,
) -> None:
    if what == "mended":
        obtainer.obtain(place, ORIGIN)
        with writing(cache, place) as held:
            condemn(obtainer.publisher, held, [SHARD])
    with monkeypatch.context() as killed:
        killed.setattr(Obtainer, "_forget", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert not in_child(lambda: obtainer.obtain(place, ORIGIN))
    journals = cache.work_area / "journals"
    (journals / f"{escaped(place)}+new").touch()
    assert len(list(journals.iterdir())) == 2
    sweep(Publisher(), cache)
    left = {path.name for path in journals.iterdir()}
    assert left <= {"%2E"}  # in place it tells of what is there
    assert contents(cache.final(place)) == FILES
    assert obtainer.obtain(place, ORIGIN).damaged == ()
    assert not list(journals.iterdir())


def test_a_sweep_leaves_what_a_download_goes_on_from(cache: CacheDirectory) -> None:
    for journal, room in (
        (cache.journal("small"), cache.staging("small")),
        (cache.journal("small.mending"), cache.staging("small.mending")),
        (cache.mending_journal("small"), cache.mending("small")),
    ):
        put(journal.parent, {journal.name: b""})
        put(room, {SHARD: b"half"})
    put(cache.final("small"), {MARKER: marker_text(Marker(id="1", path="small", damaged=(SHARD,)))})
    assert not sweep(Publisher(), cache).deleted


def test_a_file_takes_the_name_that_a_directory_had_in_a_download_given_up(
    obtainer: Obtainer, cache: CacheDirectory
) -> None:
    put(cache.staging("small"), {"config.json/old": b"x", "tokenizer.json": b"y"})
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == FILES


def test_wrong_bytes_are_fetched_again_and_never_shown(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    hub.troubles[SHARD] = [Trouble(flip=True, at_hub=False)]
    obtainer.obtain("small", ORIGIN)
    assert contents(cache.final("small")) == FILES


def test_bytes_that_stay_wrong_are_an_error_and_never_shown(
    obtainer: Obtainer, cache: CacheDirectory, hub: Hub
) -> None:
    hub.troubles[SHARD] = [Trouble(flip=True, at_hub=False) for _ in range(9)]
    with pytest.raises(DamagedError, match="SHA-256") as refused:
        obtainer.obtain("small", ORIGIN)
    assert failure_of(refused.value).cause == OwnCause.DAMAGED  # and not so at the source
    assert not cache.final("small").exists()


def test_a_stopped_download_goes_on_where_it_was(obtainer: Obtainer, hub: Hub, fast: Path) -> None:
    large = small_model(size=400_000)
    hub.repositories["org/small"] = Repository(files=large, large=500)
    hub.delay = 0.01
    seen: list[Transfer] = []
    with pytest.raises(TransferError) as stopped:
        obtainer.obtain("small", ORIGIN, tell=seen.append, stop=lambda: len(seen) > 2)
    assert stopped.value.cause is LocalCause.STOPPED
    assert not (fast / "small").exists()
    obtainer.obtain("small", ORIGIN)
    assert contents(fast / "small") == large


def test_room_is_asked_for_before_the_first_byte(obtainer: Obtainer, hub: Hub) -> None:
    asked: list[tuple[int, int]] = []
    obtainer.obtain(
        "small", ORIGIN, make_room=lambda needed, _: asked.append((needed, hub.bytes_sent()))
    )
    assert asked == [(sum(len(data) for data in FILES.values()), 0)]


def test_one_writer_at_a_time(obtainer: Obtainer, cache: CacheDirectory) -> None:
    with writing(cache, "small"), pytest.raises(LockHeldError):
        obtainer.obtain("small", ORIGIN)


def test_what_the_hub_does_not_have_is_said_in_words(obtainer: Obtainer) -> None:
    with pytest.raises(SourceError, match="org/none") as error:
        obtainer.obtain("none", Origin(source="hf://org/none"))
    assert error.value.cause in {Cause.NOT_FOUND, Cause.UNAUTHORIZED}


class Counted:
    """What an obtainer tells of the bytes that come."""

    def __init__(self, hub: Hub, cache: CacheDirectory) -> None:
        self.received = 0
        self.again: Counter[Repeat] = Counter()
        self.obtainer = Obtainer(
            cache,
            Publisher(),
            open_source=opener(Credentials(hub_endpoint=hub.url)),
            limits=Limits(),
            received=self._came,
            repeated=lambda why, count: self.again.update({why: count}),
        )

    def obtain(self) -> None:
        self.obtainer.obtain("small", ORIGIN)

    def _came(self, count: int) -> None:
        self.received += count


@pytest.fixture
def counted(hub: Hub, cache: CacheDirectory) -> Counted:
    return Counted(hub, cache)


SIZE = sum(map(len, FILES.values()))


def test_what_comes_once_is_nothing_fetched_again(counted: Counted, hub: Hub) -> None:
    counted.obtain()
    hub.repositories["org/small"] = Repository(files=small_model(seed=1), large=500)
    counted.obtain()
    weights = sum(len(data) for path, data in FILES.items() if path.endswith(".safetensors"))
    assert counted.received == SIZE + weights  # the other files are the same
    assert not +counted.again


def test_a_damaged_file_is_counted_as_fetched_again(
    counted: Counted, cache: CacheDirectory
) -> None:
    counted.obtain()
    with writing(cache, "small") as held:
        condemn(counted.obtainer.publisher, held, [SHARD])
    counted.obtain()
    assert +counted.again == {Repeat.DAMAGED: len(FILES[SHARD])}


def test_bytes_that_came_wrong_are_counted_as_fetched_again(counted: Counted, hub: Hub) -> None:
    hub.troubles[SHARD].append(Trouble(flip=True))
    counted.obtain()
    assert +counted.again == {Repeat.DAMAGED: len(FILES[SHARD])}


def test_a_model_that_was_removed_is_counted_as_fetched_again(
    counted: Counted, cache: CacheDirectory
) -> None:
    counted.obtain()
    shutil.rmtree(cache.final("small"))
    counted.obtain()
    assert +counted.again == {Repeat.REMOVED: SIZE}
