"""Downloads that finish: what goes wrong on the way is put up with, or said in words."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.loader.sources import Credentials
from extender.loader.sources.opening import source_for
from extender.loader.transfer.fetching import Fetched, fetch
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.worker import Patience
from tests.loader.hub import Hub, Repository, Trouble

PART = 64 * 1024
BIG = "model.safetensors"
CONTENT = random.Random(7).randbytes(20 * PART + 17)
FILES = {"config.json": b"{}", "empty.txt": b"", "sub/tokenizer.json": b"t" * 900, BIG: CONTENT}
QUICK = Patience(
    tries=4,
    first_wait=0.01,
    longest_wait=0.02,
    longest_retry_after=1.0,
    stall_seconds=0.5,
    part_bytes=PART,
    span_bytes=4 * PART,
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.repositories["org/name"] = Repository(dict(FILES))
        yield running


class Download:
    """One directory and its journal; ``run`` is one process's attempt at it."""

    def __init__(self, hub: Hub, place: Path) -> None:
        self.hub = hub
        self.into = place / "staging"
        self.journal = place / "journal"
        self.limits = Limits(connections=3)
        self.patience = QUICK

    def run(self) -> Fetched:
        source = source_for(
            "hf://org/name",
            credentials=Credentials(hub_endpoint=self.hub.url),
            stall_seconds=self.patience.stall_seconds,
        )
        return fetch(
            source.list(),
            source,
            self.into,
            journal=self.journal,
            limits=self.limits,
            patience=self.patience,
        )

    def is_complete(self) -> bool:
        found = {
            path.relative_to(self.into).as_posix(): path.read_bytes()
            for path in self.into.rglob("*")
            if path.is_file()
        }
        return found == self.hub.repositories["org/name"].files


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    return Download(hub, tmp_path)


def test_every_file_arrives_once_and_a_second_run_fetches_nothing(download: Download) -> None:
    size = sum(map(len, FILES.values()))
    first = download.run()
    assert first == Fetched(files=4, bytes=size, bytes_received=size, bytes_resumed=0)
    assert download.is_complete()
    assert download.hub.bytes_sent() == size
    second = download.run()
    assert second == Fetched(files=4, bytes=size, bytes_received=0, bytes_resumed=size)
    assert download.hub.bytes_sent() == size


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(status=429, headers={"Retry-After": "0"}),
        Trouble(status=503),
        Trouble(status=500, at_hub=True),
        Trouble(status=429, at_hub=True),
        Trouble(status=403),
        Trouble(cut_after=PART + 5),
        Trouble(cut_after=0),
        Trouble(hang_after=PART),
        Trouble(longer=5),
        Trouble(shifted=True),
    ],
    ids=str,
)
def test_what_passes_is_put_up_with(download: Download, trouble: Trouble) -> None:
    download.hub.troubles[BIG] = [trouble]
    download.run()
    assert download.is_complete()
    assert download.hub.troubles[BIG] == []
