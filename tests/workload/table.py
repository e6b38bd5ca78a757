"""Loads the table of pod specs (``specs/*.yaml``), for the tests that read or bend them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from extender.kube.decode import convert
from extender.kube.objects import Pod
from extender.workload.manifest import parts_of
from extender.workload.model import Workload
from extender.workload.references import read_workload

_FOLDER = Path(__file__).parent / "specs"


def _load() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for file in sorted(_FOLDER.glob("*.yaml")):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
            name = f"{file.stem}: {entry['name']}"
            if name in table:
                raise ValueError(f"{file.name} has two specs named {entry['name']!r}")
            table[name] = entry
    return table


SPECS = _load()
"""Name -> entry, in the order of the files."""


def pod(entry: dict[str, Any]) -> Pod:
    """Return the pod of an entry."""
    if "manifest" in entry:
        return parts_of(entry["manifest"])[0].pod
    return convert({"metadata": entry.get("metadata", {}), "spec": entry["spec"]}, Pod)


def read(entry: dict[str, Any]) -> Workload:
    """Return what the entry's pod asks for."""
    made = pod(entry)
    return read_workload(made.metadata, made.spec)
