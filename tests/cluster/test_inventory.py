"""What nodes hold: the article's loader, its failures, stale files, trust, and what is unknown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster import inventory
from extender.cluster.holdings import Evidence, ModelState
from extender.cluster.inventory import Answer
from extender.cluster.loaders import AHEAD
from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import DaemonSet, KubeObject, Node, Pod, PodSpec
from tests.builders import (
    CRASHING,
    HOST_MODEL,
    LOADING,
    MODEL,
    READY,
    STOPPED,
    loader,
    loader_pod,
    namespace,
    node,
    relist,
)
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_767_225_600.0)  # 2026-01-01T00:00:00Z


@pytest.fixture
def state(clock: Clock) -> ClusterState:
    made = ClusterState(clock=clock)
    for name in ("a", "b"):
        made.upsert(node(name))
    made.upsert(loader())
    return made


def asked(state: ClusterState, path: str = HOST_MODEL, by: str = "inference") -> Answer:
    return state.view().inventory.lookup(path, by)


def apply(state: ClusterState, *objects: KubeObject) -> None:
    for obj in objects:
        state.upsert(obj)


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (READY, ModelState.READY, ""),
        (LOADING, ModelState.LOADING, ""),
        (CRASHING, ModelState.FAILED, "CrashLoopBackOff, OOMKilled exit 137"),
        (STOPPED, ModelState.STALE, "CrashLoopBackOff, Error exit 1"),
        ({"phase": "Pending"}, ModelState.LOADING, ""),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "download", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
                ],
            },
            ModelState.FAILED,
            "ImagePullBackOff",
        ),
    ],
)
def test_the_articles_loader_tells_how_far_it_is(
    state: ClusterState, status: dict[str, Any], expected: ModelState, reason: str
) -> None:
    apply(state, loader_pod("a", status))
    held = asked(state).nodes["a"]
    assert (held.state, held.evidence, held.reason) == (expected, Evidence.DECLARED, reason)
    assert held.model == "meta-llama/Llama-3.1-8B-Instruct"


def test_a_node_without_a_loader_pod_is_absent_not_unknown(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    answer = asked(state)
    assert answer.known
    assert "b" not in answer.nodes


def test_a_path_that_no_loader_owns_is_unknown(state: ClusterState) -> None:
    assert not asked(state, "/opt/weights/llama").known


def test_a_model_that_the_loader_does_not_name_is_known_to_be_absent(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    answer = asked(state, "/var/lib/models/other")
    assert answer.known
    assert not answer.nodes


def test_what_an_unreadable_script_loads_is_assumed(state: ClusterState) -> None:
    opaque = "python /scripts/load.py"
    daemonset = loader(script=opaque)
    marked = {**daemonset.spec.template.metadata.labels, "modelcache.dev/loader": "true"}
    apply(state, _labelled(daemonset, marked))
    apply(state, _labelled_pod(loader_pod("a", READY, script=opaque), marked))
    held = asked(state, "/var/lib/models/anything").nodes["a"]
    assert (held.state, held.evidence) == (ModelState.READY, Evidence.ASSUMED)


def test_files_outlive_the_loader_pod_that_wrote_them(state: ClusterState, clock: Clock) -> None:
    apply(state, loader_pod("a", READY))
    clock.now += 100
    state.delete(loader_pod("a", READY))
    held = asked(state).nodes["a"]
    assert (held.state, held.since) == (ModelState.STALE, clock.now)


def test_a_rolling_update_never_makes_the_model_absent(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY, uid="old"))
    apply(state, loader_pod("a", READY, uid="old", deleted=True))
    assert asked(state).nodes["a"].state is ModelState.STALE
    state.delete(loader_pod("a", READY, uid="old"))
    apply(state, loader_pod("a", LOADING, uid="new"))
    assert asked(state).nodes["a"].state is ModelState.STALE
    apply(state, loader_pod("a", READY, uid="new"))
    assert asked(state).nodes["a"].state is ModelState.READY


def test_what_a_deleted_loader_pod_leaves_ages_from_its_deletion(
    state: ClusterState, clock: Clock
) -> None:
    """It was Ready since January; that says nothing of how long it has been going."""
    clock.now += 30 * 86_400
    apply(state, loader_pod("a", READY))
    apply(state, loader_pod("a", READY, deleted=True))
    assert asked(state).nodes["a"].since == clock.now
    clock.now += 20
    apply(state, loader_pod("a", READY, deleted=True))
    assert asked(state).nodes["a"].since == clock.now - 20


MAIN_DOWNLOADS = {
    "containers": [
        {
            "name": "download",
            "image": "python:3.12-slim",
            "command": ["bash", "-c", f"hf download a/b --local-dir {MODEL}; sleep infinity"],
            "readinessProbe": {"exec": {"command": ["test", "-f", "/models/.done"]}},
            "volumeMounts": [{"name": "models", "mountPath": "/models"}],
        }
    ],
    "volumes": [{"name": "models", "hostPath": {"path": "/var/lib/models"}}],
}
RUNNING_NOT_READY: dict[str, Any] = {
    "phase": "Running",
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ],
    "containerStatuses": [{"name": "download", "state": {"running": {}}}],
}


def main_loader_pod(status: dict[str, Any]) -> Pod:
    plain = loader_pod("a", status)
    spec = convert({**MAIN_DOWNLOADS, "nodeName": "a"}, PodSpec)
    return Pod(metadata=plain.metadata, spec=spec, status=plain.status)


def test_a_main_container_that_runs_and_is_not_ready_is_still_loading(state: ClusterState) -> None:
    apply(state, main_loader_pod(RUNNING_NOT_READY))
    assert asked(state).nodes["a"].state is ModelState.LOADING


def test_a_main_container_that_was_ready_before_left_its_files(state: ClusterState) -> None:
    apply(state, main_loader_pod(READY))
    apply(state, main_loader_pod(RUNNING_NOT_READY))
    assert asked(state).nodes["a"].state is ModelState.STALE


@pytest.mark.parametrize(
    ("status", "expected"),
    [(LOADING, ModelState.LOADING), (CRASHING, ModelState.FAILED), (READY, ModelState.READY)],
    ids=["loading", "failed", "ready"],
)
def test_who_declares_a_model_knows_more_than_who_owns_its_directory(
    state: ClusterState, status: dict[str, Any], expected: ModelState
) -> None:
    opaque = "hf download z/z --local-dir /models/z; ./more.sh"
    apply(state, loader("other", script=opaque))
    apply(state, loader_pod("a", READY, name="other", script=opaque))
    assert asked(state).nodes["a"].evidence is Evidence.ASSUMED
    apply(state, loader_pod("a", status))
    assert asked(state).nodes["a"].state is expected
    assert asked(state).nodes["a"].evidence is Evidence.DECLARED


def test_an_evicted_loader_pod_has_failed_with_the_kubelets_reason(state: ClusterState) -> None:
    apply(state, loader_pod("a", {"phase": "Failed", "reason": "Evicted"}))
    held = asked(state).nodes["a"]
    assert (held.state, held.reason) == (ModelState.FAILED, "Evicted")


def test_a_loader_that_was_never_ready_leaves_nothing(state: ClusterState) -> None:
    apply(state, loader_pod("a", LOADING))
    state.delete(loader_pod("a", LOADING))
    assert "a" not in asked(state).nodes


def test_a_deleted_loader_vouches_for_nothing_any_more(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    state.delete(loader_pod("a", READY))
    state.delete(loader())
    assert not asked(state).known


def test_a_loader_that_is_deleted_before_its_pods_leaves_nothing(state: ClusterState) -> None:
    """As ``kubectl delete daemonset`` does by default."""
    apply(state, loader_pod("a", READY))
    state.delete(loader())
    state.delete(loader_pod("a", READY))
    assert not asked(state).known


def machine(created: str) -> Node:
    return node("a", creationTimestamp=created, uid=created)


def made(at: str, status: dict[str, Any]) -> Pod:
    plain = loader_pod("a", status, uid=at)
    metadata = msgspec.structs.replace(plain.metadata, creation_timestamp=at)
    return msgspec.structs.replace(plain, metadata=metadata)


@pytest.mark.parametrize("deleted_first", [True, False], ids=["deleted first", "replaced"])
def test_a_new_machine_under_an_old_name_holds_nothing(
    state: ClusterState,
    deleted_first: bool,
) -> None:
    apply(state, machine("2026-01-01T00:00:00Z"), made("2026-01-01T00:01:00Z", READY))
    assert asked(state).nodes["a"].state is ModelState.READY
    if deleted_first:
        state.delete(machine("2026-01-01T00:00:00Z"))
    apply(state, machine("2026-01-02T00:00:00Z"))
    assert "a" not in asked(state).nodes  # the old pod is not collected yet
    state.delete(made("2026-01-01T00:01:00Z", READY))
    assert "a" not in asked(state).nodes
    apply(state, made("2026-01-02T00:01:00Z", LOADING))
    assert asked(state).nodes["a"].state is ModelState.LOADING


@pytest.mark.parametrize("known", [True, False], ids=["as another machine", "not at all"])
def test_what_a_loader_left_on_a_machine_is_known_though_its_node_is_told_of_later(
    state: ClusterState, known: bool
) -> None:
    """The watch of nodes can be behind that of pods, by the time that it takes to connect anew."""
    old, new = machine("2026-01-01T00:00:00Z"), machine("2026-01-02T00:00:00Z")
    apply(state, old)
    if not known:
        state.delete(old)
    apply(state, made("2026-01-02T00:01:00Z", READY))
    state.delete(made("2026-01-02T00:01:00Z", READY))
    apply(state, new)
    held = asked(state).nodes["a"]
    assert (held.state, held.reason) == (ModelState.STALE, "its loader pod is gone")


def test_a_loader_that_is_deleted_takes_back_what_it_left_on_nodes_yet_to_be_told_of(
    state: ClusterState,
) -> None:
    pod = loader_pod("new", READY)
    apply(state, pod)
    state.delete(pod)
    state.delete(loader())
    apply(state, loader(), node("new"))
    assert "new" not in asked(state).nodes


def test_what_was_left_on_nodes_that_are_never_told_of_is_kept_of_a_thousand(
    clock: Clock,
) -> None:
    state = ClusterState(clock=clock)
    apply(state, loader())
    for number in range(AHEAD + 1):
        pod = loader_pod(f"n{number}", READY)
        apply(state, pod)
        state.delete(pod)
    apply(state, node("n0"), node("n1"))
    assert asked(state).nodes.keys() == {"n1"}


def test_a_part_that_is_ready_does_not_vouch_for_the_whole(state: ClusterState) -> None:
    """An adapter below a model, put there by another loader, says nothing of the model."""
    part = f"hf download a/lora --local-dir {MODEL}/adapters/x"
    apply(state, loader("adapters", script=part))
    apply(state, loader_pod("a", READY, name="adapters", script=part))
    assert "a" not in asked(state).nodes
    apply(state, loader_pod("a", LOADING))
    assert asked(state).nodes["a"].state is ModelState.LOADING
    assert asked(state, f"{HOST_MODEL}/adapters/x").nodes["a"].state is ModelState.READY


def test_a_repository_is_there_as_far_as_its_parts_are(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    assert asked(state, "/var/lib/models").nodes["a"].state is ModelState.READY


def test_a_deleted_node_takes_its_files_with_it(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    state.delete(loader_pod("a", READY))
    state.delete(node("a"))
    apply(state, node("a"))
    assert "a" not in asked(state).nodes


def test_a_loader_vouches_for_its_own_namespace_alone(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY))
    answer = asked(state, by="other")
    assert not answer.known
    assert answer.untrusted == ("inference/model-loader",)


def test_a_labelled_namespace_is_trusted_by_all_until_the_label_goes(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY), namespace("inference", trusted=True))
    assert "a" in asked(state, by="other").nodes
    apply(state, namespace("inference"))
    assert not asked(state, by="other").known


def test_a_configured_namespace_is_trusted_by_all(clock: Clock) -> None:
    state = ClusterState(clock=clock, trusted_namespaces=["infra"])
    apply(state, node("a"), loader(namespace="infra"), loader_pod("a", READY, namespace="infra"))
    assert "a" in asked(state, by="anyone").nodes


def test_a_tenants_daemonset_cannot_claim_a_path_for_others(clock: Clock) -> None:
    state = ClusterState(clock=clock, trusted_namespaces=["infra"])
    apply(state, node("a"), node("b"), loader(namespace="infra"))
    apply(state, loader_pod("a", READY, namespace="infra"))
    apply(state, loader("fake", "evil"), loader_pod("b", READY, name="fake", namespace="evil"))
    assert set(asked(state, by="inference").nodes) == {"a"}


def test_a_node_declares_what_is_baked_into_it(state: ClusterState) -> None:
    baked = {"modelcache.dev/provides": "/opt/weights\n # no path\n"}
    apply(state, node("b", annotations=baked))
    answer = asked(state, "/opt/weights/llama", by="anyone")
    assert answer.known
    assert answer.nodes["b"].state is ModelState.READY
    apply(state, node("b"))
    assert not asked(state, "/opt/weights/llama", by="anyone").known


def test_the_better_of_two_witnesses_counts(state: ClusterState) -> None:
    apply(state, loader_pod("a", CRASHING), loader("second"))
    apply(state, loader_pod("a", READY, name="second"))
    assert asked(state).nodes["a"].state is ModelState.READY


def test_a_list_replaces_what_was_known(state: ClusterState) -> None:
    apply(state, loader_pod("a", READY), loader_pod("b", READY))
    relist(state, Pod, [loader_pod("b", READY)])
    assert asked(state).nodes["a"].state is ModelState.STALE
    assert asked(state).nodes["b"].state is ModelState.READY
    relist(state, DaemonSet, [])
    assert not asked(state, "/var/lib/models/other").known


def test_paths_that_nobody_asks_for_any_more_are_forgotten(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every inventory was asked for a few alone, and few nodes change."""
    monkeypatch.setattr(inventory, "MAX_ANSWERS", 20)
    for number in range(100):
        apply(state, loader_pod("a", READY if number % 2 else STOPPED))
        assert asked(state, f"/var/lib/models/{number}").known
    assert len(state.view().inventory._found) <= 20


def test_who_asks_for_more_than_is_kept_costs_nobody_all_of_it(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question too many forgets some of all answers, and not everybody's."""
    monkeypatch.setattr(inventory, "MAX_ANSWERS", 80)
    apply(state, loader_pod("a", READY))
    known = state.view().inventory
    for number in range(81):
        known.lookup(f"/var/lib/models/{number}", "inference")
    assert 60 < len(known._answers) <= 80


def _labelled(daemonset: DaemonSet, labels: dict[str, str]) -> DaemonSet:
    import msgspec

    template = daemonset.spec.template
    metadata = msgspec.structs.replace(template.metadata, labels=labels)
    spec = msgspec.structs.replace(
        daemonset.spec, template=msgspec.structs.replace(template, metadata=metadata)
    )
    return msgspec.structs.replace(daemonset, spec=spec)


def _labelled_pod(pod: Pod, labels: dict[str, str]) -> Pod:
    import msgspec

    return msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(pod.metadata, labels=labels)
    )
