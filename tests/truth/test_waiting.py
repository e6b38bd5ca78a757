"""Who waits in vain: one pod, one node, and everything that can stand between them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from extender.watch.resources import CLAIMS, DAEMON_SETS, JOBS, NODES, PODS, VOLUMES
from tests.truth.bindings import World
from tests.truth.memory import Object
from tests.truth.past import Sent
from tests.truth.waiting import InVain, Lists, in_vain

NOW = Sent(0.0, 0.0)
READER = "vllm"


def pod(name: str, gib: int, **spec: Any) -> Object:
    container = {"name": "main", "resources": {"requests": {"memory": f"{gib}Gi", "cpu": "1"}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}, "status": {}}


def ended(job: str, status: str) -> Object:
    return {
        "metadata": {"name": job},
        "status": {"conditions": [{"type": "Complete", "status": status}]},
    }


class Scene:
    """A node with a pod on it, and a pod that waits for it, which nothing keeps it from."""

    def __init__(self) -> None:
        self.world = World(3.0)
        self.world.loaded["n"].became(NOW, to=True)
        self.node: Object = {
            "metadata": {"name": "n"},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "10"},
            },
        }
        self.other = pod("other", 20, nodeName="n")
        self.meant: list[Object] = []
        volume = {"name": "v", "persistentVolumeClaim": {"claimName": "store"}}
        self.pod = pod("waits", 12, volumes=[volume])
        self.pod["spec"]["containers"][0]["name"] = READER
        self.claim: Object = {"metadata": {"name": "store"}, "status": {"phase": "Bound"}}
        self.job = ended("store", "True")

    def in_vain(self) -> list[InVain]:
        lists = Lists(
            nodes=[self.node],
            pods=[self.other, self.pod, *self.meant],
            claims=[self.claim],
            jobs=[self.job],
        )
        return in_vain([self.pod], lists, self.world, reads_cache=READER)


def test_a_pod_that_nothing_keeps_from_a_node_waits_in_vain() -> None:
    (found,) = Scene().in_vain()
    assert str(found) == "waits on n"
    kinds = (PODS, NODES, DAEMON_SETS, CLAIMS, VOLUMES, JOBS)
    assert found.kinds == {kind.path for kind in kinds}


def test_a_pod_of_memory_alone_needs_no_more_than_nodes_and_pods_to_be_known() -> None:
    scene = Scene()
    scene.pod = pod("waits", 12)
    (found,) = scene.in_vain()
    assert found.kinds == {PODS.path, NODES.path}


def _tmpfs(scene: Scene) -> None:
    memory = {"medium": "Memory", "sizeLimit": "1Gi"}
    scene.other["spec"]["volumes"] = [{"name": "ram", "emptyDir": memory}]


def _no_model(scene: Scene) -> None:
    scene.world.loaded["n"].became(NOW, to=False)


OBSTACLES: dict[str, Callable[[Scene], object]] = {
    "cordoned": lambda scene: scene.node["spec"].update(unschedulable=True),
    "tainted": lambda scene: scene.node["spec"].update(taints=[{"key": "x"}]),
    "not ready": lambda scene: scene.node["status"]["conditions"][0].update(status="Unknown"),
    "full by requests": lambda scene: scene.node["status"]["allocatable"].update(cpu="1500m"),
    "full by what pods may take": _tmpfs,
    "full of pods": lambda scene: scene.node["status"]["allocatable"].update(pods="1"),
    "without the model": _no_model,
    "the claim is not bound": lambda scene: scene.claim["status"].update(phase="Pending"),
    "the claim is not filled": lambda scene: scene.job["status"].clear(),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_pod_that_could_not_run_does_not_wait_in_vain(obstacle: str) -> None:
    scene = Scene()
    before = copy.deepcopy(scene.in_vain())
    OBSTACLES[obstacle](scene)
    assert before
    assert not scene.in_vain()


def test_without_any_loader_the_model_is_no_obstacle() -> None:
    scene = Scene()
    _no_model(scene)
    scene.world.owned.became(NOW, to=False)
    assert scene.in_vain()


def test_a_pod_that_has_ended_is_no_obstacle() -> None:
    scene = Scene()
    _tmpfs(scene)
    scene.other["status"]["phase"] = "Failed"
    assert scene.in_vain()


@pytest.mark.parametrize(
    ("gib", "leaves", "keeps_out"),
    [(8, False, True), (14, False, False), (24, True, True)],
    ids=["it has room", "it leads nowhere", "room is being made"],
)
def test_a_nomination_is_an_obstacle_where_it_leads_somewhere(
    gib: int, leaves: bool, keeps_out: bool
) -> None:
    scene = Scene()
    meant = pod("meant", gib)
    meant["status"]["nominatedNodeName"] = "n"
    scene.meant = [meant]
    if leaves:
        scene.other["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert bool(scene.in_vain()) is not keeps_out
