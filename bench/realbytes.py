"""Seconds to load a model from each tier on this machine, with the reader that engines use.

What the placement benchmark assumes of hardware is checked by its shape: not how fast anything is,
but how many times slower each tier is than the page cache. The file is read by ``safetensors``
into arrays; before a cold read its pages are dropped (``posix_fadvise``, no root needed), and what
really came from the disk is counted by the kernel (``/proc/self/io``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import msgspec
from safetensors.numpy import load_file

from bench.loader_cut import REPOSITORY, warm
from bench.placement.hardware import GB, Hardware
from bench.results import Row
from extender.loader.sources import Credentials
from extender.loader.sources.opening import source_for
from extender.loader.transfer.fetching import fetch
from extender.loader.transfer.limits import Limits
from tests.loader.hub import Hub, Repository
from tests.loader.models import put, small_model

BENCHMARK = "load from a tier"
MEMORY = Path("/dev/shm")  # noqa: S108 - the tmpfs is what is measured
PAGE_CACHE = "page cache"
_SHARDS = 4


class _Loaded(msgspec.Struct, frozen=True):
    """Seconds, and bytes that came from a disk meanwhile."""

    seconds: float
    from_disk: int


def measure(folder: Path, *, megabytes: int, rounds: int) -> Iterator[Row]:
    """Yield a row a tier: the middle of all rounds, which follow each other."""
    files = small_model(shards=_SHARDS, size=megabytes * 10**6 // _SHARDS)
    size = sum(map(len, files.values()))
    took: dict[str, list[_Loaded]] = {}
    with Hub(piece=2**20) as hub, tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        hub.repositories[REPOSITORY] = Repository(files=files)
        warm(hub)
        in_memory = put(Path(memory) / "model", files)
        on_disk = put(folder / "model", files)
        for _ in range(rounds):
            for tier, loaded in _round(hub, in_memory, on_disk, folder / "fetched"):
                took.setdefault(tier, []).append(loaded)
    cached = median(one.seconds for one in took[PAGE_CACHE])
    for tier, all_of_it in took.items():
        seconds = median(one.seconds for one in all_of_it)
        figures: dict[str, float | int | str] = {
            "GB/s": size / seconds / GB,
            "s": seconds,
            "from the disk GB": median(one.from_disk for one in all_of_it) / GB,
            "x page cache": seconds / cached,
        }
        assumed = _assumed().get(tier)
        if assumed is not None:
            figures["assumed"] = assumed
        yield Row(benchmark=BENCHMARK, case={"tier": tier, "MB": size // 10**6}, figures=figures)


def _assumed() -> dict[str, str]:
    """Say how many times slower than the page cache the placement benchmark has each tier."""
    hardware = Hardware()
    slow, fast = hardware.disk
    hub = hardware.page_cache / hardware.hub + 1
    return {
        PAGE_CACHE: "1",
        "disk": f"{hardware.page_cache / fast:.1f} to {hardware.page_cache / slow:.1f}",
        "origin, then page cache": f"{hub:.0f} (a hub, not loopback)",
    }


def _round(
    hub: Hub, in_memory: Path, on_disk: Path, fetched: Path
) -> Iterator[tuple[str, _Loaded]]:
    yield "tmpfs", _loaded(lambda: _load(in_memory))
    _load(on_disk)
    yield PAGE_CACHE, _loaded(lambda: _load(on_disk))
    _drop(on_disk)
    yield "disk", _loaded(lambda: _load(on_disk))

    def fetch_and_load() -> None:
        source = source_for(f"hf://{REPOSITORY}", credentials=Credentials(hub_endpoint=hub.url))
        model = fetched / "model"
        fetch(source.list(), source, model, journal=fetched / "journal", limits=Limits())
        _load(model)

    yield "origin, then page cache", _loaded(fetch_and_load)
    shutil.rmtree(fetched)


def _loaded(work: Callable[[], object]) -> _Loaded:
    before, began = _read_from_disk(), time.perf_counter()
    work()
    return _Loaded(time.perf_counter() - began, _read_from_disk() - before)


def _load(model: Path) -> None:
    """Read every tensor into an array of its own, as an engine without a streamer does."""
    for shard in sorted(model.glob("*.safetensors")):
        load_file(shard)


def _drop(model: Path) -> None:
    """Have the page cache forget a model; dirty pages would stay."""
    for file in model.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _read_from_disk() -> int:
    """Return the bytes that this process has had read from disks so far (proc(5))."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])
