"""Which Jobs fill a claim, at which path inside it, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.decode import convert
from extender.kube.objects import Job
from extender.workload.jobs import read_job

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
CLAIM = {"name": "store", "persistentVolumeClaim": {"claimName": "model-store"}}
MOUNT = {"name": "store", "mountPath": "/models"}
DOWNLOAD = "hf download org/llama --revision v1 --local-dir /models/llama"
Spec = dict[str, Any]
Written = list[tuple[str, str, str | None]]


def container(script: str = DOWNLOAD, **more: Any) -> Spec:
    return {"command": ["sh", "-c", script], "volumeMounts": [MOUNT], **more}


def written(
    *containers: Spec, init: tuple[Spec, ...] = (), volumes: tuple[Spec, ...] = (CLAIM,)
) -> Written:
    """Return claim, path inside it and model of each writer."""
    spec = {
        "initContainers": list(init),
        "containers": list(containers),
        "volumes": list(volumes),
    }
    job = convert({"spec": {"template": {"spec": spec}}}, Job)
    return [(w.claim, w.model.path, w.model.model) for w in read_job(job)]


@pytest.mark.parametrize(
    ("manifest", "claim"),
    [("shared-volume.yaml", "model-store"), ("loader-claim.yaml", "proven-models")],
)
def test_a_shipped_example_fills_its_claim(manifest: str, claim: str) -> None:
    documents = yaml.safe_load_all((EXAMPLES / manifest).read_text())
    (body,) = (document for document in documents if document["kind"] == "Job")
    (writer,) = read_job(convert(body, Job))
    assert writer.claim == claim
    assert writer.model.path == "llama-3.1-8b-instruct"
    assert writer.model.model == "meta-llama/Llama-3.1-8B-Instruct"


def test_the_revision_and_the_field_are_told() -> None:
    body = {"spec": {"template": {"spec": {"containers": [container()], "volumes": [CLAIM]}}}}
    (writer,) = read_job(convert(body, Job))
    assert writer.model.revision == "v1"
    assert writer.model.read_from == ("containers[0].command[2]",)


@pytest.mark.parametrize(
    ("filler", "path", "model"),
    [
        pytest.param(container(), "llama", "org/llama", id="a download"),
        pytest.param(
            container("hf download org/llama --local-dir /models"), "", "org/llama", id="the root"
        ),
        pytest.param(
            container("hf download org/llama q4.gguf --local-dir /models"),
            "q4.gguf",
            "org/llama",
            id="a file in the root",
        ),
        pytest.param(
            container(volumeMounts=[{**MOUNT, "subPath": "v1/x"}]),
            "v1/x/llama",
            "org/llama",
            id="a subPath",
        ),
        pytest.param(
            container(
                volumeMounts=[{**MOUNT, "subPathExpr": "$(TEAM)"}],
                env=[{"name": "TEAM", "value": "red"}],
            ),
            "red/llama",
            "org/llama",
            id="a subPathExpr",
        ),
        pytest.param(
            container("hf download org/llama", env=[{"name": "HF_HOME", "value": "/models"}]),
            "hub/models--org--llama",
            "org/llama",
            id="a hub cache",
        ),
        pytest.param(
            container("aws s3 sync s3://b/x /models/x"), "x", "s3://b/x", id="object storage"
        ),
        pytest.param(
            container("cp -r /image/llama /models"),
            "llama",
            "/image/llama",
            id="copied from an image",
        ),
        pytest.param(
            {
                "name": "storage-initializer",
                "image": "kserve/storage-initializer:v0.15",
                "args": ["hf://org/llama", "/models/llama"],
                "volumeMounts": [MOUNT],
            },
            "llama",
            "hf://org/llama",
            id="KServe's storage initializer",
        ),
    ],
)
def test_a_job_fills_a_path_of_a_claim(filler: Spec, path: str, model: str) -> None:
    assert written(filler) == [("model-store", path, model)]


def test_init_containers_fill_too() -> None:
    assert written(container("echo done"), init=(container(),)) == [
        ("model-store", "llama", "org/llama")
    ]


def test_several_models_in_several_claims() -> None:
    other = {"name": "other", "persistentVolumeClaim": {"claimName": "second"}}
    script = f"{DOWNLOAD}; hf download org/qwen --local-dir /other/qwen"
    mounts = [MOUNT, {"name": "other", "mountPath": "/other"}]
    assert written(container(script, volumeMounts=mounts), volumes=(CLAIM, other)) == [
        ("model-store", "llama", "org/llama"),
        ("second", "qwen", "org/qwen"),
    ]


def test_the_same_download_counts_once() -> None:
    assert len(written(container(f"{DOWNLOAD} || {DOWNLOAD}"))) == 1


def test_a_move_within_the_claim_is_followed() -> None:
    script = (
        f"{DOWNLOAD.replace('/models/llama', '/models/.part')} && mv /models/.part /models/llama"
    )
    assert written(container(script)) == [("model-store", "llama", "org/llama")]


NOTHING = {
    "another program": container("python /train.py"),
    "a backup": container("aws s3 sync /models s3://backup"),
    "a check": container("ls -la /models; test -f /models/llama/config.json"),
    "a read-only mount": container(volumeMounts=[{**MOUNT, "readOnly": True}]),
    "no mount": container(volumeMounts=[]),
    "another directory": container("hf download org/llama --local-dir /tmp/llama"),
    "an unknown directory": container("hf download org/llama --local-dir $WHERE"),
    "a relative directory": container("hf download org/llama --local-dir llama"),
    "an unknown subPathExpr": container(volumeMounts=[{**MOUNT, "subPathExpr": "$(TEAM)"}]),
}


@pytest.mark.parametrize("other", NOTHING.values(), ids=NOTHING)
def test_what_writes_no_model_into_the_claim_fills_nothing(other: Spec) -> None:
    assert written(other) == []


@pytest.mark.parametrize(
    "volume",
    [
        {"persistentVolumeClaim": {"claimName": "model-store", "readOnly": True}},
        {"hostPath": {"path": "/mnt/models"}},
        {"emptyDir": {}},
        {"ephemeral": {}},
    ],
    ids=lambda volume: next(iter(volume)),
)
def test_other_volumes_are_no_claims_to_fill(volume: Spec) -> None:
    assert written(container(), volumes=({"name": "store", **volume},)) == []


WORDS = st.lists(
    st.sampled_from(["sh", "-c", DOWNLOAD, "cp", "-r", "/x", "/models/..", "mv"])
    | st.text(max_size=9),
    max_size=6,
)


@given(WORDS, WORDS, st.sampled_from(["", "x", "../x", "/x", "$(A)"]))
def test_no_job_is_refused(command: list[str], args: list[str], below: str) -> None:
    mount = {**MOUNT, "subPath": below}
    found = written({"command": command, "args": args, "volumeMounts": [mount]})
    assert all(not path.startswith("/") and ".." not in path for _, path, _ in found)
