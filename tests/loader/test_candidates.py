"""Which of a cache's models ``fill --from`` copies where it has one repository more than once."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from extender.loader.candidates import has_all_of
from extender.loader.layout import MARKER
from extender.loader.origin import Origin
from extender.loader.proof.marker import Marker, marker_text, read_marker
from extender.loader.proof.names import models_among
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.models import contents, hub_cache, put, small_model
from tests.loader.test_filling import Process, fill

NOTES = {"notes/README.md": b"of the model", "notes/more.md": b"more"}
FILES = {**small_model(size=50_000), **NOTES}
NEWER = {**small_model(seed=1, size=50_000), **NOTES}
BARE = {path: data for path, data in FILES.items() if path not in NOTES}
SMALL = "hf://org/small"
WITHOUT_NOTES = Origin(source=SMALL, exclude=("notes/*",))


@pytest.fixture
def two(hub: Hub, tmp_path: Path) -> tuple[Path, str, str]:
    """Return a cache with two revisions, the first of them and the second, which is main's."""
    cache = tmp_path / "cache"
    old = hub.repositories["org/small"].commit
    fill(hub, cache / "b-old", origin=Origin(source=SMALL, revision=old))
    hub.repositories["org/small"] = Repository(files=dict(NEWER), large=500)
    new = hub.repositories["org/small"].commit
    fill(hub, cache / "a-new", origin=Origin(source=SMALL, revision=new))
    hub.served.clear()
    return cache, old, new


def test_of_two_revisions_the_one_that_is_asked_for_is_copied(
    hub: Hub, fast: Path, two: tuple[Path, str, str]
) -> None:
    cache, old, new = two
    for revision, files in ((old, FILES), (new, NEWER), ("main", NEWER), (None, NEWER)):
        fill(hub, fast / f"{revision}", cache, origin=Origin(source=SMALL, revision=revision))
        assert contents(fast / f"{revision}") == files
    assert hub.bytes_sent() == 0


def test_where_no_revision_is_asked_for_and_the_hub_is_away_neither_of_two_is_guessed(
    hub: Hub, fast: Path, two: tuple[Path, str, str]
) -> None:
    cache, old, new = two
    hub.troubles["info"] = [Trouble(status=503)] * 99
    process = Process(hub, fast / "any", "--from", str(cache))
    assert process.ended() == 1
    assert "several revisions of it" in process.log
    assert old in process.log
    assert new in process.log
    assert "say which with --revision" in process.log
    pinned = Process(hub, fast / "old", "--from", str(cache), "--revision", old)
    assert pinned.ended() == 0, pinned.log
    assert contents(fast / "old") == FILES


