"""Runs the commands of a page as its reader would: in a checkout, with the files that it shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.program import CLUSTER, Done, run
from tests.docs.pages import ROOT, Block

PROGRAMS = (
    ("model-cache-extender",),
    (".venv/bin/model-cache-extender",),
    ("kubectl", "modelcache"),
)
SECONDS = 240


class Command(NamedTuple):
    """One command of a block, and what is shown below it."""

    line: str
    shown: str


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block: what follows ``$``, with its output."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield Command(line, shown)


def checkout(folder: Path) -> Path:
    """Lay out a checkout whose files are this tree's, with the demo's cluster as a dump."""
    for entry in ROOT.iterdir():
        if entry.name != ".venv":
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv" / ".installed").touch()
    (folder / "cluster.yaml").symlink_to(CLUSTER)
    return folder


def execute(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    """Run a command; our own program inside of this process where no shell is needed for it."""
    monkeypatch.chdir(folder)
    words = shlex.split(line)
    for program in PROGRAMS:
        if tuple(words[: len(program)]) == program and not re.search(r"[|<>$&;*]", line):
            return run(*words[len(program) :])
    return script(line, folder)


def script(text: str, folder: Path, *, kubeconfig: str = "", programs: str = "") -> Done:
    """Run lines of shell that end at the first command that fails.

    They find no cluster but that of a kubeconfig, and further programs in a folder.
    """
    path = f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}"
    hidden = ("KUBERNETES_SERVICE_HOST", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        ["sh", "-ec", text],
        cwd=folder,
        env={**environment, "HOME": str(folder), "PATH": path, "KUBECONFIG": kubeconfig},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def matches(shown: str, said: str) -> bool:
    """Compare what a page shows with what was said.

    ``...`` stands for anything in a line, a line of its own for any lines; columns may be wider.
    """
    lines = "".join(_pattern(line) for line in shown.rstrip().split("\n"))
    return re.fullmatch(lines, said.rstrip() + "\n") is not None


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    parts = [" +".join(map(re.escape, part.split())) for part in line.split("...")]
    return f" *{' *.* *'.join(parts)} *\n"
