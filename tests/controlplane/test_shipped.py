"""What is shipped besides the usual way: every folder, each account's own rights, shadow mode."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from extender.watch.client import connect
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import (
    MINOR,
    ROOT,
    SCHEDULER,
    Object,
    deploy,
    example,
    finish,
    kustomized,
    load,
    opted_in,
    places,
    scheduler_config,
    volume,
    wait_for_pods,
)

FOLDERS = sorted(
    str(path.parent.relative_to(ROOT))
    for path in (ROOT / "deploy").rglob("kustomization.yaml")
    if path.parent.name not in {"base", "common", "write"}
)
NEEDS_MUTATING_POLICIES = {"deploy/opt-in", "deploy/opt-in-models", "deploy/pod-level-request"}
OPERATOR = "monitoring.coreos.com"
"""The group of the Prometheus operator: its kinds are made known, what they hold is not read."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_accepted_as_it_stands(control_plane: ControlPlane, folder: str) -> None:
    documents = [found for found in yaml.safe_load_all(kustomized(control_plane, folder)) if found]
    if folder in NEEDS_MUTATING_POLICIES and MINOR < 36:
        documents = [found for found in documents if "Mutating" not in found["kind"]]
    for found in documents:
        if found["kind"] in {"Deployment", "DaemonSet"}:
            # Folders are alternatives to each other, and another test may have applied one of them.
            found["metadata"]["name"] += "-tried"
    operators = {found["kind"] for found in documents if found["apiVersion"].startswith(OPERATOR)}
    for kind in sorted(operators):
        make_known(control_plane, kind)
    spaces = [found for found in documents if found["kind"] == "Namespace"]
    rest = [found for found in documents if found["kind"] != "Namespace"]
    if spaces:
        control_plane.apply(spaces)
    if rest:
        text = "\n---\n".join(json.dumps(found) for found in rest)
        control_plane.kubectl("apply", "--dry-run=server", "-f", "-", input=text)


def make_known(control_plane: ControlPlane, kind: str) -> None:
    """Let the apiserver take objects of one of the Prometheus operator's kinds."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    control_plane.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{OPERATOR}"},
            "spec": {
                "group": OPERATOR,
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
            },
        }
    )
    control_plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{OPERATOR}")


def account(control_plane: ControlPlane, namespace: str, *roles: str) -> Path:
    """Return a kubeconfig of an account that holds some of the shipped roles and nothing else."""
    subject = {"kind": "ServiceAccount", "name": "narrow", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    bindings: list[Object] = [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{role}-{namespace}"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }
        for role in roles
    ]
    control_plane.kubectl("create", "serviceaccount", "narrow", "-n", namespace)
    control_plane.apply(bindings)
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "narrow")
    granted = [control_plane.get_json("clusterrole", role)["rules"] for role in roles]
    control_plane.wait_for(
        lambda: as_rights(rule for rules in granted for rule in rules) <= held(kubeconfig),
        30,
        "the apiserver to heed the rights that were granted",
    )
    return kubeconfig


Right = tuple[frozenset[str], frozenset[str], frozenset[str]]


def held(kubeconfig: Path) -> set[Right]:
    """Return what an account may do, as the apiserver that it asks knows by now."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    answer = connect(str(kubeconfig)).request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        body=json.dumps({**review, "spec": {"namespace": "default"}}).encode(),
    )
    return as_rights(json.loads(answer.body)["status"]["resourceRules"]) if answer.ok else set()


def as_rights(rules: Iterable[Object]) -> set[Right]:
    """Return rules of a role in a form in which their order does not matter."""
    names = ("verbs", "apiGroups", "resources")
    found = ([frozenset(rule.get(name, ())) for name in names] for rule in rules)
    return {(verbs, groups, resources) for verbs, groups, resources in found if resources}


