"""How it stands with a pod that has a node: it runs there, or something is in its way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import PodStatus
from extender.verbs.context import Context
from tests.builders import READY as LOADED
from tests.builders import loader, loader_pod, node, vllm

READY = {"type": "Ready", "status": "True"}
NOT_READY = {"type": "Ready", "status": "False"}
PULLING = {"waiting": {"reason": "ImagePullBackOff"}}
CRASHING = {"waiting": {"reason": "CrashLoopBackOff"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("on", "status", "said"),
    [
        ("a", {"phase": "Running", "conditions": [READY]}, "runs on a; "),
        ("a", {"phase": "Running", "conditions": [NOT_READY]}, "runs on a, not ready so far; "),
        ("a", {"phase": "Pending"}, "is bound to a and not ready; "),
        (
            "a",
            {"phase": "Pending", "containerStatuses": [{"name": "vllm", "state": PULLING}]},
            "is bound to a and not ready: container vllm ImagePullBackOff; ",
        ),
        (
            "a",
            {
                "phase": "Running",
                "conditions": [NOT_READY],
                "containerStatuses": [
                    {"name": "vllm", "state": CRASHING, "lastState": KILLED, "restartCount": 12}
                ],
            },
            "is bound to a and not ready: container vllm CrashLoopBackOff, "
            "ended with 137 (OOMKilled), restarted 12 times; ",
        ),
        (
            "b",
            {"phase": "Pending"},
            "is bound to b (where now: node cache does not hold the model) and not ready; ",
        ),
    ],
)
def test_the_summary_begins_with_it(on: str, status: dict[str, Any], said: str) -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    pod = vllm(on=on)
    pod = msgspec.structs.replace(pod, status=msgspec.convert(status, PodStatus))
    for one in (node("a"), node("b"), loader(), loader_pod("a", LOADED), pod):
        state.upsert(one)
    assert explain(pod, Context(state=state))["summary"].startswith(said)
