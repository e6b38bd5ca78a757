"""What pods of a node read is asked of the real apiserver before anything is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import Done, run
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import LOADER_ACCOUNT, LOADERS, Object, clear_loaders, kustomized
from tests.loader.models import put, small_model

CATALOG = """
apiVersion: modelcache.dev/v1alpha1
kind: ModelCatalog
watermarks: {highPercent: 0.001, lowPercent: 0.0001}
"""


def _local_volume(namespace: str, cache: Path) -> list[Object]:
    """Return a volume of a node's own disk, and the claim that is bound to it."""
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["reads"]}
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"disk-{namespace}"},
        "spec": {
            **common,
            "capacity": size,
            "claimRef": {"name": "local", "namespace": namespace},
            "local": {"path": str(cache)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "local"},
        "spec": {**common, "volumeName": f"disk-{namespace}", "resources": {"requests": size}},
    }
    return [volume, claim]


@pytest.fixture
def account(control_plane: ControlPlane) -> Iterator[Path]:
    """The shipped loader's own account."""
    control_plane.apply(kustomized(control_plane, "deploy/loader"))
    yield control_plane.kubeconfig_for_service_account(LOADERS, LOADER_ACCOUNT)
    clear_loaders(control_plane)


@pytest.mark.parametrize("through", ["hostPath", "claim on a local volume"])
def test_a_model_that_a_pod_of_the_node_reads_is_not_removed(
    control_plane: ControlPlane, namespace: str, account: Path, tmp_path: Path, through: str
) -> None:
    control_plane.add_nodes(["reads", "reads-not"])
    cache = tmp_path / "cache"
    source: Object = {"hostPath": {"path": str(cache)}}
    if through != "hostPath":
        source = {"persistentVolumeClaim": {"claimName": "local"}}
    for name in ("used", "unused"):
        put(cache / name, small_model())
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    server = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server"},
        "spec": {
            "nodeName": "reads",
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "args": ["--model", "/models/used"],
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", **source}],
        },
    }
    control_plane.apply([*_local_volume(namespace, cache), server], namespace)

    def gc(node: str, kubeconfig: Path, *more: str) -> Done:
        arguments = ("--directory", cache, "--catalog", tmp_path / "catalog.yaml", "--foreign")
        access = ("--node", node, "--kubeconfig", kubeconfig)
        return run("loader", "gc", *arguments, *access, "-o", "json", *more)

    other = gc("reads-not", account, "--dry-run").json()
    assert {each["path"] for each in other["evictions"]} == {"used", "unused"}

    without_rights = control_plane.kubeconfig_for_service_account(namespace, "default")
    assert "forbidden" in gc("reads", without_rights).refusal()
    assert (cache / "unused").is_dir()

    done = gc("reads", account).json()
    assert [each["path"] for each in done["evictions"]] == ["unused"]
    assert [(each["path"], each["reason"]) for each in done["stays"]] == [("used", "in-use")]
    assert (cache / "used").is_dir()
    assert not (cache / "unused").exists()
    control_plane.kubectl("delete", "persistentvolume", f"disk-{namespace}", "--wait=false")
