"""What is slow elsewhere, and would be at hand here: the hub, and a file server.

A rate is of bytes a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.machine import Machine
from tests.loader.hub import Hub


@contextmanager
def each_piece_takes(hub: Hub, seconds: float) -> Iterator[None]:
    """Let each piece that the hub sends take so long, on every connection, while a block runs."""
    before, hub.delay = hub.delay, seconds
    try:
        yield
    finally:
        hub.delay = before


@contextmanager
def downloads(hub: Hub, rate: float, connections: int) -> Iterator[None]:
    """Let downloads come at a rate, over so many connections together, while a block runs."""
    with each_piece_takes(hub, connections * hub.piece / rate):
        yield


@contextmanager
def exported(machine: Machine, files: Path, at: Path, rate: int) -> Iterator[None]:
    """Let a directory of the machine be seen in another place, and be read there at a rate.

    As from a file server nothing that was read is kept from one open of a file to the next (FUSE).
    Everybody may write, as a server's administrator has arranged it.
    """
    machine.run("mkdir", "-p", "-m", "0777", str(files), str(at))
    machine.run("bindfs", f"--read-rate={rate}", str(files), str(at))
    try:
        yield
    finally:
        machine.run("umount", "--lazy", str(at))  # pods that still end hold it
