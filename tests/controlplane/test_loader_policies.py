"""Who may write what of a loader's: the shipped rights and policies, on a real apiserver.

Each account acts with a real token, bound to a real pod as the kubelet asks for it, so that the
claims that the policies read are the apiserver's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.shipped import (
    LOADER_ACCOUNT,
    LOADERS,
    SYSTEM,
    clear_loaders,
    kustomized,
)

LABEL = {"modelcache.dev/loader-lease": "true"}
UNLABEL = {"metadata": {"labels": {"modelcache.dev/loader-lease": None}}}
ONLY_REPORT = "the annotation modelcache.dev/report and nothing else"
ONLY_WANTED = "the annotation modelcache.dev/wanted and nothing else"
NODES = ("kept-1", "kept-2")

Object = dict[str, Any]


class Cast:
    """Loader pods on their nodes, and what each account may do with them."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.accounts = {f"loader of {node}": self._bound(node, f"loader-{node}") for node in NODES}
        self.accounts["unbound"] = control_plane.kubeconfig_for_service_account(
            LOADERS, LOADER_ACCOUNT
        )
        self.accounts["extender"] = control_plane.kubeconfig_for_service_account(
            SYSTEM, "model-cache-extender"
        )

    def _bound(self, node: str, pod: str) -> Path:
        self.control_plane.apply(_pod(pod, node), LOADERS)
        return self.control_plane.kubeconfig_for_service_account(LOADERS, LOADER_ACCOUNT, pod=pod)

    def patch(self, who: str, kind: str, name: str, patch: Object, *more: str) -> str:
        """Patch as an account; returns why it was refused, empty where it was not."""
        return self._try(who, "patch", kind, name, "--type=merge", f"-p={json.dumps(patch)}", *more)

    def create(self, who: str, lease: Object) -> str:
        """Create a Lease as an account; returns why it was refused, empty where it was not."""
        return self._try(who, "create", "-f", "-", input=json.dumps(lease))

    def _try(self, who: str, *args: str, input: str | None = None) -> str:  # noqa: A002
        kubeconfig = f"--kubeconfig={self.accounts[who]}"
        try:
            self.control_plane.kubectl("-n", LOADERS, kubeconfig, *args, input=input)
        except KubectlError as error:
            return str(error)
        return ""


def _pod(name: str, node: str) -> Object:
    main = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"nodeName": node, "serviceAccountName": LOADER_ACCOUNT, "containers": [main]},
    }


def _lease(node: str, **metadata: Any) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": f"loader.{node}", "labels": LABEL, **metadata},
        "spec": {"leaseDurationSeconds": 90},
    }


def annotate(**annotations: str | None) -> Object:
    return {"metadata": {"annotations": {f"modelcache.dev/{k}": v for k, v in annotations.items()}}}


@pytest.fixture(scope="module")
def cast(control_plane: ControlPlane) -> Iterator[Cast]:
    control_plane.apply(kustomized(control_plane, "deploy/overlays/second-scheduler"))
    control_plane.apply(kustomized(control_plane, "deploy/loader"))
    control_plane.add_nodes(NODES)
    made = Cast(control_plane)
    # Policies reach the apiserver's admission with a delay.
    control_plane.wait_for(
        lambda: "no other" in made.patch("unbound", "pod", "loader-kept-1", annotate(report="x")),
        30,
        "the policies in force",
    )
    yield made
    clear_loaders(control_plane)
    control_plane.delete_nodes(NODES)


def test_a_loader_reports_on_its_own_pod(cast: Cast) -> None:
    assert cast.patch("loader of kept-1", "pod", "loader-kept-1", annotate(report="{}")) == ""
    found = cast.control_plane.get_json("pod", "loader-kept-1", "-n", LOADERS)
    assert found["metadata"]["annotations"]["modelcache.dev/report"] == "{}"


