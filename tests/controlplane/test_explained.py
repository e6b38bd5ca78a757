"""``explain`` beside what the real kube-scheduler does with the same pods, live and dumped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.snapshot import DUMP_COMMAND
from tests.cli.program import start
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import scheduler_config

ZONE = "topology.kubernetes.io/zone"
NODES = ("claims-a", "claims-b")
Object = dict[str, Any]
SIZE = {"storage": "1Gi"}
NOWHERE: frozenset[str] = frozenset()


def storage_class(name: str, provisioner: str, zone: str = "", mode: str = "") -> Object:
    topologies = [{"matchLabelExpressions": [{"key": ZONE, "values": [zone]}]}]
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": mode or "WaitForFirstConsumer",
        **({"allowedTopologies": topologies} if zone else {}),
    }


CLASSES = [
    storage_class("claims-late-b", "disk.example", zone="b"),
    storage_class("claims-at-once", "disk.example", mode="Immediate"),
    storage_class("claims-local", "kubernetes.io/no-provisioner"),
    storage_class("claims-no-disk", "kubernetes.io/no-provisioner"),
]


def claim(name: str, storage_class: str = "", volume: str = "") -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": SIZE},
        "storageClassName": storage_class,
    }
    if volume:
        spec["volumeName"] = volume
    metadata = {"name": name}
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec
    }  # fmt: skip


def volume(name: str, *, zone: str = "", label: str = "", storage_class: str = "") -> Object:
    terms = [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {ZONE: label} if label else {}},
        "spec": {
            "capacity": SIZE,
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "csi": {"driver": "disk.example", "volumeHandle": name},
            **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if zone else {}),
        },
    }


CASES: dict[str, tuple[list[Object], frozenset[str], str]] = {
    "missing": ([], NOWHERE, "ClaimMissing"),
    "tied": (
        [volume("claims-pv-tied", zone="b"), claim("tied", volume="claims-pv-tied")],
        frozenset({"claims-b"}), "ClaimUnreachable",
    ),
    "labelled": (
        [volume("claims-pv-labelled", label="b"), claim("labelled", volume="claims-pv-labelled")],
        frozenset({"claims-b"}), "ClaimUnreachable",
    ),
    "at-once": ([claim("at-once", "claims-at-once")], NOWHERE, "ClaimNotBound"),
    "no-class": ([claim("no-class", "claims-of-nobody")], NOWHERE, "ClaimNotBound"),
    "local": (
        [volume("claims-pv-local", zone="b", storage_class="claims-local"),
         claim("local", "claims-local")],
        frozenset({"claims-b"}), "ClaimUnreachable",
    ),
    "local-none": ([claim("local-none", "claims-no-disk")], NOWHERE, "ClaimUnreachable"),
    "made-in-b": (
        [claim("made-in-b", "claims-late-b")], frozenset({"claims-b"}), "ClaimUnreachable",
    ),
}  # fmt: skip
"""Claims by name: their objects, the nodes that a pod can go to, and why it cannot to others."""


def pod(name: str) -> Object:
    container = {"name": "c", "image": "busybox:1.37", "resources": {"requests": {"cpu": "1m"}}}
    source = {"claimName": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "v", "persistentVolumeClaim": source}],
            "nodeSelector": {"claims": "true"},
        },
    }


def of_its_own(objects: list[Object], namespace: str) -> list[Object]:
    """Return objects with volumes that no other namespace's claims have had."""
    found: list[Object] = json.loads(json.dumps(objects).replace("claims-pv-", f"{namespace}-pv-"))
    return found


