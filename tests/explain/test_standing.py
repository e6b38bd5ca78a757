"""How it stands with a pod that has a node: it runs there, or something is in its way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain, is_well
from extender.kube.objects import Container, Pod, PodStatus, Probe
from extender.kube.times import time_text
from extender.verbs.context import Context
from tests.builders import READY as LOADED
from tests.builders import loader, loader_pod, node, owned, tmpfs, vllm

NOW = 100_000.0
DESCRIBE = "kubectl describe pod -n inference llama"
NO_MODEL = "node cache does not hold the model"


def ago(seconds: float) -> str:
    return time_text(NOW - seconds)


def ready(status: str, since: float = 0) -> dict[str, str]:
    return {"type": "Ready", "status": status, "lastTransitionTime": ago(since)}


def phase(name: str, *conditions: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"phase": name, "startTime": ago(1200), "conditions": [*conditions], **more}


def container(state: dict[str, Any], name: str = "vllm", **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, **more}


def ended(code: int, reason: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


RUNS = {"running": {"startedAt": ago(720)}}
BOUND = {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(180)}
NEVER = ready("False", 1200)
CRASHED = container(
    waiting("CrashLoopBackOff"), lastState=ended(137, "OOMKilled"), restartCount=12
)  # fmt: skip
FETCHING = container(RUNS, name="download")

# Node, status, the state, what the summary begins with.
STANDS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "ready": ("a", phase("Running", ready("True")), "ready", "runs on a; "),
    "ready, and no other pod would be": (
        "b", phase("Running", ready("True")), "ready", f"runs on b (where now: {NO_MODEL}); ",
    ),
    "nothing told": (
        "a", {"phase": "Pending"}, "starting",
        "is bound to a and its kubelet has not taken it yet; see kubectl describe node a; ",
    ),
    "not taken by its kubelet": (
        "a", {"phase": "Pending", "conditions": [BOUND]}, "starting",
        "is bound to a and its kubelet has not taken it yet, after 3 min; see kubectl describe "
        "node a; ",
    ),
    "of a kubelet that nobody hears of": (
        "a", {"phase": "Unknown"}, "stuck",
        "is bound to a and does not run there: the kubelet there is not heard of, or says that it "
        "is not ready; see kubectl describe node a; ",
    ),
    "created": (
        "a", phase("Pending", NEVER, containerStatuses=[container(waiting("ContainerCreating"))]),
        "starting",
        "starts on a and is not Ready yet, after 20 min: container vllm ContainerCreating; see "
        f"{DESCRIBE}; ",
    ),
    "fetching": (
        "a", phase("Pending", NEVER, initContainerStatuses=[FETCHING]), "starting",
        "starts on a and is not Ready yet, after 20 min: container download has run for 12 "
        "min; see kubectl logs -f -n inference llama -c download; ",
    ),
    "loading its engine": (
        "a", phase("Running", NEVER, containerStatuses=[container(RUNS, started=True)]),
        "starting",
        "runs on a and is not Ready yet, after 20 min: container vllm has run for 12 min and does "
        "not pass its readiness probe; see kubectl logs -f -n inference llama -c vllm; ",
    ),
    "loading its engine once more": (
        "a",
        phase("Running", NEVER, containerStatuses=[container(RUNS, lastState=ended(1, "Error"))]),
        "starting",
        "runs on a and is not Ready yet, after 20 min: container vllm has run for 12 min after "
        "Error exit 1 and does not pass its readiness probe; see ",
    ),
    "no more": (
        "a", phase("Running", ready("False", 180), containerStatuses=[container(RUNS)]),
        "unready",
        "runs on a and is not Ready any more, for 3 min: container vllm has run for 12 min and "
        f"does not pass its readiness probe; see {DESCRIBE}; ",
    ),
    "gated": (
        "a",
        phase(
            "Running", NEVER | {"reason": "ReadinessGatesNotReady", "message": "gate x is not met"},
            containerStatuses=[container(RUNS, ready=True)],
        ),
        "starting", "runs on a and is not Ready yet, after 20 min: gate x is not met; see ",
    ),
    "without its image": (
        "a", phase("Pending", containerStatuses=[container(waiting("ImagePullBackOff"))]),
        "stuck",
        f"is bound to a and does not run there: container vllm ImagePullBackOff; see {DESCRIBE}; ",
    ),
    "killed again and again": (
        "a", phase("Running", ready("False", 60), containerStatuses=[CRASHED]), "stuck",
        "is bound to a and does not run there: container vllm CrashLoopBackOff, OOMKilled exit "
        "137, restarted 12 times; see kubectl logs -n inference llama -c vllm --previous; ",
    ),
    "running in part": (
        "a",
        phase("Running", ready("False", 60), containerStatuses=[
            container(RUNS, ready=True), container(ended(1, "Error"), name="proxy"),
        ]),
        "stuck",
        "is bound to a and not all of it runs there: container proxy Error exit 1; see kubectl "
        "logs -n inference llama -c proxy; ",
    ),
    "without its model": (
        "b", phase("Pending", NEVER), "stuck",
        f"is bound to b and cannot start there: {NO_MODEL}; see {DESCRIBE}; ",
    ),
    "running without its model": (
        "b", phase("Running", ready("False", 1200)), "starting",
        f"runs on b (where now: {NO_MODEL}) and is not Ready yet, after 20 min; see {DESCRIBE}; ",
    ),
    "on a node that is gone": (
        "z", phase("Running", ready("False", 60)), "stuck",
        "is bound to z and does not run there: the node is not in the cluster; see kubectl get "
        "node z; ",
    ),
    "Ready, as nobody could say otherwise, on a node that is gone": (
        "z", phase("Running", ready("True")), "stuck",
        "is bound to z and does not run there: the node is not in the cluster; see kubectl get "
        "node z; ",
    ),
    "on a node that is lost": (
        "lost", phase("Running", ready("False", 60)), "stuck",
        f"is bound to lost (where now: {NO_MODEL}) and does not run there: the kubelet there is "
        "not heard of, or says that it is not ready; see kubectl describe node lost; ",
    ),
}  # fmt: skip


def placed(on: str, status: dict[str, Any]) -> dict[str, Any]:
    """Explain a pod that has a node; its container has a readiness probe."""
    pod = vllm(on=on)
    containers = [msgspec.structs.replace(pod.spec.containers[0], readiness_probe=Probe())]
    return told(_with(pod, containers, status))


def _with(pod: Pod, containers: list[Container], status: dict[str, Any]) -> Pod:
    spec = msgspec.structs.replace(pod.spec, containers=tuple(containers))
    return msgspec.structs.replace(pod, spec=spec, status=msgspec.convert(status, PodStatus))


def told(pod: Pod) -> dict[str, Any]:
    state = ClusterState(clock=lambda: NOW)
    lost = node("lost")
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    lost = msgspec.structs.replace(lost, spec=msgspec.convert({"taints": [taint]}, type(lost.spec)))
    for one in (node("a"), node("b"), lost, loader(), loader_pod("a", LOADED), pod):
        state.upsert(one)
    return explain(pod, Context(state=state))


@pytest.mark.parametrize("case", STANDS)
def test_the_summary_begins_with_it(case: str) -> None:
    on, status, stands, said = STANDS[case]
    document = placed(on, status)
    assert document["summary"].startswith(said)
    assert document["standing"]["state"] == stands


@pytest.mark.parametrize("case", STANDS)
def test_it_is_well_unless_it_cannot_run_where_it_is(case: str) -> None:
    """Whatever another node would say: that is the exit code of the command."""
    on, status, stands, _ = STANDS[case]
    document = placed(on, status)
    assert is_well(document) is (stands != "stuck")
    if on in {"a", "b"}:
        assert is_well(document, on) is (stands != "stuck")


def test_a_startup_probe_is_told_until_it_has_passed() -> None:
    pod = vllm(on="a")
    containers = [
        msgspec.structs.replace(
            pod.spec.containers[0], startup_probe=Probe(), readiness_probe=Probe()
        )
    ]
    for started, said in ((False, "has not passed its startup"), (True, "not pass its readiness")):
        status = phase("Running", NEVER, containerStatuses=[container(RUNS, started=started)])
        assert said in told(_with(pod, containers, status))["summary"]


def test_a_pod_that_no_node_would_take_is_not_said_to_wait_where_it_runs() -> None:
    state = ClusterState(clock=lambda: NOW)
    pod = vllm(on="a")
    for one in (node("a"), loader(), pod):
        state.upsert(one)
    document = explain(pod, Context(state=state))
    assert document["summary"].startswith(
        f"runs on a (where now: {NO_MODEL}); placed again, it waits: the one node lacks the model"
    )
    assert is_well(document)


@pytest.mark.parametrize(
    ("on", "since", "said"),
    [
        ("", 0, "is being deleted (overdue for 0 s) and is not placed any more; see its "),
        ("a", -30, "is being deleted on a (30 s left to end) and is not placed any more; see its"),
        ("z", 600, "is being deleted on z, which is not in the cluster, (overdue for 10 min) "),
        (
            "lost", 600, "is being deleted on lost, whose kubelet is not heard of, or not ready, "
            "(overdue for 10 min) and is not placed any more; it goes once that kubelet has ended "
            "it, or the node is deleted: kubectl describe node lost; without that: ",
        ),
    ],
)  # fmt: skip
def test_of_a_pod_that_is_being_deleted_it_is_told_where_and_since_when(
    on: str, since: float, said: str
) -> None:
    pod = vllm(on=on)
    leaving = msgspec.structs.replace(pod.metadata, deletion_timestamp=ago(since))
    spec = msgspec.structs.replace(pod.spec, scheduler_name="default-scheduler")
    document = told(msgspec.structs.replace(pod, metadata=leaving, spec=spec))
    assert document["summary"].startswith(said)
    assert "NotAsked" not in {one["reason"] for one in document["warnings"]}
    assert not is_well(document)


@pytest.mark.parametrize("on", ["", "a"])
def test_of_a_pod_that_is_on_a_node_or_leaves_nobody_waits_for_another_node(on: str) -> None:
    """As one that waits is told of autoscalers, and what is chosen for it."""
    pod = msgspec.structs.replace(
        tmpfs("llama", size="90Gi"), status=PodStatus(nominated_node_name="a")
    )
    assert "NoNewNode" in {one["reason"] for one in told(pod)["warnings"]}
    assert "it is meant for a" in told(pod)["summary"]
    spec = msgspec.structs.replace(pod.spec, node_name=on)
    metadata = (
        pod.metadata if on else msgspec.structs.replace(pod.metadata, deletion_timestamp=ago(9))
    )
    document = told(msgspec.structs.replace(pod, spec=spec, metadata=metadata))
    assert "NoNewNode" not in {one["reason"] for one in document["warnings"]}
    assert "it is meant for a" not in document["summary"]


def test_a_pod_of_a_kubelets_own_that_has_ended_is_not_said_to_be_made_by_a_node() -> None:
    pod = owned(vllm(on="a"), "Node", "a")
    said = (
        "has ended (Failed) and is not placed again; it is one of the kubelet of a, which has its "
    )
    ended = msgspec.structs.replace(pod, status=PodStatus(phase="Failed"))
    assert told(ended)["summary"].startswith(said)


def test_a_pod_without_a_node_stands_nowhere() -> None:
    assert told(vllm())["standing"] is None
