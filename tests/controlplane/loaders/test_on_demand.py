"""Fetched because a pod waits for it, by both sides for real: asked for, fetched, gone to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from extender.placement.reasons import TEXTS, Reason
from extender.report import WANTED_ANNOTATION
from extender.serving.fetching import TICK_SECONDS
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.loaders.scene import FILES, MODEL, NAME, SHARD, Scene
from tests.controlplane.shipped import SYSTEM, places, wait_for_pods
from tests.loader.hub import Repository
from tests.loader.loader_process import wait_for
from tests.loader.models import contents, small_model

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


def test_what_a_pod_reads_is_not_let_go_for_what_another_pod_waits_for(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.hub.repositories["org/other"] = Repository(files=small_model(seed=1), large=500)
    spare = {"name": "spare", "source": "hf://org/other"}
    other = {"name": "other", "source": "hf://org/other", "onDemand": True, "priority": 1}
    scene.catalog(MODEL, spare)
    scene.kubelet.add_nodes("full-1")
    scene.wait_for_state("ready", "full-1")
    reader = scene.server()
    wait_for_pods(control_plane, scene.namespace, reader, 1)
    here = scene.kubelet.directory("full-1")
    wait_for((here / "spare" / SHARD).exists)

    # The disk is fuller than it may be, whatever goes. What the catalog wishes for goes only for
    # what is more important.
    full = {"highPercent": 0.001, "lowPercent": 0.0001, "reserve": 0}
    scene.catalog(spare, other, watermarks=full)
    waiting = scene.server(model="other")
    wait_for_pods(control_plane, scene.namespace, waiting, 1)
    assert places(control_plane, scene.namespace, waiting) == ["full-1"]
    events = scene.kubelet.process("full-1").events
    assert [e["model"] for e in events if e["event"] == "model removed"] == ["spare"]
    assert scene.state("full-1") == "ready"
    assert contents(here / NAME) == FILES

    scene.end(reader)
    wait_for(lambda: not (here / NAME).exists())  # nothing else had kept it
    assert contents(here / "other") == small_model(seed=1)


def test_an_extender_that_is_told_not_to_asks_no_loader(
    control_plane: ControlPlane, scene: Scene, tmp_path: Path
) -> None:
    scene.catalog(ON_DEMAND)
    scene.kubelet.add_nodes("quiet-1")
    scene.wait_for_state("absent", "quiet-1")
    head = {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ExtenderConfiguration"}
    file = tmp_path / "extender.yaml"
    file.write_text(json.dumps({**head, "loaders": {"onDemand": False}}))
    account = control_plane.kubeconfig_for_service_account(SYSTEM, "model-cache-extender")
    scene.extender.stop()
    port = int(scene.extender.url.rpartition(":")[2])
    quiet = control_plane.start_extender(f"--config={file}", kubeconfig=account, port=port)
    app = scene.server()
    scene.wait_said(app, TEXTS[Reason.MODEL_ABSENT])
    time.sleep(3 * TICK_SECONDS)
    assert not wanted(scene, "quiet-1")
    assert scene.state("quiet-1") == "absent"

    control_plane.stop_process(quiet)
    scene.extender.start()
    control_plane.wait_for(
        lambda: scene.extender.get("/readyz")[0] == 200, 60, "the extender that may ask"
    )
    wait_for_pods(control_plane, scene.namespace, app, 1)
    assert places(control_plane, scene.namespace, app) == ["quiet-1"]


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
