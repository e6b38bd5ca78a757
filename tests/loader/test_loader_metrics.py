"""The loader's metrics are what the table says at the moment of the scrape."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from extender.loader.catalog import CatalogModel
from extender.loader.metrics import LoaderMetrics
from extender.loader.table import ModelTable
from extender.report import Transfer
from tests.clock import Clock

A, B, C = (CatalogModel(name=name, source=f"hf://org/{name}") for name in "abc")
NOW = Clock(1_767_225_600.0)
"""2026-01-01T00:00:00Z"""


@pytest.fixture
def table() -> ModelTable:
    table = ModelTable()
    table.follow([A, B, C], [])
    return table


def scrape(table: ModelTable, folder: Path, error: str = "") -> str:
    metrics = LoaderMetrics(table, folder, catalog_error=lambda: error, clock=NOW)
    return generate_latest(metrics.registry).decode().replace("model_cache_extender_loader_", "")


def test_models_are_counted_by_state(table: ModelTable, tmp_path: Path) -> None:
    table.ready("a", revision=None, size=1, proven_at="2025-12-31T23:00:00Z")
    table.ready("b", revision=None, size=1, proven_at="2025-12-31T23:59:00Z")
    table.failed("c", "the disk is full")
    text = scrape(table, tmp_path)
    assert 'models{state="ready"} 2.0' in text
    assert 'models{state="failed"} 1.0' in text
    assert 'models{state="absent"} 0.0' in text
    assert "oldest_proof_seconds 3600.0" in text


def test_downloads_are_told_together(table: ModelTable, tmp_path: Path) -> None:
    for path, done in (("a", 10), ("b", 40)):
        transfer = Transfer(path=path, bytes_done=done, bytes_total=100, bytes_per_second=5)
        table.loading(path, transfer)
    text = scrape(table, tmp_path)
    assert "download_left_bytes 150.0" in text
    assert "download_bytes_per_second 10.0" in text


def test_a_refused_catalog_shows_and_a_lost_disk_does_not_break_the_scrape(
    table: ModelTable, tmp_path: Path
) -> None:
    assert "catalog_refused 0.0" in scrape(table, tmp_path)
    text = scrape(table, tmp_path / "lost", error="models[a].path: no")
    assert "catalog_refused 1.0" in text
    assert "disk_free_bytes" not in text
