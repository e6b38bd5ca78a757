"""Rights, clock, version and a running extender: what each answer comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.source import new_context, new_state
from extender.config import ExtenderConfiguration
from extender.doctor.extenders import check_scheduler_versions
from extender.doctor.finding import Finding, Severity
from extender.doctor.permissions import (
    READ_RIGHTS,
    WRITE_RIGHTS,
    Allowed,
    Right,
    check_permissions,
    lease_rights,
)
from extender.doctor.running import Status, check_running
from extender.doctor.surroundings import Apiserver, check_clock, check_version
from extender.serving.knowledge import ResourceKnowledge
from extender.serving.metrics import Metrics
from extender.waiting.pods import WaitingPods
from tests.builders import pod
from tests.doctor.building import examined

ROOT = Path(__file__).parents[2]
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
LEASE = lease_rights("model-cache-system", "model-cache-scheduler")
ALL = READ_RIGHTS | WRITE_RIGHTS | LEASE


def said(found: list[Finding]) -> dict[str, Severity]:
    return {one.check: one.severity for one in found}


# -- rights ----------------------------------------------------------------------------------------


def shipped(file: str, name: str) -> set[Right]:
    """The rights that a shipped role gives."""
    documents = yaml.safe_load_all((ROOT / file).read_text())
    (role,) = [d for d in documents if d["kind"].endswith("Role") and d["metadata"]["name"] == name]
    return {
        Right(
            verb=verb,
            group=group,
            resource=resource.partition("/")[0],
            subresource=resource.partition("/")[2],
            namespace=role["metadata"].get("namespace", ""),
            name=object_name,
        )
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for object_name in rule.get("resourceNames", [""])
    }


@pytest.mark.parametrize(
    ("rights", "file", "role"),
    [
        (READ_RIGHTS, "deploy/common/read-rights.yaml", "model-cache-extender"),
        (WRITE_RIGHTS, "deploy/write/rights.yaml", "model-cache-extender-write"),
        (LEASE, "deploy/base/scheduler-rights.yaml", "model-cache-scheduler-leader-election"),
    ],
    ids=["read", "write", "lease"],
)
def test_every_right_that_is_shipped_is_checked_and_no_other(
    rights: dict[Right, str], file: str, role: str
) -> None:
    assert set(rights) == shipped(file, role)


def test_an_account_with_every_right_has_no_finding() -> None:
    answers = {right: Allowed(yes=True) for right in ALL}
    assert list(check_permissions(answers, ALL, "me")) == []


@pytest.mark.parametrize("right", ALL, ids=str)
def test_a_right_that_lacks_is_named_with_the_rule_to_add(right: Right) -> None:
    answers = {one: Allowed(yes=one != right) for one in ALL}
    (found,) = check_permissions(answers, ALL, "me")
    assert found.severity is (WARNING if right.resource == "leases" else ERROR)
    assert str(right) in found.message
    rule: dict[str, Any] = yaml.safe_load(found.remedy.partition("its role: ")[2])
    assert rule["verbs"] == [right.verb]
    assert rule["apiGroups"] == [right.group]


def test_rights_on_one_resource_are_one_finding() -> None:
    answers = {one: Allowed(yes=one.resource != "nodes") for one in ALL}
    (found,) = check_permissions(answers, ALL, "me")
    assert "may not get, list, watch nodes" in found.message


def test_an_answer_that_cannot_be_had_is_said_once() -> None:
    answers = {one: Allowed(yes=False, problem="forbidden") for one in ALL}
    (found,) = check_permissions(answers, ALL, "me")
    assert (found.check, found.severity) == ("RightUnknown", WARNING)


# -- clock and version -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "severity"),
    [(None, None), (0.4, None), (-5.0, None), (6.0, WARNING), (-30.0, WARNING), (-61.0, ERROR)],
)
def test_a_clock_that_is_wrong_is_told(skew: float | None, severity: Severity | None) -> None:
    found = said(list(check_clock(Apiserver(skew=skew))))
    assert found == ({} if severity is None else {"ClockSkew": severity})


@pytest.mark.parametrize(
    ("server", "opted_in", "expected"),
    [
        (Apiserver(version="v1.37.2", minor=37, mutating_policies=True), ("x",), {}),
        (Apiserver(version="v1.35.4", minor=35), (), {"NoMutatingPolicies": NOTE}),
        (Apiserver(version="v1.35.4", minor=35), ("x",), {"NoMutatingPolicies": ERROR}),
        (
            Apiserver(version="v1.33.0", minor=33, mutating_policies=True),
            (),
            {"VersionNotTested": WARNING},
        ),
        (
            Apiserver(version="v1.38.0", minor=38, mutating_policies=True),
            (),
            {"VersionNotTested": WARNING},
        ),
        (Apiserver(), (), {"VersionUnknown": NOTE}),
    ],
)
def test_what_a_version_lacks_is_told(
    server: Apiserver, opted_in: tuple[str, ...], expected: dict[str, Severity]
) -> None:
    assert said(list(check_version(server, opted_in))) == expected


@pytest.mark.parametrize(
    ("tag", "found"),
    [("v1.37.2", True), ("v1.36.4", False), ("v1.35.9@sha256:c0ffee", False), ("v1.34.0", True),
     ("custom", False)],
)  # fmt: skip
def test_a_second_scheduler_is_of_the_apiservers_minor_or_of_the_one_before(
    tag: str, found: bool
) -> None:
    containers = [{"name": "kube-scheduler", "image": f"registry.k8s.io/kube-scheduler:{tag}"}]
    pods = [pod(f"scheduler-{n}", spec={"containers": containers}) for n in range(2)]
    server = Apiserver(version="v1.36.4", minor=36)
    told = list(check_scheduler_versions(examined(pods), server))
    assert len(told) == (2 if found else 0)
    assert all(one.check == "SchedulerVersion" and tag in one.message for one in told)
    assert all("a kube-scheduler of 1.36 in spec.containers" in one.remedy for one in told)
    assert not list(check_scheduler_versions(examined(pods), Apiserver()))


# -- a running extender ----------------------------------------------------------------------------


class Watched:
    """What a watch would say of itself."""

    def __init__(self, *, stale: bool = False, drifted: int = 0) -> None:
        self.row = ResourceKnowledge(
            resource="Pod", synced=True, age_seconds=1.0, drifted={"phantom": drifted}
        )
        self.names = ("Pod",) if stale else ()

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def unsynced(self) -> tuple[str, ...]:
        return ()

    def stale(self) -> tuple[str, ...]:
        return self.names

    def resources(self) -> list[ResourceKnowledge]:
        return [self.row]


def exposed(watched: Watched, **counts: tuple[str, ...]) -> str:
    """The text that a real registry exposes; counters by name, with the values of their labels."""
    from prometheus_client import generate_latest

    configuration = ExtenderConfiguration()
    context = new_context(new_state(configuration), configuration, stale=watched.stale)
    metrics = Metrics(context, watched, WaitingPods())
    for name, labels in counts.items():
        getattr(metrics, name).labels(*labels).inc()
    return generate_latest(metrics.registry).decode()


RUNNING: dict[str, tuple[Status, dict[str, Severity]]] = {
    "well": (Status(url="u", metrics=exposed(Watched())), {}),
    "stale": (Status(url="u", metrics=exposed(Watched(stale=True))), {"KnowledgeStale": ERROR}),
    "drifted": (
        Status(url="u", metrics=exposed(Watched(drifted=3))),
        {"KnowledgeDrifted": WARNING},
    ),
    "bindings lost": (
        Status(url="u", metrics=exposed(Watched(), binds=("unknown",))),
        {"BindingsLost": WARNING},
    ),
    "wakes failed": (
        Status(url="u", metrics=exposed(Watched(), wakes=("failed",))),
        {"WakesFailed": WARNING},
    ),
    "nominations stay": (
        Status(url="u", metrics=exposed(Watched(), takebacks=("failed",))),
        {"NominationsStay": WARNING},
    ),
    "events failed": (
        Status(url="u", metrics=exposed(Watched(), events=("NoNewNode", "failed"))),
        {"EventsFailed": WARNING},
    ),
    "not ready": (
        Status(url="u", ready=False, said="not listed yet: Pod\n", metrics=exposed(Watched())),
        {"ExtenderNotReady": ERROR},
    ),
    "unreachable": (
        Status(url="u", problem="does not answer: refused"),
        {"ExtenderUnreachable": ERROR},
    ),
    "another program": (Status(url="u", metrics="up 1\n"), {"NotAnExtender": ERROR}),
    "no metrics": (Status(url="u", metrics="<html>{"), {"NotAnExtender": ERROR}),
}


@pytest.mark.parametrize(("status", "expected"), RUNNING.values(), ids=RUNNING)
def test_what_a_running_extender_says_is_understood(
    status: Status, expected: dict[str, Severity]
) -> None:
    found = list(check_running(status))
    assert said(found) == expected
    assert all(one.message and one.remedy for one in found)


def test_what_has_drifted_is_named() -> None:
    (found,) = check_running(Status(url="u", metrics=exposed(Watched(drifted=3))))
    assert "3 objects" in found.message
    assert "(Pod 3 phantom)" in found.message
