"""docs/metrics.md has every metric as the program exposes it, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from extender.loader.metrics import LoaderMetrics
from extender.loader.table import ModelTable
from extender.serving.metrics import PREFIX
from extender.serving.service import Service

FILE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SUFFIX = {"counter": "_total", "info": "_info"}


def rows(registry: CollectorRegistry) -> list[str]:
    """The table's rows: name, type, labels and meaning, as the collectors themselves say."""
    found = {}
    for family in registry.collect():
        collector: Any = registry._names_to_collectors.get(family.name, family)
        source = collector if hasattr(collector, "_labelnames") else family
        labels = ", ".join(f"`{label}`" for label in getattr(source, "_labelnames", ())) or "-"
        name = f"{family.name}{SUFFIX.get(family.type, '')}"
        found[name] = f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
    return [found[name] for name in sorted(found)]


@pytest.fixture
def loader(tmp_path: Path) -> CollectorRegistry:
    metrics = LoaderMetrics(ModelTable(), tmp_path, catalog_error=lambda: "")
    metrics.read_speed = 1.0
    return metrics.registry


def test_the_reference_is_what_the_programs_expose(
    service: Service, loader: CollectorRegistry
) -> None:
    documented = [
        line for line in FILE.read_text("utf-8").splitlines() if line.startswith(f"| `{PREFIX}")
    ]
    expected = [*rows(service.metrics.registry), *rows(loader)]
    assert documented == expected, "\n".join(["write these into docs/metrics.md:", *expected])


def test_every_query_in_the_text_names_a_metric_of_the_table() -> None:
    text = FILE.read_text("utf-8")
    known = set(re.findall(rf"^\| `({PREFIX}\w+)`", text, re.MULTILINE))
    used = set(re.findall(rf"\b({PREFIX}_\w+)", text))
    assert used
    for name in used:
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name