def test_the_extenders_own_roles_are_all_it_needs_to_place_and_wake(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing  # the roles are applied with it
    control_plane.add_nodes(["narrow-1", "narrow-2"])
    narrow = account(control_plane, namespace, "model-cache-extender", "model-cache-extender-write")
    extender = control_plane.start_extender(kubeconfig=narrow)
    config = scheduler_config(extender.url)
    config["profiles"] = [{"schedulerName": f"{SCHEDULER}-{namespace}"}]
    control_plane.start_scheduler(config, name=namespace)
    loaders = load(control_plane, namespace, 2)
    (server,) = example("node-cache.yaml", namespace, "Deployment")
    server["spec"]["replicas"] = 1
    server["spec"]["template"]["spec"]["schedulerName"] = f"{SCHEDULER}-{namespace}"
    control_plane.apply(server)
    app = server["metadata"]["name"]
    control_plane.wait_for(
        lambda: 'waiting_pods_by_reason{reason="ModelLoading"} 1.0' in extender.get("/metrics")[1],
        30,
        "the pod to be refused",
    )
    finish(control_plane, namespace, loaders["narrow-2"])
    wait_for_pods(control_plane, namespace, app, 1)
    assert places(control_plane, namespace, app) == ["narrow-2"]
    assert 'model_cache_extender_wakes_total{result="failed"} 0.0' in extender.get("/metrics")[1]


def test_shadow_mode_with_read_rights_alone_says_what_would_have_gone_elsewhere(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing
    control_plane.add_nodes(["shadow-cold", "shadow-warm"])
    loaders = load(control_plane, namespace, 2)
    finish(control_plane, namespace, loaders["shadow-warm"])
    narrow = account(control_plane, namespace, "model-cache-extender")
    extender = control_plane.start_extender("--observe", kubeconfig=narrow)
    (server,) = example("node-cache.yaml", namespace, "Deployment")
    server["spec"]["replicas"] = 1
    spec = server["spec"]["template"]["spec"]
    # As the default scheduler might: it does not know better.
    spec["nodeSelector"] = {"kubernetes.io/hostname": "shadow-cold"}
    spec["schedulerName"] = "default-scheduler"
    control_plane.apply(server)
    wait_for_pods(control_plane, namespace, server["metadata"]["name"], 1)
    control_plane.wait_for(
        lambda: json.loads(extender.get("/api/v1/observations")[1])["report"]["refused"] == 1,
        20,
        "the report to say that the pod was sent to a node without its model",
    )
    (seen,) = json.loads(extender.get("/api/v1/observations")[1])["observations"]
    assert (seen["node"], seen["reason"]) == ("shadow-cold", "ModelLoading")
    metadata = {"PodNamespace": namespace, "PodName": "x", "PodUID": "u", "Node": "shadow-warm"}
    assert "without a cluster to bind in" in extender.post("/bind", metadata)[1]["Error"]


def test_a_claims_pods_stay_where_its_volume_can_be_mounted_and_prefer_where_it_is_read(
    control_plane: ControlPlane, inference: str
) -> None:
    zones = {"far-1": "far", "near-1": "near", "near-2": "near", "near-3": "near"}
    for name, where in zones.items():
        control_plane.add_nodes([name], labels={"topology.kubernetes.io/zone": where})
    store = volume(f"pv-{inference}")
    near = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["near"]}
    store["spec"]["nodeAffinity"] = {
        "required": {"nodeSelectorTerms": [{"matchExpressions": [near]}]}
    }
    (claim,) = example("shared-volume.yaml", inference, "PersistentVolumeClaim")
    claim["spec"].update(storageClassName="", volumeName=f"pv-{inference}")
    control_plane.apply([store, claim])
    app = deploy(control_plane, inference, "shared-volume.yaml")
    wait_for_pods(control_plane, inference, app, 1)
    (first,) = places(control_plane, inference, app)
    assert zones[first] == "near"
    deploy(control_plane, inference, "shared-volume.yaml", replicas=3)
    wait_for_pods(control_plane, inference, app, 3)
    assert places(control_plane, inference, app) == [first] * 3


if MINOR >= 36:  # image volumes are on by default from there

    def test_an_image_volumes_pod_goes_where_the_image_is(
        control_plane: ControlPlane, inference: str
    ) -> None:
        control_plane.add_nodes(["art-1", "art-2", "art-3"])
        (server,) = opted_in(example("image-volume.yaml", inference, "Deployment"))
        spec = server["spec"]["template"]["spec"]
        (image,) = [found["image"] for found in spec["volumes"] if "image" in found]
        images = [{"names": [image["reference"]], "sizeBytes": 16_000_000_000}]
        patch = json.dumps({"status": {"images": images}})
        control_plane.kubectl(
            "patch", "node", "art-2", "--subresource=status", "--type=merge", f"-p={patch}"
        )
        server["spec"]["replicas"] = 1
        control_plane.apply(server)
        app = server["metadata"]["name"]
        wait_for_pods(control_plane, inference, app, 1)
        assert places(control_plane, inference, app) == ["art-2"]
