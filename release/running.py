"""Running the tools that a release is made with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 600


class ReleaseError(Exception):
    """What was built is not fit to be released; the message says what is wrong with it."""


def run(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    """Run a command away from this tree's modules; return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=cwd,
        env=environment,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ReleaseError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{said}")
    return done.stdout
