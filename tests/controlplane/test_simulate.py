"""``simulate`` against what the real scheduler does with the same pods in the same cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import yaml

from tests.cli.program import start
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import example, finish, load, opted_in, places, pods, said

REPLICAS = 5


def test_as_many_are_placed_for_real_and_on_the_same_nodes(
    control_plane: ControlPlane, inference: str, tmp_path: Path
) -> None:
    """Two nodes hold the model; one of them is cordoned for the time being."""
    resources = {"cpu": "32", "memory": "64Gi", "pods": "110"}
    for name in ("sim-warm", "sim-cordoned", "sim-cold"):
        control_plane.add_nodes([name], resources)
    loaders = load(control_plane, inference, 3)
    for name in ("sim-warm", "sim-cordoned"):
        finish(control_plane, inference, loaders[name])
    control_plane.kubectl("cordon", "sim-cordoned")
    (server,) = opted_in(example("node-cache.yaml", inference, "Deployment"))
    server["spec"]["replicas"] = REPLICAS
    (container,) = server["spec"]["template"]["spec"]["containers"]
    container["resources"] = {"requests": {"cpu": "9", "memory": "8Gi"}}
    manifest = tmp_path / "server.yaml"
    manifest.write_text(yaml.safe_dump(server))
    done = start(
        "simulate", "-f", manifest, "--kubeconfig", control_plane.kubeconfig(), "-o", "json"
    )
    document = done.json()
    foreseen = Counter(one["node"] for one in document["placements"])
    assert (done.code, document["waiting"]) == (1, REPLICAS - document["placed"])
    assert foreseen == {"sim-warm": 3}
    refused = {one["name"]: one["message"] for one in document["waits"]["nodes"]}
    assert refused["sim-warm"].startswith("Insufficient cpu; lacks ")
    assert refused["sim-cordoned"].startswith("node is cordoned; kubectl uncordon sim-cordoned")
    assert refused["sim-cold"].startswith("node cache is still loading the model")
    assert explained(control_plane, "-f", manifest) == {
        "sim-warm": (None, None),
        "sim-cordoned": ("kube-scheduler", "NodeCordoned"),
        "sim-cold": ("extender", "ModelLoading"),
    }
    control_plane.apply(server)
    app = str(server["metadata"]["name"])
    control_plane.wait_for(
        lambda: (
            len(nodes := places(control_plane, inference, app)) == REPLICAS
            and nodes.count("") == REPLICAS - sum(foreseen.values())
        ),
        30,
        "the real pods to be placed",
    )
    bound = [node for node in places(control_plane, inference, app) if node]
    assert Counter(bound) == foreseen
    # A pod that waits is told the same as kube-scheduler says of it.
    waits = next(p for p in pods(control_plane, inference, app) if not p["spec"].get("nodeName"))
    name = waits["metadata"]["name"]
    assert explained(control_plane, name, "-n", inference) == {
        "sim-warm": ("kube-scheduler", "InsufficientResources"),
        "sim-cordoned": ("kube-scheduler", "NodeCordoned"),
        "sim-cold": ("extender", "ModelLoading"),
    }
    control_plane.wait_for(
        lambda: "1 Insufficient cpu" in said(control_plane, inference, app),
        30,
        "kube-scheduler to say what lacks",
    )


def explained(control_plane: ControlPlane, *asked: str | Path) -> dict[str, tuple[str, str]]:
    """Return who refuses a pod on which node, and for what."""
    done = start("explain", *asked, "--kubeconfig", control_plane.kubeconfig(), "-o", "json")
    answers = done.json()["nodes"]
    return {answer["name"]: (answer["refusedBy"], answer["reason"]) for answer in answers}
