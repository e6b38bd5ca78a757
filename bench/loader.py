"""How fast the loader fetches and proves, beside what loopback, disk and hashing allow.

All of it in one run on one disk: what the parts do alone (the server's bytes over loopback into
nothing, the disk with plain writes and reads around the page cache, SHA-256 in memory), then the
engine and the proof alone, then ``loader fill`` as a process, its start included.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from urllib.parse import urlsplit

import msgspec

from bench.loader_cut import REPOSITORY, warm
from bench.results import Row
from extender.loader.disk_space import read_speed
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.sources import Credentials
from extender.loader.sources.opening import source_for
from extender.loader.transfer.fetching import fetch
from extender.loader.transfer.limits import Limits
from tests.loader.hub import Hub, Repository
from tests.loader.models import small_model

CONNECTIONS = 8
_BLOCK = 2**20
_LOOPBACK = "loopback into nothing"
_WRITING = "disk: write and fsync"
_HASHING = "SHA-256, one core"


def measure(folder: Path, *, megabytes: int, rounds: int) -> Iterator[Row]:
    """Yield a row a part, then the loader's: the quickest of all rounds, and its processor time.

    Rates are MB/s (10^6 bytes). Rounds follow each other rather than repetitions of one part, so
    that a spell in which the machine is busy with something else falls on all of them.
    """
    shards = max(4, megabytes // 200)
    files = small_model(shards=shards, size=megabytes * 10**6 // shards)
    best: dict[str, _Took] = {}
    with Hub(piece=_BLOCK) as hub:
        hub.repositories[REPOSITORY] = Repository(files=files)
        warm(hub)
        for _ in range(rounds):
            for what, took in _round(hub, files, folder):
                if what not in best or took.rate > best[what].rate:
                    best[what] = took
    bound = min(
        best[_LOOPBACK].rate,
        best[_WRITING].rate,
        best[_HASHING].rate * min(4, os.cpu_count() or 1),  # the proof reads so many at once
    )
    for what, took in best.items():
        figures = {
            "MB/s": took.rate,
            "ratio to the slowest part": took.rate / bound,
            "processor s/GB": took.processor,
        }
        yield Row(benchmark="loader", case={"what": what}, figures=figures)


class _Took(msgspec.Struct, frozen=True):
    """MB/s, and seconds of processor time a GB: of this process, which serves too, or its child."""

    rate: float
    processor: float


def _round(hub: Hub, files: dict[str, bytes], folder: Path) -> Iterator[tuple[str, _Took]]:
    size = sum(len(data) for data in files.values())
    largest = max(files.values(), key=len)
    plain, engine, models = folder / "plain", folder / "engine", folder / "models"
    yield _LOOPBACK, _took(size, lambda: _drain(hub, files))
    yield _WRITING, _took(size, lambda: _write(plain, size))
    yield "disk: read (O_DIRECT)", _took(size, lambda: read_speed(plain, sample=size))
    plain.unlink()
    yield _HASHING, _took(len(largest), lambda: hashlib.sha256(largest).digest())
    yield "download alone", _took(size, lambda: _fetch(hub, engine))
    yield "proof alone", _took(size, lambda: _prove(engine / "model"))
    shutil.rmtree(engine)
    dest = models / "model"
    yield "loader fill, the process", _took(size, lambda: _fill(hub, dest), of=RUSAGE_CHILDREN)
    shutil.rmtree(models)


def _took(size: int, work: Callable[[], object], *, of: int = RUSAGE_SELF) -> _Took:
    before, began = getrusage(of), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - began, getrusage(of)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Took(size / 1e6 / seconds, processor / (size / 1e9))


def _drain(hub: Hub, files: dict[str, bytes]) -> None:
    """Read the large files in ranges over as many connections as the loader has."""
    ranges = [
        (hashlib.sha256(data).hexdigest(), at, min(len(data), at + 64 * _BLOCK))
        for data in files.values()
        if len(data) > _BLOCK
        for at in range(0, len(data), 64 * _BLOCK)
    ]

    def read(each: tuple[str, int, int]) -> None:
        sha256, start, end = each
        connection = http.client.HTTPConnection(urlsplit(hub.cdn_url).netloc)
        connection.request("GET", f"/cdn/{sha256}", headers={"Range": f"bytes={start}-{end - 1}"})
        answer = connection.getresponse()
        while answer.read(_BLOCK):
            pass
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(read, ranges))


def _write(file: Path, size: int) -> None:
    block = Random(1).randbytes(_BLOCK)
    with file.open("wb") as out:
        for _ in range(-(-size // _BLOCK)):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())


def _fetch(hub: Hub, into: Path) -> None:
    source = source_for(f"hf://{REPOSITORY}", credentials=Credentials(hub_endpoint=hub.url))
    limits = Limits(connections=CONNECTIONS)
    fetch(source.list(), source, into / "model", journal=into / "journal", limits=limits)


def _prove(directory: Path) -> None:
    if not verify(directory, level=Level.CONTENT).ok:
        raise RuntimeError(f"{directory}: not whole")


def _fill(hub: Hub, dest: Path) -> None:
    command = [sys.executable, "-m", "extender", "loader", "fill", f"hf://{REPOSITORY}", str(dest)]
    subprocess.run(
        command, env={**os.environ, "HF_ENDPOINT": hub.url}, check=True, stderr=subprocess.DEVNULL
    )
