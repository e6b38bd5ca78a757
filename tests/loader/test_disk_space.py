"""The cache's disk: what is free, and how fast it reads past the page cache."""

from __future__ import annotations

from pathlib import Path

from extender.loader.disk_space import disk_space, read_speed

MEBIBYTE = 1024 * 1024


class Ticking:
    """A clock that is half a second later whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def file_of(folder: Path, size: int) -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(bytes(size))
    return file


def test_free_and_total_are_those_of_its_file_system(tmp_path: Path) -> None:
    told = disk_space(tmp_path, 5.0)
    assert told is not None
    assert 0 < told.free_bytes < told.total_bytes
    assert told.read_bytes_per_second == 5.0
    assert disk_space(tmp_path / "none") is None


def test_no_more_than_the_sample_is_read_of_a_large_file(tmp_path: Path) -> None:
    file = file_of(tmp_path, 24 * MEBIBYTE)
    speed = read_speed(file, sample=8 * MEBIBYTE, clock=Ticking())
    assert speed in {None, 8 * MEBIBYTE / 0.5}  # None: a file system without O_DIRECT
    assert read_speed(file, clock=Ticking()) in {None, 24 * MEBIBYTE / 0.5}


def test_what_tells_nothing_is_not_measured(tmp_path: Path) -> None:
    assert read_speed(file_of(tmp_path, MEBIBYTE)) is None
    assert read_speed(tmp_path / "none") is None
