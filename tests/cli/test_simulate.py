"""``simulate``: its document, its exit codes, and what it says to wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import CLUSTER, PODS, Done, run

POD = next(
    pod for pod in yaml.safe_load_all(PODS.read_text()) if pod["metadata"]["name"] == "llama-memory"
)
KEYS = [
    "pod", "namespace", "replicas", "placed", "waiting", "placements", "waits", "othersWait",
    "notJudged", "notModelled",
]  # fmt: skip
PLACEMENT_KEYS = [
    "replica", "part", "node", "score", "passed", "state", "evidence", "estimatedStartSeconds",
    "memoryFreeBytes", "free", "models",
]  # fmt: skip


def deployment(replicas: object, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "inference"},
        "spec": {"replicas": replicas, "template": {"spec": {**POD["spec"], **spec}}},
    }


def simulate(folder: Path, document: Any, *arguments: str) -> Done:
    path = folder / "manifest.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return run("simulate", "-f", path, "--snapshot", CLUSTER, *arguments)


def test_the_document_has_exactly_its_keys_and_absent_is_null(tmp_path: Path) -> None:
    done = simulate(tmp_path, POD, "--replicas", "1", "-o", "json")
    document = done.json()
    assert (done.code, list(document)) == (0, KEYS)
    assert [list(one) for one in document["placements"]] == [PLACEMENT_KEYS]
    assert (document["placed"], document["waiting"], document["waits"]) == (1, 0, None)


def test_replicas_that_wait_end_with_exit_code_1_and_their_reasons(tmp_path: Path) -> None:
    done = simulate(tmp_path, POD, "--replicas", "50", "-o", "json")
    document = done.json()
    assert done.code == 1
    assert document["placed"] + document["waiting"] == 50
    waits = document["waits"]
    assert waits["replica"] == document["placed"] + 1
    assert {one["name"] for one in waits["nodes"]} == {f"gpu-{i}" for i in range(1, 6)}
    assert all(one["message"] for one in waits["nodes"])


@pytest.mark.parametrize(("replicas", "expected"), [(2, 2), (None, 1), (0, 0)])
def test_a_manifest_says_how_many(tmp_path: Path, replicas: object, expected: int) -> None:
    done = simulate(tmp_path, deployment(replicas), "-o", "json")
    assert done.json()["replicas"] == expected


def test_a_workload_that_asks_for_none_is_told_by_its_field(tmp_path: Path) -> None:
    done = simulate(tmp_path, deployment(0))
    assert (done.code, done.stdout.splitlines()[:3]) == (
        0,
        [
            "inference/web: 0 of 0 would be placed",
            "",
            "it asks for no pod now (spec.replicas); place some all the same with --replicas",
        ],
    )


def test_a_group_is_placed_with_its_workers_each_by_its_template(tmp_path: Path) -> None:
    group = {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "web", "namespace": "inference"},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": 3,
                "leaderTemplate": {"spec": POD["spec"]},
                "workerTemplate": {"spec": {"containers": [{"name": "w"}]}},
            },
        },
    }
    placements = simulate(tmp_path, group, "-o", "json").json()["placements"]
    assert [one["part"] for one in placements] == ["leader", "worker", "worker"]
    table = simulate(tmp_path, group).stdout
    assert "REPLICA  PART    PLACED ON" in table


def test_the_table_says_where_each_went_and_what_was_not_looked_at(tmp_path: Path) -> None:
    done = simulate(tmp_path, deployment(50, topologySpreadConstraints=[{"maxSkew": 1}]))
    assert done.code == 1
    assert "REPLICA  PLACED ON" in done.stdout
    assert "REFUSED BY" in done.stdout
    assert " waits: 0/5 nodes: " in done.stdout
    assert "not judged: topologySpreadConstraints" in done.stdout
    assert "not modelled: kube-scheduler's own scores" in done.stdout


@pytest.mark.parametrize(
    ("document", "arguments", "said"),
    [
        ("kind: Service", (), "holds no pod"),
        (PODS.read_text(), (), "holds 5 pods; simulate places those of one"),
        ("a: [}", (), "line 1"),
        ({"kind": "Pod", "spec": {**POD["spec"], "tolerations": 5}}, (), "tolerations"),
        (deployment("x"), (), "Deployment inference/web: spec.replicas: 'x' is not a whole number"),
        ({"kind": "Deployment"}, (), "Deployment default/(no name): spec.template.spec is missing"),
        ({"kind": "Pod", "spec": {"containers": 5}}, (), "containers"),
    ],
    ids=[
        "no pod",
        "many pods",
        "not YAML",
        "odd tolerations",
        "no number",
        "no template",
        "odd containers",
    ],
)
def test_wrong_input_is_refused_in_one_line(
    tmp_path: Path, document: Any, arguments: tuple[str, ...], said: str
) -> None:
    assert said in simulate(tmp_path, document, *arguments).refusal()


@pytest.mark.parametrize("replicas", ["0", "-1", "x", "99999999"])
def test_a_number_that_is_none_is_wrong_use(tmp_path: Path, replicas: str) -> None:
    assert simulate(tmp_path, POD, "--replicas", replicas).code == 2
