"""Directories for tests that sync thousands of times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loader.mounts import mounted

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
def memory(tmp_path: Path) -> Iterator[Path]:
    """Yield a memory-backed volume that has room for one model and a half."""
    with mounted(tmp_path / "memory", size="6m") as place:
        yield place
