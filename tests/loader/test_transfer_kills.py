"""SIGKILL at random moments of a download: it always ends, and nothing that was synced is lost.

``KILLS`` says how often (``make test-kills``), ``KILL_SEED`` where it starts.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.loader.sources import Credentials
from extender.loader.sources.opening import source_for
from extender.loader.transfer.fetching import fetch
from extender.loader.transfer.journal import Journal, Ranges
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.worker import Patience
from tests.loader.hub import Hub, Repository
from tests.loader.loader_process import wait_for
from tests.loader.syncs import Syncs, covers, overlap

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("KILL_SEED", "1"))

PART = 32 * 1024
CONNECTIONS = 3
PATIENCE = Patience(first_wait=0.01, longest_wait=0.05, part_bytes=PART, span_bytes=4 * PART)

# Each download is a process of its own, forked from one that has the libraries loaded already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.loader.test_transfer_kills", "extender.loader.sources.hub"]
)


def download(url: str, place: str, *, forgets: bool = False) -> None:
    Syncs(Path(place, "syncs")).note()
    if forgets:
        Journal.add = lambda *_: None  # type: ignore[method-assign]
    source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=url))
    fetch(
        source.list(),
        source,
        Path(place, "staging"),
        journal=Path(place, "journal"),
        limits=Limits(connections=CONNECTIONS),
        patience=PATIENCE,
    )


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(piece=8 * 1024, delay=0.002) as running:
        yield running


def synced(place: Path) -> dict[str, Ranges]:
    """Return what of which file was brought to the disk; all of it is in the journal."""
    staging = place / "staging"
    known = {
        (path, inode): at for (path, _, inode), at in Journal(place / "journal").read().items()
    }
    found = {}
    for (file, inode), ranges in Syncs(place / "syncs").safe().items():
        path = file.relative_to(staging).as_posix()
        assert covers(known.get((path, inode), ()), ranges), f"{path}: the journal forgot {ranges}"
        found[path] = ranges
    return found


def test_killed_at_any_moment_it_goes_on_and_fetches_nothing_twice_that_was_synced(
    hub: Hub, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        place = tmp_path / f"{rounds}"
        place.mkdir()
        files = {
            "config.json": chance.randbytes(chance.randrange(1, 500)),
            "a.safetensors": chance.randbytes(chance.randrange(PART, 25 * PART)),
            "b/b.safetensors": chance.randbytes(chance.randrange(PART, 25 * PART)),
        }
        hub.repositories["org/name"] = Repository(files)
        killed = 0
        while True:
            safe, begun = synced(place), len(hub.served)
            process = PROCESSES.Process(target=download, args=(hub.url, str(place)))
            process.start()
            # Later rounds are let live, so that each of them ends.
            process.join(chance.uniform(0.02, 0.6) if killed < 6 and kills < KILLS else 60)
            if process.is_alive():
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                kills, killed = kills + 1, killed + 1
            for one in hub.served[begun:]:
                again = overlap(safe.get(one.path, ()), one.start, one.start + one.sent)
                assert again == 0, f"seed {SEED} round {rounds}: {one.path} from {one.start}"
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
        for path, content in files.items():
            assert (place / "staging" / path).read_bytes() == content, f"seed {SEED}: {path}"


def test_a_journal_that_forgets_is_found_out(hub: Hub, tmp_path: Path) -> None:
    """What the law above stands on does not ask the journal itself."""
    data = random.Random(SEED).randbytes(40 * PART)
    hub.repositories["org/name"] = Repository({"a.safetensors": data})
    forgets = {"forgets": True}
    process = PROCESSES.Process(target=download, args=(hub.url, str(tmp_path)), kwargs=forgets)
    process.start()
    wait_for(lambda: bool(Syncs(tmp_path / "syncs").safe()))
    process.kill()
    process.join()
    with pytest.raises(AssertionError, match=r"a.safetensors: the journal forgot"):
        synced(tmp_path)
