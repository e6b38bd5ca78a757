"""Who made a pod: what one edits, the whole path of the field, every pod that differs."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from extender.doctor.finding import Severity
from extender.kube.objects import Pod
from tests.builders import (
    job,
    namespace,
    pod,
    vllm,
)
from tests.doctor.building import (
    NODES,
    QUIET,
    Objects,
    filled,
    findings,
    labelled,
    of,
    one,
    ours,
    replicas,
    writable,
)
from tests.doctor.test_cluster import RULES

OPTED_IN = labelled(namespace("inference"), labels={"modelcache.dev/scheduling": "enabled"})
LABEL = "kubectl label namespace inference modelcache.dev/scheduling=enabled"
CREATED = "2026-01-01T00:00:00Z"


def test_a_pod_that_nobody_asks_about_is_told_both_ways() -> None:
    remedy = one(findings([*NODES, *replicas(vllm(), 2)]), "NotAskedAbout").remedy
    assert remedy.startswith("set spec.template.spec.schedulerName: model-cache-scheduler")
    assert LABEL in remedy


def test_a_label_that_is_there_is_not_advised() -> None:
    """Pods that run were made before it, or before the policy that reads it."""
    running = replicas(vllm(on="a"), 2, creation_timestamp=CREATED)
    remedy = one(findings([*NODES, OPTED_IN, *running]), "NotAskedAbout").remedy
    assert LABEL not in remedy
    assert "kubectl rollout restart deployment -n inference web" in remedy


@pytest.mark.parametrize("namespaces", [[], [OPTED_IN]], ids=["no label", "a label"])
def test_a_label_is_not_advised_for_pods_that_it_does_not_reach(namespaces: Objects) -> None:
    """The policy of deploy/opt-in leaves Jobs to their scheduler, and other schedulers' pods."""
    of_job = labelled(
        vllm(), owner_references=pod(metadata=of("Job", "batch")).metadata.owner_references
    )
    elsewhere = msgspec.structs.replace(
        vllm("x"), spec=msgspec.structs.replace(vllm().spec, scheduler_name="volcano")
    )
    for each, field in ((of_job, "spec.template.spec.schedulerName"),
                        (elsewhere, "spec.schedulerName")):  # fmt: skip
        remedy = one(findings([*NODES, *namespaces, each]), "NotAskedAbout").remedy
        assert remedy == f"set {field}: model-cache-scheduler"


