"""Rules: promtool says when each alert fires and when it does not; each has its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.monitoring.prometheus import ROOT, RULES, program

ALERTS = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
RUNBOOKS = ROOT / "docs" / "alerts.md"
P = "model_cache_extender"
L = f"{P}_loader"
POD = '{namespace="n",pod="p"}'


class Case(NamedTuple):
    """An alert: series with which it fires after ``at``, and with which it never does.

    ``labels`` are those of the alert that fires, besides its severity.
    """

    alert: str
    at: str
    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str] = {}  # noqa: RUF012 - read only


ON_POD = {"namespace": "n", "pod": "p"}


def each(name: str, fires: str, quiet: str) -> tuple[dict[str, str], dict[str, str]]:
    return {name: fires}, {name: quiet}


WARM = f'{P}_bound_pods_total{{strategy="node-cache",start="warm"}}'
COLD = f'{P}_bound_pods_total{{strategy="node-cache",start="cold"}}'
BUCKETS = f'{P}_request_duration_seconds_bucket{{verb="filter",le="%s"}}'
CASES = (
    Case(
        "ModelCacheExtenderDown",
        "15m",
        *each(f'{P}_build_info{{version="1"}}', "1 _x60", "1x60"),
    ),
    Case("ModelCacheExtenderStale", "5m", *each(f"{P}_stale{POD}", "1x60", "0x60"), ON_POD),
    Case(
        "ModelCacheExtenderNotSynced",
        "15m",
        *each(f'{P}_watch_synced{{namespace="n",pod="p",resource="Pod"}}', "0x60", "1x60"),
        {**ON_POD, "resource": "Pod"},
    ),
    Case(
        "ModelCacheExtenderSlow",
        "20m",
        {BUCKETS % "0.5": "0x60", BUCKETS % "2.5": "0x60", BUCKETS % "+Inf": "0+10x60"},
        {BUCKETS % "0.5": "0+10x60", BUCKETS % "2.5": "0+10x60", BUCKETS % "+Inf": "0+10x60"},
        {"verb": "filter"},
    ),
    Case(
        "ModelCacheExtenderErrors",
        "15m",
        {
            f'{P}_requests_total{{verb="filter",code="200"}}': "0+90x60",
            f'{P}_requests_total{{verb="filter",code="500"}}': "0+10x60",
        },
        {f'{P}_requests_total{{verb="filter",code="200"}}': "0+90x60"},
    ),
    Case(
        "ModelCacheBindsFail",
        "25m",
        {
            f'{P}_binds_total{{outcome="bound"}}': "0+8x60",
            f'{P}_binds_total{{outcome="unknown"}}': "0+2x60",
        },
        {
            f'{P}_binds_total{{outcome="bound"}}': "0+8x60",
            f'{P}_binds_total{{outcome="refused"}}': "0+2x60",
        },
    ),
    Case(
        "ModelCachePodsWait",
        "40m",
        {
            f'{P}_waiting_longest_seconds{{reason="ModelAbsent"}}': "0+60x60",
            f'{P}_waiting_pods_by_reason{{reason="ModelAbsent"}}': "1x60",
        },
        {  # another pod at every moment, each for a short while
            f'{P}_waiting_longest_seconds{{reason="ModelAbsent"}}': "60 300 600 60 900x56",
            f'{P}_waiting_pods_by_reason{{reason="ModelAbsent"}}': "5x60",
            f'{P}_waiting_longest_seconds{{reason="SchedulingGated"}}': "0+60x60",
        },
        {"reason": "ModelAbsent"},
    ),
    Case(
        "ModelCacheWakesFail",
        "30m",
        *each(f'{P}_wakes_total{{result="failed"}}', "0+1x60", "0x60"),
    ),
    Case(
        "ModelCacheNominationsStay",
        "20m",
        *each(
            f"{P}_lost_nominations{POD}",
            "0 2x60",
            "1x6 0 1x6 0 1x6 0 1x40",  # each is taken back, sooner or later
        ),
        ON_POD,
    ),
    Case(
        "ModelCacheStartsCold",
        "150m",
        {WARM: "0+1x200", COLD: "0+3x200"},
        {WARM: "0+3x200", COLD: "0+1x200"},
    ),
    Case(
        "ModelCacheDrift",
        "30m",
        *each(f'{P}_watch_drifted_total{{resource="Pod",drift="missing"}}', "0 0 1x60", "0x60"),
        {"resource": "Pod"},
    ),
    Case(
        "ModelCacheModelFailed",
        "20m",
        *each(f'{P}_models{{state="failed",evidence="declared"}}', "1x60", "0x60"),
        {"evidence": "declared"},
    ),
    Case(
        "ModelCacheMemoryPromised",
        "70m",
        {f"{P}_memory_promised_bytes": "96x90", f"{P}_memory_allocatable_bytes": "100x90"},
        {f"{P}_memory_promised_bytes": "90x90", f"{P}_memory_allocatable_bytes": "100x90"},
    ),
    Case(
        "ModelCacheEventsFail",
        "30m",
        *each(f'{P}_events_total{{reason="NoNewNode",result="failed"}}', "0+1x60", "0x60"),
    ),
    Case(
        "ModelCacheLoaderFails",
        "20m",
        *each(f'{L}_failures_total{{cause="gated"}}', "0 0 1x5 2x5 3x40", "0 0 1x60"),
        {"cause": "gated"},
    ),
    Case(
        "ModelCacheLoaderStalled",
        "30m",
        {f"{L}_download_left_bytes{POD}": "9x60", f"{L}_download_bytes_per_second{POD}": "0x60"},
        {f"{L}_download_left_bytes{POD}": "9x60", f"{L}_download_bytes_per_second{POD}": "5x60"},
        ON_POD,
    ),
    Case(
        "ModelCacheLoaderDiskFull",
        "20m",
        {f"{L}_disk_free_bytes{POD}": "4x60", f"{L}_disk_total_bytes{POD}": "100x60"},
        {f"{L}_disk_free_bytes{POD}": "20x60", f"{L}_disk_total_bytes{POD}": "100x60"},
        ON_POD,
    ),
    Case(
        "ModelCacheLoaderDamage",
        "20m",
        *each(f'{L}_proofs_total{{namespace="n",pod="p",result="damaged"}}', "0 0 1x60", "0x60"),
        ON_POD,
    ),
    Case(
        "ModelCacheLoaderProofOld",
        "70m",
        *each(f"{L}_oldest_proof_seconds{POD}", "2592001+60x90", "1000000+60x90"),
        ON_POD,
    ),
    Case(
        "ModelCacheLoaderCatalogRefused",
        "20m",
        *each(f"{L}_catalog_refused{POD}", "1x60", "0x60"),
        ON_POD,
    ),
    Case(
        "ModelCacheLoaderCannotReport",
        "20m",
        *each(f"{L}_report_failures_total{POD}", "0+1x60", "0 1x60"),
        ON_POD,
    ),
    Case(
        "ModelCacheFetchedAgain",
        "120m",
        {
            f'{L}_repeated_bytes_total{{why="lost"}}': "0+500000000x150",
            f"{L}_downloaded_bytes_total": "0+1000000000x150",
        },
        {
            f'{L}_repeated_bytes_total{{why="lost"}}': "0+500000x150",
            f"{L}_downloaded_bytes_total": "0+1000000000x150",
        },
    ),
)


def filled_in(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], template)


def expected(case: Case) -> dict[str, Any]:
    """Return the alert that fires, as promtool compares it."""
    rule = ALERTS[case.alert]
    return {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {
            name: filled_in(text, case.labels) for name, text in rule["annotations"].items()
        },
    }


def unit_test(case: Case, series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts},
        ],
    }


def test_every_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES), "utf-8")
    document = {
        "rule_files": ["rules.yaml"],
        "tests": [
            unit_test(case, series, alerts)
            for case in CASES
            for series, alerts in ((case.fires, [expected(case)]), (case.quiet, []))
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document), "utf-8")
    command = [program("promtool"), "test", "rules", str(tmp_path / "tests.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_case() -> None:
    assert [case.alert for case in CASES] == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_grave_it_is_and_where_its_runbook_is(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/alerts.md#{alert.lower()}")


def test_every_alert_has_one_section_and_every_section_its_alert() -> None:
    headings = re.findall(r"^## (\S+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE)
    assert headings == list(ALERTS)
