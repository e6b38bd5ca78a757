"""What kube-scheduler does with extenders, and peers get wrong: each as it really behaves.

Every test has a kube-scheduler and an extender of its own, under a scheduler name of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from extender.placement.reasons import TEXTS, Reason
from extender.watch.resources import PODS
from tests.controlplane.cluster import KubectlError, is_ready
from tests.controlplane.faults.kinds_of_fault import late
from tests.controlplane.faults.scene import kubeconfig_through, proxy_for
from tests.controlplane.shipped import Object, example, taker
from tests.controlplane.stage import ROOM, Stage
from tests.controlplane.test_binding import GIB
from tests.controlplane.test_leaders import promised

CALM_SECONDS = float(os.environ.get("CALM_SECONDS") or 15)
"""How long the calls about a pod that cannot be helped are counted; 60 for the whole minute."""

PATIENCE_SECONDS = 6
SAMPLED_FROM = 100
"""``minCandidateNodesAbsolute`` of kube-scheduler."""


def extenders_of(config: Object) -> Object:
    (extender,) = config["extenders"]
    found: Object = extender
    return found


def test_full_node_objects_are_answered_like_names(stage: Stage) -> None:
    stage.control_plane.add_nodes(["full-1", "full-2"], ROOM)
    stage.control_plane.apply(taker("full-1", "60Gi"), stage.namespace)
    stage.schedule(lambda config: extenders_of(config).update(nodeCacheCapable=False))
    stage.pod("a", ram="20Gi")
    stage.wait_bound("a")
    assert stage.node_of("a") == "full-2"


def test_with_one_node_left_prioritize_is_not_asked_and_bind_is(stage: Stage) -> None:
    stage.control_plane.add_nodes(["one-1", "one-2"], ROOM)
    stage.schedule()
    stage.pod("a", ram="20Gi", node="one-2")
    stage.wait_bound("a")
    assert stage.decisions("a", "prioritize") == []
    # Logged once the apiserver has answered, which is after the pod can be seen to be bound.
    stage.control_plane.wait_for(lambda: stage.decisions("a", "bind"), 10, "the bind to be logged")
    (bound,) = stage.decisions("a", "bind")
    assert (bound["node"], bound["passed"]) == ("one-2", 1)


def test_without_prioritize_pods_are_placed_by_filter_and_bind(stage: Stage) -> None:
    def filter_only(config: Object) -> None:
        for key in ("prioritizeVerb", "weight"):
            del extenders_of(config)[key]

    stage.control_plane.add_nodes(["plain-1", "plain-2"], ROOM)
    stage.control_plane.apply(taker("plain-1", "60Gi"), stage.namespace)
    stage.schedule(filter_only)
    for name in ("a", "b"):
        stage.pod(name, ram="20Gi")
    stage.wait_bound("a", "b")
    assert {stage.node_of("a"), stage.node_of("b")} == {"plain-2"}


def test_behind_another_extender_only_its_nodes_are_asked_about(stage: Stage) -> None:
    """The other one is a second copy that has been told, by a fake tmpfs, that chain-1 is full."""

    def chained(config: Object) -> None:
        first = {**extenders_of(config), "urlPrefix": stage.extender.url}
        for key in ("bindVerb", "preemptVerb"):  # one extender alone may bind
            del first[key]
        config["extenders"] = [first, *config["extenders"]]

    stage.control_plane.add_nodes(["chain-1", "chain-2"], ROOM)
    stage.control_plane.apply(taker("chain-1", "60Gi"), stage.namespace)
    stage.schedule(chained)
    stage.pod("a", ram="20Gi")
    stage.wait_bound("a")
    assert stage.node_of("a") == "chain-2"
    assert [made["asked"] for made in stage.decisions("a", "filter")][-2:] == [2, 1]


def test_while_the_extender_is_down_its_pods_wait_and_go_on_afterwards(stage: Stage) -> None:
    stage.control_plane.add_nodes(["down-1"], ROOM)
    stage.schedule()
    stage.extender.stop()
    stage.pod("a", ram="20Gi")
    stage.wait_said("a", "connection refused")
    assert stage.node_of("a") is None
    stage.extender.start()
    stage.wait_bound("a")


def test_an_ignorable_extender_that_is_down_is_passed_over(stage: Stage) -> None:
    """Why the shipped configuration says ``ignorable: false``: this pod is placed blindly."""
    stage.control_plane.add_nodes(["blind-1"], ROOM)
    stage.control_plane.apply(taker("blind-1", "60Gi"), stage.namespace)
    stage.schedule(lambda config: extenders_of(config).update(ignorable=True))
    stage.extender.stop()
    stage.pod("a", ram="20Gi")
    stage.wait_bound("a")
    assert stage.node_of("a") == "blind-1"


@pytest.mark.parametrize("ram", ["20Gi", ""], ids=["memory that nobody else counts", "plain"])
def test_a_node_deleted_between_filter_and_bind_gets_no_pod(stage: Stage, ram: str) -> None:
    stage.control_plane.add_nodes(["stays", "goes"], ROOM)
    stage.pod("a", ram=ram)
    pod = stage.control_plane.get_json("pod", "a", "-n", stage.namespace)
    asked = {"Pod": pod, "Nodes": None, "NodeNames": ["goes"]}

    def passed() -> bool:
        return bool(stage.extender.post("/filter", asked)[1]["NodeNames"])

    stage.control_plane.wait_for(passed, 30, "filter to know the node")
    stage.control_plane.delete_nodes(["goes"])
    stage.control_plane.wait_for(
        lambda: not passed(), 30, "the extender to have seen that the node is gone"
    )
    metadata = pod["metadata"]
    error = stage.extender.post(
        "/bind",
        {
            "PodNamespace": stage.namespace,
            "PodName": "a",
            "PodUID": metadata["uid"],
            "Node": "goes",
        },
    )[1]["Error"]
    assert TEXTS[Reason.NODE_GONE] in error
    assert stage.node_of("a") is None


@pytest.mark.parametrize("names_only", [True, False], ids=["names", "full objects"])
def test_preemption_evicts_where_it_helps_and_the_nominated_node_is_asked_about_first(
    stage: Stage, names_only: bool
) -> None:
    """Both nodes are full by cpu. On one of them other tmpfs leave no memory for the pod."""
    low, high = f"low-{stage.namespace}", f"high-{stage.namespace}"
    stage.control_plane.add_nodes(["pre-1", "pre-2"], ROOM)
    stage.control_plane.apply(taker("pre-1", "60Gi"), stage.namespace)
    stage.schedule(lambda config: extenders_of(config).update(nodeCacheCapable=names_only))
    for number in (1, 2):
        stage.pod(f"low-{number}", cpu="3500m", priority=low, node=f"pre-{number}")
    stage.wait_bound("low-1", "low-2")
    stage.pod("high", ram="20Gi", cpu="3", priority=high)
    stage.wait_bound("high")
    assert stage.node_of("high") == "pre-2"
    assert stage.node_of("low-1") == "pre-1"  # evicting it would not have helped
    asked = stage.decisions("high", "preempt")
    assert asked
    assert asked[0]["refused"] == {"InsufficientMemory": 1}
    assert [made["asked"] for made in stage.decisions("high", "filter")][-1] == 1


def test_two_pods_that_preempt_at_once_do_not_both_evict_for_the_same_memory(stage: Stage) -> None:
    """kube-scheduler asks for the second before any watch tells of the first one's nomination.

    By cpu both would find room once both pods of low priority are gone; the memory is for one.
    """
    low, high = f"low-{stage.namespace}", f"high-{stage.namespace}"
    stage.control_plane.add_nodes(["twice-1"], ROOM)
    stage.control_plane.apply(taker("twice-1", "30Gi"), stage.namespace)
    stage.schedule()
    stage.pod("low-1", cpu="3", priority=low)
    stage.pod("low-2", cpu="900m", priority=low)
    stage.wait_bound("low-1", "low-2")
    first = stage.manifest("high-1", ram="20Gi", cpu="3", priority=high)
    second = stage.manifest("high-2", ram="20Gi", cpu="900m", priority=high)
    stage.control_plane.apply([first, second], stage.namespace)
    stage.wait_bound("high-1")
    stage.control_plane.wait_for(
        lambda: stage.decisions("high-2", "preempt"), 30, "preempt to be asked for the second"
    )
    asked = stage.decisions("high-2", "preempt")
    assert all(made["refused"] == {"InsufficientMemory": 1} for made in asked), asked
    assert stage.node_of("high-2") is None
    assert stage.node_of("low-2") == "twice-1"
    assert "too little memory would come back" in told(stage, "high-2")["EvictionsInVain"]


def told(stage: Stage, name: str) -> dict[str, str]:
    """Return what ``explain`` warns of, once kube-scheduler has written why the pod has no node."""
    control_plane, said = stage.control_plane, "-o=jsonpath={.status.conditions[*].message}"
    written = "no candidate node for preemption"
    control_plane.wait_for(
        lambda: written in control_plane.kubectl("get", "pod", name, "-n", stage.namespace, said),
        30,
        f"kube-scheduler to write of {name}: {written}",
    )
    pod = control_plane.get_json("pod", name, "-n", stage.namespace)

    def warned() -> dict[str, str]:
        _, document = stage.extender.post("/api/v1/explain", pod)
        return {one["reason"]: one["message"] for one in document["warnings"]}

    control_plane.wait_for(lambda: "EvictionsInVain" in warned(), 30, "the watch to show that")
    return warned()


def test_an_eviction_that_becomes_worth_it_by_the_clock_alone_is_made(
    stage: Stage, tmp_path: Path
) -> None:
    """No event tells kube-scheduler that the pod would go without its model by now.

    One node is full, and has the memory once the pod on it is gone. The other one passes by
    kube-scheduler's own count and has not the memory, so that filter is asked.
    """
    file = tmp_path / "extender.yaml"
    file.write_text(
        "apiVersion: modelcache.dev/v1alpha1\nkind: ExtenderConfiguration\n"
        f"evidence: {{requiredTimeoutSeconds: {PATIENCE_SECONDS}}}\n",
        encoding="utf-8",
    )
    stage.extender = stage.control_plane.start_extender(f"--config={file}")
    stage.control_plane.add_nodes(["clock-1"], ROOM)
    stage.control_plane.add_nodes(["clock-2"], {**ROOM, "memory": "1Gi"})
    stage.control_plane.apply(example("node-cache.yaml", stage.namespace, "DaemonSet"))
    stage.schedule()
    low = f"low-{stage.namespace}"
    stage.pod("low", ram="40Gi", cpu="3500m", priority=low, node="clock-1")
    stage.wait_bound("low")
    high = stage.manifest("high", ram="40Gi", cpu="1", priority=f"high-{stage.namespace}")
    fetches(high)
    stage.control_plane.apply(high, stage.namespace)
    stage.wait_bound("high")
    assert stage.node_of("high") == "clock-1"
    first, *_, last = stage.decisions("high", "preempt")
    assert first["refused"] == {"ModelAbsent": 1}
    assert last["passed"] == 1


def fetches(pod: Object) -> None:
    """Let a pod require a model in the node's cache that it could download."""
    pod["metadata"]["annotations"] = {"modelcache.dev/need": "required"}
    (server,) = pod["spec"]["containers"]
    server["command"] = ["vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"]
    server["env"] = [{"name": "HF_HOME", "value": "/cache"}]
    server["volumeMounts"].append({"name": "cache", "mountPath": "/cache"})
    cache = {"name": "cache", "hostPath": {"path": "/var/lib/models"}}
    pod["spec"]["volumes"].append(cache)


