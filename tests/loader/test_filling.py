"""``loader fill``: one model into a claim or a memory-backed volume, from the nearest copy."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from extender.errors import CacheError, LockHeldError
from extender.loader.filling import Filling
from extender.loader.layout import CacheDirectory, writing
from extender.loader.mend import condemn
from extender.loader.origin import Origin
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.publish import Publisher
from extender.loader.sources import Cause, Credentials, Part, SourceError
from tests.loader.hub import TOKEN, Hub, Repository, Trouble, git_oid, sha256_of
from tests.loader.loader_process import wait_for
from tests.loader.models import contents, hub_cache, put, small_model

MEBIBYTE = 2**20
FILES = small_model(size=2 * MEBIBYTE)
NEWER = small_model(seed=1, size=2 * MEBIBYTE)
SHARD = "model-00001-of-00002.safetensors"
ORIGIN = Origin(source="hf://org/small")
WEIGHTS = sum(len(data) for data in FILES.values())


def fill(hub: Hub, dest: Path, *nearer: Path, origin: Origin = ORIGIN) -> Marker:
    credentials = Credentials(hub_endpoint=hub.url)
    filling = Filling(dest, credentials=credentials, connections=4, bytes_per_second=0)
    return filling.fill(origin, nearer=nearer)


class Process:
    """``loader fill`` as a Job runs it; ``log`` is what it says."""

    def __init__(self, hub: Hub, dest: Path, *options: str, source: str = "hf://org/small") -> None:
        self._errors = TemporaryFile()  # noqa: SIM115 - as long as this object
        self._process = subprocess.Popen(
            [sys.executable, "-m", "extender", "loader", "fill", source, str(dest), *options],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN},
            stderr=self._errors,
        )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        return self._process.wait(120)

    @property
    def log(self) -> str:
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode()


def test_two_that_fill_one_directory_at_once_fetch_it_once(hub: Hub, fast: Path) -> None:
    hub.delay = 0.002
    both = [Process(hub, fast / "small") for _ in range(2)]
    assert [process.ended() for process in both] == [0, 0]
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() == WEIGHTS


@pytest.mark.parametrize("revision", [None, "commit"])
@pytest.mark.parametrize("harm", ["gone", "cut", "foreign"])
def test_what_was_damaged_since_it_was_filled_is_fetched_again_alone(
    hub: Hub, fast: Path, revision: str | None, harm: str
) -> None:
    commit = hub.repositories["org/small"].commit
    origin = Origin(source="hf://org/small", revision=commit if revision else None)
    marker = fill(hub, fast / "small", origin=origin)
    shard = fast / "small" / SHARD
    if harm == "gone":
        shard.unlink()
    elif harm == "cut":
        os.truncate(shard, 100)
    else:
        shard.write_bytes(NEWER[SHARD])
    sent = hub.bytes_sent()
    again = fill(hub, fast / "small", origin=origin)
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() - sent == len(FILES[SHARD])
    assert (again.id, again.damaged) == (marker.id, ())


def test_a_second_model_is_filled_beside_the_first(hub: Hub, fast: Path) -> None:
    hub.repositories["org/newer"] = Repository(files=NEWER, large=500)
    fill(hub, fast / "small")
    fill(hub, fast / "newer", origin=Origin(source="hf://org/newer"))
    assert contents(fast / "small") == FILES
    assert contents(fast / "newer") == NEWER


@pytest.mark.parametrize("below", ["lora", "parts/lora"])
def test_nothing_is_filled_inside_of_a_model_that_would_take_it_along(
    hub: Hub, fast: Path, below: str
) -> None:
    fill(hub, fast / "small")
    process = Process(hub, fast / "small" / below)
    assert process.ended() == 2
    assert f"lies in the model {fast / 'small'}; give it one beside that" in process.log
    assert contents(fast / "small") == FILES


def test_no_model_goes_with_the_old_revision_that_it_was_put_into(hub: Hub, fast: Path) -> None:
    fill(hub, fast / "small")
    fill(hub, fast / "lora")
    (fast / "lora").rename(fast / "small" / "lora")
    hub.repositories["org/small"] = Repository(files=NEWER, large=500)
    process = Process(hub, fast / "small", "--replace-in-use")
    assert process.ended() == 1
    assert "the model small/lora lies in this directory; it would go with" in process.log
    assert "move it out" in process.log
    assert "grace" not in process.log  # no loader looks for models in one
    assert contents(fast / "small" / "lora") == FILES


def test_after_a_kill_the_next_run_goes_on(hub: Hub, fast: Path) -> None:
    files = small_model(size=12 * MEBIBYTE)
    hub.repositories["org/small"] = Repository(files=files, large=500)
    hub.piece, hub.delay = 256 * 1024, 0.06
    killed = Process(hub, fast / "small", "--connections", "1")
    wait_for(lambda: hub.bytes_sent() > 14 * MEBIBYTE)
    killed.send(signal.SIGKILL)
    assert killed.ended() == -signal.SIGKILL
    assert not (fast / "small").exists()
    hub.delay = 0.0
    assert Process(hub, fast / "small").ended() == 0
    assert contents(fast / "small") == files
    part = 8 * MEBIBYTE  # what one connection had received, and what was on its way
    assert hub.bytes_sent() < sum(len(data) for data in files.values()) + part + MEBIBYTE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_in_words(hub: Hub, fast: Path, number: signal.Signals) -> None:
    hub.troubles[SHARD] = [Trouble(hang_after=MEBIBYTE, at_hub=False)]
    process = Process(hub, fast / "small")
    wait_for(lambda: hub.bytes_sent(SHARD) >= MEBIBYTE)
    began = time.monotonic()
    process.send(number)
    assert process.ended() == 1
    assert time.monotonic() - began < 25  # and not the half minute that a silent server gets
    assert "stopped before it was complete" in process.log


def test_one_that_waits_for_another_says_so_and_can_be_stopped(hub: Hub, fast: Path) -> None:
    with writing(CacheDirectory(fast), "small", name="the other"):
        process = Process(hub, fast / "small")
        wait_for(lambda: "waiting for another writer" in process.log)
        process.send(signal.SIGTERM)
        assert process.ended() == 1
    assert "of the other is at work here" in process.log


@pytest.mark.parametrize(
    ("source", "options", "code", "words"),
    [
        ("hf://org/none", "", 1, "error: source hf://org/none"),
        ("org/small", "", 2, "is not a source; write one of hf://"),
        ("hf://org/small", "--bytes-per-second=fast", 2, "is not a Kubernetes quantity"),
        ("s3://bucket/x", "--revision=v1", 2, "has no revisions"),
    ],
)
def test_what_cannot_be_had_is_1_and_what_cannot_be_meant_is_2(
    fast: Path, source: str, options: str, code: int, words: str
) -> None:
    with Hub() as hub:
        process = Process(hub, fast / "small", *options.split(), source=source)
        assert process.ended() == code
    assert words in process.log
    assert "Traceback" not in process.log


def test_what_it_was_not_able_to_check_is_said(hub: Hub, fast: Path) -> None:
    """Each time: what was filled before is not known any better."""
    single = put(fast / "single", {"one.safetensors": FILES[SHARD]})
    refused = Process(hub, fast / "small", source=f"file://{single}")
    assert refused.ended() == 1
    assert "config.json: is not there beside the weights" in refused.log
    for _ in range(2):
        told = Process(hub, fast / "small", "--without", "config", source=f"file://{single}")
        assert told.ended() == 0
        assert "not checked: config.json: is not there beside the weights" in told.log
        assert "not checked: the content of 1 files: read, but there is no hash" in told.log


def test_a_file_in_the_place_of_a_directory_is_what_is_said_to_be_in_the_way(
    hub: Hub, fast: Path
) -> None:
    (fast / "models").write_text("")
    with pytest.raises(CacheError, match="a file lies where a directory has to be"):
        fill(hub, fast / "models" / "small")


def test_neither_token_nor_signed_links_are_said(hub: Hub, fast: Path) -> None:
    hub.troubles[SHARD] = [Trouble(status=503), Trouble(cut_after=MEBIBYTE)]
    process = Process(hub, fast / "small")
    assert process.ended() == 0
    assert "downloading" in process.log
    assert TOKEN not in process.log
    assert "Signature" not in process.log


def test_on_a_terminal_there_is_a_bar(hub: Hub, fast: Path) -> None:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "extender", "loader", "fill", "hf://org/small", str(fast / "small")],
        env={**os.environ, "HF_ENDPOINT": hub.url, "TERM": "xterm", "COLUMNS": "100"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(terminal, 65536):
            shown += block
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(terminal)
    assert process.wait(60) == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "━" in text
    assert "downloading" not in text
    assert f"{fast / 'small'}: whole: 5 files, 4.0 MiB" in text.replace("\r\n", "")


def test_what_is_whole_nearby_is_copied_and_nothing_is_asked(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    fill(hub, tmp_path / "cache" / "small")
    hub.asked.clear()
    marker = fill(hub, fast / "small", fast / "nothing-here", tmp_path / "cache" / "small")
    assert hub.asked == []
    assert contents(fast / "small") == FILES
    assert marker.source == "hf://org/small"
    assert marker.revision == hub.repositories["org/small"].commit


def test_a_copy_is_known_later_for_what_it_is(hub: Hub, fast: Path, tmp_path: Path) -> None:
    """An init container that runs again on a node whose cache let the model go."""
    fill(hub, tmp_path / "cache" / "small")
    copied = fill(hub, fast / "small", tmp_path / "cache" / "small")
    shutil.rmtree(tmp_path / "cache")
    sent = hub.bytes_sent()
    assert fill(hub, fast / "small", tmp_path / "cache" / "small") == copied
    assert hub.bytes_sent() == sent


def test_a_copy_is_compared_with_what_was_proven_there(
    hub: Hub, fast: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte that turned on the cache's disk shows in no size, time or header."""
    cache = tmp_path / "cache" / "small"
    fill(hub, cache)
    seen = (cache / SHARD).stat()
    with (cache / SHARD).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(cache / SHARD, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    hub.served.clear()
    fill(hub, fast / "small", cache)
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent(SHARD) == len(FILES[SHARD])
    assert hub.bytes_sent("model-00002-of-00002.safetensors") == 0  # the good half was kept


def _cut(cache: Path, hub: Hub) -> None:
    os.truncate(cache / SHARD, 1000)


def _condemned(cache: Path, hub: Hub) -> None:
    with writing(CacheDirectory(cache.parent), cache.name) as held:
        condemn(Publisher(), held, [SHARD])


def _of_another_repository(cache: Path, hub: Hub) -> None:
    hub.repositories["org/other"] = Repository(files=NEWER, large=500)
    fill(hub, cache, origin=Origin(source="hf://org/other"))


def _half_a_foreign_download(cache: Path, hub: Hub) -> None:
    shutil.rmtree(cache)
    put(cache, {path: data[: len(data) // 2] for path, data in FILES.items()})


@pytest.mark.parametrize(
    "spoil", [_cut, _condemned, _of_another_repository, _half_a_foreign_download]
)
def test_what_is_not_whole_nearby_or_another_model_is_not_copied(
    hub: Hub, fast: Path, tmp_path: Path, spoil: object
) -> None:
    cache = tmp_path / "cache" / "small"
    fill(hub, cache)
    assert callable(spoil)
    spoil(cache, hub)
    hub.served.clear()
    fill(hub, fast / "small", cache)
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() == WEIGHTS


def test_a_branch_is_looked_up_before_another_revision_is_copied(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "small"
    old = fill(hub, cache).revision
    hub.repositories["org/small"] = Repository(files=NEWER, large=500)
    fill(hub, fast / "new", cache, origin=Origin(source="hf://org/small", revision="main"))
    fill(hub, fast / "old", cache, origin=Origin(source="hf://org/small", revision=old))
    fill(hub, fast / "any", cache)
    assert contents(fast / "new") == NEWER
    assert contents(fast / "old") == contents(fast / "any") == FILES


def test_a_directory_that_another_tool_filled_is_copied_where_it_is_whole(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    put(tmp_path / "claim", FILES)
    fill(hub, fast / "small", tmp_path / "claim")
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() == 0


def _plain(place: Path) -> Path:
    return put(place / "claim", NEWER)


def _local_dir(place: Path) -> Path:
    """``hf download --local-dir`` writes which commit it was, and not of which repository."""
    metadata = f".cache/huggingface/download/{SHARD}.metadata"
    return put(place / "local", {**NEWER, metadata: f"{'d' * 40}\n\n1.0\n".encode()})


def _mounted_cache(place: Path) -> Path:
    return hub_cache(place, NEWER).parent.parent.rename(place / "mnt")


@pytest.mark.parametrize("left", [_plain, _local_dir, _mounted_cache])
@pytest.mark.parametrize("pinned", [False, True])
def test_of_what_tells_nothing_each_file_is_compared_with_the_hub(
    hub: Hub, fast: Path, tmp_path: Path, left: Callable[[Path], Path], *, pinned: bool
) -> None:
    """Other weights of the same names and sizes; the small files are those of this model."""
    commit = hub.repositories["org/small"].commit
    origin = Origin(source="hf://org/small", revision=commit if pinned else None)
    nearby = left(tmp_path)
    marker = fill(hub, fast / "small", nearby, origin=origin)
    assert contents(fast / "small") == FILES
    assert (marker.source, marker.revision) == ("hf://org/small", commit)
    weights = sum(len(data) for path, data in FILES.items() if path.endswith(".safetensors"))
    if left is _plain or not pinned:
        assert hub.bytes_sent() == weights
    else:  # it says itself that it is another commit: not copied at all
        assert hub.bytes_sent() == WEIGHTS
    sent = hub.bytes_sent()
    assert fill(hub, fast / "small", origin=origin) == marker
    assert hub.bytes_sent() == sent


def test_a_file_of_another_length_or_one_that_is_not_there_comes_from_the_source(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    files = {**FILES, "README.md": b"of the hub alone", SHARD: small_model(seed=2)[SHARD]}
    nearby = put(tmp_path / "claim", {p: d for p, d in files.items() if p != "README.md"})
    hub.repositories["org/small"].files["README.md"] = files["README.md"]
    fill(hub, fast / "small", nearby)
    assert contents(fast / "small") == {**files, SHARD: FILES[SHARD]}
    assert hub.bytes_sent() == len(FILES[SHARD]) + len(files["README.md"])


def test_a_local_dir_is_compared_with_the_hashes_that_its_tool_wrote(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    """The right commit, and a file that somebody changed since."""
    commit = hub.repositories["org/small"].commit
    metadata = {
        f".cache/huggingface/download/{path}.metadata": f"{commit}\n{hash_}\n1.0\n".encode()
        for path, data in FILES.items()
        for hash_ in (sha256_of(data) if path.endswith(".safetensors") else git_oid(data),)
    }
    nearby = put(tmp_path / "local", {**FILES, **metadata, SHARD: NEWER[SHARD]})
    origin = Origin(source="hf://org/small", revision=commit)
    fill(hub, fast / "small", nearby, origin=origin)
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() == len(FILES[SHARD])


@pytest.mark.parametrize("pinned", [False, True])
def test_where_the_hub_cannot_be_asked_a_plain_directory_is_taken_at_its_word_until_it_can(
    hub: Hub, fast: Path, tmp_path: Path, *, pinned: bool
) -> None:
    nearby = put(tmp_path / "claim", NEWER)
    commit = hub.repositories["org/small"].commit
    options = ["--from", str(nearby), *(["--revision", commit] if pinned else [])]
    hub.troubles["info"] = [Trouble(status=503)] * 99
    for _ in range(2):
        process = Process(hub, fast / "small", *options)
        assert process.ended() == 0
        assert re.search(r"taken at its word .*has a fault \(503\)", process.log)
        assert contents(fast / "small") == NEWER
    hub.troubles.clear()
    process = Process(hub, fast / "small", *options)
    assert process.ended() == 0
    assert "taken at its word" not in process.log
    assert contents(fast / "small") == FILES


@pytest.mark.parametrize("flag", [{}, {"README.md": b"a cache"}])
def test_a_cache_of_models_that_nothing_names_is_taken_for_none_of_them(
    hub: Hub, fast: Path, tmp_path: Path, flag: dict[str, bytes]
) -> None:
    """Its models would all come into one directory."""
    for name in ("one", "two"):
        put(tmp_path / "cache" / name, NEWER)
    put(tmp_path / "cache", flag)
    lines = (f"{sha256_of(data)}  {path}\n" for path, data in FILES.items())
    hub.web = {f"m/{path}": data for path, data in FILES.items()}
    hub.web["m/SHA256SUMS"] = "".join(lines).encode()
    source = f"{hub.url}/web/m/"
    process = Process(hub, fast / "small", "--from", str(tmp_path / "cache"), source=source)
    assert process.ended() == 0, process.log
    assert "nothing tells which is this one" in process.log
    assert contents(fast / "small") == FILES


@pytest.mark.parametrize("place", ["snapshot", "relative", "cache", "mounted", "local_dir"])
def test_what_the_hubs_tools_fetched_is_copied_only_for_what_it_is(
    hub: Hub, fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    commit = hub.repositories["org/small"].commit
    snapshot = hub_cache(tmp_path, NEWER, commit=commit)
    cache = snapshot.parent.parent
    if place == "relative":
        monkeypatch.chdir(snapshot.parent)
    if place == "mounted":  # under a name that tells nothing
        cache = cache.rename(tmp_path / "mnt")
    nearby = {
        "snapshot": snapshot,
        "relative": Path(snapshot.name),
        "cache": cache,
        "mounted": cache,
        "local_dir": tmp_path / "local",
    }[place]
    metadata = f".cache/huggingface/download/{SHARD}.metadata"
    put(tmp_path / "local", {**NEWER, metadata: f"{commit}\n\n1.0\n".encode()})
    pinned = Origin(source="hf://org/small", revision=commit)
    fill(hub, fast / "small", nearby, origin=pinned)
    assert contents(fast / "small") == NEWER  # this very commit, so the tools say
    others = [Origin(source="hf://org/small", revision="d" * 40)]
    if place not in {"mounted", "local_dir"}:
        others.append(Origin(source="hf://org/other", revision=commit))
    for other in others:
        with pytest.raises(SourceError, match="org/"):
            fill(hub, fast / "other", nearby, origin=other)
        assert not (fast / "other").exists()


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("kind", ["cache of a loader", "cache of the hub", "its home"])
def test_of_a_cache_of_many_the_one_that_is_asked_for_is_copied(
    hub: Hub, fast: Path, tmp_path: Path, kind: str, *, pinned: bool
) -> None:
    hub.repositories["org/other"] = Repository(files=NEWER, large=500)
    commit = hub.repositories["org/small"].commit
    cache = tmp_path / "cache"
    if kind == "cache of a loader":
        fill(hub, cache / "mine")
        fill(hub, cache / "other", origin=Origin(source="hf://org/other"))
    else:
        within = cache if kind == "cache of the hub" else cache / "hub"
        hub_cache(within, FILES, commit=commit)
        put(within, {f"models--org--other/snapshots/{'d' * 40}/{p}": d for p, d in NEWER.items()})
    sent = hub.bytes_sent()
    origin = Origin(source="hf://org/small", revision=commit if pinned else None)
    fill(hub, fast / "small", cache, origin=origin)
    assert contents(fast / "small") == FILES
    assert hub.bytes_sent() == sent
    hub.repositories["org/third"] = Repository(files=small_model(seed=3), large=500)
    third = Origin(source="hf://org/third")
    fill(hub, fast / "third", cache, origin=third)
    assert contents(fast / "third") == small_model(seed=3)
    with pytest.raises(SourceError, match=r"holds models \(.*\) and is none itself; name one"):
        fill(hub, fast / "all", origin=Origin(source=f"file://{cache}"))


def test_what_a_model_is_meant_to_have_none_of_is_not_missed_nearby(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    head = {path: data for path, data in FILES.items() if path != "tokenizer.json"}
    nearby = put(tmp_path / "head", head)
    origin = Origin(source="hf://org/none", without=(Part.TOKENIZER,))
    fill(hub, fast / "small", nearby, origin=origin)
    assert contents(fast / "small") == head


def test_a_name_that_is_no_text_is_refused_at_the_source_and_no_harm_at_the_destination(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"\xff.txt")
    put(fast / "small", {**FILES, odd: b""})
    assert fill(hub, fast / "small").adopted
    origin = put(tmp_path / "origin", {**FILES, odd: b""})
    with pytest.raises(SourceError, match=r"origin: \\xff\.txt: is not UTF-8; rename it"):
        fill(hub, fast / "other", origin=Origin(source=f"file://{origin}"))
    fill(hub, fast / "other", origin=Origin(source=f"file://{origin}", exclude=("*.txt",)))
    assert contents(fast / "other") == FILES


def test_a_claim_that_another_tool_filled_up_to_its_root_is_proven_and_kept(
    hub: Hub, memory: Path
) -> None:
    put(memory, FILES)
    inode = (memory / SHARD).stat().st_ino
    assert fill(hub, memory).adopted
    assert hub.bytes_sent() == 0
    assert (memory / SHARD).stat().st_ino == inode


def test_what_another_tool_left_that_is_not_the_model_is_said_and_left_unless_told_otherwise(
    hub: Hub, fast: Path
) -> None:
    other = {**FILES, SHARD: FILES[SHARD][:-1] + b"!"}
    put(fast / "small", other)
    refused = Process(hub, fast / "small")
    assert refused.ended() == 1
    assert "another program put it there" in refused.log
    assert "fill --replace" in refused.log
    assert contents(fast / "small") == other
    assert Process(hub, fast / "small", "--replace").ended() == 0
    assert contents(fast / "small") == FILES


def used(directory: Path) -> int:
    return shutil.disk_usage(directory).used


@pytest.mark.parametrize("below", ["", "small"])
def test_memory_never_holds_two_copies(hub: Hub, memory: Path, below: str) -> None:
    peak = 0

    def watch() -> None:
        nonlocal peak
        peak = max(peak, used(memory))

    for path in FILES:
        hub.troubles[path] = [Trouble(meanwhile=watch) for _ in range(20)]
    fill(hub, memory / below)
    hub.repositories["org/small"] = Repository(files=NEWER, large=500)
    fill(hub, memory / below)
    assert contents(memory / below) == NEWER
    same = sum(len(data) for path, data in FILES.items() if NEWER[path] == data)
    assert 2 * WEIGHTS - same <= hub.bytes_sent() <= 2 * WEIGHTS
    assert WEIGHTS / 2 < max(peak, used(memory)) < 1.1 * WEIGHTS


def test_a_killed_fill_of_memory_goes_on_in_place(hub: Hub, memory: Path) -> None:
    hub.delay = 0.01
    killed = Process(hub, memory, "--connections", "1")
    wait_for(lambda: hub.bytes_sent() > 3 * MEBIBYTE)
    killed.send(signal.SIGKILL)
    killed.ended()
    assert read_marker(memory) is None
    hub.delay = 0.0
    fill(hub, memory)
    assert contents(memory) == FILES
    assert hub.bytes_sent() < 2 * WEIGHTS


@pytest.mark.parametrize("below", ["", "small"])
def test_a_volume_that_is_too_small_is_told_before_the_first_byte(
    hub: Hub, memory: Path, below: str
) -> None:
    hub.repositories["org/small"] = Repository(files=small_model(size=4 * MEBIBYTE), large=500)
    with pytest.raises(CacheError) as refused:
        fill(hub, memory / below)
    assert hub.bytes_sent() == 0
    assert "8.0 MiB are to be written" in str(refused.value)
    assert "of 6.0 MiB are free; set the volume's sizeLimit above 8." in str(refused.value)


def held_in(files: dict[str, int]) -> dict[str, bytes]:
    """Files of so many MiB each, whose bytes go by their names and sizes."""
    return {
        name: f"{name}{size}".encode()[:2] * (size * MEBIBYTE // 2) for name, size in files.items()
    }


@pytest.mark.parametrize(
    "newer", [{"a.bin": 1, "b.bin": 7}, {"a.bin": 3, "b.bin": 4}], ids=["other", "in part the same"]
)
def test_the_model_that_is_there_stays_where_the_new_one_has_no_room_without_it_either(
    hub: Hub, memory: Path, newer: dict[str, int]
) -> None:
    """In 6 MiB: of the second, 3 MiB are there, and go with the old model if that one goes."""
    old = held_in({"a.bin": 3, "b.bin": 1})
    hub.repositories["org/small"] = Repository(files=dict(old), large=500)
    marker = fill(hub, memory / "small")
    hub.repositories["org/small"] = Repository(files=held_in(newer), large=500)
    sent = hub.bytes_sent()
    with pytest.raises(CacheError, match=r"are free without the model .* sizeLimit above [78]\."):
        fill(hub, memory / "small")
    assert contents(memory / "small") == old
    assert read_marker(memory / "small") == marker
    assert hub.bytes_sent() == sent


def test_what_went_for_room_is_fetched_though_it_was_at_hand(hub: Hub, memory: Path) -> None:
    hub.repositories["org/small"] = Repository(files=held_in({"a.bin": 1, "b.bin": 3}), large=500)
    fill(hub, memory / "small")
    newer = held_in({"a.bin": 1, "b.bin": 4})
    hub.repositories["org/small"] = Repository(files=dict(newer), large=500)
    fill(hub, memory / "small")
    assert contents(memory / "small") == newer


def test_one_that_may_not_wait_is_told_who_writes(hub: Hub, fast: Path) -> None:
    with writing(CacheDirectory(fast), "small", name="the other"), pytest.raises(LockHeldError):
        fill(hub, fast / "small")


def test_a_model_that_is_nowhere_is_the_origins_error(hub: Hub, fast: Path) -> None:
    with pytest.raises(SourceError) as error:
        fill(hub, fast / "none", fast / "no", origin=Origin(source="hf://org/none"))
    assert error.value.cause in {Cause.NOT_FOUND, Cause.UNAUTHORIZED}
