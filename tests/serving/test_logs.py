"""Logs: one line of JSON for each record, whoever writes it, and no more than the level asks."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.controlplane.processes import free_port
from tests.serving.running import (
    ANSWER_SECONDS,
    GOOD,
    JSON,
    START_SECONDS,
    STOP_SECONDS,
    command,
    dead_kubeconfig,
    kubeconfig,
    running,
)
from tests.watch.fake_apiserver import FakeApiserver

SOON = 30.0

PROGRAM = """
import logging, sys, structlog
from extender.serving.logs import configure_logging

log = structlog.get_logger("extender.decisions")
configure_logging(level=sys.argv[1])
log.debug("asked")
log.info("decision", pod="a\\nb", refused={"ModelAbsent": 3})
log.bind(node="n1").warning("not bound", name="caf\\u00e9 \\udc80")
logging.getLogger("some.library").warning("its word: %s", 1)
logging.getLogger("httpx2").info("a request with a signature")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
    logging.getLogger("some.library").exception("failed there")
"""


def said(level: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, level], capture_output=True, text=True, check=True
    )
    assert not done.stdout
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_our_records_and_those_of_libraries_have_one_form() -> None:
    lines = said("INFO")
    assert all(line.pop("timestamp").endswith("Z") for line in lines)
    decided, refused, theirs, failed, failed_there = lines
    assert decided == {
        "pod": "a\nb",
        "refused": {"ModelAbsent": 3},
        "event": "decision",
        "level": "info",
    }
    assert refused == {
        "node": "n1",
        "name": "café \udc80",
        "event": "not bound",
        "level": "warning",
    }
    assert theirs == {"event": "its word: 1", "level": "warning"}
    for line in (failed, failed_there):
        assert line["level"] == "error"
        assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_what_is_below_the_level_is_not_said() -> None:
    assert [line["event"] for line in said("ERROR")] == ["failed", "failed there"]
    assert said("DEBUG")[0]["event"] == "asked"


def test_an_object_of_which_a_part_cannot_be_read_is_named(tmp_path: Path) -> None:
    with FakeApiserver() as api:
        api.put("/api/v1/nodes", "odd", status={"allocatable": {"memory": "lots"}})
        with running(tmp_path, "--kubeconfig", kubeconfig(tmp_path, api.url)) as server:
            end = time.monotonic() + SOON
            named: list[dict[str, Any]] = []
            while not named and time.monotonic() < end:
                whole = server.log().splitlines(keepends=True)
                lines = [json.loads(line) for line in whole if line.endswith("\n")]
                named = [line for line in lines if line["event"] == "object cannot be read"]
                time.sleep(0.05)
    (line,) = named
    assert line["object"] == "Node odd"
    assert "status.allocatable.memory" in line["error"]


_LOST = re.compile(r"^model_cache_extender_log_lines_lost_total (\S+)", re.MULTILINE)


def test_a_log_that_cannot_be_written_keeps_nobody_from_being_answered(tmp_path: Path) -> None:
    """Its disk is full, say; a line that is lost is counted."""
    port = free_port()
    arguments = ("serve", "--kubeconfig", dead_kubeconfig(tmp_path), "--listen")
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command(*arguments, f"127.0.0.1:{port}"), stderr=full)
    try:
        end = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, "it ends with its log"
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
            connection.request("POST", "/filter", json.dumps(GOOD), JSON)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["NodeNames"]) == (200, [])
            connection.request("GET", "/metrics")
            counted = _LOST.search(connection.getresponse().read().decode())
            assert counted
            assert float(counted[1]) >= 2
            connection.close()
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
