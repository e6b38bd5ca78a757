"""Loader and extender together: pods go where a model is proven, and nowhere else."""

from __future__ import annotations

import json
import secrets
from itertools import groupby
from time import time

import msgspec
import pytest

from extender.kube.times import unix_time
from extender.loader.proof.marker import read_marker
from extender.loader.proof.verdict import Level
from extender.placement.reasons import TEXTS, Reason
from tests.cli.program import run
from tests.controlplane.cluster import ALLOCATABLE, ControlPlane, fake_node
from tests.controlplane.loaders.kubelet import HOST_DIRECTORY
from tests.controlplane.loaders.scene import FILES, MODEL, NAME, PATH, SHARD, Reports, Scene
from tests.controlplane.shipped import LOADERS, places, wait_for_pods
from tests.loader.hub import Trouble
from tests.loader.loader_process import wait_for
from tests.loader.models import contents

SIZE = sum(map(len, FILES.values()))

pytestmark = pytest.mark.long


def damage(scene: Scene, node: str) -> None:
    """Change one byte of a shard in place, which changes nothing but its time and content."""
    with (scene.kubelet.directory(node) / NAME / SHARD).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))


def test_pods_go_where_a_model_is_proven_leave_out_a_damaged_node_and_come_back(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.catalog(MODEL | {"nodeSelector": {"cache": "here"}})
    scene.kubelet.add_nodes("proven-1", "proven-2", cache="here")
    scene.kubelet.add_nodes("bare-1")
    scene.wait_for_state("ready", "proven-1", "proven-2")
    said = scene.held("proven-1")
    assert (said["evidence"], said["bytes"]) == ("verified", SIZE)
    assert said["provenAt"] is not None
    admin = str(control_plane.kubeconfig())
    listed = run("inventory", "-o", "json", "--kubeconfig", admin).json()
    assert {
        node["name"]
        for node in listed["nodes"]
        for model in node["models"]
        if (model["path"], model["state"], model["evidence"]) == (PATH, "ready", "verified")
    } == {"proven-1", "proven-2"}

    app = scene.server(replicas=4)
    wait_for_pods(control_plane, scene.namespace, app, 4)
    assert set(places(control_plane, scene.namespace, app)) <= {"proven-1", "proven-2"}

    hub_answers = scene.hub_waits(SHARD)
    scene.hub.served.clear()
    damage(scene, "proven-1")
    scene.wait_for_state("failed", "proven-1")
    assert SHARD in scene.held("proven-1")["reason"]
    app = scene.server()
    wait_for_pods(control_plane, scene.namespace, app, 1)
    assert places(control_plane, scene.namespace, app) == ["proven-2"]

    damage(scene, "proven-2")
    scene.wait_for_state("failed", "proven-2")
    app = scene.server()
    scene.wait_said(app, TEXTS[Reason.MODEL_FAILED])
    assert places(control_plane, scene.namespace, app) == [""]

    hub_answers.set()
    wait_for_pods(control_plane, scene.namespace, app, 1)
    scene.wait_for_state("ready", "proven-1", "proven-2")
    assert {one.path for one in scene.hub.served} == {SHARD}
    for node in ("proven-1", "proven-2"):
        assert contents(scene.kubelet.directory(node) / NAME) == FILES


def test_a_report_that_somebody_takes_off_the_pod_comes_back_with_no_change_of_state(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.kubelet.add_nodes("told-1")
    scene.wait_for_state("ready", "told-1")
    selector = ("-n", LOADERS, "--all")
    control_plane.kubectl("annotate", "pods", *selector, "modelcache.dev/report-")
    scene.wait_for_state("stale", "told-1")
    scene.wait_for_state("ready", "told-1")


def is_being_read(scene: Scene, node: str) -> bool:
    """Tell whether the slow proof on a node is between the first file of a model and the last."""
    cursor = scene.kubelet.directory(node) / ".modelcache" / "rereading.json"
    return cursor.exists() and bool(json.loads(cursor.read_text()).get("path"))


def proven_at(scene: Scene, node: str) -> str:
    """Return when all bytes of the model were read last, as its marker says."""
    marker = read_marker(scene.kubelet.directory(node) / NAME)
    assert marker is not None
    assert marker.level is Level.CONTENT
    return marker.proven_at


class Rolled(msgspec.Struct):
    """What was seen meanwhile: what the extender said and why, and loader processes on one node.

    ``holders``: of each node's Lease, one after another.
    """

    said: dict[str, str] = {}
    at_once: int = 0
    holders: dict[str, list[str]] = {}


def roll(
    control_plane: ControlPlane, scene: Scene, nodes: tuple[str, ...], **bounds: int
) -> Rolled:
    """Replace the loaders of these nodes within the bounds of a rolling update."""
    wait_for(lambda: all(scene.kubelet.ready(node) for node in nodes))
    before = {scene.kubelet.ready(node) for node in nodes}
    template = {"metadata": {"annotations": {"test.modelcache.dev/roll": secrets.token_hex(4)}}}
    spec = {"template": template, "updateStrategy": {"rollingUpdate": bounds}}
    where = ("daemonset", "model-cache-loader", "-n", LOADERS)
    control_plane.kubectl("patch", *where, f"-p={json.dumps({'spec': spec})}")
    seen = Rolled()

    def rolled() -> bool:
        held = [scene.held(node) for node in nodes]
        seen.said.update((str(one.get("state")), str(one.get("reason"))) for one in held)
        for lease in control_plane.get_json("leases", "-n", LOADERS)["items"]:
            held_by = seen.holders.setdefault(lease["metadata"]["name"], [""])
            holder = lease["spec"].get("holderIdentity", "")
            if holder and holder != held_by[-1]:
                held_by.append(holder)
        seen.at_once = max(seen.at_once, *(scene.kubelet.loaders(node) for node in nodes))
        return before.isdisjoint(now := {scene.kubelet.ready(node) for node in nodes}) and all(now)

    control_plane.wait_for(rolled, 180, "the loaders to be replaced", poll=0.05)
    scene.wait_for_state("ready", *nodes)
    return seen


def test_while_loaders_are_replaced_what_they_hold_is_never_called_absent(
    control_plane: ControlPlane, scene: Scene
) -> None:
    nodes = ("rolled-1", "rolled-2")
    scene.kubelet.add_nodes(*nodes)
    scene.wait_for_state("ready", *nodes)
    proven = {node: proven_at(scene, node) for node in nodes}
    scene.catalog(MODEL, limits={"proofBytesPerSecond": "2k"})
    for node in nodes:
        scene.kubelet.restart(node)  # a new loader reads everything again, here in 200 seconds
    wait_for(lambda: all(is_being_read(scene, node) for node in nodes))

    one_after_another = roll(control_plane, scene, nodes, maxSurge=0, maxUnavailable=1)
    assert one_after_another.said.keys() == {"ready", "stale"}  # the update was seen at all
    overlapping = roll(control_plane, scene, nodes, maxSurge=1, maxUnavailable=0)
    assert overlapping.at_once == 2
    assert overlapping.said.keys() == {"ready"}, overlapping
    for holders in overlapping.holders.values():  # each had it once, and gave it on
        assert len(holders) == len(set(holders)), overlapping.holders

    assert all(is_being_read(scene, node) for node in nodes)
    scene.catalog(MODEL)
    wait_for(lambda: all(proven_at(scene, node) > proven[node] for node in nodes))
    assert {scene.state(node) for node in nodes} == {"ready"}
    app = scene.server()
    wait_for_pods(control_plane, scene.namespace, app, 1)


def test_copies_are_held_by_nodes_that_have_a_loader(
    control_plane: ControlPlane, scene: Scene
) -> None:
    """Of five nodes that the catalog allows, three have a taint that keeps the loader away."""
    scene.catalog()
    nodes = ("copied-1", "copied-2")
    for number in (1, 2, 3):
        tainted = fake_node(f"tainted-{number}", dict(ALLOCATABLE), {"copies": "here"})
        tainted["spec"] = {"taints": [{"key": "no-loader", "effect": "NoSchedule"}]}
        control_plane.kubectl("create", "-f", "-", input=json.dumps(tainted))
        control_plane.nodes.append(f"tainted-{number}")
    scene.kubelet.add_nodes(*nodes, copies="here")
    for node in nodes:
        scene.kubelet.process(node)
    scene.catalog(MODEL | {"copies": len(nodes), "nodeSelector": {"copies": "here"}})
    scene.wait_for_state("ready", *nodes)


def test_a_model_that_left_the_catalog_is_reported_until_it_goes_and_gone_before_it_is_removed(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.kubelet.add_nodes("left-1")
    scene.wait_for_state("ready", "left-1")
    app = scene.server()
    wait_for_pods(control_plane, scene.namespace, app, 1)
    with Reports(control_plane) as reports:
        scene.catalog(graceSeconds=0)
        control_plane.wait_for(
            lambda: scene.held("left-1").get("leavesAt"), 30, "the time at which it goes"
        )
        assert scene.state("left-1") == "ready"
        late = scene.server()
        scene.wait_said(late, TEXTS[Reason.MODEL_ABSENT])  # nobody new is sent to what goes
        assert (scene.kubelet.directory("left-1") / NAME / SHARD).is_file()
        scene.end(app)
        wait_for(lambda: not (scene.kubelet.directory("left-1") / NAME).exists())
        assert "ready" not in scene.reported("left-1")  # by then, whatever a watch has told yet

        def told() -> list[list[str]]:
            reported = [[m["state"] for m in one.get("models", ())] for one in reports.written]
            return [states for states, _ in groupby(reported)]

        wait_for(lambda: len(told()) >= 2)
    assert told()[:2] == [["ready"], ["absent"]]
    wait_for(lambda: scene.state("left-1") in {"absent", "None"})
    assert places(control_plane, scene.namespace, late) == [""]


def test_a_download_shows_on_the_lease_and_writes_the_pod_only_when_a_state_changes(
    control_plane: ControlPlane, scene: Scene
) -> None:
    renewals: set[str] = set()
    told: list[str] = []
    with Reports(control_plane) as reports:
        # The hub says what there is once the first report is out, so that nothing overtakes it.
        first = Trouble(meanwhile=lambda: wait_for(lambda: bool(reports.written)))
        scene.hub.troubles["info"] = [first]
        hub_answers = scene.hub_waits(SHARD)
        scene.kubelet.add_nodes("slow-1")
        app = scene.server()

        def shown() -> bool:
            held = scene.held("slow-1")
            if held.get("state") == "loading" and held["progress"] is not None:
                renewals.add(scene.lease("slow-1")["spec"]["renewTime"])
                nodes = scene.explained(app)["nodes"]
                told.extend(node["message"] for node in nodes if node["name"] == "slow-1")
            return len(renewals) >= 2 and any(" % of " in message for message in told)

        control_plane.wait_for(shown, 90, "progress, and two renewals of the Lease meanwhile")
        hub_answers.set()
        wait_for_pods(control_plane, scene.namespace, app, 1)
        wait_for(lambda: len(reports.written) >= 3)  # this watch may be behind the extender's
    states = [[model["state"] for model in report["models"]] for report in reports.written]
    assert states == [["absent"], ["loading"], ["ready"]]

    lease = scene.lease("slow-1")
    (owner,) = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Node", "slow-1")
    scene.kubelet.die("slow-1")
    control_plane.delete_nodes(["slow-1"])
    control_plane.wait_for(
        lambda: not control_plane.kubectl("get", "lease", "-n", LOADERS, "-o=name"),
        40,
        "the Lease to go with its node",
    )


def test_a_loader_that_died_is_believed_for_as_long_as_its_lease_lasts(
    control_plane: ControlPlane, scene: Scene
) -> None:
    scene.kubelet.add_nodes("dead-1")
    scene.wait_for_state("ready", "dead-1")
    before = scene.lease("dead-1")["spec"]["renewTime"]
    control_plane.wait_for(
        lambda: scene.lease("dead-1")["spec"]["renewTime"] != before, 60, "a renewal of the Lease"
    )
    scene.kubelet.die("dead-1")
    last = scene.lease("dead-1")["spec"]
    ends = (unix_time(last["renewTime"]) or 0.0) + last["leaseDurationSeconds"]
    believed: list[str] = []

    def stale() -> bool:
        state = scene.state("dead-1")
        if time() < ends:
            believed.append(state)
        return state == "stale"

    control_plane.wait_for(stale, 60, "its Lease to run out")
    assert set(believed) == {"ready"}
    assert "no sign of life" in scene.held("dead-1")["reason"]
    assert (scene.kubelet.directory("dead-1") / NAME / SHARD).is_file()
    assert scene.held("dead-1")["path"].startswith(HOST_DIRECTORY)
