"""The dashboard in deploy/monitoring is what the code makes, and can be imported."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from monitoring.dashboard import FILE, text
from tests.monitoring.prometheus import ROOT

PANELS: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]


def test_the_file_is_what_the_code_makes() -> None:
    assert FILE.read_text("utf-8") == text(), "run `make dashboard`"


def test_every_panel_says_which_question_it_answers_and_has_a_unit() -> None:
    for panel in SHOWN:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_no_two_panels_overlap_and_none_is_wider_than_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_of_the_reference_that_counts_something_is_shown_or_named_here() -> None:
    """A new metric gets a panel, or a word why it needs none."""
    without = {
        "model_cache_extender_build_info",
        "model_cache_extender_lost_nominations",  # an alert, where they stay
        "model_cache_extender_nodes",
        "model_cache_extender_reserved_pods",
        "model_cache_extender_watch_audits_total",
        "model_cache_extender_watch_events_total",
        "model_cache_extender_watch_synced",  # an alert, and /readyz
        "model_cache_extender_watch_unreadable_total",  # unreadable_objects has those of now
        # Shadow mode, which reports under /api/v1/observations.
        "model_cache_extender_observed_pods_total",
        "model_cache_extender_observed_saved_seconds_total",
        "model_cache_extender_loader_disk_read_bytes_per_second",
        "model_cache_extender_loader_downloads_total",
        "model_cache_extender_loader_evicted_bytes_total",
        "model_cache_extender_loader_report_failures_total",  # an alert
    }
    table = (ROOT / "docs/metrics.md").read_text("utf-8")
    known = set(re.findall(r"^\| `(model_cache_extender\w+)", table, re.MULTILINE))
    words = re.findall(r"model_cache_extender\w+", json.dumps(PANELS))
    used = {word.removesuffix("_bucket") for word in words}
    assert used <= known
    assert known - used == without


def test_the_configmap_and_the_monitors_are_found_by_what_reads_them() -> None:
    folder = ROOT / "deploy/monitoring"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    (generated,) = kustomization["configMapGenerator"]
    assert [file.split("=")[1] for file in generated["files"]] == [FILE.name]
    assert generated["options"]["labels"]["grafana_dashboard"] == "1"
