"""Fetched because a pod waits for it, by both sides for real: asked for, fetched, gone to."""

from __future__ import annotations

from typing import Any

import pytest

from extender.report import WANTED_ANNOTATION
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.loaders.scene import MODEL, NAME, SHARD, Scene
from tests.controlplane.shipped import places, wait_for_pods

ON_DEMAND = MODEL | {"onDemand": True}

pytestmark = pytest.mark.long


def wanted(scene: Scene, node: str) -> str:
    annotations: dict[str, Any] = scene.lease(node)["metadata"]["annotations"]
    return str(annotations.get(WANTED_ANNOTATION, ""))


def test_a_pod_has_its_model_fetched_where_it_can_run_though_both_sides_are_restarted(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.catalog(ON_DEMAND)
    hub_answers = scene.hub_waits(SHARD)
    scene.kubelet.add_nodes("fetches-1")
    scene.wait_for_state("absent", "fetches-1")
    app = scene.server()
    scene.wait_said(app, "is being fetched on fetches-1")
    scene.wait_for_state("loading", "fetches-1")
    assert app in wanted(scene, "fetches-1")
    assert places(control_plane, scene.namespace, app) == [""]

    scene.extender.stop()
    scene.kubelet.restart("fetches-1")
    scene.extender.start()
    hub_answers.set()
    wait_for_pods(control_plane, scene.namespace, app, 1)
    assert places(control_plane, scene.namespace, app) == ["fetches-1"]
    assert scene.held("fetches-1")["evidence"] == "verified"
    control_plane.wait_for(lambda: not wanted(scene, "fetches-1"), 30, "the wish to be taken back")
    assert scene.state("fetches-1") == "ready"  # it stays until its room is needed


def test_a_catalog_that_switches_it_off_ends_a_download_that_a_pod_asked_for(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.catalog(ON_DEMAND)
    scene.hub_waits(SHARD)
    scene.kubelet.add_nodes("allowed-1")
    app = scene.server()
    scene.wait_for_state("loading", "allowed-1")
    scene.catalog(ON_DEMAND, onDemand=False)
    scene.wait_for_state("absent", "allowed-1")
    assert not (scene.kubelet.directory("allowed-1") / NAME / SHARD).exists()
    scene.wait_said(app, "no node")
    assert places(control_plane, scene.namespace, app) == [""]
