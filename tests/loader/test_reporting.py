"""What the apiserver is told: a report where it says something new, a Lease that is renewed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extender.loader.reporting import RefusedError, Reporter
from extender.report import (
    LEASE_LABEL,
    PROGRESS_ANNOTATION,
    REPORT_ANNOTATION,
    Progress,
    Report,
    ReportedModel,
    ReportedState,
    Transfer,
)
from extender.watch.answers import UnreachableError
from tests.clock import Clock
from tests.loader.cluster import ME, apiserver
from tests.serving.answering import Apiserver

POD = "/api/v1/namespaces/loaders/pods/loader-abc"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/loaders/leases"
LEASE = f"{LEASES}/loader.node-1"
HALF = Progress(transfers=(Transfer(path="a", bytes_done=5, bytes_total=10),))

Desk = tuple[Apiserver, Reporter]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with apiserver(tmp_path) as (api, transport):
        api.status = 200
        yield api, Reporter(transport, ME, clock=Clock(1_767_225_600.5), lease_seconds=9)


def report(state: ReportedState = ReportedState.READY, proven_at: str = "") -> Report:
    model = ReportedModel(path="a", state=state, proven_at=proven_at or None)
    return Report(directory="/var/lib/models", models=(model,))


def asked(api: Apiserver) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in api.seen]


def test_a_report_is_written_once_on_its_own_pod_and_no_other_of_its_name(desk: Desk) -> None:
    api, reporter = desk
    assert reporter.report(report())
    assert not reporter.report(report())
    ((method, path, body),) = api.seen
    assert (method, path) == ("PATCH", POD)
    assert body["metadata"]["uid"] == ME.uid
    written = json.loads(body["metadata"]["annotations"][REPORT_ANNOTATION])
    assert written["models"] == [{"path": "a", "state": "ready"}]


def test_that_a_model_was_proven_once_more_is_not_written(desk: Desk) -> None:
    _, reporter = desk
    assert reporter.report(report(proven_at="2026-01-01T00:00:00Z"))
    assert not reporter.report(report(proven_at="2026-01-02T00:00:00Z"))
    assert reporter.report(report(ReportedState.FAILED))


def failed(reason: str) -> Report:
    model = ReportedModel(path="a", state=ReportedState.FAILED, reason=reason)
    return Report(directory="/var/lib/models", models=(model,))


def test_that_amounts_in_a_reason_are_others_by_now_is_not_written(desk: Desk) -> None:
    _, reporter = desk
    full = "/cache: 14.9 GiB are to be written, and {} are free (of {}); the newest is {}"
    assert reporter.report(failed(full.format("12.0 GiB", 16, 1)))
    assert not reporter.report(failed(full.format("11.98 GiB", 32, 2)))
    assert reporter.report(failed("hf://org/model-7b@v1 does not exist"))
    assert reporter.report(failed("hf://org/model-7b@v2 does not exist"))


@pytest.mark.parametrize("status", [0, 403, 409, 500])
def test_what_was_not_written_is_written_next_time(desk: Desk, status: int) -> None:
    api, reporter = desk
    api.status = status
    with pytest.raises((RefusedError, UnreachableError)) as error:
        reporter.report(report())
    assert ("right to patch pods" in str(error.value)) == (status == 403)
    api.status = 200
    assert reporter.report(report())


def test_a_lease_is_renewed_with_what_is_under_way(desk: Desk) -> None:
    api, reporter = desk
    reporter.renew(HALF, node_uid="uid-n")
    ((method, path, body),) = api.seen
    assert (method, path) == ("PATCH", LEASE)
    assert body["spec"] == {
        "holderIdentity": "loader-abc",
        "leaseDurationSeconds": 9,
        "renewTime": "2026-01-01T00:00:00.500000Z",
    }
    assert body["metadata"]["labels"] == {LEASE_LABEL: "true"}
    assert '"bytesDone":5' in body["metadata"]["annotations"][PROGRESS_ANNOTATION]
    assert "ownerReferences" not in body["metadata"]  # its node may be another machine by now


def test_a_new_lease_belongs_to_its_node(desk: Desk) -> None:
    api, reporter = desk
    api.first = [404]
    reporter.renew(HALF, node_uid="uid-n")
    assert asked(api) == [("PATCH", LEASE), ("POST", LEASES)]
    created = api.seen[1][2]
    assert created["metadata"]["name"] == "loader.node-1"
    (owner,) = created["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "uid-n"}


def test_a_lease_that_the_pod_before_created_meanwhile_is_renewed(desk: Desk) -> None:
    api, reporter = desk
    api.first = [404, 409]
    reporter.renew(HALF, node_uid="uid-n")
    assert asked(api) == [("PATCH", LEASE), ("POST", LEASES), ("PATCH", LEASE)]


def held_by(pod: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": pod}}


def test_a_lease_that_another_pod_holds_is_not_released(desk: Desk) -> None:
    api, reporter = desk
    for answer in ((200, held_by("loader-new")), (200, held_by("")), (404, {})):
        api.at[LEASE] = answer
        reporter.release()
    assert asked(api) == [("GET", LEASE)] * 3


def test_a_lease_that_is_taken_over_while_it_is_released_is_left_alone(desk: Desk) -> None:
    api, reporter = desk
    api.at[LEASE] = 200, held_by(ME.pod)
    api.first = [200, 409]
    reporter.release()
    api.first = [200, 500]
    with pytest.raises(RefusedError):
        reporter.release()


def test_a_released_lease_has_no_holder_and_nothing_under_way(desk: Desk) -> None:
    api, reporter = desk
    api.at[LEASE] = 200, held_by(ME.pod)
    reporter.release()
    assert asked(api) == [("GET", LEASE), ("PATCH", LEASE)]
    body = api.seen[1][2]
    assert body["metadata"]["resourceVersion"] == "7"  # or another pod has it by now
    assert body["spec"]["holderIdentity"] == ""
    assert "transfers" not in body["metadata"]["annotations"][PROGRESS_ANNOTATION]
