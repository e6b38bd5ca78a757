"""``doctor`` on the real apiserver: the shipped rights suffice, and one taken away is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Done, start
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import OPTS_IN, ROOT, SYSTEM, Object
from tests.controlplane.test_shipped import account

CONFIG = ROOT / "config/scheduler-config.yaml"
GROUP = "rbac.authorization.k8s.io"


def doctor(kubeconfig: Path, *arguments: str | Path) -> Done:
    return start(
        "doctor", "--kubeconfig", kubeconfig, "--scheduler-config", CONFIG, *arguments, "-o", "json"
    )


def found(done: Done, check: str) -> list[dict[str, Any]]:
    return [one for one in done.json()["findings"] if one["check"] == check]


def test_what_is_shipped_has_no_error_on_a_real_cluster(
    control_plane: ControlPlane, placing: Extender
) -> None:
    shipped = control_plane.kubeconfig_for_service_account(SYSTEM, "model-cache-extender")
    done = doctor(shipped, "--extender", placing.url)
    document = done.json()
    errors = [one for one in document["findings"] if one["severity"] == "error"]
    assert (errors, done.code) == ([], 0)
    assert set(document["checked"]) == {
        "clock", "rights", "version", "cluster", "scheduler configuration", "extender",
    }  # fmt: skip
    assert document["notChecked"] == []
    noted = {one["check"] for one in document["findings"]}
    assert not noted & {"RightMissing", "RightUnknown", "ClockSkew", "VersionNotTested"}
    assert ("NoMutatingPolicies" in noted) is not OPTS_IN


def test_reading_alone_is_enough_for_shadow_mode_and_for_nothing_more(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing  # the roles are applied with it
    reads = account(control_plane, namespace, "model-cache-extender")
    assert doctor(reads, "--observe").code == 0
    done = doctor(reads)
    messages = " ".join(one["message"] for one in found(done, "RightMissing"))
    assert done.code == 1
    assert "may not create pods/binding" in messages
    assert "may not patch pods/status" in messages


@pytest.mark.parametrize(
    ("group", "resource"), [("", "nodes"), ("batch", "jobs"), ("storage.k8s.io", "storageclasses")]
)
def test_a_right_that_is_taken_away_is_named_with_the_rule_to_add(
    control_plane: ControlPlane, placing: Extender, namespace: str, group: str, resource: str
) -> None:
    _ = placing
    role: Object = control_plane.get_json("clusterrole", "model-cache-extender")
    narrow = f"narrow-{namespace}"
    for rule in role["rules"]:
        if group in rule["apiGroups"] and resource in rule["resources"]:
            rule["resources"].remove(resource)
    rules = [rule for rule in role["rules"] if rule["resources"]]
    control_plane.apply(
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": narrow},
            "rules": rules,
        }
    )
    done = doctor(account(control_plane, namespace, narrow), "--observe")
    (lacking,) = found(done, "RightMissing")
    assert done.code == 1
    assert f"may not get, list, watch {resource}" in lacking["message"]
    assert f'apiGroups: ["{group}"], resources: [{resource}]' in lacking["remedy"]
    unchecked = {row["subject"] for row in done.json()["notChecked"]}
    assert "cluster" in unchecked, "what cannot be listed is said, and the rest goes on"


def test_an_operator_can_ask_for_the_extenders_account(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing
    account(control_plane, namespace, "model-cache-extender", "model-cache-extender-write")
    done = doctor(control_plane.kubeconfig(), "--service-account", f"{namespace}/narrow")
    lacking = found(done, "RightMissing")
    assert {one["severity"] for one in lacking} == {"warning"}, "only the scheduler's own lease"
    assert all("leases" in one["message"] for one in lacking)
    assert {one["object"] for one in lacking} == {f"ServiceAccount {namespace}/narrow"}
    asked_without_right = doctor(
        control_plane.kubeconfig_for_service_account(namespace, "narrow"),
        "--service-account",
        f"{SYSTEM}/model-cache-extender",
    )
    assert found(asked_without_right, "RightUnknown")


def test_a_label_without_its_policy_is_found_in_the_cluster(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing
    control_plane.kubectl("label", "namespace", namespace, "modelcache.dev/scheduling=true")
    found_labels = found(doctor(control_plane.kubeconfig()), "LabelWithoutEffect")
    assert f"Namespace {namespace}" in {one["object"] for one in found_labels}
