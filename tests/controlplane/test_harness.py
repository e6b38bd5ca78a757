"""The harness itself: real controllers, fake kubelets, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.cluster import MANUAL_KUBELET, ControlPlane, KubectlError, is_ready
from tests.controlplane.processes import HarnessError, Process, wait_for

CONTAINERS = [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]


def pod(name: str, **spec: Any) -> dict[str, Any]:
    labels = spec.pop("labels", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": CONTAINERS, **spec},
    }


def template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "test"}}, "spec": {"containers": CONTAINERS, **spec}}


def test_a_daemon_set_runs_on_every_fake_node(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.add_nodes(["ds-1", "ds-2", "ds-3"])
    control_plane.start_scheduler()
    spec = {"selector": {"matchLabels": {"app": "test"}}, "template": template()}
    metadata = {"name": "loader"}
    daemon_set = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}
    control_plane.apply(daemon_set, namespace)

    def ready_nodes() -> set[str]:
        items = control_plane.get_json("pods", "-n", namespace)["items"]
        return {item["spec"]["nodeName"] for item in items if is_ready(item)}

    control_plane.wait_for(
        lambda: ready_nodes() == {"ds-1", "ds-2", "ds-3"}, 30, "three Ready pods"
    )


def test_a_job_completes_and_a_claim_can_be_created(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.add_nodes(["job-1"])
    control_plane.start_scheduler()
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    spec = {"template": template(restartPolicy="Never")}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "download"}, "spec": spec}
    control_plane.apply([claim, job], namespace)

    def succeeded() -> bool:
        found = control_plane.get_json("job", "download", "-n", namespace)
        return bool(found["status"].get("succeeded") == 1)

    control_plane.wait_for(succeeded, 30, "the job to complete")
    assert control_plane.get_json("pvc", "models", "-n", namespace)["status"]["phase"] == "Pending"


def test_a_scheduler_binds_by_its_own_name(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.add_nodes(["small"], {"memory": "1Gi", "cpu": "4", "pods": "10"})
    control_plane.add_nodes(["large"], labels={"size": "large"})
    control_plane.start_scheduler({"profiles": [{"schedulerName": "mine"}]}, "mine")
    needs = {"requests": {"memory": "8Gi"}}
    containers = [{**CONTAINERS[0], "resources": needs}]
    control_plane.apply(
        [pod("bound", schedulerName="mine", containers=containers), pod("left")], namespace
    )
    control_plane.wait_for(
        lambda: control_plane.pod_node(namespace, "bound") == "large", 30, "the pod to be bound"
    )
    control_plane.wait_for(
        lambda: any("Scheduled" in line for line in control_plane.events(namespace, "bound")),
        30,
        "an event of the binding",
    )
    assert control_plane.pod_node(namespace, "left") is None


def test_a_manual_kubelet_leaves_the_pod_to_the_test(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.add_nodes(["manual-1"])
    control_plane.apply(
        [
            pod("manual", nodeName="manual-1", labels=MANUAL_KUBELET),
            pod("auto", nodeName="manual-1"),
        ],
        namespace,
    )

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = control_plane.get_json("pod", name, "-n", namespace)
        return found

    control_plane.wait_for(lambda: is_ready(read("auto")), 30, "the automatic pod to be Ready")
    assert read("manual")["status"]["phase"] == "Pending"
    ready = {"type": "Ready", "status": "True"}
    control_plane.set_pod_status(namespace, "manual", {"phase": "Running", "conditions": [ready]})
    assert is_ready(read("manual"))
    assert read("manual")["status"]["phase"] == "Running"


def test_tokens_are_worth_what_rbac_gives_them(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with pytest.raises(KubectlError, match="Forbidden"):
        control_plane.kubectl("get", "nodes", user="nobody")
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "default")
    who = control_plane.kubectl(f"--kubeconfig={kubeconfig}", "auth", "whoami", "-o", "json")
    assert f"system:serviceaccount:{namespace}:default" in who


def test_a_process_that_fails_shows_its_log(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such flag; exit 3"]
    process = Process("broken", command, tmp_path / "log")
    with pytest.raises(HarnessError, match=r"broken exited with 3[\s\S]*no such flag"):
        process.wait_ready(lambda: False, 5)


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(HarnessError, match="in vain for the moon"):
        wait_for(lambda: False, 0.2, "the moon")


def test_stop_leaves_no_process_behind(kubernetes_binaries: Path, tmp_path: Path) -> None:
    cluster = ControlPlane(kubernetes_binaries, tmp_path)
    cluster.start()
    cluster.start_scheduler()
    pids = [process.pid for process in cluster.processes()]
    assert len(pids) == 5
    cluster.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert cluster.processes() == []