def test_of_two_revisions_the_one_that_was_asked_for_in_the_same_words_needs_no_hub(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    """As a catalog's entry without a revision does, which is refreshed beside a pinned one."""
    cache = tmp_path / "cache"
    fill(hub, cache / "pinned", origin=Origin(source=SMALL, revision="main"))
    hub.repositories["org/small"] = Repository(files=dict(NEWER), large=500)
    fill(hub, cache / "tracked")
    hub.asked.clear()
    fill(hub, fast / "any", cache)
    assert contents(fast / "any") == NEWER
    assert hub.asked == []


def test_of_a_hubs_cache_with_two_snapshots_the_one_that_is_asked_for_is_copied(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    old, new = "c" * 40, "d" * 40
    hub_cache(tmp_path, FILES, commit=old)
    hub_cache(tmp_path, NEWER, commit=new)  # refs/main is this one's
    for at, place in enumerate((tmp_path, tmp_path / "models--org--small")):
        for revision, files in ((old, FILES), (new, NEWER), (None, NEWER)):
            dest = fast / f"{at}-{revision}"
            fill(hub, dest, place, origin=Origin(source=SMALL, revision=revision))
            assert contents(dest) == files
    assert hub.bytes_sent() == 0


def test_of_two_sets_of_files_the_one_that_is_asked_for_is_copied(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    fill(hub, cache / "a-bare", origin=WITHOUT_NOTES)
    fill(hub, cache / "b-all")
    hub.served.clear()
    fill(hub, fast / "all", cache)
    fill(hub, fast / "bare", cache, origin=WITHOUT_NOTES)
    fill(hub, fast / "notes", cache, origin=Origin(source=SMALL, exclude=("notes/README.md",)))
    assert contents(fast / "all") == FILES
    assert contents(fast / "bare") == BARE
    assert contents(fast / "notes").keys() == FILES.keys() - {"notes/README.md"}
    assert hub.bytes_sent() == 0


@pytest.mark.parametrize("pinned", [False, True])
def test_what_patterns_left_out_nearby_is_fetched_from_the_source(
    hub: Hub, fast: Path, tmp_path: Path, *, pinned: bool
) -> None:
    commit = hub.repositories["org/small"].commit if pinned else None
    fill(hub, tmp_path / "small", origin=WITHOUT_NOTES)
    hub.served.clear()
    fill(hub, fast / "all", tmp_path / "small", origin=Origin(source=SMALL, revision=commit))
    assert contents(fast / "all") == FILES
    assert hub.bytes_sent() == sum(map(len, NOTES.values()))


def test_what_patterns_left_out_is_not_called_whole_where_the_source_cannot_be_asked(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    fill(hub, tmp_path / "small", origin=WITHOUT_NOTES)
    hub.troubles["info"] = [Trouble(status=503)] * 99
    process = Process(hub, fast / "all", "--from", str(tmp_path / "small"))
    assert process.ended() == 1
    assert "holds the files that exclude: notes/* chose, and more may be asked for" in process.log
    assert not (fast / "all").exists()
    for patterns in (["notes/*"], ["notes/*", "*.txt"]):
        options = [option for pattern in patterns for option in ("--exclude", pattern)]
        dest = fast / f"bare-{len(patterns)}"
        process = Process(hub, dest, "--from", str(tmp_path / "small"), *options)
        assert process.ended() == 0, process.log
        assert contents(dest) == BARE


@pytest.mark.parametrize(
    ("taken", "left_out", "include", "exclude", "expected"),
    [
        ((), (), (), (), True),
        ((), (), ("*.json",), ("x",), True),
        ((), ("x",), (), (), False),
        ((), ("x",), (), ("x", "y"), True),
        ((), ("x", "y"), (), ("x",), False),
        (("a", "b"), (), (), (), False),
        (("a", "b"), (), ("a",), (), True),
        (("a",), (), ("a", "b"), (), False),
        (("a",), ("x",), ("a",), (), False),
        (None, None, (), (), True),
    ],
)
def test_a_copy_has_all_that_its_patterns_did_not_leave_out(
    taken: tuple[str, ...] | None,
    left_out: tuple[str, ...] | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    *,
    expected: bool,
) -> None:
    marker = Marker(id="1", path="small", source=SMALL, include=taken, exclude=left_out)
    origin = Origin(source=SMALL, include=include, exclude=exclude)
    assert has_all_of(marker, origin) is expected


def test_what_patterns_left_out_of_a_directory_comes_from_there(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    """Only of the hub's files it can be said which are the same."""
    fill(hub, tmp_path / "origin")
    shutil.move(tmp_path / "origin" / MARKER, tmp_path / "kept")
    source = f"file://{tmp_path / 'origin'}"
    fill(hub, tmp_path / "small", origin=Origin(source=source, exclude=("notes/*",)))
    fill(hub, fast / "all", tmp_path / "small", origin=Origin(source=source))
    assert contents(fast / "all") == FILES


def test_a_marker_of_an_earlier_release_counts_as_that_of_all_files(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    fill(hub, small)
    marker = read_marker(small)
    assert marker is not None
    earlier = msgspec.structs.replace(marker, include=None, exclude=None)
    (small / MARKER).write_bytes(marker_text(earlier))
    assert b"include" not in (small / MARKER).read_bytes()
    hub.asked.clear()
    fill(hub, fast / "small", small)
    assert contents(fast / "small") == FILES
    assert hub.asked == []


@pytest.mark.parametrize(
    ("paths", "models"),
    [
        (["a/config.json", "a/m.safetensors", "b/x/config.json", "b/x/m.bin"], ["a", "b/x"]),
        (["README.md", "a/config.json", "a/m.safetensors"], ["a"]),
        (["q4/m.gguf", "q8/m.gguf"], ["q4", "q8"]),
        (["a/adapter_config.json", "a/adapter_model.safetensors"], ["a"]),
        (["a/config.json", "a/m.safetensors", "a/part/config.json", "a/part/m.bin"], ["a"]),
        (["config.json", "m.safetensors", "original/params.json", "original/c.pth"], []),
        (["model_index.json", "unet/config.json", "unet/m.safetensors"], []),
        (["text_encoder/m.safetensors", "vae/m.safetensors"], []),
        (["ensemble/config.pbtxt", "llm/1/model.plan"], []),
        (["a/config.json", "a/notes.txt"], []),
    ],
)
def test_directories_that_are_models_are_known_by_names(
    paths: list[str], models: list[str]
) -> None:
    assert models_among(paths) == models


def test_what_looks_like_a_directory_of_models_is_said_before_it_is_copied(
    hub: Hub, fast: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        put(tmp_path / "models" / name, FILES)
    process = Process(hub, fast / "all", source=f"file://{tmp_path / 'models'}")
    assert process.ended() == 0
    said = process.log.index("directories of models taken as one")
    assert "one, two" in process.log[said:]
    assert said < process.log.index("whole: ")
    again = Process(hub, fast / "one", source=f"file://{tmp_path / 'models' / 'one'}")
    assert again.ended() == 0
    assert "taken as one" not in again.log
