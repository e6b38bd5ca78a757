"""The real program as a process: started, asked over HTTP or bare sockets, stopped by its pid."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from extender.config import ServerSection
from tests.controlplane.processes import free_port

START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
STOP_SECONDS = 60.0
GRACE_SECONDS = ServerSection().graceful_seconds
"""A stop that waits for idle clients takes as long as that; one that does not ends before."""
DEMO_CLUSTER = Path(str(files("extender") / "demo" / "cluster.yaml"))
JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {
    "Pod": {
        "metadata": {"name": "good", "namespace": "inference", "uid": "good"},
        "spec": {"containers": [{"name": "main", "image": "busybox:1.37"}]},
    },
    "Nodes": None,
    "NodeNames": ["gpu-1", "gpu-2"],
}
"""What kube-scheduler sends for a pod that any node can run."""
PASSED: dict[str, Any] = {
    "Nodes": None,
    "NodeNames": ["gpu-1", "gpu-2"],
    "FailedNodes": {},
    "FailedAndUnresolvableNodes": {},
    "Error": "",
}
"""The answer of filter to it."""


def as_go_writes(path: str, body: bytes, *, address: str = "127.0.0.1:8888") -> bytes:
    """Return a POST as kube-scheduler's HTTP client writes it (recorded from Go 1.26)."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    )
    return head.encode() + body


class Answer(NamedTuple):
    """What came back. ``status`` is 0 where the connection was closed without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def error(self) -> str:
        """The message of an error, which must be the one documented form."""
        assert self.headers["content-type"] == "application/json", self
        document = self.json()
        assert set(document) == {"error"}, document
        message: str = document["error"]
        assert "Traceback" not in message
        assert message
        return message


class Running:
    """One started server. ``log_path`` collects what it writes to stderr."""

    def __init__(
        self, process: subprocess.Popen[bytes], log_path: Path, patience: float = START_SECONDS
    ) -> None:
        self.process = process
        self.log_path = log_path
        self.address, *others = self._wait_listening(patience)
        self.status_address = others[0] if others else None

    # -- asking ------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = JSON,
        *,
        at: tuple[str, int] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(*(at or self.address), timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def post(self, path: str, document: Any, **more: Any) -> Answer:
        return self.ask("POST", path, msgspec.json.encode(document), **more)

    def connect(self, at: tuple[str, int] | None = None) -> socket.socket:
        return socket.create_connection(at or self.address, timeout=ANSWER_SECONDS)

    def raw(self, data: bytes) -> Answer:
        """Send bytes as they are, end the sending side, and read the first answer."""
        with self.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return answer_on(connection)

    def answers_well(self) -> bool:
        answer = self.post("/filter", GOOD)
        return answer.status == 200 and answer.json() == PASSED

    # -- its log -----------------------------------------------------------------------------------

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def mark(self) -> int:
        """A place in the log, for ``lines``."""
        return self.log_path.stat().st_size

    def lines(self, since: int = 0) -> list[dict[str, Any]]:
        """The log's whole lines after a place; each must be one JSON object."""
        with self.log_path.open("rb") as file:
            file.seek(since)
            whole, _, _ = file.read().rpartition(b"\n")  # the last one may be being written
            return [msgspec.json.decode(line) for line in whole.splitlines()]

    # -- its life ----------------------------------------------------------------------------------

    def terminate(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def _wait_listening(self, patience: float) -> list[tuple[str, int]]:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = re.search(r'"addresses": \[(.*?)\]', self.log())
            if found:
                pairs = re.findall(r'"(127\.0\.0\.1):(\d+)"', found[1])
                return [(host, int(port)) for host, port in pairs]
            assert self.process.poll() is None, f"it stopped at its start:\n{self.log()}"
            time.sleep(0.02)
        raise AssertionError(f"it did not listen within {patience} s:\n{self.log()}")


def answer_on(connection: socket.socket) -> Answer:
    """Read one answer from a connection; status 0 where it is closed without one."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except http.client.RemoteDisconnected:
        return Answer(0, {}, b"")
    return read_answer(response)


def read_answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def dead_kubeconfig(folder: Path) -> Path:
    """Write a kubeconfig whose apiserver does not answer."""
    return kubeconfig(folder, f"http://127.0.0.1:{free_port()}")


def kubeconfig(folder: Path, url: str) -> Path:
    """Write a kubeconfig without credentials."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = folder / "kubeconfig"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "extender", *map(str, arguments)]


@contextmanager
def running(
    folder: Path,
    *arguments: str | Path,
    files: int | None = None,
    patience: float = START_SECONDS,
) -> Iterator[Running]:
    """Run ``serve`` with these arguments, on a free port of 127.0.0.1.

    ``files`` is how many files it may have open, ``patience`` how many seconds it may take to
    listen.
    """
    limit = ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"'] if files else []
    log_path = folder / "stderr.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            limit + command("serve", "--listen", "127.0.0.1:0", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Running(process, log_path, patience)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
