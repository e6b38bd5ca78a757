"""``explain``: its document, its exit codes, and what it says to wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import CLUSTER, PODS, Done, run

KEYS = [
    "pod",
    "namespace",
    "part",
    "template",
    "wanted",
    "references",
    "memory",
    "held",
    "standing",
    "nodes",
    "summary",
    "warnings",
]
REFERENCE_KEYS = [
    "role", "strategy", "source", "need", "model", "revision", "hostPath", "claim", "image",
    "volume", "bytes", "readFrom", "unknown",
]  # fmt: skip
MEMORY_KEYS = ["demandBytes", "requestBytes", "volumes"]
VOLUME_KEYS = ["name", "bytes", "counted"]
NODE_KEYS = [
    "name", "fits", "refusedBy", "reason", "message", "resolvable", "evidence", "state",
    "estimatedStartSeconds", "parts", "score", "memoryFreeBytes", "remedy",
]  # fmt: skip
DEMO_PODS = {pod["metadata"]["name"]: pod for pod in yaml.safe_load_all(PODS.read_text())}


def manifest(folder: Path, *documents: Any) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def explain(*arguments: str | Path) -> Done:
    return run("explain", "--snapshot", CLUSTER, *arguments)


def assert_documented(document: dict[str, Any]) -> None:
    """Every documented key is there, absent is null, and nothing else is."""
    assert list(document) == KEYS
    assert list(document["memory"]) == MEMORY_KEYS
    for volume in document["memory"]["volumes"]:
        assert list(volume) == VOLUME_KEYS
    for reference in document["references"]:
        assert list(reference) == REFERENCE_KEYS
    for warning in document["warnings"]:
        assert list(warning) == ["reason", "message"]
    for node in document["nodes"]:
        assert list(node) == NODE_KEYS
        assert (node["reason"] is None) == node["fits"]
        assert (node["message"] is None) == node["fits"]
        assert (node["score"] is None) == (not node["fits"])
        assert (node["remedy"] is None) == node["fits"]
        assert node["resolvable"] is (None if node["fits"] else False)


# -- the document --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEMO_PODS)
def test_the_document_has_exactly_the_documented_keys(tmp_path: Path, name: str) -> None:
    done = explain("-f", manifest(tmp_path, DEMO_PODS[name]), "-o", "json")
    document = done.json()
    assert_documented(document)
    assert (document["pod"], document["namespace"]) == (name, "inference")
    fits = [node["name"] for node in document["nodes"] if node["fits"]]
    assert done.code == (0 if fits else 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama-hostpath",
            {
                "strategy": "node-cache",
                "source": "hostPath",
                "need": "required",
                "model": "/models/llama-3.1-8b-instruct",
                "hostPath": "/var/lib/models/llama-3.1-8b-instruct",
                "volume": "models",
                "claim": None,
                "image": None,
                "revision": None,
                "unknown": None,
            },
        ),
        ("llama-memory", {"strategy": "memory", "source": "memory", "volume": "models"}),
        ("qwen-claim", {"strategy": "shared-volume", "source": "claim", "claim": "model-store"}),
        (
            "mistral-image",
            {
                "strategy": "image",
                "source": "image",
                "image": "registry.example.com/models/mistral-7b-instruct:v0.3",
            },
        ),
    ],
    ids=["hostPath", "memory", "claim", "image"],
)
def test_each_strategy_is_told_with_its_own_fields(
    tmp_path: Path, name: str, expected: dict[str, Any]
) -> None:
    document = explain("-f", manifest(tmp_path, DEMO_PODS[name]), "-o", "json").json()
    (reference,) = document["references"]
    assert reference["role"] == "model"
    assert reference["readFrom"] == ["containers[0].args[1]"]
    assert {key: reference[key] for key in expected} == expected


def test_a_pod_without_a_model_has_no_reference_and_null_where_nothing_is_known(
    tmp_path: Path,
) -> None:
    pod = {"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "busybox:1.37"}]}}
    done = explain("-f", manifest(tmp_path, pod), "-o", "json")
    document = done.json()
    assert_documented(document)
    assert done.code == 0
    assert (document["pod"], document["namespace"]) == (None, "default")
    assert document["references"] == []
    assert document["memory"] == {"demandBytes": 0, "requestBytes": 0, "volumes": []}
    assert {node["state"] for node in document["nodes"]} == {None}
    assert {node["evidence"] for node in document["nodes"]} == {None}


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    document = explain("-f", manifest(tmp_path, DEMO_PODS["llama-memory"]), "-o", "json").json()
    assert document["memory"] == {
        "demandBytes": 28 * 2**30,
        "requestBytes": 8 * 2**30,
        "volumes": [{"name": "models", "bytes": 20 * 2**30, "counted": True}],
    }
    free = {node["name"]: node["memoryFreeBytes"] for node in document["nodes"]}
    assert free["gpu-1"] == 12 * 2**30


def test_an_estimate_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    document = explain("-f", manifest(tmp_path, DEMO_PODS["qwen-claim"]), "-o", "json").json()
    for node in document["nodes"]:
        parts = dict(node["parts"])
        assert parts.pop("correction") == 1
        assert list(parts) == ["fetchSeconds", "readSeconds", "engineSeconds", "penaltySeconds"]
        assert node["estimatedStartSeconds"] == pytest.approx(sum(parts.values()), abs=0.21)


def test_several_pods_are_still_one_document() -> None:
    done = explain("-f", PODS, "-o", "json")
    assert [document["pod"] for document in done.json()] == list(DEMO_PODS)
    assert done.code == 1, "one of them fits nowhere"


# -- which pod, which nodes ----------------------------------------------------------------------


def test_a_pod_of_the_cluster_is_found_by_namespace_and_name() -> None:
    done = explain("qwen-0", "-n", "inference", "-o", "json")
    document = done.json()
    assert_documented(document)
    assert (document["pod"], document["namespace"]) == ("qwen-0", "inference")
    assert document["references"][0]["claim"] == "model-store"


@pytest.mark.parametrize("name", ["pod/qwen-0", "pods/qwen-0", "po/qwen-0"])
def test_a_pod_may_be_named_as_kubectl_prints_it(name: str) -> None:
    assert explain(name, "-n", "inference", "-o", "json").json()["pod"] == "qwen-0"


def test_of_a_pod_that_a_dump_has_twice_the_later_one_counts(tmp_path: Path) -> None:
    """As with ``kubectl get pods -o yaml >> cluster.yaml``, to bring it up to date."""
    dump = tmp_path / "cluster.yaml"
    metadata = {"name": "qwen-0", "namespace": "inference", "uid": "later"}
    later = {"kind": "Pod", "metadata": metadata, "spec": DEMO_PODS["gemma-hostpath"]["spec"]}
    dump.write_text(CLUSTER.read_text() + "\n---\n" + yaml.safe_dump(later))
    done = run("explain", "qwen-0", "-n", "inference", "--snapshot", dump)
    assert "asks for /models/gemma" in done.stdout


def test_of_a_template_it_is_told_where_the_fields_stand_that_are_to_be_changed(
    tmp_path: Path,
) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "nodeSelector": {"pool": "big"}, "containers": [{"name": "c"}],
    }}  # fmt: skip
    cron = {"kind": "CronJob", "metadata": {"name": "p"}, "spec": {
        "jobTemplate": {"spec": {"template": {"spec": pod["spec"]}}},
    }}  # fmt: skip
    anywhere = {"kind": "Job", "metadata": {"name": "p"}, "spec": {
        "template": {"spec": {"containers": [{"name": "c"}]}},
    }}  # fmt: skip
    where = "spec.jobTemplate.spec.template.spec"
    said = explain("-f", manifest(tmp_path, cron))
    assert f"\nfields of spec are those of the pod: {where}\n\nNODE" in said.stdout
    assert explain("-f", manifest(tmp_path, cron), "-o", "json").json()["template"] == where
    for other in (pod, anywhere):
        assert "fields of spec" not in explain("-f", manifest(tmp_path, other)).stdout
    assert explain("-f", manifest(tmp_path, pod), "-o", "json").json()["template"] is None


def test_one_node_can_be_asked_about(tmp_path: Path) -> None:
    path = manifest(tmp_path, DEMO_PODS["llama-hostpath"])
    done = explain("-f", path, "--node", "gpu-2", "-o", "json")
    assert [(node["name"], node["fits"]) for node in done.json()["nodes"]] == [("gpu-2", True)]
    assert done.code == 0
    done = explain("-f", path, "--node", "gpu-5", "-o", "json")
    assert [(node["name"], node["reason"]) for node in done.json()["nodes"]] == [
        ("gpu-5", "ModelAbsent")
    ]
    assert done.code == 1


@pytest.mark.parametrize("kind", ["Pod", "Deployment", "Job"])
def test_a_manifest_without_a_namespace_is_judged_in_the_one_given(
    tmp_path: Path, kind: str
) -> None:
    """Its claim is there; in another namespace there is none of that name."""
    pod = DEMO_PODS["qwen-claim"]
    document: dict[str, Any] = {"kind": kind, "metadata": {"name": "x"}, "spec": pod["spec"]}
    if kind != "Pod":
        document["spec"] = {"template": {"spec": pod["spec"]}}
    path = manifest(tmp_path, document)
    there = explain("-f", path, "-n", "inference", "-o", "json")
    assert (there.code, there.json()["namespace"]) == (0, "inference")
    elsewhere = explain("-f", path, "-o", "json")
    assert (elsewhere.code, elsewhere.json()["namespace"]) == (1, "default")
    assert {node["reason"] for node in elsewhere.json()["nodes"]} == {"ClaimMissing"}


def test_a_manifest_keeps_its_own_namespace(tmp_path: Path) -> None:
    path = manifest(tmp_path, DEMO_PODS["qwen-claim"])
    assert explain("-f", path, "-n", "other", "-o", "json").json()["namespace"] == "inference"


# -- for people ----------------------------------------------------------------------------------


def test_the_table_says_why_and_what_to_do(tmp_path: Path) -> None:
    done = explain("-f", manifest(tmp_path, DEMO_PODS["llama-memory"]))
    assert (done.code, done.stderr) == (0, "")
    head, *rows = done.stdout.split("\n\n")[1].splitlines()
    assert head.split("  ")[0] == "NODE"
    lines = {row.split()[0]: row for row in rows}
    assert list(lines) == ["gpu-2", "gpu-1", "gpu-3", "gpu-4", "gpu-5"], "what fits comes first"
    assert "lacks 16.0 GiB" in lines["gpu-1"]
    assert "resources.requests.memory: 28Gi" in lines["gpu-1"]
    assert (
        "kubectl annotate node gpu-5 modelcache.dev/provides=/var/lib/models/llama-3.1-8b-instruct"
        in lines["gpu-5"]
    )


def test_a_remedy_can_be_pasted_whatever_the_path(tmp_path: Path) -> None:
    pod = {**DEMO_PODS["llama-hostpath"]}
    container = {**pod["spec"]["containers"][0], "args": ["--model", "/models/a b;c"]}
    pod["spec"] = {**pod["spec"], "containers": [container]}
    done = explain("-f", manifest(tmp_path, pod), "--node", "gpu-5")
    assert "kubectl annotate node gpu-5 'modelcache.dev/provides=/var/lib/models/a b;c'" in (
        done.stdout
    )


# -- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: name a pod, or give a manifest with -f; one of the two\n"),
        (["qwen-0", "-f", str(PODS)], "name a pod, or give a manifest with -f; one of the two\n"),
        (["nobody"], "error: pod default/nobody is not in the snapshot\n"),
        (
            ["model-loader", "-n", "inference"],
            "pod inference/model-loader is not in the snapshot; there are: model-loader-1, "
            "model-loader-2, model-loader-3 and 1 more\n",
        ),
        (
            ["deployment/web", "-n", "inference"],
            "error: deployment/web: is no pod's name; of a workload give the manifest: kubectl get "
            "-n inference deployment/web -o yaml | model-cache-extender explain -f -; of a pod the "
            "name, and its namespace with -n\n",
        ),
        (["pod/"], "error: pod/: is no pod's name"),
        (
            ["qwen-0", "-n", "elsewhere"],
            "pod elsewhere/qwen-0 is not in the snapshot; one of that name is in another "
            "namespace: -n inference\n",
        ),
        (["qwen-0", "-n", "inference", "--node", "gpu-9"], "error: node gpu-9 is not in the clus"),
        (["qwen-0", "-n", "inference", "--node", ""], "error: node  is not in the cluster"),
        (["-f", "/no/such.yaml"], "error: /no/such.yaml: cannot be read: No such file or dir"),
        (["qwen-0", "-o", "yaml"], "'yaml' is not one of 'table', 'json'"),
        (["a", "b"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_use_is_exit_code_2_with_the_remedy(arguments: list[str], said: str) -> None:
    assert said in explain(*arguments).refusal()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"kind": "Service"}, "holds no pod; known kinds: Pod, Deployment"),
        ({}, "holds no pod"),
        ("hello", "holds no pod"),
        (
            {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"args": "x"}]}},
            r"Pod default/p: Expected `array`, got `str` - at `$.spec.containers[0].args`",
        ),
        ({"kind": "Pod", "metadata": ["x"]}, "Pod (no metadata): Expected `object`, got `array`"),
        (
            {
                "kind": "Job",
                "metadata": {"name": "j"},
                "spec": {"template": {"spec": {"volumes": 5}}},
            },
            "Expected `array`, got `int` - at `$.spec.volumes`",
        ),
    ],
    ids=["Service", "empty", "text", "args", "metadata", "template"],
)
def test_a_manifest_that_cannot_be_read_names_file_object_and_field(
    tmp_path: Path, document: Any, said: str
) -> None:
    path = manifest(tmp_path, document)
    refusal = explain("-f", path, "-o", "json").refusal()
    assert refusal.startswith(f"error: {path}: ")
    assert said in refusal


def test_a_bad_object_of_the_snapshot_is_said_on_stderr_and_the_document_stays_whole(
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "cluster.yaml"
    bad = "---\n{kind: Node, metadata: {name: odd}, status: {images: all}}\n"
    snapshot.write_text(CLUSTER.read_text() + bad)
    done = run("explain", "--snapshot", snapshot, "qwen-0", "-n", "inference", "-o", "json")
    assert done.code == 0
    assert done.stderr.startswith(f"warning: {snapshot}: Node odd: Expected `array`, got `str`")
    assert done.stderr.endswith("; left out\n")
    assert_documented(Done(done.code, done.stdout, "").json())


def test_a_pod_without_a_name_is_called_so(tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text("kind: Pod\nmetadata:\nspec: {containers: [{name: c}]}\n")
    done = run("explain", "-f", manifest, "--snapshot", CLUSTER)
    assert done.stdout.startswith("pod default/(no name): fits on ")
    assert "None" not in done.stdout
    placed = run("simulate", "-f", manifest, "--snapshot", CLUSTER)
    assert placed.stdout.startswith("default/(no name): 1 of 1 would be placed")


def test_a_model_that_cannot_be_told_has_no_made_up_name(tmp_path: Path) -> None:
    """Ray's workers join a group whose leader names the model."""
    serving = {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm/vllm-openai:v0.11.0",
                "command": ["sh", "-c", "ray start --address=$(LWS_LEADER_ADDRESS):6379 --block"],
            }
        ]
    }
    group = {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "g"},
        "spec": {"leaderWorkerTemplate": {"size": 2, "workerTemplate": {"spec": serving}}},
    }
    manifest = tmp_path / "group.yaml"
    manifest.write_text(yaml.safe_dump(group))
    done = run("explain", "-f", manifest, "--snapshot", CLUSTER)
    assert "\n  model: read from containers[0].command" in done.stdout
    assert "None" not in done.stdout
