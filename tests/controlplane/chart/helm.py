"""The real ``helm``, kept away from its user's own settings, and the chart that it is given."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "chart"
SYSTEM = "model-cache-system"
LIMIT_SECONDS = 120

Object = dict[str, Any]
Values = Mapping[str, Any]


class HelmError(AssertionError):
    """A helm command that failed; the message has the command and what it said."""


class Helm:
    """Runs helm, against a cluster where a kubeconfig is given."""

    def __init__(self, program: Path, workdir: Path, kubeconfig: Path | None = None) -> None:
        self._program = program
        self._workdir = workdir
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
        homes = {f"HELM_{kind}_HOME": str(workdir) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**kept, **homes, "KUBECONFIG": str(kubeconfig or os.devnull)}

    def start(self, *words: str | Path, values: Values | None = None) -> subprocess.Popen[str]:
        """Start a command; values go in as a file would."""
        command = [str(self._program), *map(str, words)]
        if values is not None:
            file = self._workdir / "values.json"
            file.write_text(json.dumps(values), encoding="utf-8")
            command += ["--values", str(file)]
        return subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
        )

    def run(self, *words: str | Path, values: Values | None = None) -> str:
        """Run a command; return what it prints. Raises HelmError with its stderr."""
        return finished(self.start(*words, values=values))

    def package(self, into: Path, version: str) -> Path:
        """Pack the chart under a version."""
        numbers = (f"--version={version}", f"--app-version={version}")
        self.run("package", CHART, *numbers, f"--destination={into}")
        return into / f"model-cache-extender-{version}.tgz"

    def objects(
        self, values: Values, *words: str, minor: str = "1.37", chart: Path = CHART
    ) -> list[Object]:
        """Return what the chart makes of some values, the pod of ``helm test`` left out."""
        release = ("template", "model-cache", chart, f"--namespace={SYSTEM}")
        options = (f"--kube-version={minor}", "--skip-tests", *words)
        text = self.run(*release, *options, values=values)
        return documents(text)


def documents(text: str) -> list[Object]:
    """Return the objects of a YAML stream; by the reader in C, for the dashboard is long."""
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for a command to end; return what it printed. Raises HelmError with its stderr."""
    try:
        printed, said = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode:
        links = "found symbolic link in path"
        said = "\n".join(line for line in said.splitlines() if links not in line)
        raise HelmError(f"{process.args!r}: {said.strip()}\n{printed.strip()}")
    return printed


def one(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def container(workload: Object, name: str) -> Object:
    """Return a container of a workload's pods by its name."""
    spec = workload["spec"]["template"]["spec"]
    found: list[Object] = [*spec.get("initContainers", []), *spec["containers"]]
    return next(one for one in found if one["name"] == name)
