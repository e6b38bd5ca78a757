"""The state: ledger sums, views that do not change, lists that replace, odd objects alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.inventory import PROVIDES_ANNOTATION
from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import (
    Condition,
    EnvVar,
    Namespace,
    Node,
    NodeSpec,
    ObjectMeta,
    Pod,
    ResourceRequirements,
)
from tests.builders import (
    claim,
    deleted,
    gated,
    job,
    loader,
    namespace,
    node,
    pod,
    relist,
    storage_class,
    tmpfs,
    vllm,
    volume,
)

GI = 2**30


def new_state() -> ClusterState:
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(node("a", "64Gi"))
    return state


@pytest.fixture
def state() -> ClusterState:
    return new_state()


def free(state: ClusterState, name: str = "a") -> int:
    return state.view().nodes[name].free


def nominated(pod: Pod) -> Pod:
    """Return a pod that is nominated to ``a``."""
    status = msgspec.structs.replace(pod.status, nominated_node_name="a")
    return msgspec.structs.replace(pod, status=status)


def test_memory_that_is_promised_is_not_free(state: ClusterState) -> None:
    state.upsert(tmpfs(size="20Gi", memory="1Gi", on="a"))
    assert free(state) == 43 * GI


def test_a_pod_that_is_deleted_while_it_is_nominated_counts_there_no_more(
    state: ClusterState,
) -> None:
    """kube-scheduler does not try it again, however long a finalizer keeps it."""
    meant = nominated(tmpfs())
    state.upsert(meant)
    assert [one.uid for one in state.view().nodes["a"].nominated] == ["uid-ram"]
    state.upsert(deleted(meant))
    assert state.view().nodes["a"].nominated == ()


def test_a_nomination_of_a_pod_counts_once_no_scheduling_gate_holds_it_back(
    state: ClusterState,
) -> None:
    meant = nominated(tmpfs())
    state.upsert(gated(meant))
    assert state.view().nodes["a"].nominated == ()
    state.upsert(meant)
    assert [one.uid for one in state.view().nodes["a"].nominated] == ["uid-ram"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_does_not_count(state: ClusterState, phase: str) -> None:
    state.upsert(tmpfs(on="a", phase=phase))
    assert free(state) == 64 * GI


def test_a_terminating_pod_still_counts(state: ClusterState) -> None:
    ending = tmpfs(on="a")
    state.upsert(
        pod(
            "ram",
            metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"},
            spec={
                "nodeName": "a",
                "containers": [{"name": "c", "resources": {"requests": {"memory": "8Gi"}}}],
            },
            status={"phase": "Running"},
        )
    )
    assert free(state) == 56 * GI
    state.delete(ending)
    assert free(state) == 64 * GI


def test_the_order_of_nodes_and_pods_does_not_matter() -> None:
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(tmpfs(on="late"))
    state.upsert(node("late", "64Gi"))
    assert free(state, "late") == 43 * GI


def test_a_view_does_not_change_any_more(state: ClusterState) -> None:
    view = state.view()
    state.upsert(tmpfs(on="a"))
    state.upsert(node("b"))
    assert view.nodes["a"].free == 64 * GI
    assert set(view.nodes) == {"a"}


def test_a_list_that_says_what_is_known_adds_no_node_up_again(state: ClusterState) -> None:
    """Of twenty thousand pods that are listed anew few have changed, while requests wait."""
    pods = [tmpfs("one", size="4Gi", on="a"), tmpfs("two", size="8Gi", on="a")]
    relist(state, Pod, pods)
    before = state.view().nodes["a"]
    relist(state, Pod, [tmpfs("one", size="4Gi", on="a"), tmpfs("two", size="8Gi", on="a")])
    assert state.view().nodes["a"] is before
    relist(state, Pod, pods[:1])
    assert state.view().nodes["a"].free > before.free


def test_a_list_replaces_everything_of_its_kind_and_nothing_else(state: ClusterState) -> None:
    state.upsert(tmpfs("one", on="a"))
    state.upsert(tmpfs("two", on="a"))
    relist(state, Pod, [tmpfs("two", on="a"), tmpfs("three", on="a", size="1Gi")])
    assert free(state) == (64 - 21 - 2) * GI
    relist(state, Node, [node("b")])
    assert set(state.view().nodes) == {"b"}


def test_a_pod_recreated_under_its_name_is_another_pod(state: ClusterState) -> None:
    state.upsert(tmpfs(on="a"))
    new = pod("ram", metadata={"uid": "new"}, spec={"nodeName": "a", "containers": []})
    state.upsert(new)
    state.delete(tmpfs(on="a"))
    assert state.pod("new") is not None
    assert free(state) == 64 * GI


def test_a_pod_with_nonsense_costs_nobody_else_anything(state: ClusterState) -> None:
    bad = pod(
        "bad",
        spec={
            "nodeName": "a",
            "containers": [{"name": "c", "resources": {"requests": {"memory": "lots"}}}],
        },
    )
    relist(state, Pod, [bad, tmpfs(on="a")])
    assert free(state) == 43 * GI
    assert "lots" in state.problems()["Pod inference/bad"]


def test_an_object_that_turned_unreadable_is_forgotten_and_named(state: ClusterState) -> None:
    state.upsert(tmpfs(on="a"))
    state.unreadable(Pod, ObjectMeta(name="ram", namespace="inference", uid="uid-ram"), "odd")
    assert free(state) == 64 * GI
    assert state.problems() == {"Pod inference/ram": "odd"}


def test_a_ready_reader_keeps_its_model_warm(state: ClusterState) -> None:
    state.upsert(vllm(on="a"))
    warm = state.view().nodes["a"].warm
    assert ("hostPath", "", "", "/var/lib/models/llama-3.1-8b-instruct") in warm
    state.delete(vllm(on="a"))
    assert not state.view().nodes["a"].warm


def test_a_job_withholds_its_model_only_until_it_first_completed(state: ClusterState) -> None:
    state.upsert(claim())
    state.upsert(job("download"))
    assert [model.path for _, model in state.view().writers("inference", "model-store")] == [
        "llama-3.1-8b-instruct"
    ]
    state.upsert(job("download", ("Complete",)))
    state.delete(job("download", ("Complete",)))
    state.upsert(job("again"))
    assert not list(state.view().writers("inference", "model-store"))


@pytest.mark.parametrize("seen", ["deleted and created", "only the new one"])
def test_a_claim_made_anew_under_its_name_is_empty_again(state: ClusterState, seen: str) -> None:
    """A watch may miss the moment in between and show the new claim alone."""
    old, new = claim(), claim()
    new = msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, uid="new"))
    state.upsert(old)
    state.upsert(job("download", ("Complete",)))
    state.delete(job("download", ("Complete",)))
    if seen == "deleted and created":
        state.delete(old)
    state.upsert(new)
    state.upsert(job("again"))
    assert [job.name for job, _ in state.view().writers("inference", "model-store")] == ["again"]


def test_a_claim_that_merely_changes_keeps_what_was_written_there(state: ClusterState) -> None:
    state.upsert(claim(phase="Pending"))
    state.upsert(job("download", ("Complete",)))
    state.upsert(claim())
    state.upsert(job("again"))
    assert not list(state.view().writers("inference", "model-store"))


events = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "delete"]),
        st.integers(0, 5),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["1Gi", "7Gi"]),
        st.sampled_from(["Running", "Succeeded"]),
    ),
    max_size=30,
)


@given(events)
def test_the_ledger_equals_a_fresh_list_whatever_happened(history: list[Any]) -> None:
    state = new_state()
    state.upsert(node("b", "64Gi"))
    alive: dict[int, Pod] = {}
    for action, number, where, size, phase in history:
        made = tmpfs(f"p{number}", size=size, on=where, phase=phase if where else "Pending")
        if action == "upsert":
            alive[number] = made
            state.upsert(made)
        else:
            alive.pop(number, None)
            state.delete(made)
    fresh = new_state()
    relist(fresh, Node, [node("a"), node("b")])
    relist(fresh, Pod, list(alive.values()))
    assert {name: n.promised for name, n in state.view().nodes.items()} == {
        name: n.promised for name, n in fresh.view().nodes.items()
    }


def test_a_size_larger_than_any_number_that_is_not_counted_takes_nothing() -> None:
    """``10E`` is valid in Kubernetes, which reads it as the largest number that it has."""
    state = new_state()
    huge = tmpfs("huge", size="10E", on="a")
    (container,) = huge.spec.containers
    (mount,) = container.volume_mounts
    shared = msgspec.structs.replace(mount, mount_path="/dev/shm")
    spec = msgspec.structs.replace(
        huge.spec, containers=(msgspec.structs.replace(container, volume_mounts=(shared,)),)
    )
    state.upsert(msgspec.structs.replace(huge, spec=spec))
    assert state.view().nodes["a"].promised == 1 * GI
    assert (
        state.demand(huge, state.templates.workload(huge)).bytes
        > state.view().nodes["a"].allocatable
    )


@pytest.mark.parametrize(
    "obj", [node("b"), tmpfs("ram", on="a"), vllm("llama", on="a")], ids=["node", "tmpfs", "reader"]
)
def test_what_is_as_before_changes_no_view_and_tells_nobody(
    state: ClusterState, obj: Node | Pod
) -> None:
    """As after the heartbeats of kubelets, and most of a list."""
    state.upsert(obj)
    before, told = state.view(), list[str]()
    state.subscribe(lambda: told.append("told"))
    metadata = msgspec.structs.replace(obj.metadata, resource_version="7")
    state.upsert(msgspec.structs.replace(obj, metadata=metadata))
    if isinstance(obj, Pod):
        relist(state, Pod, [obj])
    assert told == []
    assert state.view().nodes is before.nodes
    assert state.view().changes.count == before.changes.count


def test_a_node_has_changed_where_its_pods_change_it_or_it_does_itself(state: ClusterState) -> None:
    """What is kept for each kind of pod is worked out anew for every node that has changed."""

    def changed_by(obj: Node | Pod) -> set[str] | None:
        before = state.view()
        state.upsert(obj)
        after = state.view()
        assert (after.nodes["a"] is before.nodes["a"]) is not bool(
            after.changes.since(before.changes.count)
        )
        return after.changes.since(before.changes.count)

    def unready(of: Pod) -> Pod:
        status = msgspec.structs.replace(of.status, conditions=())
        return msgspec.structs.replace(of, status=status)

    ram, reader = tmpfs("ram", on="a"), vllm("llama", on="a")
    assert changed_by(ram) == {"a"}
    assert changed_by(unready(ram)) == set()
    assert changed_by(reader) == {"a"}
    assert changed_by(unready(reader)) == {"a"}
    assert changed_by(pod("no-memory", spec={"nodeName": "a"})) == {"a"}
    cordoned = msgspec.structs.replace(node("a", "64Gi"), spec=NodeSpec(unschedulable=True))
    assert changed_by(cordoned) == {"a"}
    assert changed_by(cordoned) == set()


def test_what_kube_scheduler_says_is_kept_and_changes_no_view(state: ClusterState) -> None:
    """It says something else after each of its attempts."""

    def waits(message: str) -> Pod:
        condition = Condition(type="PodScheduled", status="False", message=message)
        found = tmpfs("ram")
        status = msgspec.structs.replace(found.status, conditions=(condition,))
        return msgspec.structs.replace(found, status=status)

    state.upsert(waits("0/1 nodes are available: 1 Too many pods."))
    before, told = state.view(), list[str]()
    state.subscribe(lambda: told.append("told"))
    state.upsert(waits("0/1 nodes are available: 1 Insufficient cpu."))
    (facts,) = state.pods()
    assert facts.unscheduled == "0/1 nodes are available: 1 Insufficient cpu."
    assert told == []
    assert state.view().nodes is before.nodes
    state.upsert(tmpfs("ram", on="a"))
    assert [facts.unscheduled for facts in state.pods()] == [""]


def test_pods_whose_variables_take_other_metadata_are_not_read_as_one() -> None:
    def server(name: str) -> Pod:
        field = {"fieldRef": {"fieldPath": "metadata.annotations['acme/model']"}}
        plain = vllm(f"uses-{name}", model="/models/$(M)")
        (container,) = plain.spec.containers
        named = convert({"name": "M", "valueFrom": field}, EnvVar)
        spec = msgspec.structs.replace(
            plain.spec, containers=(msgspec.structs.replace(container, env=(named,)),)
        )
        metadata = msgspec.structs.replace(plain.metadata, annotations={"acme/model": name})
        return msgspec.structs.replace(plain, spec=spec, metadata=metadata)

    templates = new_state().templates
    read = [templates.workload(server(name)).references[0].host_path for name in ("a", "b")]
    assert read == ["/var/lib/models/a", "/var/lib/models/b"]


def test_an_object_that_can_be_read_again_is_no_problem_any_more() -> None:
    state = new_state()
    state.upsert(node("a", memory="lots"))
    assert list(state.problems()) == ["Node a"]
    state.upsert(node("a", memory="64Gi"))
    assert state.problems() == {}


def with_spec(spec: dict[str, Any]) -> Node:
    return msgspec.structs.replace(node("b"), spec=msgspec.convert(spec, NodeSpec))


def sent_to_us(name: str) -> Namespace:
    labels = {"modelcache.dev/scheduling": "enabled"}
    return convert({"metadata": {"name": name, "labels": labels}}, Namespace)


def test_a_namespace_is_opted_in_while_its_label_says_so() -> None:
    state = new_state()
    relist(state, Namespace, [sent_to_us("n")])
    assert state.opted_in("n")
    state.upsert(namespace("n"))
    assert not state.opted_in("n")
    state.upsert(sent_to_us("n"))
    relist(state, Namespace, [])
    assert not state.opted_in("n")


def test_pods_of_one_template_share_what_they_request() -> None:
    state = new_state()
    for name in "xy":
        state.upsert(vllm(name, on="a"))
    first, second = (facts.requests for facts in state.pods())
    assert first is second
    assert first == {"pods": 1}


def test_an_amount_that_is_none_is_told_with_its_field_and_does_not_end_the_reading() -> None:
    state = new_state()
    odd = vllm("odd", on="a")
    (container,) = odd.spec.containers
    resources = ResourceRequirements(requests={"cpu": "two"})
    spec = msgspec.structs.replace(
        odd.spec, containers=(msgspec.structs.replace(container, resources=resources),)
    )
    state.upsert(msgspec.structs.replace(odd, spec=spec))
    assert state.problems() == {
        "Pod inference/odd": "spec.containers[0].resources.requests.cpu: quantity 'two' is not a "
        "Kubernetes quantity; write it like 512Mi or 2G"
    }


SEEN = {
    "pod": (tmpfs("ram", on="a"), tmpfs("ram", size="40Gi", on="a")),
    "node": (node("b", "64Gi"), node("b", "32Gi")),
    "taints": (node("b"), with_spec({"taints": [{"key": "k", "effect": "NoSchedule"}]})),
    "cordon": (node("b"), with_spec({"unschedulable": True})),
    "opt-in": (namespace("n"), sent_to_us("n")),
    "loader": (loader(), loader(script="hf download x/y --local-dir /models/y")),
    "job": (job("fill"), job("fill", ("Complete",))),
    "claim": (claim(), claim(phase="Lost")),
    "volume": (volume("v"), volume("v", zone="far")),
    "class": (storage_class("c"), storage_class("c", mode="Immediate")),
    "namespace": (namespace("n"), namespace("n", trusted=True)),
}


@pytest.mark.parametrize("kind", SEEN)
def test_what_is_known_of_an_object_differs_once_the_object_is_another(kind: str) -> None:
    """An audit compares so; what other objects add (a node's pods) is no difference."""
    state = new_state()
    then, now = SEEN[kind]
    assert kind in {"namespace", "opt-in"} or state.differs(then)
    state.upsert(then)
    state.upsert(tmpfs("beside", on="b"))
    assert not state.differs(then)
    assert state.differs(now)
    state.upsert(now)
    assert not state.differs(now)


def lose_from_its_node(state: ClusterState) -> None:
    """Forget that a pod is on its node, as a fault of this program would."""
    state._ledger._on_node.pop("a", "uid-ram")
    state._ledger._changed.add("a")
    state._settle()


def lose_from_its_nomination(state: ClusterState) -> None:
    state._ledger._nominated.pop("a", "uid-meant")
    state._ledger._changed.add("a")
    state._settle()


def count_wrongly(state: ClusterState) -> None:
    ledger = state._ledger
    ledger._nodes.put("a", msgspec.structs.replace(ledger.nodes["a"], promised=0))
    ledger.note("a")
    state._view = None


def misread_what_is_provided(state: ClusterState) -> None:
    state._loaders._provides["a"] = ()
    state._loaders._changed.add("a")
    state._settle()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lose_from_its_node, Pod),
        (lose_from_its_nomination, Pod),
        (count_wrongly, Node),
        (misread_what_is_provided, Node),
    ],
)
def test_an_audit_finds_what_counts_wrongly_and_its_list_puts_it_right(
    fault: Any, kind: Any
) -> None:
    """Each object is known as it is: it is what they make together that is not."""
    state = ClusterState(clock=lambda: 0.0)
    objects = [
        node("a", "64Gi", annotations={PROVIDES_ANNOTATION: "/var/lib/models/gemma"}),
        tmpfs("ram", size="20Gi", on="a"),
        nominated(tmpfs("meant", size="30Gi")),
    ]
    for obj in objects:
        state.upsert(obj)
    of_kind = [obj for obj in objects if isinstance(obj, kind)]
    before = state.view()
    assert not any(map(state.differs, objects))
    fault(state)
    assert any(map(state.differs, of_kind))
    draft = state.listing(kind)
    draft.add(of_kind)
    draft.replace()
    assert not any(map(state.differs, objects))
    after = state.view()
    assert after.nodes == before.nodes
    assert after.inventory.provided("a") == before.inventory.provided("a") != ()
