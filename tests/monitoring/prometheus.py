"""A real Prometheus and promtool: found, started on 127.0.0.1, asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.processes import Process, free_port

ROOT = Path(__file__).resolve().parents[2]
RULES: dict[str, Any] = yaml.safe_load(
    (ROOT / "deploy/monitoring/prometheus-rule.yaml").read_text("utf-8")
)["spec"]
"""What the operator hands to Prometheus, and ``promtool`` reads."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
UNPACKED = CACHE / "model-cache-extender" / "prometheus" / "usr" / "bin"
_COMPARISON = re.compile(r" (<|>|<=|>=|==|!=) ")


def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``. In CI its absence is an error."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        missing = f"{name} is not there; `make prometheus` unpacks it"
        if os.environ.get("CI"):
            pytest.exit(missing, returncode=2)
        pytest.skip(missing)
    return found


class Prometheus(Process):
    """A started one; ``url`` is where it listens."""

    url: str

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API; fails with its words where it refuses."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def values(self, expression: str) -> list[Any]:
        """Return what an expression gives now: no element, one, or many."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@contextmanager
def scraping(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Let Prometheus scrape ``HOST:PORT`` of each pod and evaluate the rules, twice a second."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES), "utf-8")
    scraped = [
        {"targets": [address], "labels": {"pod": pod, "namespace": "model-cache-system"}}
        for pod, address in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "pods", "static_configs": scraped}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = Prometheus("prometheus", command, folder / "prometheus.log")
    process.url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(process.ready, 60)
        yield process
    finally:
        process.stop()


def answering(expression: str) -> str:
    """Let comparisons answer 0 or 1 where they would leave out what is not so."""
    return _COMPARISON.sub(r" \1 bool ", expression)