@pytest.fixture
def claims(control_plane: ControlPlane, placing: Extender, namespace: str) -> str:
    """A namespace with the claims, beside two nodes in two zones."""
    _ = placing  # its default scheduler places the pods
    for name in NODES:
        control_plane.add_nodes([name], labels={ZONE: name[-1], "claims": "true"})
    control_plane.apply(CLASSES)
    for objects, _, _ in CASES.values():
        if objects:
            control_plane.apply(of_its_own(objects, namespace), namespace)

    def bound() -> bool:
        found = control_plane.get_json("persistentvolumeclaims", "-n", namespace)["items"]
        phases = {one["metadata"]["name"]: one["status"]["phase"] for one in found}
        return [phases["tied"], phases["labelled"]] == ["Bound", "Bound"]

    control_plane.wait_for(bound, 60, "the claims that name a volume to be bound")
    return namespace


def test_a_claims_pod_goes_where_explain_says_and_nowhere_else(
    control_plane: ControlPlane, claims: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "pods.yaml"
    asked = [{**pod(name), "metadata": {"name": name, "namespace": claims}} for name in CASES]
    manifest.write_text(yaml.safe_dump_all(asked))
    live = told("-f", manifest, "--kubeconfig", control_plane.kubeconfig())
    assert live == {name: expected(name) for name in CASES}
    dump = tmp_path / "cluster.yaml"
    command = DUMP_COMMAND.removeprefix("kubectl ").split()
    dump.write_text(control_plane.kubectl(*command))
    assert told("-f", manifest, "--snapshot", dump) == live
    control_plane.apply(asked)
    control_plane.wait_for(
        lambda: all(is_settled(control_plane, claims, name) for name in CASES),
        120,
        "kube-scheduler to choose a node for each pod, or to refuse it",
    )
    for name, (_, fits, _) in CASES.items():
        if not fits:
            assert control_plane.pod_node(claims, name) is None, name
            waits = told(name, "-n", claims, "--kubeconfig", control_plane.kubeconfig())
            assert waits == {name: expected(name)}


def test_a_pod_of_a_statefulset_goes_where_its_own_claim_is(
    control_plane: ControlPlane, claims: str, tmp_path: Path
) -> None:
    """Its first claim is there already, bound in one zone."""
    there = [volume("claims-pv-set", zone="b"), claim("v-set-0", volume="claims-pv-set")]
    control_plane.apply(of_its_own(there, claims), claims)
    template = pod("set")
    del template["spec"]["volumes"]
    labels = {"app": "set"}
    stateful = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "set", "namespace": claims},
        "spec": {
            "replicas": 1,
            "serviceName": "set",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
            "volumeClaimTemplates": [
                {"metadata": {"name": "v"}, "spec": claim("v", "")["spec"]},
            ],
        },
    }
    manifest = tmp_path / "set.yaml"
    manifest.write_text(yaml.safe_dump(stateful))
    control_plane.wait_for(
        lambda: (
            control_plane.get_json("persistentvolumeclaim", "v-set-0", "-n", claims)["status"][
                "phase"
            ]
            == "Bound"
        ),
        60,
        "the set's claim to be bound",
    )
    live = told("-f", manifest, "--kubeconfig", control_plane.kubeconfig())
    assert live == {"set": {"claims-a": "ClaimUnreachable", "claims-b": None}}
    control_plane.apply(stateful)
    control_plane.wait_for(
        lambda: control_plane.pod_node(claims, "set-0") == "claims-b",
        60,
        "the set's first pod to be where its claim is",
    )


def test_what_its_scheduler_could_not_ask_is_told_in_its_words(
    control_plane: ControlPlane, claims: str
) -> None:
    """Whatever fits: a kube-scheduler whose extender is not there places nobody."""
    config = scheduler_config("http://127.0.0.1:9")
    config["profiles"][0]["schedulerName"] = "lost-scheduler"
    control_plane.start_scheduler(config, name="lost-scheduler")
    waits = pod("lost")
    waits["spec"] |= {"schedulerName": "lost-scheduler", "volumes": []}
    control_plane.apply([waits], claims)

    def failed() -> bool:
        status = control_plane.get_json("pod", "lost", "-n", claims)["status"]
        return any(one.get("reason") == "SchedulerError" for one in status.get("conditions", ()))

    control_plane.wait_for(failed, 60, "kube-scheduler to say that it could not ask")
    done, document = explained("lost", "-n", claims, "--kubeconfig", control_plane.kubeconfig())
    assert (done, document["held"]["reason"]) == (1, "SchedulerError")
    assert "127.0.0.1:9: connect: connection refused" in document["summary"]
    assert {one["fits"] for one in document["nodes"] if one["name"] in NODES} == {True}