REFUSED_PODS: dict[str, tuple[str, str, Object, str]] = {
    "the report of another loader": (
        "loader of kept-1", "loader-kept-2", annotate(report="{}"), "runs in and to no other",
    ),
    "any report with a token that is bound to no pod": (
        "unbound", "loader-kept-1", annotate(report="{}"), "runs in and to no other",
    ),
    "another annotation of its own pod": (
        "loader of kept-1", "loader-kept-1", annotate(model="x"), ONLY_REPORT,
    ),
    "the report and a label beside it": (
        "loader of kept-1",
        "loader-kept-1",
        {"metadata": {"annotations": {"modelcache.dev/report": "1"}, "labels": {"app": "y"}}},
        ONLY_REPORT,
    ),
    "a finalizer": (
        "loader of kept-1",
        "loader-kept-1",
        {"metadata": {"finalizers": ["example.com/never"]}},
        ONLY_REPORT,
    ),
    "the image of its own pod": (
        "loader of kept-1",
        "loader-kept-1",
        {"spec": {"containers": [{"name": "main", "image": "evil:1"}]}},
        ONLY_REPORT,
    ),
    "a report, as the extender": (
        "extender", "loader-kept-1", annotate(report="{}"), "forbidden",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_PODS)
def test_nobody_writes_more_of_a_loaders_pod(cast: Cast, case: str) -> None:
    who, pod, patch, said = REFUSED_PODS[case]
    assert said in cast.patch(who, "pod", pod, patch)


def test_a_loader_keeps_its_own_nodes_lease_and_the_extender_writes_wishes_on_it(
    cast: Cast,
) -> None:
    who = "loader of kept-1"
    uid = cast.control_plane.get_json("node", "kept-1")["metadata"]["uid"]
    own = {"kind": "Node", "apiVersion": "v1", "name": "kept-1", "uid": uid}
    assert cast.create(who, _lease("kept-1", ownerReferences=[own])) == ""
    renewal = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z", "holderIdentity": "p"}}
    assert cast.patch(who, "lease", "loader.kept-1", {**renewal, **annotate(progress="{}")}) == ""
    assert cast.patch("extender", "lease", "loader.kept-1", annotate(wanted="{}")) == ""
    assert cast.patch(who, "lease", "loader.kept-1", renewal | annotate(progress="{ }")) == ""
    found = cast.control_plane.get_json("lease", "loader.kept-1", "-n", LOADERS)
    assert found["metadata"]["annotations"] == {
        "modelcache.dev/progress": "{ }",
        "modelcache.dev/wanted": "{}",
    }
    assert cast.patch("extender", "lease", "loader.kept-1", annotate(wanted=None)) == ""


CREATED: dict[str, tuple[str, Object, str]] = {
    "the Lease of another node": ("loader of kept-1", _lease("kept-2"), "runs on and no other"),
    "a Lease of another name": (
        "loader of kept-1", _lease("x", name="kube-scheduler"), "runs on and no other",
    ),
    "a Lease with a token that is bound to no pod": (
        "unbound", _lease("kept-1"), "runs on and no other",
    ),
    "a Lease that the extender would not watch": (
        "loader of kept-2", _lease("kept-2", labels={}), "carries the label",
    ),
    "a Lease with a wish of its own": (
        "loader of kept-2",
        _lease("kept-2", annotations={"modelcache.dev/wanted": "{}"}),
        "may not change what it is asked for",
    ),
    "a loader's Lease, as the extender": ("extender", _lease("kept-2"), "creates none"),
}  # fmt: skip


@pytest.mark.parametrize("case", CREATED)
def test_nobody_makes_another_lease(cast: Cast, case: str) -> None:
    who, lease, said = CREATED[case]
    assert said in cast.create(who, lease)


PATCHED: dict[str, tuple[str, Object, str]] = {
    "the Lease of another node": (
        "loader of kept-1", {"spec": {"holderIdentity": "me"}}, "runs on and no other",
    ),
    "a Lease with a token that is bound to no pod": (
        "unbound", {"spec": {"holderIdentity": "me"}}, "runs on and no other",
    ),
    "a wish, as the loader itself": (
        "loader of kept-2", annotate(wanted="{}"), "may not change what it is asked for",
    ),
    "the label away": (
        "loader of kept-2", UNLABEL, "carries the label",
    ),
    "the proof of life, as the extender": (
        "extender", {"spec": {"holderIdentity": "me"}}, ONLY_WANTED,
    ),
    "the progress, as the extender": (
        "extender", annotate(progress="{}"), ONLY_WANTED,
    ),
    "the label away, as the extender": (
        "extender",
        UNLABEL,
        ONLY_WANTED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PATCHED)
def test_nobody_changes_more_of_a_loaders_lease(cast: Cast, case: str) -> None:
    who, patch, said = PATCHED[case]
    cast.control_plane.apply(_lease("kept-2"), LOADERS)
    assert said in cast.patch(who, "lease", "loader.kept-2", patch)


def test_the_extender_writes_no_wish_on_a_lease_that_is_none_of_a_loader(cast: Cast) -> None:
    cast.control_plane.apply({**_lease("x"), "metadata": {"name": "leader"}}, LOADERS)
    assert "that a loader made" in cast.patch("extender", "lease", "leader", annotate(wanted="{}"))
