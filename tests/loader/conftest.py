"""Directories for tests that sync thousands of times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.loader.hub import Hub, Repository
from tests.loader.mounts import mounted
from tests.loader.origins import SOURCES, At

MEMORY = Path("/dev/shm")


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """Yield an empty directory in memory, where there is such a file system."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """Yield a hub with ``org/small``: the ``FILES`` of the test's module."""
    with Hub() as running:
        files = dict(request.module.FILES)
        running.repositories["org/small"] = Repository(files=files, large=500)
        yield running


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Yield a memory-backed volume that has room for one model and a half."""
    with mounted(tmp_path / "memory", size="6m") as place:
        yield place


@pytest.fixture(params=SOURCES)
def at(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[At]:
    """Yield each kind of source, with a model in it; ``indirect`` to choose some."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    yield from SOURCES[request.param](tmp_path / "source")
