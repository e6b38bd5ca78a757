"""Fetching on demand with the shipped rights and policies: asked for, fetched, and gone to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from extender.report import (
    LEASE_LABEL,
    REPORT_ANNOTATION,
    WANTED_ANNOTATION,
    Report,
    ReportedModel,
    ReportedState,
    Wanted,
    lease_name,
    read,
    write,
)
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import (
    EXAMPLE_MODEL,
    LOADER_ACCOUNT,
    LOADERS,
    clear_loaders,
    deploy,
    kustomized,
    places,
    said,
)

NODES = ("fetch-1", "fetch-2")


class Loaders:
    """Plays the loaders of two nodes, each with the token of its own pod."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._pods = {node: self._pod_on(node) for node in NODES}
        self._kubeconfigs = {
            node: control_plane.kubeconfig_for_service_account(LOADERS, LOADER_ACCOUNT, pod=pod)
            for node, pod in self._pods.items()
        }

    def _pod_on(self, node: str) -> str:
        def found() -> str:
            pods = self._control_plane.get_json("pods", "-n", LOADERS)["items"]
            return next((p["metadata"]["name"] for p in pods if _ready_on(p, node)), "")

        self._control_plane.wait_for(lambda: bool(found()), 30, f"a Ready loader on {node}")
        return found()

    def _as(self, node: str, *args: str, input: str | None = None) -> None:  # noqa: A002
        kubeconfig = f"--kubeconfig={self._kubeconfigs[node]}"
        self._control_plane.kubectl("-n", LOADERS, kubeconfig, *args, input=input)

    def keep_lease(self, node: str) -> None:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": lease_name(node), "labels": {LEASE_LABEL: "true"}},
            "spec": {
                "leaseDurationSeconds": 90,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        self._as(node, "create", "-f", "-", input=json.dumps(lease))

    def report(self, node: str, state: ReportedState, **more: Any) -> None:
        model = ReportedModel(path=EXAMPLE_MODEL, state=state, bytes=16 * 10**9, **more)
        text = write(Report(directory="/var/lib/models", models=(model,)))
        patch = {"metadata": {"annotations": {REPORT_ANNOTATION: text}}}
        self._as(node, "patch", "pod", self._pods[node], "--type=merge", f"-p={json.dumps(patch)}")

    def wanted(self, node: str) -> Wanted:
        lease = self._control_plane.get_json("lease", lease_name(node), "-n", LOADERS)
        text = lease["metadata"].get("annotations", {}).get(WANTED_ANNOTATION)
        return read(text, Wanted) if text else Wanted()

    def asked(self) -> list[str]:
        return [node for node in NODES if self.wanted(node).models]


def _ready_on(pod: dict[str, Any], node: str) -> bool:
    conditions = pod["status"].get("conditions", [])
    return pod["spec"].get("nodeName") == node and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


@pytest.fixture
def loaders(control_plane: ControlPlane, inference: str) -> Iterator[Loaders]:
    _ = inference
    control_plane.add_nodes(NODES)
    control_plane.apply(kustomized(control_plane, "deploy/loader"))
    yield Loaders(control_plane)
    clear_loaders(control_plane)


def test_a_model_that_a_pod_waits_for_is_asked_for_on_one_node_and_the_pod_goes_there(
    control_plane: ControlPlane, inference: str, loaders: Loaders
) -> None:
    for node in NODES:
        loaders.keep_lease(node)
        loaders.report(node, ReportedState.ABSENT, on_demand=True)
    app = deploy(control_plane, inference, "node-cache.yaml")
    control_plane.wait_for(lambda: len(loaders.asked()) == 1, 30, "one loader asked")
    (chosen,) = loaders.asked()
    (wish,) = loaders.wanted(chosen).models
    assert (wish.path, wish.pod.split("/")[0]) == (EXAMPLE_MODEL, inference)
    assert places(control_plane, inference, app) == [""]
    control_plane.wait_for(
        lambda: f"being fetched on {chosen}" in said(control_plane, inference, app),
        30,
        "the pod told where its model is fetched",
    )
    loaders.report(chosen, ReportedState.READY)
    control_plane.wait_for(
        lambda: places(control_plane, inference, app) == [chosen], 60, "the pod where its model is"
    )
    control_plane.wait_for(lambda: loaders.asked() == [], 60, "the wish taken back")
