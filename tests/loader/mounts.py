"""A tmpfs of its own for a test module that runs itself in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, *, size: str) -> Iterator[Path]:
    """Mount a tmpfs at a directory, which is made; skip where that may not be.

    Nobody can delete the directory meanwhile, or rename it; what it lies in can be renamed.
    """
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    descriptor = os.open(place, os.O_PATH)
    try:
        yield place
    finally:
        now_at = Path(f"/proc/self/fd/{descriptor}").readlink()
        os.close(descriptor)
        subprocess.run(["umount", str(now_at)], check=True)


@contextmanager
def bound(place: Path) -> Iterator[None]:
    """Mount a directory on itself, so that it cannot be renamed; skip where that may not be."""
    if subprocess.run(["mount", "--bind", str(place), str(place)], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def run_on_tmpfs(module: str, what: str, root: Path, *, at: str = "", size: str) -> None:
    """Run ``python -m MODULE WHAT ROOT`` with a small tmpfs at ``ROOT/at``.

    Skips where no mount namespace can be had. The exit code has to be 0.
    """
    script = f'mount -t tmpfs -o size={size} tmpfs "$1" || exit 77; exec "$2" -m {module} "$3" "$4"'
    arguments = [str(root / at), sys.executable, what, str(root)]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no mount namespace of its own here: {done.stderr.strip()}")
    log = root / "loader.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
