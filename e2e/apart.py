"""Runs a command apart from the machine: in namespaces of its own, of which nothing stays.

Whoever runs things (``Run.command``) starts a keeper in a session of its own and holds a pipe to
it. The keeper starts the command in fresh namespaces, tied to its own life. Then, whatever dies
first:

- the command: the keeper cleans up and hands on its exit status;
- the one who holds the pipe: the keeper reads its end, kills the namespaces' first process, with
  which the kernel kills every process, unmounts every mount and removes every link of theirs, and
  cleans up what no namespace holds: the cgroups, and the folder of the run; ``tied`` has whoever
  waits for the holder, such as make, take it along;
- the keeper: the kernel kills the command, and who holds the pipe cleans up;
- both at once: the next run cleans up, by the lock that nobody holds any more.

What cannot be removed is said, and the next run tries again. The machine's sysctls are never
changed: see ``machine``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.build import assets, say
from e2e.cgroups import CGROUPS, GONE_SECONDS, Controllers, remove_cgroups

PREFIX = "model-cache-e2e-"
TIED = ("setpriv", "--pdeathsig", "KILL")
UNSHARE = (
    "unshare",
    "--mount",
    "--pid",
    "--ipc",
    "--uts",
    "--fork",
    "--mount-proc",
    "--kill-child",
)
TOO_LONG = 124
"""The exit status of a command that took too long, as of timeout(1)."""


@dataclass(frozen=True)
class Run:
    """One run: its folder is everything that it writes, its cgroups have its name."""

    folder: Path

    @property
    def name(self) -> str:
        """Return the name of its cgroups."""
        return PREFIX + self.folder.name

    def command(
        self,
        command: Sequence[str],
        *,
        network: bool,
        seconds: float,
        late: Callable[[], None] = lambda: None,
    ) -> int:
        """Run a command apart and return its exit status, TOO_LONG where it had to be ended.

        ``network``: with the machine's own; ``late``: called before it is ended, while everything
        is still there.
        """
        namespaces = UNSHARE if network else (*UNSHARE, "--net")
        keeper = [sys.executable, "-m", "e2e.apart", str(self.folder), *TIED, *namespaces, *command]
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        with subprocess.Popen(
            keeper, stdin=subprocess.PIPE, env=environment, start_new_session=True
        ) as process:
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                late()
                process.communicate()  # the end of the pipe: the keeper ends everything
                return TOO_LONG

    def make(self) -> None:
        """Make its folder, and have what a kubelet wants of cgroups."""
        self.temporary.mkdir(parents=True)
        self._controllers.lend()

    def clean(self) -> None:
        """Remove what no namespace holds, once its processes are gone.

        Says what cannot be removed, and leaves the lock's file then, by which the next run finds
        it.
        """
        remove_cgroups(self.cgroups)
        left = [f"{path}: its processes do not end" for path in self.cgroups()]
        self._controllers.give_back()
        try:
            remove_folder(self.folder)
        except OSError as error:
            left.append(f"{self.folder}: {error.strerror}: {error.filename}")
        if left:
            say("warning: this is left of a run, the next one tries again: " + "; ".join(left))
        else:
            self.lock.unlink(missing_ok=True)

    @property
    def _controllers(self) -> Controllers:
        return Controllers(CGROUPS, self.folder / "controllers")

    @property
    def temporary(self) -> Path:
        """Return the folder for temporary files of whatever it runs."""
        return self.folder / "tmp"

    @property
    def lock(self) -> Path:
        """Return the file that its starter holds locked for as long as it lives."""
        return self.folder.with_suffix(".lock")

    def cgroups(self) -> list[Path]:
        """Its cgroups: one a machine in every hierarchy of version 1, or in that of version 2."""
        return [*CGROUPS.glob(f"{self.name}-*"), *CGROUPS.glob(f"*/{self.name}-*")]


def remove_folder(folder: Path) -> None:
    """Remove a folder, or as much of it as can be, and raise then what stood in the way.

    The last processes may linger, and write into it.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def runs() -> Path:
    """Return the folder of all runs."""
    return assets() / "node" / "runs"


@contextlib.contextmanager
def new_run() -> Iterator[Run]:
    """Make a run; nothing of it, or of runs that were killed, is left at the end."""
    runs().mkdir(parents=True, exist_ok=True)
    sweep()
    run = Run(runs() / secrets.token_hex(4))
    with locked(run.lock):
        try:
            run.make()
            yield run
        finally:
            run.clean()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that goes with its holder; raises BlockingIOError where another holds it."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def sweep() -> None:
    """Clean up after runs whose keeper and starter were killed together."""
    for lock in runs().glob("*.lock"):
        with contextlib.suppress(BlockingIOError), locked(lock):
            Run(lock.with_suffix("")).clean()


def keep(folder: Path, command: Sequence[str]) -> int:
    """Be the keeper: run the command until it or the holder of the pipe ends, then clean up."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        ended = threading.Event()

        def watch() -> None:
            while os.read(0, 1024):
                pass
            ended.set()
            process.kill()

        threading.Thread(target=watch, daemon=True).start()
        status = process.wait()
    if ended.is_set():
        Run(folder).clean()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
