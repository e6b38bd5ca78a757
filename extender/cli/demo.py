"""``demo``: a real server over an embedded cluster, asked by real HTTP what kube-scheduler asks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
import msgspec

from extender.errors import ExtenderError
from extender.explain.table import table
from extender.snapshot import read_documents

START_SECONDS = 60.0


class DemoError(ExtenderError):
    """The demo's server did not do what it should."""


@click.command()
def demo() -> None:
    """Place the demo's pods through the HTTP verbs and say why each went where."""
    with as_file(files("extender") / "demo") as folder:
        _run(folder / "cluster.yaml", folder / "pods.yaml")


def _run(cluster: Path, pods: Path) -> None:
    click.echo(f"A cluster of five nodes, from {cluster.name}:\n")
    names = [d["metadata"]["name"] for d in read_documents(cluster) if d["kind"] == "Node"]
    with _server(cluster) as url:
        click.echo(_inventory(url))
        click.echo("\nAsking POST /filter and POST /prioritize, as kube-scheduler does:\n")
        rows = [_place(url, pod, names) for pod in read_documents(pods)]
    click.echo(table(("POD", "STRATEGY", "GOES TO", "WHY", "THE OTHER NODES"), rows))
    click.echo(
        f"\nLook further: {_program()} explain -f {_short(pods)} --snapshot {_short(cluster)}"
    )


def _program() -> str:
    """Return this program as it was called, to paste."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m extender"
    return _short(called)


def _short(path: Path) -> str:
    """Return a path to paste: relative where it lies below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@contextmanager
def _server(cluster: Path) -> Iterator[str]:
    """Run ``serve --snapshot`` on a free port of 127.0.0.1 and yield its address."""
    command = [sys.executable, "-m", "extender", "serve", "--snapshot", str(cluster)]
    command += ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield _wait_until_ready(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:  # a very busy machine: it is not to outlive the demo
            process.kill()
            process.communicate()


def _wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        found = re.search(r"127\.0\.0\.1:[0-9]+", line)
        if found and "listening" in line:
            url = f"http://{found[0]}"
            break
    else:
        raise DemoError(f"the server stopped before it listened:\n{said}")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - loopback
                return url
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise DemoError(f"the server was not ready within {START_SECONDS:.0f} s:\n{said}")


def _call(url: str, body: Any = None) -> Any:
    data = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(  # noqa: S310 - loopback
        url, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        return msgspec.json.decode(answer.read())


def _inventory(url: str) -> str:
    memory = {node["name"]: node for node in _call(f"{url}/api/v1/nodes")["nodes"]}
    rows = []
    for node in _call(f"{url}/api/v1/models")["nodes"]:
        held = ", ".join(f"{model['path']} {model['state']}" for model in node["models"])
        free = memory[node["name"]]["freeBytes"] / 2**30
        rows.append((node["name"], held or "nothing", f"{free:.0f} GiB"))
    return table(("NODE", "ITS CACHE", "MEMORY FREE"), rows)


def _place(url: str, pod: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    """Ask the two verbs about one pod and put the answer into a row."""
    args = {"Pod": pod, "Nodes": None, "NodeNames": names}
    passed = _call(f"{url}/filter", args)["NodeNames"]
    explained = _call(f"{url}/api/v1/explain", pod)
    nodes = {node["name"]: node for node in explained["nodes"]}
    strategy = next((r["strategy"] for r in explained["references"]), "none")
    if not passed:
        refused = _refusals(node for node in nodes.values() if not node["fits"])
        return pod["metadata"]["name"], strategy, "waits", "no node can serve it", refused
    ranked = _call(f"{url}/prioritize", {**args, "NodeNames": passed})
    best = max(ranked, key=lambda entry: entry["Score"])
    node = nodes[best["Host"]]
    why = f"score {best['Score']}, serves in about {node['estimatedStartSeconds']:.0f} s"
    others = (n for name, n in nodes.items() if name != best["Host"])
    return pod["metadata"]["name"], strategy, best["Host"], why, _refusals(others)


def _refusals(nodes: Iterator[dict[str, Any]]) -> str:
    parts = []
    for node in nodes:
        if node["fits"]:
            parts.append(f"{node['name']} {node['estimatedStartSeconds']:.0f} s")
        else:
            parts.append(f"{node['name']} {node['reason']}")
    return ", ".join(parts)
