"""The examples with this program's own loader: what it is told to do, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from extender import __version__
from extender.cli.main import cli
from extender.workload.manifest import parts_of
from extender.workload.model import Need, Source, Strategy
from extender.workload.references import read_workload

from .manifests import EXTENDER_IMAGE, ROOT, WORKLOADS, Workload, load, named, of_kind

CLAIM = "deploy/examples/loader-claim.yaml"
MEMORY = "deploy/examples/loader-memory.yaml"
FILLING = [
    workload
    for workload in WORKLOADS
    if any(container["name"] == "fill" for container in workload.containers())
]


def test_there_is_something_to_check() -> None:
    assert [workload.manifest.path for workload in FILLING] == [Path(CLAIM), Path(MEMORY)]


@named(FILLING)
def test_the_command_line_takes_what_the_manifest_gives(case: Workload) -> None:
    container = case.container("fill")
    group, name, *arguments = container["args"]
    assert (group, name) == ("loader", "fill")
    fill = cli.commands["loader"].commands["fill"]  # type: ignore[attr-defined]
    # As the program's own context has it: click keeps a command's help option as it was first made.
    given = fill.make_context("fill", list(arguments), **cli.context_settings).params
    assert given["source"] == "hf://meta-llama/Llama-3.1-8B-Instruct"
    assert given["dest"] == Path("/models/llama-3.1-8b-instruct")
    assert given["exclude"] == ("original/*",)


@named(FILLING)
def test_it_runs_without_root_and_writes_its_volumes_alone(case: Workload) -> None:
    container = case.container("fill")
    security = case.spec.get("securityContext", {}) | container["securityContext"]
    assert container["image"] == f"{EXTENDER_IMAGE}:{__version__}"
    assert security["runAsNonRoot"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False


def test_the_pod_in_memory_prefers_nodes_that_hold_the_model() -> None:
    (manifest,) = load(Path(MEMORY))
    pod = parts_of(manifest.body)[0].pod
    (reference,) = read_workload(pod.metadata, pod.spec).references
    assert (reference.strategy, reference.need) == (Strategy.MEMORY, Need.PREFERRED)
    assert reference.origin is not None
    assert reference.origin.source is Source.HOST_PATH
    assert reference.origin.host_path == "/var/lib/models/llama-3.1-8b-instruct"


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_job_and_the_servers_mean_the_same_claim(kind: str) -> None:
    (claim,) = of_kind(CLAIM, "PersistentVolumeClaim")
    (workload,) = of_kind(CLAIM, kind)
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    names = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "emptyDir" not in v]
    assert names == [claim["metadata"]["name"]]


def test_wrong_use_ends_the_job_who_reads_is_waited_for_and_anything_else_is_tried_again() -> None:
    (job,) = of_kind(CLAIM, "Job")
    rules = {
        rule["action"]: rule["onExitCodes"] for rule in job["spec"]["podFailurePolicy"]["rules"]
    }
    codes = {"containerName": "fill", "operator": "In"}
    assert rules == {"FailJob": codes | {"values": [2]}, "Ignore": codes | {"values": [3]}}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # as the apiserver demands


def test_a_job_is_created_before_the_servers_that_wait_for_it() -> None:
    kustomization = yaml.safe_load((ROOT / "deploy/examples/kustomization.yaml").read_text("utf-8"))
    assert kustomization["sortOptions"] == {"order": "fifo"}  # by kind a Job would be the last
    for file in ("shared-volume.yaml", "loader-claim.yaml"):
        kinds = [manifest.body["kind"] for manifest in load(Path("deploy/examples", file))]
        assert kinds == ["PersistentVolumeClaim", "Job", "Deployment"]
