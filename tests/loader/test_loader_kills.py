"""SIGKILL at random moments of the whole ``loader run``: download, proof, publication, eviction.

Before each start something happens that it has to deal with: another revision at the hub, a damaged
shard, a model that left the catalog or came back to it. All the while somebody reads what lies at
the final paths. ``KILLS`` says how often (``make test-kills``), ``KILL_SEED`` where it starts.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest
from safetensors import safe_open

from extender.cli.loader_run import run
from extender.loader.layout import MARKER, CacheDirectory
from extender.loader.proof.marker import Marker, read_marker
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.transfer.journal import Journal, Ranges
from tests.loader.hub import Hub, Repository, Trouble, sha256_of
from tests.loader.loader_process import catalog, wait_for
from tests.loader.models import contents, small_model
from tests.loader.syncs import Syncs, covers, overlap

KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("KILL_SEED", "1"))

LARGE, SMALL = "large", "team/small"
REVISIONS = {
    LARGE: [small_model(seed, shards=2, size=18_000_000) for seed in (1, 2)],
    SMALL: [small_model(seed, shards=3, size=100_000) for seed in (3, 4)],
}
"""The large one is fetched in several synced parts, the small one in no time."""
SHARDS = {LARGE: "model-00001-of-00002.safetensors", SMALL: "model-00001-of-00003.safetensors"}
OTHER_SHARD = "model-00002-of-00002.safetensors"
ENTRIES = {
    LARGE: {"name": LARGE, "source": "hf://org/large"},
    SMALL: {"name": "small", "source": "hf://org/small", "path": SMALL},
}

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.loader.test_loader_kills", "extender.loader.running", "extender.loader.sources.hub"]
)


LIMITS = {"connections": 2, "proofBytesPerSecond": 0}
"""So few that each has several parts to sync in one process."""


def loader(arguments: list[str], log: str, syncs: str, *, forgets: bool = False) -> None:
    Syncs(Path(syncs)).note()
    if forgets:
        Journal.add = lambda *_: None  # type: ignore[method-assign]
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 2)
    run.main(arguments, standalone_mode=False)


class World:
    """A cache directory, what its catalog names, what the hub has, and a loader that is killed."""

    def __init__(self, place: Path, hub: Hub, chance: random.Random) -> None:
        self.hub = hub
        self.cache = CacheDirectory(place / "cache")
        self.cache.root.mkdir()
        self._catalog = place / "catalog.yaml"
        self._log = place / "loader.log"
        self._syncs = place / "syncs"
        self._chance = chance
        self._named = set(ENTRIES)
        self._at_hub = dict.fromkeys(ENTRIES, 0)
        self.tampered: set[str] = set()
        for path in ENTRIES:
            self._offer(path)
        self._write()

    def _offer(self, path: str) -> None:
        files = REVISIONS[path][self._at_hub[path]]
        self.hub.repositories[f"org/{Path(path).name}"] = Repository(files, large=500)

    def _write(self) -> None:
        models = [ENTRIES[path] for path in sorted(self._named)]
        self._catalog.write_text(catalog(*models, graceSeconds=0, limits=LIMITS))

    def happens(self) -> str:
        """Let one thing happen; return what."""
        path = self._chance.choice(sorted(ENTRIES))
        what = self._chance.choice(["nothing", "revision", "damage", "leaves or comes"])
        if what == "revision":
            self._at_hub[path] = 1 - self._at_hub[path]
            self._offer(path)
        elif what == "leaves or comes":
            self._named ^= {path}
            self._write()
        elif what == "damage" and (shard := self.cache.final(path) / SHARDS[path]).is_file():
            self.tampered.add(path)
            with shard.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"?")
        return f"{what} ({path})"

    def start(self, *, forgets: bool = False) -> multiprocessing.process.BaseProcess:
        arguments = ["--catalog", str(self._catalog), "--directory", str(self.cache.root)]
        arguments += ["--standalone", "--hub-endpoint", self.hub.url, "--look-seconds", "0.2"]
        process = PROCESSES.Process(
            target=loader,
            args=(arguments, str(self._log), str(self._syncs)),
            kwargs={"forgets": forgets},
        )
        process.start()
        return process

    def starts(self) -> int:
        """How often a loader came so far as to answer to SIGTERM."""
        return self._log.read_text().count('"started"') if self._log.exists() else 0

    def noted(self) -> dict[tuple[Path, int], Ranges]:
        """Return what processes brought to the disk, by path and inode."""
        return Syncs(self._syncs).safe()

    def synced(self) -> dict[str, Ranges]:
        """Return which ranges of the hub's shards are staged for good; the journals know of all."""
        found: dict[str, Ranges] = {}
        synced = self.noted()
        for path in ENTRIES:
            known = Journal(self.cache.journal(path)).read()
            for file, data in self._now(path).items():
                staged = self.cache.staging(path) / file
                if not file.endswith(".safetensors") or not staged.is_file():
                    continue
                status, there = staged.stat(), staged.read_bytes()
                if status.st_nlink > 1:
                    continue  # no download, but a second name of what is published
                inode = status.st_ino
                # What was staged of another revision is of no use.
                ranges = tuple(
                    (a, b) for a, b in synced.get((staged, inode), ()) if there[a:b] == data[a:b]
                )
                told = known.get((file, f"{sha256_of(data)} {len(data)}", inode), ())
                assert covers(told, ranges), f"{path}/{file}: the journal forgot {ranges}"
                found[file] = ranges
        return found

    def as_wished(self) -> bool:
        """Tell whether the cache is what catalog and hub say."""
        for path in ENTRIES:
            final = self.cache.final(path)
            if path not in self._named:
                if final.exists():
                    return False
            elif not final.exists() or not whole(final) or contents(final) != self._now(path):
                return False
        return True

    def _now(self, path: str) -> dict[str, bytes]:
        return REVISIONS[path][self._at_hub[path]]


