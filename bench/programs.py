"""The processes of a benchmark: the extender, the yardstick, the local apiserver, the load."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench.fleet import Fleet
from bench.latency import Latency
from bench.results import ROOT
from controlplane.build import build_bench
from tests.controlplane.cluster import Extender, http_get
from tests.controlplane.processes import Process, free_port

START_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the load sends; see ``bench/go/load``. ``bodies`` maps verbs to files."""

    url: str
    connections: int
    rate: float
    seconds: float
    warm_up: float
    bodies: Mapping[str, Sequence[str]]


@contextmanager
def local_apiserver(fleet: Fleet, folder: Path) -> Iterator[str]:
    """Serve a fleet; yields the URL."""
    port = free_port()
    command = [sys.executable, "-m", "bench.apiserver", f"--port={port}"]
    command += [f"--nodes={fleet.nodes}", f"--pods={fleet.pods}"]
    process = Process("apiserver", command, folder / f"apiserver-{port}.log", cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(lambda: http_get(f"{url}/api/v1/nodes?limit=1")[0] == 200, START_SECONDS)
        yield url
    finally:
        process.stop()


@contextmanager
def extender(apiserver: str, folder: Path, configuration: Any = None) -> Iterator[Extender]:
    """Run the extender on a local apiserver until it is ready."""
    port = free_port()
    kubeconfig = folder / f"kubeconfig-{port}"
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(apiserver)), encoding="utf-8")
    command = [sys.executable, "-m", "extender", "serve", f"--listen=127.0.0.1:{port}"]
    command.append(f"--kubeconfig={kubeconfig}")
    if configuration is not None:
        path = folder / f"configuration-{port}.yaml"
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command.append(f"--config={path}")
    process = Extender("extender", command, folder / f"extender-{port}.log", cwd=ROOT)
    process.url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(lambda: process.get("/readyz")[0] == 200, START_SECONDS)
        yield process
    finally:
        process.stop()


@contextmanager
def reference(
    table: Mapping[str, Mapping[str, int]], folder: Path, *, list_rejected: bool = False
) -> Iterator[Extender]:
    """Run the Go reference over a table of decisions: workload -> node -> score."""
    port = free_port()
    path = folder / f"table-{port}.json"
    path.write_bytes(msgspec.json.encode(table))
    command: list[str | Path] = [build_bench() / "reference", f"-table={path}"]
    command += [f"-listen=127.0.0.1:{port}"] + (["-list-rejected"] if list_rejected else [])
    process = Extender("reference", command, folder / f"reference-{port}.log")
    process.url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(lambda: process.get("/readyz")[0] == 200, START_SECONDS)
        yield process
    finally:
        process.stop()


def load(plan: Plan, folder: Path) -> dict[str, Latency]:
    """Send a plan; returns what was seen of each verb. Raises where an answer was an error."""
    path = folder / "plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    done = subprocess.run(
        [build_bench() / "load", f"-plan={path}"],
        capture_output=True,
        check=True,
        timeout=plan.warm_up + plan.seconds + 120,
    )
    seen = msgspec.json.decode(done.stdout, type=dict[str, Latency])
    for verb, latency in seen.items():
        if latency.errors:
            raise RuntimeError(f"{verb}: {latency.errors} errors, such as {latency.first_error}")
    return seen


def post(url: str, *, patience: float = 10.0) -> str:
    """POST without a body, and return the answer's; ``patience`` is seconds."""
    request = urllib.request.Request(url, method="POST")  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=patience) as answer:  # noqa: S310
        return str(answer.read(), "ascii")


def cpu_seconds(process: Process) -> float:
    """Return the processor time that a process and those of its session have used."""
    return sum(int(row[11]) + int(row[12]) for row in _session(process.pid)) / _TICKS


def resident_bytes(process: Process) -> int:
    """Return the memory that a process and those of its session keep resident now."""
    return sum(int(row[21]) for row in _session(process.pid)) * os.sysconf("SC_PAGE_SIZE")


def _session(pid: int) -> Iterator[list[str]]:
    """Yield the fields of /proc/PID/stat after the name, of each process of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid:
            yield fields


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "bench", "user": {"token": "bench"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
