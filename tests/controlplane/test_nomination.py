"""Where one node alone is right, kube-scheduler is told; where that was wrong, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from extender.placement.reasons import TEXTS, Reason
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import Object, example, finish, load, taker
from tests.controlplane.stage import ROOM, Stage

TRUSTED = "modelcache.dev/loaders=trusted"


@pytest.fixture
def shared(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A second namespace, with loaders of its own."""
    name = f"{namespace}-shared"
    control_plane.create_namespace(name)
    yield name
    control_plane.delete_namespace(name)


def reader(stage: Stage, name: str) -> Object:
    """Return a pod of the example's server: it needs the model in the node's cache."""
    (deployment,) = example("node-cache.yaml", stage.namespace, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    spec["schedulerName"] = stage.scheduler
    for container in spec["containers"]:
        container["resources"] = {"requests": {"memory": "64Mi", "cpu": "10m"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_the_one_node_that_is_right_is_asked_about_alone(stage: Stage, shared: str) -> None:
    """A namespace that is trusted now lets the pod go: of that, kube-scheduler sees nothing."""
    control_plane = stage.control_plane
    control_plane.add_nodes([f"sure-{number}" for number in range(5)], ROOM)
    control_plane.start_scheduler(name="default-scheduler")  # for the loaders
    load(control_plane, stage.namespace, 5)
    others = load(control_plane, shared, 5)
    finish(control_plane, shared, others["sure-3"])
    stage.schedule()
    control_plane.apply(reader(stage, "a"), stage.namespace)
    stage.wait_said("a", TEXTS[Reason.MODEL_LOADING])
    before = stage.decisions("a", "filter")
    assert before[-1]["asked"] == 5
    control_plane.kubectl("label", "namespace", shared, TRUSTED)
    stage.wait_bound("a")
    assert stage.node_of("a") == "sure-3"
    asked = [made["asked"] for made in stage.decisions("a", "filter")[len(before) :]]
    assert asked == [1]
    assert stage.decisions("a", "prioritize") == []
    counted = ('wakes_total{result="nominated"} 1.0', 'retries_total{by="woken"} 1.0')
    control_plane.wait_for(  # they are counted after what kube-scheduler sees
        lambda: all(each in stage.extender.get("/metrics")[1] for each in counted),
        10,
        " and ".join(counted),
    )


def nominate(stage: Stage, name: str, node: str) -> None:
    patch = json.dumps({"status": {"nominatedNodeName": node}})
    stage.control_plane.kubectl(
        "patch", "pod", name, "-n", stage.namespace, "--subresource=status", f"-p={patch}"
    )


def test_a_wrong_nomination_costs_one_call_and_is_cleared(stage: Stage) -> None:
    """The node is full for the pod: kube-scheduler goes on with all nodes, and forgets the name."""
    control_plane = stage.control_plane
    control_plane.add_nodes(["wrong-1", "wrong-2"], ROOM)
    control_plane.apply([taker(name, "60Gi") for name in ("wrong-1", "wrong-2")], stage.namespace)
    stage.schedule()
    stage.pod("a", ram="20Gi")
    stage.wait_said("a", TEXTS[Reason.INSUFFICIENT_MEMORY])
    before = len(stage.decisions("a", "filter"))
    nominate(stage, "a", "wrong-1")
    control_plane.wait_for(
        lambda: len(stage.decisions("a", "filter")) > before and not stage.nominated("a"),
        30,
        "kube-scheduler to have asked about the node and to have cleared the name",
    )
    asked = [made["asked"] for made in stage.decisions("a", "filter")[before:]]
    assert asked[0] == 1
    assert len(asked) <= 4
    assert stage.node_of("a") is None
    stage.pod("b", ram="2Gi")  # what the nomination kept is free again for everybody
    stage.wait_bound("b")


def test_a_nomination_that_kube_scheduler_would_keep_for_good_keeps_nobody_out(
    stage: Stage,
) -> None:
    """It clears one where it finds nobody to evict, not where no eviction is worth it.

    It would count the pod on that node against all others of no higher priority.
    """
    control_plane = stage.control_plane
    control_plane.add_nodes(["stays-1", "stays-2"], ROOM)
    control_plane.apply([taker(name, "60Gi") for name in ("stays-1", "stays-2")], stage.namespace)
    stage.schedule()
    stage.pod("low", cpu="3500m", priority=f"low-{stage.namespace}", node="stays-2")
    stage.wait_bound("low")
    stage.pod("high", ram="20Gi", cpu="1", priority=f"high-{stage.namespace}")
    stage.wait_said("high", TEXTS[Reason.INSUFFICIENT_MEMORY])
    nominate(stage, "high", "stays-1")
    stage.pod("other", cpu="3500m")
    stage.wait_bound("other")
    assert stage.node_of("other") == "stays-1"
    assert stage.nominated("high") == ""
    assert stage.node_of("high") is None
    assert stage.node_of("low") == "stays-2"
    assert all(made["passed"] == 0 for made in stage.decisions("high", "preempt"))
