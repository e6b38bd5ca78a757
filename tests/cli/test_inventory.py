"""``inventory``: its document and its table."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.cli.program import CLUSTER, Done, run

MODEL_KEYS = {"path", "model", "state", "evidence", "bytes", "provenAt"}
MORE_KEYS = {"leavesAt", "progress", "since", "reason", "witness"}
LLAMA = "/var/lib/models/llama-3.1-8b-instruct"


def inventory(*arguments: str | Path) -> Done:
    return run("inventory", "--snapshot", CLUSTER, *arguments)


def test_the_document_has_the_documented_keys_and_null_where_nothing_is_known() -> None:
    done = inventory("-o", "json")
    document = done.json()
    assert done.code == 0
    assert list(document) == ["nodes"]
    models = {}
    for node in document["nodes"]:
        assert list(node) == ["name", "models"]
        for model in node["models"]:
            assert set(model) == MODEL_KEYS | MORE_KEYS
            models[node["name"]] = model
    assert [node["name"] for node in document["nodes"]] == [f"gpu-{n}" for n in range(1, 6)]
    assert {name: model["state"] for name, model in models.items()} == {
        "gpu-1": "ready",
        "gpu-2": "ready",
        "gpu-3": "loading",
        "gpu-4": "failed",
    }
    assert {key: models["gpu-1"][key] for key in MODEL_KEYS} == {
        "path": LLAMA,
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "state": "ready",
        "evidence": "declared",
        "bytes": None,
        "provenAt": None,
    }


def test_the_table_has_one_line_a_model() -> None:
    done = inventory()
    assert (done.code, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split() == [
        "NODE", "PATH", "MODEL", "STATE", "EVIDENCE", "SIZE", "PROVEN", "SINCE", "REASON",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["gpu-1", "gpu-2", "gpu-3", "gpu-4"]
    assert all(LLAMA in row for row in rows)


def test_a_cluster_without_models_is_a_header_alone(tmp_path: Path) -> None:
    snapshot = tmp_path / "cluster.json"
    snapshot.write_text('{"kind": "Node", "metadata": {"name": "a"}}')
    done = run("inventory", "--snapshot", snapshot)
    assert (done.code, len(done.stdout.splitlines())) == (0, 1)
    done = run("inventory", "--snapshot", snapshot, "-o", "json")
    assert msgspec.json.decode(done.stdout) == {"nodes": [{"name": "a", "models": []}]}
    assert "holds no DaemonSet: loaders are known by their pods alone" in done.stderr, (
        "there may well be models"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--snapshot", "/no/such.yaml"], "/no/such.yaml: cannot be read: No such file"),
        (["--kubeconfig", "/no/such"], "kubeconfig /no/such: no such file; name one with --kubec"),
        (["--config", "/no/such"], "/no/such: cannot be read"),
        (["extra"], "unexpected extra argument"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_use_is_exit_code_2(arguments: list[str], said: str) -> None:
    assert said in run("inventory", *arguments).refusal()
