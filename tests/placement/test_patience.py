"""requiredTimeout: a required model gives way after a while, only where the pod can fetch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.state import ClusterState
from extender.config import read_configuration
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Pod
from extender.placement.estimate import Start
from extender.placement.patience import impatient, patience_ends
from extender.placement.policy import Policy
from extender.placement.reasons import Reason
from extender.verbs.bind import Answer, BindOutcome, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.wire import BindArgs, ExtenderArgs
from extender.workload.model import Need
from tests.builders import LOADING, loader, loader_pod, node, pod, vllm
from tests.placement.situations import Clock, cluster, copied_to_memory, judge

CREATED = "2026-01-01T00:00:00Z"
PATIENCE = Policy(required_timeout=900.0)
FIRST = "2026-01-01T00:14:59Z"
OVER = "2026-01-01T00:15:00Z"
HUB_ID = "meta-llama/Llama-3.1-8B-Instruct"


def caching(
    *, host: dict[str, Any] | None = None, env: dict[str, str] | None = None, **mount: Any
) -> Pod:
    """Return a server of a hub id, whose cache is a directory of the node."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", HUB_ID],
        "env": [
            {"name": name, "value": value}
            for name, value in {"HF_HOME": "/cache", **(env or {})}.items()
        ],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache", **mount}],
    }
    path = {"path": "/var/lib/models", **(host or {"type": "DirectoryOrCreate"})}
    return pod(
        "caching",
        spec={"containers": [container], "volumes": [{"name": "cache", "hostPath": path}]},
    )


def insisting(asker: Pod, created: str = CREATED) -> Pod:
    """Return a pod whose author says that its model is required."""
    metadata = msgspec.structs.replace(
        asker.metadata,
        annotations={"modelcache.dev/need": "required"},
        creation_timestamp=created,
    )
    return msgspec.structs.replace(asker, metadata=metadata)


CACHE = "/var/lib/models/hub/models--meta-llama--Llama-3.1-8B-Instruct"


def cold(clock: Clock, *more: KubeObject) -> ClusterState:
    """Return two nodes without the model that ``caching`` asks for; another one is loading."""
    pods = (loader_pod("a", LOADING), loader_pod("b", LOADING))
    return cluster(node("a"), node("b"), loader(), *pods, *more, clock=clock)


def refusals(asker: Pod, policy: Policy, now: str) -> set[Reason | None]:
    answers = judge(asker, cold(Clock(now)), policy)
    return {answers.reason(name) for name in ("a", "b")}


def test_a_pod_that_can_fetch_insists_until_the_time_is_over() -> None:
    asker = insisting(caching())
    assert refusals(asker, PATIENCE, FIRST) == {Reason.MODEL_ABSENT}
    assert refusals(asker, PATIENCE, OVER) == {None}


def test_without_a_timeout_it_insists_for_ever() -> None:
    assert Policy().required_timeout == 0
    refused = refusals(insisting(caching()), Policy(), "2027-01-01T00:00:00Z")
    assert refused == {Reason.MODEL_ABSENT}


CANNOT_FETCH = {
    "read-only hostPath": vllm(volume={"hostPath": {"path": "/var/lib/models"}}),
    "hostPath of type Directory": vllm(),
    "cache in a hostPath of type Directory": caching(host={"type": "Directory"}),
    "cache that is mounted read-only": caching(readOnly=True),
    "hub switched off": caching(env={"HF_HUB_OFFLINE": "1"}),
    "copied to memory from a read-only cache": copied_to_memory(),
}


@pytest.mark.parametrize("asker", CANNOT_FETCH.values(), ids=CANNOT_FETCH.keys())
def test_a_pod_that_cannot_fetch_insists_for_ever(asker: Pod) -> None:
    """On a node without the model it would never serve, however long it has waited."""
    waiting = insisting(asker)
    reasons = refusals(waiting, PATIENCE, "2027-01-01T00:00:00Z")
    assert reasons == refusals(waiting, Policy(), CREATED)
    assert None not in reasons


def test_where_it_cannot_be_told_whether_a_pod_can_fetch_it_insists_for_ever() -> None:
    """Something may write this path, and nothing says that it does."""
    writable = {"hostPath": {"path": "/var/lib/models", "type": "DirectoryOrCreate"}}
    asker = vllm(volume=writable)
    mount = asker.spec.containers[0].volume_mounts[0]
    mounted = msgspec.structs.replace(
        asker.spec.containers[0],
        volume_mounts=(msgspec.structs.replace(mount, read_only=False),),
    )
    spec = msgspec.structs.replace(asker.spec, containers=(mounted,))
    unsure = insisting(msgspec.structs.replace(asker, spec=spec))
    assert refusals(unsure, PATIENCE, "2027-01-01T00:00:00Z") == {Reason.MODEL_LOADING}