def test_of_a_daemon_set_it_is_told_whose_pod_waits(
    control_plane: ControlPlane, claims: str, tmp_path: Path
) -> None:
    """As its controller makes them: each for one node, which is the only one that matters."""
    takes = pod("takes")
    takes["spec"] |= {"nodeName": "claims-a", "volumes": []}
    takes["spec"]["containers"][0]["resources"] = {"requests": {"memory": "50Gi"}}
    control_plane.apply([takes], claims)
    template = pod("agent")["spec"] | {"volumes": []}
    template["containers"][0]["resources"] = {"requests": {"memory": "20Gi"}}
    labels = {"app": "agent"}
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": claims},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
        },
    }
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(yaml.safe_dump(daemons))
    kubeconfig = ("--kubeconfig", control_plane.kubeconfig())
    done, document = explained("-f", manifest, *kubeconfig)
    assert (done, document["wanted"]["pods"]) == (1, 2)
    summary = document["summary"]
    assert summary.startswith("1 of its 2 pods, one for each node that it is for, waits, that of ")
    assert (
        f"; node claims-a would fit if pod {claims}/takes (priority 0, 50.0 GiB) went;" in summary
    )
    control_plane.apply([daemons])

    def placed() -> dict[str, str]:
        found = control_plane.get_json("pods", "-n", claims, "-l", "app=agent")["items"]
        return {one["metadata"]["name"]: one["spec"].get("nodeName", "") for one in found}

    control_plane.wait_for(
        lambda: sorted(placed().values()) == ["", "claims-b"],
        60,
        "the pod of claims-b to be placed",
    )
    (waits,) = (name for name, node in placed().items() if not node)
    reasons = told(waits, "-n", claims, *kubeconfig)
    assert reasons == {waits: {"claims-a": "InsufficientMemory", "claims-b": "AnotherNodeNamed"}}


def explained(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code of ``explain`` for one pod, and its document."""
    done = start("explain", *arguments, "-o", "json")
    return done.code, json.loads(done.stdout)


def expected(name: str) -> dict[str, str | None]:
    _, fits, reason = CASES[name]
    return {node: None if node in fits else reason for node in NODES}


def told(*arguments: str | Path) -> dict[str, dict[str, str | None]]:
    """Return what ``explain`` says of these nodes: by pod, the reason that each refuses it for."""
    done = start("explain", *arguments, "-o", "json")
    assert done.code in {0, 1}, done
    document = json.loads(done.stdout)  # stderr tells of kinds that this cluster has none of
    documents = document if isinstance(document, list) else [document]
    return {
        one["pod"]: {n["name"]: n["reason"] for n in one["nodes"] if n["name"] in NODES}
        for one in documents
    }


def is_settled(control_plane: ControlPlane, namespace: str, name: str) -> bool:
    """Tell whether kube-scheduler has chosen a node that it may, or refused them all."""
    _, fits, _ = CASES[name]
    if fits:
        return chosen(control_plane, namespace, name) in fits
    return any("nodes are available" in said for said in control_plane.events(namespace, name))


def chosen(control_plane: ControlPlane, namespace: str, name: str) -> str | None:
    """Return the node that kube-scheduler chose: bound to, or where it has a volume made."""
    bound = control_plane.pod_node(namespace, name)
    if bound:
        return bound
    found = control_plane.get_json("persistentvolumeclaim", name, "-n", namespace)
    annotations = found["metadata"].get("annotations", {})
    selected: str | None = annotations.get("volume.kubernetes.io/selected-node")
    return selected
