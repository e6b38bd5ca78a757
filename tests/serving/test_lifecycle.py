"""How the process starts, stops, and refuses to start: exit codes, and what it says."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.serving.running import (
    DEMO_CLUSTER,
    GOOD,
    GRACE_SECONDS,
    JSON,
    PASSED,
    Running,
    answer_on,
    command,
    dead_kubeconfig,
    running,
)
from tests.serving.site import HEAD
from tests.watch.harness import eventually

GOOD_BODY = msgspec.json.encode(GOOD)


@contextmanager
def demo_server(folder: Path) -> Iterator[Running]:
    with running(folder, "--snapshot", DEMO_CLUSTER) as started:
        yield started


# -- stopping ------------------------------------------------------------------------------------


def is_read(server: Running, connection: socket.socket) -> bool:
    """Tell whether the server has taken a connection, and read all that was sent on it."""
    ends = [f"0100007F:{port:04X}" for port in (server.address[1], connection.getsockname()[1])]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    (taken,) = (row for row in rows if row[1:3] == ends)
    unread, inode = taken[4].partition(":")[2], taken[9]
    return int(unread, 16) == 0 and inode != "0"


def test_sigterm_lets_a_request_in_flight_be_answered(tmp_path: Path) -> None:
    half = len(GOOD_BODY) // 2
    with demo_server(tmp_path) as server, server.connect() as connection:
        connection.sendall(
            b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY[:half]
        )
        assert eventually(lambda: is_read(server, connection))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None, "it waits for the request"
        connection.sendall(GOOD_BODY[half:])
        answer = answer_on(connection)
        assert (answer.status, answer.json()) == (200, PASSED)
        assert server.process.wait(60) == 0
        assert [line["event"] for line in server.lines()] == ["listening", "decision", "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_server_stops_soon_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    """Connections that kube-scheduler keeps open do not hold it up."""
    with demo_server(tmp_path) as server:
        kept = http.client.HTTPConnection(*server.address, timeout=30)
        kept.request("POST", "/filter", GOOD_BODY, JSON)
        kept.getresponse().read()
        begun = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert time.monotonic() - begun < GRACE_SECONDS
        kept.close()
        assert "Traceback" not in server.log()


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    with demo_server(tmp_path) as server:
        assert server.answers_well()
        pids = [server.process.pid, *server.worker_pids()]
        assert len(pids) == 2, "one process to watch over one process that serves"
        assert server.terminate() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_server_that_looks_for_its_apiserver_stops_soon(tmp_path: Path) -> None:
    with running(tmp_path, "--kubeconfig", dead_kubeconfig(tmp_path)) as server:
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < GRACE_SECONDS
        assert "Traceback" not in server.log()


def test_a_worker_that_died_is_replaced_and_knows_the_same(tmp_path: Path) -> None:
    with demo_server(tmp_path) as server:
        assert server.answers_well()
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while server.worker_pids() in ([], [worker]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.answers_well()


# -- refusing to start ---------------------------------------------------------------------------


def serve(*arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("serve", *arguments), capture_output=True, text=True, timeout=timeout, check=False
    )


def test_all_errors_of_a_configuration_are_named_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: modelcache.dev/v1\n"
        "kind: ExtenderConfiguration\n"
        "memory: {volumes: all}\n"
        "freshness: {boundSeconds: never}\n"
        "server: {threads: 0, workers: 4}\n"
        "listn: 127.0.0.1:8888\n"
    )
    done = serve("--config", config, "--snapshot", DEMO_CLUSTER)
    assert done.returncode == 2
    assert done.stdout == ""
    head, *errors = done.stderr.strip().splitlines()
    assert head == f"error: {config}: 6 error(s)"
    for field in (
        "apiVersion:",
        "memory.volumes:",
        "freshness.boundSeconds:",
        "server.threads:",
        "server.workers: unknown key",
        "listn: unknown key",
    ):
        assert sum(error.strip().startswith(field) for error in errors) == 1, (field, errors)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "everywhere"], "listen: 'everywhere' is not IP:PORT"),
        (["--listen", "127.0.0.1:99999"], "listen: '127.0.0.1:99999' is not IP:PORT"),
        (["--status-listen", "x:1"], "statusListen: 'x:1' is not IP:PORT"),
        (
            ["--listen", "127.0.0.1:1234", "--status-listen", "0.0.0.0:1234"],
            "statusListen: port 1234 is that of listen; choose another",
        ),
        (["--observe"], "--observe watches a live cluster; leave out --snapshot"),
        (["--log-level", "LOUD"], "'LOUD' is not one of"),
        (["--nonsense"], "No such option"),
        (["--config", "/no/such/file"], "/no/such/file: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_exit_code_2_with_the_remedy(arguments: list[str], said: str) -> None:
    done = serve("--snapshot", DEMO_CLUSTER, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_that_would_cross_the_network_in_the_clear_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    """The listener comes from the command line, as in deploy/: no document has both."""
    config = tmp_path / "config.yaml"
    config.write_bytes(msgspec.yaml.encode({**HEAD, "server": {"page": True}}))
    listener = ("--listen", "127.0.0.1:0", "--status-listen", "0.0.0.0:0")
    done = serve("--snapshot", DEMO_CLUSTER, "--config", config, *listener)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: server.page: the page at statusListen 0.0.0.0:0 would cross the network in the "
        "clear; set statusTls.certFile and statusTls.keyFile, or leave server.page out and "
        "forward a port to listen\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no object; make a dump with: kubectl get nodes,pods"),
        ("{", "neither YAML nor JSON"),
    ],
    ids=["missing", "empty", "broken"],
)
def test_a_snapshot_that_cannot_be_used_is_exit_code_2(
    tmp_path: Path, text: str | None, said: str
) -> None:
    snapshot = tmp_path / "cluster.yaml"
    if text is not None:
        snapshot.write_text(text)
    done = serve("--snapshot", snapshot, "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {snapshot}: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", [None, "hello", "clusters: []"], ids=["missing", "text", "empty"])
def test_a_kubeconfig_that_cannot_be_used_is_exit_code_2(tmp_path: Path, text: str | None) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if text is not None:
        kubeconfig.write_text(text)
    done = serve("--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: kubeconfig {kubeconfig}: ")
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host, port = taken.getsockname()
        done = serve("--snapshot", DEMO_CLUSTER, "--listen", f"{host}:{port}")
    assert done.returncode != 0
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
    for line in done.stderr.splitlines():
        msgspec.json.decode(line)
