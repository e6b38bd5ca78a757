"""Every rule on the objects of a cluster: the bad form is found, the mended is not."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from extender.doctor.finding import Severity
from extender.doctor.labels import KEYS
from extender.serving.touching import REQUEUED_ANNOTATION
from tests.builders import (
    CRASHING,
    DOWNLOAD,
    LOADING,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_pod,
    namespace,
    node,
    our_loader,
    owned,
    pod,
    reported,
    reporting_pod,
    tmpfs,
    vllm,
)
from tests.doctor.building import (
    ERROR,
    GB,
    LOADER,
    NODES,
    NOTE,
    ON_NODE,
    OPAQUE,
    QUIET,
    WARNING,
    Objects,
    at,
    by_its_image,
    checks,
    decided,
    extender,
    filled,
    findings,
    gang,
    in_main,
    labelled,
    mounting,
    of,
    ollama,
    one,
    ours,
    reading_a_claim,
    reading_it_on,
    replicas,
    shipped_pods,
    template,
    unprobed,
    untold,
    without_lease,
    writable,
)
from tests.explain.test_logs import FAILED

RULES: dict[str, tuple[str, Severity, Objects, Objects]] = {
    # loaders
    "a loader fails on a node": (
        "LoaderFailed", WARNING, [LOADER, at("a", READY), at("b", CRASHING)],
        [LOADER, at("a", READY), at("b", READY)],
    ),
    "a loader fails everywhere": (
        "LoaderFailed", ERROR, [LOADER, at("a", CRASHING)], [LOADER, at("a", READY)],
    ),
    "a loader stopped": (
        "LoaderNotReady", WARNING, [LOADER, at("a", STOPPED)], [LOADER, at("a", READY)],
    ),
    "a loader loads": ("LoaderLoading", NOTE, [LOADER, at("a", LOADING)], [LOADER, at("a", READY)]),
    "a loader without pods": ("LoaderWithoutPods", WARNING, [LOADER], [LOADER, at("a", READY)]),
    "a script that cannot be read": (
        "LoaderOpaque", NOTE,
        [loader(script=f"{OPAQUE}; {QUIET}"), at("a", READY)],
        [template(loader(script=f"{OPAQUE}; {QUIET}"),
                  annotations={"modelcache.dev/models": "/var/lib/models/x"}), at("a", READY)],
    ),
    "Ready before it is done": (
        "LoaderReadyTooSoon", WARNING,
        [in_main(LOADER, probe=False)], [in_main(LOADER, probe=True)],
    ),
    "a script that cannot be read, and no probe": (
        "LoaderOpaque", WARNING,
        [untold(OPAQUE, probe=False), at("a", READY)],
        [untold(OPAQUE, probe=True, **{"modelcache.dev/models": "/var/lib/models/x"}),
         at("a", READY)],
    ),
    "a loader that may not vouch": (
        "UntrustedLoader", WARNING,
        [loader(namespace="platform", script=QUIET), ours(vllm())],
        [loader(namespace="platform", script=QUIET), ours(vllm()),
         namespace("platform", trusted=True)],
    ),
    "a path that nobody fills": (
        "PathWithoutLoader", NOTE, [ours(vllm())],
        [ours(vllm()), node("a", annotations={"modelcache.dev/provides": "/var/lib/models"})],
    ),
    # labels
    "a label misspelt": (
        "LabelWithoutEffect", WARNING,
        [template(LOADER, labels={"modelcache.dev/loaders": "true"})],
        [template(LOADER, labels={"modelcache.dev/loader": "true"})],
    ),
    "a label on the wrong object": (
        "LabelWithoutEffect", WARNING,
        [labelled(LOADER, labels={"modelcache.dev/loader": "true"})], [LOADER],
    ),
    "a label with another value": (
        "LabelWithoutEffect", WARNING,
        [labelled(namespace("x"), labels={"modelcache.dev/scheduling": "true"})],
        [labelled(namespace("x"), labels={"modelcache.dev/scheduling": "enabled"})],
    ),
    "an annotation for a label": (
        "LabelWithoutEffect", WARNING,
        [labelled(namespace("x"), annotations={"modelcache.dev/loaders": "trusted"})],
        [namespace("x", trusted=True)],
    ),
    "an annotation that nobody knows": (
        "LabelWithoutEffect", WARNING,
        [node("a", annotations={"modelcache.dev/provide": "/x"})],
        [node("a", annotations={"modelcache.dev/provides": "/x"})],
    ),
    "a need that is none": (
        "BadAnnotation", WARNING,
        [labelled(ours(vllm()), annotations={"modelcache.dev/need": "must"})],
        [labelled(ours(vllm()), annotations={"modelcache.dev/need": "required"})],
    ),
    # pods
    "a volume smaller than its model": (
        "VolumeTooSmall", WARNING, [filled(size="8Gi")], [filled(size="20Gi")],
    ),
    "a limit below the model": (
        "ModelExceedsLimit", WARNING, [filled(size=None, limit="12Gi")],
        [filled(size=None, limit="24Gi")],
    ),
    "a volume beyond the limit": (
        "OversizedMemoryVolume", WARNING, [filled(size="20Gi", limit="18Gi")],
        [filled(size="20Gi", limit="24Gi")],
    ),
    "a volume without a size": ("UnsizedMemoryVolume", NOTE, [filled(size=None)], [filled()]),
    "a model mounted writable": (
        "ModelMountWritable", WARNING, [ours(writable(vllm()))], [ours(vllm())],
    ),
    "a server without a probe": (
        "ReadyBeforeServing", WARNING, [ours(unprobed(vllm()))], [ours(vllm())],
    ),
    "a download for every replica": (
        "FetchedByEachPod", WARNING, replicas(filled(), 2),
        replicas(filled(script="cp -r /cache/m /models/m"), 2),
    ),
    "a download for one pod": ("FetchedByEachPod", NOTE, [filled()], [filled(script="true")]),
    "a download over what others read": (
        "FetchedOverOthers", WARNING, [filled(volumes=[ON_NODE])],
        [filled(volumes=[ON_NODE], script="cp -r /cache/m /models/m")],
    ),
    "a download over what others read, without looking": (
        "FetchedOverOthers", WARNING, [filled(volumes=[ON_NODE])],
        [filled(volumes=[ON_NODE],
                script="[ -f /models/m/config.json ] || hf download org/m --local-dir /models/m")],
    ),
    "a store of Ollama's": (
        "ModelMountWritable", NOTE, [ollama()], [ollama(readOnly=True)],
    ),
    "a gang in memory": (
        "GangWithMemoryVolumes", WARNING,
        [gang(labels={"scheduling.x-k8s.io/pod-group": "g"})], [gang()],
    ),
    "a pod that nobody asks about": (
        "NotAskedAbout", WARNING, [vllm()], [ours(vllm())],
    ),
    # formats
    "pickles chosen": (
        "PickledWeights", WARNING,
        [job("j", script=DOWNLOAD.replace("local_dir=", "allow_patterns=['*.bin'], local_dir="))],
        [job("j", script=QUIET)],
    ),
    "safetensors left out": (
        "PickledWeights", WARNING,
        [filled(script=f"hf download {GB} --exclude '*.safetensors' --local-dir /models/m")],
        [filled()],
    ),
    **{
        f"pickles by {script.split()[0]}: {script.split()[-1]}": (
            "PickledWeights", WARNING, [filled(script=script)], [filled(script=mended)],
        )
        for script, mended in (
            ("wget -P /models/m https://h.example/r/pytorch_model.bin?download=true",
             "wget -P /models/m https://h.example/r/model.safetensors?download=true"),
            ("wget -P /models/m https://huggingface.co/org/m/resolve/main/pytorch_model.bin",
             "wget -P /models/m https://huggingface.co/org/m/resolve/main/model.safetensors"),
            ("curl -Lo /models/m/w https://huggingface.co/org/m/resolve/v1/a/model.pt?download=true",
             "curl -Lo /models/m/w https://huggingface.co/org/m/resolve/v1/a/model.gguf"),
            ("curl -L -o /models/m/w https://h.example/r/model.pt",
             "curl -L -o /tmp/w https://h.example/r/model.pt"),
            ("aws s3 cp s3://b/m/pytorch_model.bin /models/m/",
             "aws s3 cp s3://b/m/model.safetensors /models/m/"),
            ("aws s3 cp --recursive s3://b/m /models/m --exclude '*' --include '*.bin'",
             "aws s3 cp --recursive s3://b/m /models/m --exclude '*.bin'"),
            ("gsutil -m cp gs://b/m/*.bin /models/m", "gsutil -m cp gs://b/m/*.json /models/m"),
            ("s5cmd cp 's3://b/m/*.pth' /models/m/", "s5cmd cp 's3://b/m/*' /models/m/"),
            ("rclone copy r:b/m /models/m --include '*.pt'", "rclone copy r:b/m /models/m"),
            ("wget -r -P /models/m https://h.example/r/ -A '*.bin'",
             "wget -r -P /models/m https://h.example/r/ -A '*.safetensors'"),
            ("hf download org/m pytorch_model.bin", "hf download org/m model.safetensors"),
            ("huggingface-cli download org/m --local-dir /models/m a/model.pt",
             "huggingface-cli download org/m --local-dir /models/m --exclude model.pt"),
            ("for f in 1 2; do wget -P /models/m https://h.example/r/pytorch-$f.bin; done",
             "wget -P /models/m https://h.example/r/ggml-base.en.bin"),
            ("python3 -c 'import h; h.hf_hub_download(\"org/m\", filename=\"x.pt\")'",
             "python3 -c 'import h; h.hf_hub_download(\"org/m\", filename=\"x.gguf\")'"),
        )
    },
    "pickles loaded": (
        "PickledWeights", WARNING,
        [ours(pod(spec={"containers": [{"name": "v", "args": ["--load-format", "pt"]}]}))],
        [ours(pod(spec={"containers": [{"name": "v", "args": ["--load-format", "auto"]}]}))],
    ),
    "every format": (
        "EveryFormatFetched", NOTE, [loader(), at("a", READY)], [LOADER, at("a", READY)],
    ),
    # placements
    "two schedulers on a node": (
        "TwoSchedulersOnNodes", WARNING,
        [ours(vllm("x", on="a")), tmpfs(on="a")], [ours(vllm("x", on="a")), tmpfs(on="b")],
    ),
    "an opt-in without effect": (
        "OptInWithoutEffect", WARNING,
        [labelled(namespace("inference"), labels={"modelcache.dev/scheduling": "enabled"}), vllm()],
        [labelled(namespace("inference"), labels={"modelcache.dev/scheduling": "enabled"}),
         ours(vllm())],
    ),
    "a claim read slowly": ("ClaimReadSlowly", WARNING, [decided(300)], [decided(80)]),
    "a claim of one node, read by two pods": (
        "ClaimNotShared", WARNING,
        [claim("store", accessModes=["ReadWriteOnce"]), *replicas(reading_a_claim(), 2)],
        [claim("store", accessModes=["ReadWriteOnce", "ReadOnlyMany"]),
         *replicas(reading_a_claim(), 2)],
    ),
    "a claim of one pod, read by three": (
        "ClaimNotShared", ERROR,
        [claim("store", accessModes=["ReadWriteOncePod"]), *replicas(reading_a_claim(), 3)],
        [claim("store", accessModes=["ReadWriteOncePod"]), reading_a_claim()],
    ),
    "a claim of one pod, that another writes": (
        "ClaimNotShared", ERROR,
        [claim("store", accessModes=["ReadWriteOncePod"]), reading_a_claim(), mounting("store")],
        [claim("store", accessModes=["ReadWriteOncePod"]), reading_a_claim(), mounting("other")],
    ),
    "a claim of one node, on two of which one does not start": (
        "ClaimNotShared", ERROR,
        [claim("store", accessModes=["ReadWriteOnce"]), reading_a_claim(),
         reading_it_on("b", ready=False)],
        [claim("store", accessModes=["ReadWriteOnce"]), reading_a_claim(),
         reading_it_on("b", ready=True)],
    ),
    # extenders
    "two extenders that bind": (
        "NotFenced", ERROR, replicas(extender("serve"), 2),
        replicas(extender("serve", "--lease", "model-cache-system/model-cache-scheduler"), 2),
    ),
    "two extenders by their image's own entrypoint": (
        "NotFenced", ERROR, replicas(by_its_image("serve"), 2),
        replicas(by_its_image("serve", "--observe"), 2),
    ),
    "an extender that is one of two": (
        "NotFenced", ERROR, replicas(extender("serve", "--config", "/etc/c.yaml"), 2),
        [extender("serve", "--config", "/etc/c.yaml"),
         *replicas(extender("serve", "--observe"), 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "severity", "bad", "mended"), RULES.values(), ids=RULES)
def test_each_rule_finds_the_bad_form_and_leaves_the_mended_alone(
    check: str, severity: Severity, bad: Objects, mended: Objects
) -> None:
    found = [one for one in findings([*NODES, *bad]) if one.check == check]
    assert [one.severity for one in found] == [severity], checks([*NODES, *bad])
    assert found[0].object
    assert found[0].message
    assert found[0].remedy
    assert check not in checks([*NODES, *mended]), findings([*NODES, *mended])


@pytest.mark.parametrize(("status", "command"), FAILED.values(), ids=FAILED)
def test_of_a_loader_that_fails_the_command_that_shows_why_is_named(
    status: dict[str, Any], command: str
) -> None:
    """The same as explain names: no log where nothing has run."""
    assert one(findings([*NODES, LOADER, at("a", status)]), "LoaderFailed").remedy == command


@pytest.mark.parametrize(
    ("script", "check"),
    [
        (OPAQUE, "LoaderOpaque"),
        (QUIET, "LoaderReadyTooSoon"),
        (f"{OPAQUE}; {QUIET}", "LoaderReadyTooSoon"),
    ],
)
def test_one_finding_says_of_a_loader_what_its_manifest_leaves_open(
    script: str, check: str
) -> None:
    found = findings([*NODES, untold(script, probe=False)])
    told = [one for one in found if one.check in {"LoaderOpaque", "LoaderReadyTooSoon"}]
    assert [one.check for one in told] == [check]
    assert "readinessProbe" in told[0].remedy
    assert ("modelcache.dev/models" in told[0].remedy) is (OPAQUE in script)


def test_an_owner_of_many_pods_is_found_once() -> None:
    found = findings([*NODES, *replicas(ours(writable(vllm())), 5)])
    assert [(f.check, f.object) for f in found if f.check == "ModelMountWritable"] == [
        ("ModelMountWritable", "Deployment inference/web")
    ]


def test_what_each_pod_fetches_is_named_without_what_lets_one_read_it() -> None:
    signed = "https://me:hunter2@x.example/m.gguf?X-Amz-Signature=c0ffee"
    found = findings([*NODES, filled(script=f"curl -L -o /models/m '{signed}'")])
    (fetched,) = (one for one in found if one.check == "FetchedByEachPod")
    assert "downloads https://x.example/m.gguf anew" in fetched.message
    assert not [one for one in found if "hunter2" in str(one) or "c0ffee" in str(one)]


def test_ollama_is_not_told_to_mount_everything_read_only() -> None:
    """It writes its key beside the models, and starts no more without."""
    (found,) = (one for one in findings([*NODES, ollama()]) if one.check == "ModelMountWritable")
    assert "OLLAMA_NOPRUNE=1" in found.remedy
    assert "~/.ollama itself has to stay writable" in found.remedy


def test_files_that_a_call_names_are_not_every_format() -> None:
    one = filled(script="hf download org/m model.safetensors config.json --local-dir /models/m")
    assert "EveryFormatFetched" not in checks([*NODES, one])
    every = filled(script="hf download org/m-3.1-8b --local-dir /models/m")
    assert checks([*NODES, every])["EveryFormatFetched"] is NOTE


def test_a_misspelt_key_is_told_by_the_nearest_one_that_suits_its_place() -> None:
    (found,) = findings(
        [template(LOADER, labels={"modelcache.dev/loaders": "true"}), at("a", READY), *NODES]
    )
    assert found.remedy.startswith("write modelcache.dev/loader, or make it the label of a Name")


def test_a_misspelt_key_is_told_by_the_nearest_one() -> None:
    (found,) = findings([labelled(node("a"), annotations={"modelcache.dev/providse": "/x"})])
    assert found.remedy == "write modelcache.dev/provides"


def test_a_start_that_a_restart_made_long_says_nothing_of_the_claim() -> None:
    assert "ClaimReadSlowly" not in checks([*NODES, decided(300, restarts=1)])


def test_the_marks_that_the_program_itself_writes_are_known() -> None:
    assert REQUEUED_ANNOTATION in KEYS


def test_pods_of_daemon_sets_and_of_the_kubelet_are_no_placements() -> None:
    daemon = labelled(
        tmpfs(on="a"), owner_references=pod(metadata=of("DaemonSet", "d")).metadata.owner_references
    )
    assert "TwoSchedulersOnNodes" not in checks([*NODES, ours(vllm("x", on="a")), daemon])


EVIL = "$(touch owned) `id`; rm"
BAKED = vllm(volume={"hostPath": {"path": f"/var/{EVIL}"}}, model="/models/x")
FOREIGN = loader(name=EVIL, namespace=EVIL, script=QUIET)
OPTED_IN = labelled(namespace(EVIL), labels={"modelcache.dev/scheduling": "enabled"})


@pytest.mark.parametrize(
    ("check", "objects", "arguments"),
    [
        ("PathWithoutLoader", [ours(BAKED)], [f"modelcache.dev/provides=/var/{EVIL}/x"]),
        ("LoaderWithoutPods", [FOREIGN], ["-n", EVIL, EVIL]),
        (
            "LoaderNotReady",
            [FOREIGN, loader_pod("a", STOPPED, name=EVIL, namespace=EVIL, script=QUIET)],
            ["-n", EVIL, f"{EVIL}-a"],
        ),
        ("UntrustedLoader", [FOREIGN, ours(vllm())], [EVIL]),
        ("NotAskedAbout", [OPTED_IN, LOADER, vllm(name=EVIL, namespace=EVIL)], ["-n", EVIL, EVIL]),
        (
            "NotAskedAbout",
            [OPTED_IN, LOADER, owned(vllm(name=EVIL, namespace=EVIL), "StatefulSet", EVIL)],
            ["-n", EVIL, EVIL],
        ),
        (
            "NotAskedAbout",
            [OPTED_IN, LOADER, owned(vllm(name=EVIL, namespace=EVIL), "ReplicaSet", EVIL)],
            ["-n", EVIL, EVIL],
        ),
    ],
)  # fmt: skip
def test_what_is_to_be_pasted_runs_nothing_that_a_path_or_a_name_says(
    check: str, objects: Objects, arguments: list[str]
) -> None:
    """A path is whatever the author of a pod wrote; a name is of a dump that somebody made."""
    remedy = next(one.remedy for one in findings([*NODES, *objects]) if one.check == check)
    told = " ".join(map(shlex.quote, arguments))
    assert told in remedy
    assert EVIL not in remedy.replace(told, "")


def test_an_empty_cluster_has_nothing_wrong_with_it() -> None:
    assert findings([]) == []


def test_a_loader_of_ours_that_is_ready_and_says_nothing_is_found_until_it_reports() -> None:
    mute = [node("a"), our_loader(), reporting_pod("a", READY, None)]
    assert checks(mute)["LoaderWithoutReport"] is ERROR
    assert "LoaderReadyTooSoon" not in checks(mute)
    speaking = [node("a"), our_loader(), reporting_pod("a", READY, reported())]
    assert "LoaderWithoutReport" not in checks(speaking)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("base/deployment.yaml", "--lease model-cache-system/model-cache-scheduler, "),
        ("overlays/existing-scheduler/daemonset.yaml", "--lease kube-system/kube-scheduler, "),
        ("overlays/two-deployments/extender.yaml", "one replica with strategy Recreate: no kube-"),
    ],
)
def test_extenders_as_they_are_shipped_are_told_the_lease_that_suits_the_way_they_run(
    manifest: str, says: str
) -> None:
    shipped = shipped_pods(manifest, 2)
    assert ("NotFenced" in checks(shipped)) == ("two-deployments" in manifest)
    (found,) = (one for one in findings(without_lease(shipped)) if one.check == "NotFenced")
    assert found.remedy.startswith(says)
    assert "NotFenced" not in checks(without_lease(shipped)[:1])
