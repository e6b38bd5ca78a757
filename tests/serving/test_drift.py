"""What audits found wrong is told: by kind in the metrics, in words where readiness is asked."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from extender.serving.knowledge import FileKnowledge, ResourceKnowledge


@pytest.fixture
def drifted(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ResourceKnowledge(
        resource="pods", synced=True, drifted={"missing": 2, "phantom": 1, "different": 0}
    )
    monkeypatch.setattr(FileKnowledge, "resources", lambda _: [row])


@pytest.mark.usefixtures("drifted")
def test_drift_is_counted_by_resource_and_kind(client: FlaskClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    name = "model_cache_extender_watch_drifted_total"
    assert f'{name}{{drift="missing",resource="pods"}} 2.0' in lines
    assert f'{name}{{drift="phantom",resource="pods"}} 1.0' in lines
    assert f'{name}{{drift="different",resource="pods"}} 0.0' in lines


@pytest.mark.usefixtures("drifted")
def test_drift_was_mended_so_that_the_extender_stays_ready_and_says_what_it_was(
    client: FlaskClient,
) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.text.splitlines() == ["ok", "pods: an audit found 2 missing, 1 phantom"]
