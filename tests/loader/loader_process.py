"""A real ``loader run`` process for tests, on its own directory, with its own metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tests.controlplane.cluster import http_get

SECONDS = 60.0


def catalog(*models: Mapping[str, object], **more: object) -> str:
    """Return a catalog whose watermarks are out of the way of the machine's own disk."""
    document = {
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ModelCatalog",
        "watermarks": {"highPercent": 100, "lowPercent": 99.9, "reserve": "1Mi"},
        "limits": {"proofBytesPerSecond": 0},
        "models": list(models),
        **more,
    }
    return yaml.safe_dump(document)


class LoaderProcess:
    """Runs until the end of the ``with`` block. ``log`` is what it has said on stderr."""

    def __init__(
        self,
        catalog_file: Path,
        directory: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        standalone: bool = True,
        log: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._errors = log or directory.parent / f"{directory.name}.log"
        self.arguments = [
            *(sys.executable, "-m", "extender", "loader", "run"),
            *("--catalog", str(catalog_file), "--directory", str(directory)),
            *("--status-listen", "127.0.0.1:0", *options),
            *(["--standalone"] if standalone else []),
        ]
        self._environment = environment

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, or once more after its end."""
        with self._errors.open("ab") as stderr:
            self.process = subprocess.Popen(
                self.arguments, stderr=stderr, env=dict(self._environment or {}) or None
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    @property
    def log(self) -> str:
        return self._errors.read_text()

    @property
    def events(self) -> list[dict[str, object]]:
        whole, _, _ = self.log.rpartition("\n")  # the last line may be being written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    @property
    def port(self) -> int:
        """The status listener's; 0 while it does not listen yet."""
        ports = re.findall(r'"status_port": (\d+)', self.log)
        return int(ports[-1]) if ports else 0

    def get(self, path: str) -> tuple[int, str]:
        """Ask the status listener."""
        if not self.port:
            return 0, ""
        return http_get(f"http://127.0.0.1:{self.port}{path}")

    def models(self, state: str) -> int:
        """Return how many models are in a state, by the metrics; -1 while nobody answers."""
        found = re.search(
            rf'^model_cache_extender_loader_models{{state="{state}"}} (\d+)',
            self.get("/metrics")[1],
            re.MULTILINE,
        )
        return int(found[1]) if found else -1


def wait_for(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within time"
        time.sleep(0.05)