def test_two_pods_that_preempt_at_once_evict_on_a_node_each(stage: Stage) -> None:
    """Both nodes would do for either; by cpu for both of them, by memory for one."""
    low, high = f"low-{stage.namespace}", f"high-{stage.namespace}"
    stage.control_plane.add_nodes(["each-1", "each-2"], ROOM)
    stage.schedule()
    for number in (1, 2):
        stage.control_plane.apply(taker(f"each-{number}", "30Gi"), stage.namespace)
        stage.pod(f"low-{number}", cpu="3500m", priority=low, node=f"each-{number}")
    stage.wait_bound("low-1", "low-2")
    pods = [stage.manifest(f"high-{n}", ram="20Gi", cpu="1", priority=high) for n in (1, 2)]
    stage.control_plane.apply(pods, stage.namespace)
    stage.wait_bound("high-1", "high-2")
    assert {stage.node_of("high-1"), stage.node_of("high-2")} == {"each-1", "each-2"}
    first, second = (stage.decisions(f"high-{number}", "preempt") for number in (1, 2))
    assert first[0]["passed"] == 2
    assert second[0]["passed"] == 1


def test_where_the_watch_lags_behind_kube_scheduler_no_second_pod_is_evicted(
    stage: Stage, tmp_path: Path
) -> None:
    """It hears before the extender that the one is gone, and takes a node that is refused for lost.

    Both nodes would do. The victim ends when the test says.
    """
    plane, low = stage.control_plane, f"low-{stage.namespace}"
    go_on = threading.Event()
    with proxy_for(plane) as proxy:
        kubeconfig = kubeconfig_through(proxy, plane, tmp_path)
        stage.extender = plane.start_extender(kubeconfig=kubeconfig)
        plane.add_nodes(["behind-1", "behind-2"], ROOM)
        stage.schedule()
        for number in (1, 2):
            pod = stage.manifest(
                f"low-{number}", ram="40Gi", cpu="3500m", priority=low, node=f"behind-{number}"
            )
            pod["metadata"]["finalizers"] = ["test.modelcache.dev/ends-later"]
            plane.apply(pod, stage.namespace)
        stage.wait_bound("low-1", "low-2")
        try:
            stage.pod("high", ram="40Gi", cpu="1", priority=f"high-{stage.namespace}")
            plane.wait_for(lambda: stage.nominated("high"), 30, "the pod to be nominated")
            node = stage.nominated("high")
            victim, other = f"low-{node[-1]}", f"low-{3 - int(node[-1])}"
            plane.wait_for(lambda: leaves(stage, victim), 30, "the victim to be evicted")
            plane.apply(taker(node, "1Gi"), stage.namespace)
            plane.wait_for(
                lambda: promised(stage.extender)[node] > 41 * GIB, 30, "the watch to tell of that"
            )
            proxy.meet("event", late(go_on), paths=[PODS.path])
            let_end(stage, victim)
            plane.wait_for(
                lambda: stage.decisions("high", "preempt")[-1]["passed"] == 0,
                30,
                "nobody else to be evicted",
            )
            assert stage.decisions("high", "preempt")[-1]["refused"] == {"OthersLeave": 1}
            assert not leaves(stage, other)
            go_on.set()
            stage.wait_bound("high")
            assert stage.node_of("high") == node
            assert not leaves(stage, other)
        finally:
            go_on.set()
            for number in (1, 2):
                let_end(stage, f"low-{number}")


