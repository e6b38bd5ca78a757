"""Processes of the control plane: each has a log file and is stopped by its own process id."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
_given: set[int] = set()
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = 16


class HarnessError(AssertionError):
    """Something of the control plane did not come about; the message shows its log."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and was not given out before.

    It is bound later, by a program that takes seconds to start: so it is none that the system gives
    to others meanwhile (``ip_local_port_range``), and none that a worker beside this one chooses.
    """
    while True:
        port = 10_000 + _WORKERS * secrets.randbelow(1_300) + _WORKER % _WORKERS
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def on_host(host: str | None, command: Sequence[str | Path]) -> list[str | Path]:
    """Return a command that runs under a host name of its own, as a pod's containers do."""
    if host is None:
        return list(command)
    return [*_own_host_name(), "sh", "-c", 'hostname "$0" && exec "$@"', host, *command]


def _own_host_name() -> list[str]:
    """Return the words before a command that give it a host name namespace here."""
    ways = (["unshare", "--uts"], ["unshare", "--user", "--map-root-user", "--uts"])
    for way in ways:
        tried = subprocess.run([*way, "hostname", "probe"], capture_output=True, check=False)
        if tried.returncode == 0:
            return way
    raise HarnessError(f"no host name namespace can be made here: {tried.stderr.decode().strip()}")


def wait_for(
    predicate: Callable[[], object], timeout: float, what: str, poll: float = POLL_SECONDS
) -> None:
    """Poll until the predicate holds; say what never came about otherwise."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise HarnessError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(poll)


class Process:
    """A started program, in a session of its own so that its children stop with it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log
        self._command = [str(word) for word in command]
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self.start()

    def start(self) -> None:
        """Start the program (again)."""
        with self.log_path.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def pids(self) -> list[int]:
        """Return its process id and those of its children; none once it has ended."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(OSError):
            return [self.pid, *map(int, children.read_text("ascii").split())]
        return []

    def running(self) -> bool:
        return self._popen.poll() is None

    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, ready: Callable[[], object], timeout: float) -> None:
        """Wait until it is ready; a process that has exited never will be."""

        def ready_or_dead() -> bool:
            return not self.running() or bool(ready())

        try:
            wait_for(ready_or_dead, timeout, f"{self.name} to be ready")
        except HarnessError as error:
            self.stop()
            raise HarnessError(f"{error}\n{self._tail()}") from None
        if not self.running():
            raise HarnessError(
                f"{self.name} exited with {self._popen.returncode} at its start\n{self._tail()}"
            )

    def stop(self) -> None:
        """Terminate it, kill what is left after a while, and reap it."""
        if self.running():
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill it and its children without a word, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)

    def _tail(self) -> str:
        lines = self.log().splitlines()[-30:]
        return "\n".join([f"the last lines of {self.log_path}:", *lines])
