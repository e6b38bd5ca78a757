"""Runs a command apart from the machine: in namespaces of its own, of which nothing stays.

Who makes a run (``new_run``) first starts a keeper in a session of its own, and holds a pipe to it;
before the keeper nothing of the run is there, and both hold its lock. Commands run in fresh
namespaces, tied to the life of their starter: with their first process the kernel kills every
process, unmounts every mount and removes every link of theirs. What no namespace holds, the cgroups
and the folder of the run, one of the two removes. Whatever dies first:

- the command: its exit status is handed on; at the end of the run the pipe is closed, and the
  keeper cleans up;
- the starter, at any moment from the first on: the kernel kills the command, and the keeper reads
  the pipe's end and cleans up; ``tied`` has whoever waits for the starter, such as make, take it
  along;
- the keeper: the starter ends the command, and cleans up itself;
- both at once: the next run cleans up, by the lock that nobody holds any more.

So there is never more than one who cleans up. What cannot be removed is said, and the next run
tries again. The machine's sysctls are never changed: see ``machine``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.build import assets, say
from e2e.cgroups import CGROUPS, GONE_SECONDS, Controllers, remove_cgroups, see_writable

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
HELD = "held"
"""What a keeper says once it holds the run's lock."""
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

    def make(self) -> None:
        """Make its folder, and have what a kubelet wants of cgroups. Raises OSError."""
        self.temporary.mkdir(parents=True)
        see_writable(f"{self.name}-probe")
        self._controllers.lend()

    def clean(self) -> None:
        """End its processes, should any live, and remove what no namespace holds.

        Says what cannot be removed, and leaves the lock's file then, by which the next run finds
        it.
        """
        left = [f"process {pid} does not end" for pid in self._end()]
        remove_cgroups(self.cgroups)
        left += [f"{path}: its processes do not end" for path in self.cgroups()]
        self._controllers.give_back()
        try:
            remove_folder(self.folder)
        except OSError as error:
            left.append(f"{self.folder}: {error.strerror}: {error.filename}")
        if left:
            say("warning: this is left of a run, the next one tries again: " + "; ".join(left))
        else:
            self.lock.unlink(missing_ok=True)

    def _end(self) -> list[int]:
        """Kill its processes, and return those that live nevertheless.

        The kernel kills those that were tied before their parent ended; a moment earlier nothing
        ties them.
        """
        deadline = time.monotonic() + GONE_SECONDS
        while (found := self.processes()) and time.monotonic() < deadline:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        return found

    def processes(self) -> list[int]:
        """Its processes, those in containers aside: they have its place for temporary files."""
        mark, found = f"TMPDIR={self.temporary}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    @property
    def _controllers(self) -> Controllers:
        return Controllers(CGROUPS, self.folder / "controllers")

    @property
    def temporary(self) -> Path:
        """Return the folder for temporary files of whatever it runs."""
        return self.folder / "tmp"

    @property
    def lock(self) -> Path:
        """Return the file that keeper and starter hold locked, each for as long as it lives."""
        return self.folder.with_suffix(".lock")

    def cgroups(self) -> list[Path]:
        """Return its cgroups, one a machine: in each hierarchy of version 1, or in the only one."""
        return [*CGROUPS.glob(f"{self.name}-*"), *CGROUPS.glob(f"*/{self.name}-*")]


@dataclass(frozen=True)
class StartedRun(Run):
    """A run that this process has started, with its keeper."""

    keeper: subprocess.Popen[bytes]

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
        with subprocess.Popen(
            [*TIED, *namespaces, *command],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            start_new_session=True,
        ) as process:
            ends = [os.pidfd_open(each.pid) for each in (process, self.keeper)]
            try:
                over, _, _ = select.select(ends, [], [], seconds)
                if not over:
                    late()
            finally:
                process.kill()
                for end in ends:
                    os.close(end)
        if not over:
            return TOO_LONG
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def remove_folder(folder: Path) -> None:
    """Remove a folder, or as much of it as can be, and raise then what stands in the way.

    The last processes may linger, and write into it: only what cannot be removed for a while does.
    """
    deadline = None
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            deadline = deadline or time.monotonic() + GONE_SECONDS
            if folder.exists() and time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def runs() -> Path:
    """Return the folder of all runs."""
    return assets() / "node" / "runs"


@contextlib.contextmanager
def new_run() -> Iterator[StartedRun]:
    """Make a run; nothing of it, or of runs that were killed, is left at the end."""
    runs().mkdir(parents=True, exist_ok=True)
    sweep()
    run = Run(runs() / secrets.token_hex(4))
    words = [sys.executable, "-m", "e2e.apart", str(run.folder)]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(words, stdin=pipe, stdout=pipe, start_new_session=True) as keeper,
        contextlib.ExitStack() as until_clean,
    ):
        try:
            told(keeper)
            until_clean.enter_context(locked(run.lock, fcntl.LOCK_SH))
            run.make()
            yield StartedRun(run.folder, keeper)
        finally:
            keeper.communicate()  # the end of the pipe: it cleans up
            if keeper.returncode:  # it was killed
                run.clean()


def told(keeper: subprocess.Popen[bytes]) -> None:
    """Wait until a keeper says that it holds the lock. Raises OSError with what kept it from it."""
    assert keeper.stdout is not None
    word = keeper.stdout.readline().decode().rstrip("\n")
    if word != HELD:
        raise OSError(word or "the keeper of the run was killed")


@contextlib.contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock: LOCK_SH as one of a run, LOCK_EX as who cleans up after one.

    Raises BlockingIOError where others hold it in a way that this one excludes.
    """
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, how | fcntl.LOCK_NB)
        yield


def sweep() -> None:
    """Clean up after runs whose keeper and starter were killed together."""
    for lock in runs().glob("*.lock"):
        with contextlib.suppress(BlockingIOError), locked(lock, fcntl.LOCK_EX):
            Run(lock.with_suffix("")).clean()


def keep(folder: Path) -> None:
    """Be the keeper: wait until the pipe's holder ends the run, or ends, then clean up."""
    run = Run(folder)
    with contextlib.ExitStack() as until_end:
        word = HELD
        try:
            until_end.enter_context(locked(run.lock, fcntl.LOCK_SH))
        except OSError as error:
            word = str(error)
        with contextlib.suppress(BrokenPipeError):  # who started it has ended meanwhile
            os.write(1, f"{word}\n".encode())
        if word == HELD:
            while os.read(0, 1024):
                pass
            run.clean()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