def let_end(stage: Stage, name: str) -> None:
    """Let a pod end, if it has not."""
    without = json.dumps({"metadata": {"finalizers": None}})
    with contextlib.suppress(KubectlError):
        stage.control_plane.kubectl(
            "patch", "pod", name, "-n", stage.namespace, "--type=merge", f"-p={without}"
        )


def leaves(stage: Stage, name: str) -> bool:
    pod = stage.control_plane.get_json("pod", name, "-n", stage.namespace)
    return "deletionTimestamp" in pod["metadata"]


def test_every_node_is_tried_for_an_eviction_and_not_a_sample_of_them(stage: Stage) -> None:
    """Of more than a hundred nodes it would be a hundred, and the one that helps perhaps not."""
    names = [f"small-{number}" for number in range(SAMPLED_FROM + 10)]
    stage.control_plane.add_nodes(names, {**ROOM, "memory": "1Gi"})
    stage.control_plane.add_nodes(["large-1"], ROOM)
    pods = []
    for name in [*names, "large-1"]:
        low = stage.manifest(f"low-{name}", cpu="3500m", priority=f"low-{stage.namespace}")
        low["spec"]["nodeName"] = name
        pods.append(low)
    stage.control_plane.apply(pods, stage.namespace)
    stage.schedule()
    stage.pod("high", ram="20Gi", cpu="1", priority=f"high-{stage.namespace}")
    stage.wait_bound("high")
    assert stage.node_of("high") == "large-1"
    asked = stage.decisions("high", "preempt")[0]
    assert (asked["asked"], asked["passed"]) == (len(names) + 1, 1)