def whole(final: Path) -> Marker | None:
    marker = read_marker(final)
    return marker if marker is not None and not marker.damaged else None


def test_killed_at_any_moment_the_loader_shows_whole_models_only_and_always_ends(
    fast: Path,
) -> None:
    chance = random.Random(SEED)
    with Hub(piece=256 * 1024, delay=0.01) as hub:
        world = World(fast, hub, chance)
        with Reading(world) as reading:
            for number in range(KILLS):
                told = f"KILL_SEED={SEED}, kill {number} after {world.happens()}"
                fetched_nothing_twice(world, chance, last=number % 6 == 5, told=told)
                looked_at(world, told)
                assert not reading.problems, f"{told}: {reading.problems}"
        assert reading.looks > KILLS


def fetched_nothing_twice(world: World, chance: random.Random, *, last: bool, told: str) -> None:
    """Run the loader once: killed at a random moment, or, the last time, until all is as wished."""
    safe, begun, starts = world.synced(), len(world.hub.served), world.starts()
    process = world.start()
    if last:
        wait_for(lambda: world.starts() > starts and world.as_wished(), 120)
        world.tampered.clear()
        process.terminate()
        process.join(30)
        assert process.exitcode == 0, told
    else:
        process.join(chance.uniform(0.1, 2.5))
        assert process.is_alive(), f"{told}: ended by itself\n"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    for one in world.hub.served[begun:]:
        again = overlap(safe.get(one.path, ()), one.start, one.start + one.sent)
        assert not again, f"{told}: {one.path} from {one.start}"


def test_a_journal_that_forgets_is_found_out(fast: Path) -> None:
    """What the law above stands on does not ask the journal itself."""
    with Hub(piece=256 * 1024) as hub:
        hub.troubles[OTHER_SHARD] = [Trouble(hang_after=1, at_hub=False)]  # so that it does not end
        world = World(fast, hub, random.Random(SEED))
        process = world.start(forgets=True)
        shard = world.cache.staging(LARGE) / SHARDS[LARGE]
        wait_for(lambda: any(path == shard for path, _ in world.noted()), 60)
        process.kill()
        process.join()
        with pytest.raises(AssertionError, match=rf"{SHARDS[LARGE]}: the journal forgot"):
            world.synced()


def looked_at(world: World, told: str) -> None:
    """What lies at a final path is one of the revisions, byte by byte, or said to be damaged."""
    for path, revisions in REVISIONS.items():
        final = world.cache.final(path)
        if not final.exists():
            continue
        assert (final / MARKER).is_file(), f"{told}: {path} is shown without a proof"
        if whole(final) is None or path in world.tampered:
            continue
        assert contents(final) in revisions, f"{told}: {path}"
        assert verify(final, level=Level.CONTENT).ok, f"{told}: {path}"


class Reading:
    """A reader that knows nothing of locks: it opens what is there with the real reader."""

    def __init__(self, world: World) -> None:
        self.looks = 0
        self.problems: list[str] = []
        self._world = world
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for path in ENTRIES:
                self._look(path)

    def _look(self, path: str) -> None:
        final = self._world.cache.final(path)
        try:
            descriptor = os.open(final, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            self._read(path, Path(f"/proc/self/fd/{descriptor}"), final)
        finally:
            os.close(descriptor)

    def _read(self, path: str, opened: Path, final: Path) -> None:
        """Read one publication; what is replaced or mended meanwhile says nothing."""
        before = whole(opened)
        problem = ""
        for file in before.files if before else ():
            try:
                if file.path.endswith(".safetensors"):
                    with safe_open(opened / file.path, framework="numpy") as tensors:
                        tensors.keys()
            except Exception as error:  # noqa: BLE001 - whatever the reader says of half a model
                problem = f"{path}/{file.path}: {error!r}"
        self.looks += before is not None
        same = before is not None and before == whole(opened) and opened.samefile(final)
        if problem and same and path not in self._world.tampered:
            self.problems.append(problem)


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
