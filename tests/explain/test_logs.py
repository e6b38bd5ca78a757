"""The one command that shows why a loader fails, or how far it is: one that works as it is."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.explain.remarks import waiting_remarks
from extender.placement.reasons import Reason
from extender.report import ReportedState
from extender.verbs.context import Context
from tests.builders import (
    LOADING,
    READY,
    loader,
    loader_pod,
    node,
    our_loader,
    reported,
    reporting_pod,
    vllm,
)

ENDED = {"terminated": {"exitCode": 1, "reason": "Error"}}
NOT_STARTED = {"terminated": {"exitCode": 128, "reason": "StartError"}}
EVENTS = "kubectl describe pod -n inference model-loader-a"
LOGS = "kubectl logs -n inference model-loader-a -c download"


def failing(state: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """A loader whose init container is in trouble; the main one waits for it."""
    download = {"name": "download", "state": state, "lastState": before or {}, "restartCount": 1}
    waits = {"name": "pause", "state": {"waiting": {"reason": "PodInitializing"}}}
    return {**LOADING, "initContainerStatuses": [download], "containerStatuses": [waits]}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


FAILED = {
    "an image that cannot be pulled": (failing(waiting("ImagePullBackOff")), EVENTS),
    "a secret that is missing": (failing(waiting("CreateContainerConfigError")), EVENTS),
    "a crash": (failing(waiting("CrashLoopBackOff"), ENDED), f"{LOGS} --previous"),
    "an end": (failing(ENDED), LOGS),
    "a command that is missing": (failing(waiting("CrashLoopBackOff"), NOT_STARTED), EVENTS),
    "an image that is gone after a crash": (failing(waiting("ErrImagePull"), ENDED), EVENTS),
    "an evicted pod": ({"phase": "Failed", "reason": "Evicted"}, EVENTS),
}


@pytest.mark.parametrize("why", FAILED)
def test_a_log_is_only_named_where_a_container_has_run(why: str) -> None:
    status, said = FAILED[why]
    context = cluster(status)
    ((_, told), *_) = waiting_remarks(context.judge(vllm()), {Reason.MODEL_FAILED})
    assert told.endswith(f"; {said}")
    assert remedy(context) == f"see why its loader failed: {said}"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (LOADING, LOGS.replace("logs", "logs -f")),
        ({"phase": "Pending"}, EVENTS),
        (failing(waiting("PodInitializing")), EVENTS),
    ],
    ids=["downloads", "nothing told", "nothing runs"],
)
def test_what_loads_is_followed_in_the_container_that_runs(
    status: dict[str, Any], said: str
) -> None:
    """``--all-containers`` would end at once: the main container has no log yet."""
    assert remedy(cluster(status)).endswith(f"; see how far: {said}")


def test_what_our_loader_reports_as_failed_is_in_its_log() -> None:
    report = reported(ReportedState.FAILED, reason="401")
    context = Context(state=ClusterState(clock=lambda: 1_000.0))
    for obj in (node("a"), our_loader(), reporting_pod("a", READY, report)):
        context.state.upsert(obj)
    assert remedy(context) == (
        "see why its loader failed: kubectl logs -n inference model-cache-loader-a"
    )


def cluster(status: dict[str, Any]) -> Context:
    context = Context(state=ClusterState(clock=lambda: 1_000.0))
    for obj in (node("a"), loader(), loader_pod("a", status)):
        context.state.upsert(obj)
    return context


def remedy(context: Context) -> str:
    (refused,) = explain(vllm(), context)["nodes"]
    told: str = refused["remedy"]
    return told
