"""The command line as users run it: its two outputs and its exit code."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from extender.cli.main import main

DEMO = Path(str(files("extender") / "demo"))
CLUSTER = DEMO / "cluster.yaml"
PODS = DEMO / "pods.yaml"
MODULE = (sys.executable, "-m", "extender")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one document on stdout; stderr must be silent."""
        assert self.stderr == "", self.stderr
        return msgspec.json.decode(self.stdout)

    def refusal(self) -> str:
        """What a command says that was used wrongly: exit code 2, one message, no document."""
        assert (self.code, self.stdout) == (2, ""), self
        assert "Traceback" not in self.stderr
        return self.stderr


class _Output(io.TextIOWrapper):
    """A text stream over bytes, as a process has them."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", write_through=True)

    def text(self) -> str:
        return self._bytes.getvalue().decode()


def run(*arguments: str | Path) -> Done:
    """Run the program inside of this process: its own ``main``, with these arguments."""
    stdout, stderr, before = _Output(), _Output(), sys.argv
    sys.argv = ["model-cache-extender", *map(str, arguments)]
    code: int | str | None = 0
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert code is None or isinstance(code, int)
    return Done(code or 0, stdout.text(), stderr.text())


def start(
    *arguments: str | Path, program: tuple[str, ...] = MODULE, cwd: Path | None = None
) -> Done:
    """Run it as a process."""
    done = subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )
    return Done(done.returncode, done.stdout, done.stderr)