OWNERS: dict[str, tuple[dict[str, Any], Objects, str, str]] = {
    "nobody": ({}, [], "Pod inference/x", "spec"),
    "a DaemonSet": (of("DaemonSet", "d"), [], "DaemonSet inference/d", "spec.template.spec"),
    "a StatefulSet": (of("StatefulSet", "s"), [], "StatefulSet inference/s", "spec.template.spec"),
    "a Deployment": (
        of("ReplicaSet", "w-5d8f", labels={"pod-template-hash": "5d8f"}), [],
        "Deployment inference/w", "spec.template.spec",
    ),
    "a ReplicaSet": (of("ReplicaSet", "r"), [], "ReplicaSet inference/r", "spec.template.spec"),
    "a Job": (of("Job", "j"), [job("j", script=QUIET)], "Job inference/j", "spec.template.spec"),
    "a CronJob": (
        of("Job", "j"),
        [labelled(job("j", script=QUIET),
                  owner_references=pod(metadata=of("CronJob", "c")).metadata.owner_references)],
        "CronJob inference/c", "spec.jobTemplate.spec.template.spec",
    ),
    "a LeaderWorkerSet, the leader": (
        of("StatefulSet", "l", labels={"leaderworkerset.sigs.k8s.io/name": "l",
                                       "leaderworkerset.sigs.k8s.io/worker-index": "0"}), [],
        "LeaderWorkerSet inference/l", "spec.leaderWorkerTemplate.leaderTemplate.spec",
    ),
    "a LeaderWorkerSet, a worker": (
        of("StatefulSet", "l-0", labels={"leaderworkerset.sigs.k8s.io/name": "l",
                                         "leaderworkerset.sigs.k8s.io/worker-index": "1"}), [],
        "LeaderWorkerSet inference/l", "spec.leaderWorkerTemplate.workerTemplate.spec",
    ),
    "what nobody knows": (
        of("RayCluster", "r"), [], "RayCluster inference/r", "its pod template's spec"
    ),
    "KServe's controller": (
        of("ReplicaSet", "m-predictor-5d8f",
           labels={"pod-template-hash": "5d8f", "serving.kserve.io/inferenceservice": "m"}),
        [], "InferenceService inference/m", "its pod template's spec",
    ),
    "KServe's controller of LLMs": (
        of("ReplicaSet", "m-kserve-5d8f",
           labels={"pod-template-hash": "5d8f", "app.kubernetes.io/name": "m",
                   "app.kubernetes.io/part-of": "llminferenceservice"}),
        [], "LLMInferenceService inference/m", "its pod template's spec",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made_by", "others", "owner", "spec"), OWNERS.values(), ids=OWNERS)
def test_a_field_is_named_by_its_whole_path_in_what_one_edits(
    made_by: dict[str, Any], others: Objects, owner: str, spec: str
) -> None:
    metadata = pod("x", metadata=made_by).metadata
    found = findings(
        [
            *NODES,
            *others,
            msgspec.structs.replace(ours(writable(vllm("x"))), metadata=metadata),
            msgspec.structs.replace(filled(size="8Gi"), metadata=labelled(
                pod("y"), owner_references=metadata.owner_references, labels=metadata.labels
            ).metadata),
        ]
    )  # fmt: skip
    mounted = one(found, "ModelMountWritable")
    assert (mounted.object, mounted.remedy) == (
        owner, f"{spec}.containers[0].volumeMounts[0].readOnly: true"
    )  # fmt: skip
    assert f"set {spec}.volumes[0].emptyDir.sizeLimit: 17Gi" in {
        each.remedy for each in found if each.check == "VolumeTooSmall"
    }


def test_every_pod_of_an_owner_that_differs_from_the_first_is_judged() -> None:
    """A Deployment in the middle of a rollout has pods of two templates."""
    changed = [
        labelled(each, name=f"new-{index}", uid=f"new-{index}")
        for index, each in enumerate(replicas(ours(writable(vllm())), 2))
    ]
    found = findings([*NODES, *replicas(ours(vllm()), 2), *changed])
    assert one(found, "ModelMountWritable").object == "Deployment inference/web"


def test_pods_that_differ_and_have_the_same_wrong_are_one_finding() -> None:
    pods = [
        labelled(each, labels={"apps.kubernetes.io/pod-index": str(index)})
        for index, each in enumerate(replicas(filled(), 3))
    ]
    assert "each of 3 pods" in one(findings([*NODES, *pods]), "FetchedByEachPod").message


@pytest.mark.parametrize(("check", "_severity", "bad", "_mended"), RULES.values(), ids=RULES)
def test_what_is_to_be_changed_of_a_deployment_is_named_from_its_own_root(
    check: str, _severity: Severity, bad: Objects, _mended: Objects
) -> None:
    """The same wrong in the pods of a Deployment: no remedy has a path that only a pod has."""
    owned = [
        replicas(each, 1)[0] if isinstance(each, Pod) and each.metadata.controller() is None
        else each
        for each in bad
    ]  # fmt: skip
    for found in findings([*NODES, *owned]):
        if found.check == check and found.object.startswith(("Deployment", "DaemonSet", "Job")):
            paths = re.findall(r"(?<![\w.])(?:spec|metadata)\.[\w.\[\]]+", found.remedy)
            assert all(path.startswith("spec.template.") for path in paths)
