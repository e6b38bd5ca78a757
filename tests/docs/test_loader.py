"""docs/loader.md names every metric and every line of the log."""

from __future__ import annotations

import re
from pathlib import Path

from extender.loader.disk_space import disk_space
from extender.loader.metrics import PREFIX, LoaderMetrics
from extender.loader.sources import Cause
from extender.loader.space import Reason
from extender.loader.table import ModelTable
from extender.loader.transfer.failures import LocalCause
from tests.docs.pages import DOCS, ROOT

TEXT = (DOCS / "loader.md").read_text("utf-8")


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def first_cells(title: str) -> set[str]:
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_metric_is_in_the_table_and_nothing_else(tmp_path: Path) -> None:
    metrics = LoaderMetrics(ModelTable(), tmp_path, catalog_error=lambda: "")
    metrics.read_speed = 1.0
    assert disk_space(tmp_path) is not None
    names = {
        family.name.removeprefix(f"{PREFIX}_") + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    assert {name.partition("{")[0] for name in first_cells("Metrics")} == names


def test_every_cause_is_named() -> None:
    causes = {cause.value for cause in (*Cause, *LocalCause)} | {reason.value for reason in Reason}
    assert causes <= set(re.findall(r"`([^`]+)`", section("Metrics")))


def test_every_line_of_the_log_is_in_the_table_and_nothing_else() -> None:
    said = {
        event
        for file in (ROOT / "extender" / "loader").rglob("*.py")
        for event in re.findall(
            r"log\.(?:info|warning|error)\(\s*\"([^\"]+)\"", file.read_text("utf-8")
        )
    }
    assert len(said) > 20
    assert first_cells("What the log says") == said