def test_a_pod_that_only_prefers_its_model_is_not_touched() -> None:
    state = cold(Clock(OVER))
    before, after = judge(caching(), state), judge(caching(), state, PATIENCE)
    assert before.request == after.request


@pytest.mark.parametrize("created", ["", "yesterday"])
def test_a_pod_without_a_creation_time_has_not_begun_to_wait(created: str) -> None:
    asker = insisting(caching(), created)
    assert refusals(asker, PATIENCE, "2027-01-01T00:00:00Z") == {Reason.MODEL_ABSENT}


def test_the_wait_counts_from_the_pods_creation_by_the_states_clock() -> None:
    request = Context(state=cold(Clock())).request(insisting(caching()))
    ends = patience_ends(request, PATIENCE)
    clock = Clock(OVER)
    assert ends == clock.now
    assert impatient(request, PATIENCE, clock.now)
    assert not impatient(request, PATIENCE, clock.now - 1)


@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=2, max_size=2).map(sorted))
def test_patience_that_has_ended_does_not_come_back(times: list[float]) -> None:
    request = Context(state=cold(Clock())).request(insisting(caching()))
    earlier, later = times
    assert impatient(request, PATIENCE, later) or not impatient(request, PATIENCE, earlier)


def test_a_node_with_the_model_still_comes_first_afterwards() -> None:
    ready = node("c", annotations={"modelcache.dev/provides": CACHE})
    state = cold(Clock(OVER), ready)
    answers = judge(insisting(caching()), state, PATIENCE)
    starts = {name: answers.verdict(name).start or Start() for name in ("a", "c")}
    assert starts["c"].seconds < starts["a"].seconds
    assert answers.has_preference


def test_old_knowledge_does_not_hold_it_back_either() -> None:
    asker = insisting(caching())
    for now, reason in ((FIRST, Reason.KNOWLEDGE_STALE), (OVER, None)):
        answers = judge(asker, cold(Clock(now)), PATIENCE, stale=("Pod",))
        assert answers.reason("a") == reason


@pytest.mark.parametrize(
    ("now", "need", "said"),
    [
        pytest.param(FIRST, Need.REQUIRED, "for 1 s more", id="before"),
        pytest.param(OVER, Need.PREFERRED, "preferred now", id="after"),
    ],
)
def test_explain_says_it(now: str, need: Need, said: str) -> None:
    context = Context(state=cold(Clock(now)), policy=PATIENCE)
    document = explain(insisting(caching()), context)
    (reference,) = document["references"]
    assert reference["need"] == need
    (warning,) = [w for w in document["warnings"] if w["reason"] == "RequiredTimeout"]
    assert said in warning["message"]
    assert "evidence.requiredTimeoutSeconds (900 s)" in warning["message"]


def test_explain_says_nothing_of_it_to_a_pod_that_cannot_fetch() -> None:
    context = Context(state=cold(Clock(OVER)), policy=PATIENCE)
    document = explain(insisting(vllm()), context)
    assert "RequiredTimeout" not in [warning["reason"] for warning in document["warnings"]]


def test_the_decision_says_what_it_was_made_with() -> None:
    context = Context(state=cold(Clock(OVER)), policy=PATIENCE)
    args = ExtenderArgs(pod=insisting(caching()), names=("a", "b"), nodes=None)
    result, made = filter_nodes(args, context)
    assert made is not None
    assert made.need is Need.PREFERRED
    assert list(result.names) == ["a", "b"]


class Accepts:
    """An apiserver that takes every Binding."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}

    def create(
        self, _args: BindArgs, annotations: dict[str, str], _fence: Callable[[], str]
    ) -> Answer:
        self.written = annotations
        return Answer(Sent.DONE)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        raise AssertionError(f"nobody has to look up {namespace}/{name}")


@pytest.mark.parametrize(
    ("now", "outcome"), [(FIRST, BindOutcome.REFUSED), (OVER, BindOutcome.BOUND)]
)
def test_bind_sees_it_as_filter_does(now: str, outcome: BindOutcome) -> None:
    """By the moment of binding, whatever was said when the pod was read."""
    clock = Clock(FIRST)
    context = Context(state=cold(clock), policy=PATIENCE)
    asker = insisting(caching())
    context.request(asker)
    clock.set(now)
    metadata, apiserver = asker.metadata, Accepts()
    args = BindArgs(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid, node="a")
    assert bind(args, context, apiserver).outcome is outcome
    if outcome is BindOutcome.BOUND:
        assert '"need":"preferred"' in apiserver.written[DECISION_ANNOTATION].replace(" ", "")


def test_the_configuration_says_how_long() -> None:
    head = {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ExtenderConfiguration"}
    read = read_configuration({**head, "evidence": {"requiredTimeoutSeconds": 900}})
    assert read.policy() == PATIENCE