def test_a_shortage_that_only_the_extender_sees_evicts_nobody_and_makes_no_storm(
    stage: Stage,
) -> None:
    """Listed as resolvable it would: kube-scheduler made 209 filter calls in ten seconds then."""
    low, high = f"low-{stage.namespace}", f"high-{stage.namespace}"
    stage.control_plane.add_nodes(["calm-1", "calm-2"], ROOM)
    stage.schedule()
    for number in (1, 2):
        stage.pod(f"low-{number}", ram="50Gi", priority=low, node=f"calm-{number}")
    stage.wait_bound("low-1", "low-2")
    # Each update of a bound pod has a refused one tried again: let kwok's be over.
    stage.control_plane.wait_for(
        lambda: all(
            is_ready(stage.control_plane.get_json("pod", name, "-n", stage.namespace))
            for name in ("low-1", "low-2")
        ),
        30,
        "the pods of low priority to be Ready",
    )
    stage.pod("high", ram="20Gi", priority=high)
    stage.wait_said("high", TEXTS[Reason.INSUFFICIENT_MEMORY])
    time.sleep(CALM_SECONDS)
    calls = len(stage.decisions("high", "filter"))
    print(f"\na shortage only this program sees: {calls} filter calls in {CALM_SECONDS:.0f} s")  # noqa: T201
    assert calls <= 4
    assert stage.decisions("high", "preempt") == []
    assert stage.node_of("low-1") == "calm-1"
    assert stage.node_of("low-2") == "calm-2"
