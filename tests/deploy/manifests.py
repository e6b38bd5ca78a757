"""The shipped manifests as the tests of this folder read them: files, objects, pod templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFEST_FOLDERS = ("config", "deploy")
CHART = ROOT / "deploy" / "chart"  # templates over the very same files: tests/controlplane/chart
JSON_PATCHES = {Path("deploy/opt-in-models/may-have-a-model.yaml")}
"""Operations of a kustomization, and no objects."""

FILES = sorted(
    path
    for folder in MANIFEST_FOLDERS
    for path in (ROOT / folder).rglob("*.yaml")
    if CHART not in path.parents and path.relative_to(ROOT) not in JSON_PATCHES
)
KUSTOMIZATIONS = [path for path in FILES if path.name == "kustomization.yaml"]
EXISTING_SCHEDULER = Path("deploy/overlays/existing-scheduler")
TWO_DEPLOYMENTS = Path("deploy/overlays/two-deployments")
# Files for people to apply or paste by hand: each is named in the text beside it.
LEFT_OUT_OF_KUSTOMIZE = {
    Path("deploy/opt-in/kyverno.yaml"): "deploy/opt-in/kustomization.yaml",
    Path("deploy/examples/image-volume.yaml"): "deploy/examples/kustomization.yaml",
    EXISTING_SCHEDULER / "kube-scheduler-config.yaml": f"{EXISTING_SCHEDULER}/README.md",
    EXISTING_SCHEDULER / "kubeadm-patch.yaml": f"{EXISTING_SCHEDULER}/README.md",
    TWO_DEPLOYMENTS / "cert-manager.yaml": f"{TWO_DEPLOYMENTS}/kustomization.yaml",
}
CLUSTER_SCOPED = {
    "ClusterPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "Namespace",
}
# Read by programs from a file, never sent to an apiserver.
NOT_CLUSTER_OBJECTS = {
    "ClusterConfiguration",
    "ExtenderConfiguration",
    "KubeSchedulerConfiguration",
    "Kustomization",
    "ModelCatalog",
}
EXTENDER_IMAGE = "ghcr.io/model-cache-extender/model-cache-extender"
SCHEDULER_NAME = "model-cache-scheduler"
OPT_IN_LABEL = {"modelcache.dev/scheduling": "enabled"}

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One document of one file, with where it came from for the test's name."""

    path: Path
    body: Object

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    def __str__(self) -> str:
        return f"{self.path}:{self.kind}/{self.body.get('metadata', {}).get('name', '-')}"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A pod template and whose it is."""

    manifest: Manifest
    selector: Object | None
    template: Object

    @property
    def spec(self) -> Object:
        spec: Object = self.template["spec"]
        return spec

    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        return next(container for container in self.containers() if container["name"] == name)

    def __str__(self) -> str:
        return str(self.manifest)


def load(path: Path) -> list[Manifest]:
    documents = yaml.safe_load_all((ROOT / path).read_text())
    return [Manifest(path=path, body=document) for document in documents]


def load_one(path: str) -> Object:
    (manifest,) = load(Path(path))
    return manifest.body


def of_kind(path: str, kind: str) -> list[Object]:
    return [manifest.body for manifest in load(Path(path)) if manifest.kind == kind]


MANIFESTS = [manifest for path in FILES for manifest in load(path.relative_to(ROOT))]
OBJECTS = [manifest for manifest in MANIFESTS if manifest.kind not in NOT_CLUSTER_OBJECTS]
WORKLOADS = [
    Workload(
        manifest=manifest,
        selector=manifest.body["spec"].get("selector"),
        template=manifest.body["spec"]["template"],
    )
    for manifest in OBJECTS
    if "template" in manifest.body.get("spec", {})
]
EXTENDERS = [
    workload
    for workload in WORKLOADS
    if any(container["name"] == "extender" for container in workload.containers())
]
(LOADER,) = [
    workload for workload in WORKLOADS if workload.manifest.path.parent == Path("deploy/loader")
]
# The Deployment of two that the verbs of mutual TLS belong to, and the one of kube-scheduler.
ALONE = {
    workload.manifest.body["metadata"]["name"]: workload
    for workload in WORKLOADS
    if workload.manifest.path.parent == TWO_DEPLOYMENTS
}
OVER_TLS, SCHEDULER_ALONE = ALONE["model-cache-extender"], ALONE["model-cache-scheduler"]
ON_LOOPBACK = [workload for workload in EXTENDERS if workload is not OVER_TLS]
ROLES = [manifest for manifest in OBJECTS if manifest.kind in {"Role", "ClusterRole"}]
SCHEDULER_CONFIGS = [
    manifest for manifest in MANIFESTS if manifest.kind == "KubeSchedulerConfiguration"
]
SHIPPED_CONFIG = load_one("config/scheduler-config.yaml")
(DEPLOYMENT,) = [
    workload for workload in WORKLOADS if workload.manifest.path.parent == Path("deploy/base")
]


def flags(container: Object) -> dict[str, str]:
    """Return `--flag value` and `--flag=value` pairs of a container's command line."""
    words = [*container.get("command", []), *container.get("args", [])]
    found: dict[str, str] = {}
    for position, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, joined, value = word.partition("=")
        following = words[position + 1] if position + 1 < len(words) else ""
        found[name] = value if joined or following.startswith("--") else following
    return found


def listener(container: Object, flag: str) -> tuple[str, int]:
    host, _, port = flags(container)[flag].rpartition(":")
    return host, int(port)


def probes(container: Object) -> dict[str, Object]:
    names = ("startupProbe", "readinessProbe", "livenessProbe")
    return {name: container[name]["httpGet"] for name in names if name in container}


def named(values: Sequence[object]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", values, ids=[str(value) for value in values])
