"""What pods of a node read is asked of the real apiserver before anything is removed."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import Done, run
from tests.controlplane.cluster import ControlPlane
from tests.loader.models import put, small_model

CATALOG = """
apiVersion: modelcache.dev/v1alpha1
kind: ModelCatalog
watermarks: {highPercent: 0.001, lowPercent: 0.0001}
"""


def test_a_model_that_a_pod_of_the_node_reads_is_not_removed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    control_plane.add_nodes(["reads", "reads-not"])
    cache = tmp_path / "cache"
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
            "volumes": [{"name": "models", "hostPath": {"path": str(cache)}}],
        },
    }
    control_plane.apply(server, namespace)

    def gc(node: str, kubeconfig: Path, *more: str) -> Done:
        arguments = ("--directory", cache, "--catalog", tmp_path / "catalog.yaml", "--foreign")
        access = ("--node", node, "--kubeconfig", kubeconfig)
        return run("loader", "gc", *arguments, *access, "-o", "json", *more)

    admin = control_plane.kubeconfig()
    other = gc("reads-not", admin, "--dry-run").json()
    assert {each["path"] for each in other["evictions"]} == {"used", "unused"}

    without_rights = control_plane.kubeconfig_for_service_account(namespace, "default")
    assert "forbidden" in gc("reads", without_rights).refusal()
    assert (cache / "unused").is_dir()

    done = gc("reads", admin).json()
    assert [each["path"] for each in done["evictions"]] == ["unused"]
    assert [(each["path"], each["reason"]) for each in done["stays"]] == [("used", "in-use")]
    assert (cache / "used").is_dir()
    assert not (cache / "unused").exists()
