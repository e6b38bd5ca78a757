"""A dump that lacks whole kinds: said, with what cannot be said for it and how to add them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.gaps import gaps
from extender.snapshot import DUMP_COMMAND, STDIN, read_documents
from tests.cli.program import CLUSTER, PODS, run

COMPLETE = read_documents(CLUSTER)
REPORTING: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "loader", "annotations": {"modelcache.dev/report": "{}"}},
}
OF_A_JOB: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "fill", "ownerReferences": [{"kind": "Job", "name": "fill"}]},
}
OF_A_CLASS: dict[str, Any] = {
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "c", "namespace": "inference"},
    "spec": {"storageClassName": "fast"},
}


def without(kind: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in (*COMPLETE, *more) if one["kind"] != kind]


def test_a_dump_with_everything_lacks_nothing() -> None:
    assert gaps(CLUSTER, COMPLETE) == {}


@pytest.mark.parametrize(
    ("kind", "more", "resource", "unsaid"),
    [
        ("Node", (), "nodes", "there is nowhere to place a pod"),
        ("Pod", (), "pods", "every node looks empty"),
        ("DaemonSet", (), "daemonsets.apps", "loaders are known by their pods alone"),
        ("Namespace", (), "namespaces", "none of their labels is known"),
        ("PersistentVolumeClaim", (), "persistentvolumeclaims", "every claim counts as missing"),
        ("PersistentVolume", (), "persistentvolumes", "which nodes can mount a claim"),
        ("StorageClass", (OF_A_CLASS,), "storageclasses.storage.k8s.io", "waits for its first pod"),
        ("Job", (OF_A_JOB,), "jobs.batch", "still being filled"),
        ("Lease", (REPORTING,), "leases.coordination.k8s.io", "whether loaders are alive"),
    ],
)
def test_a_kind_that_must_be_there_is_named_with_what_cannot_be_said_for_it(
    kind: str, more: tuple[dict[str, Any], ...], resource: str, unsaid: str
) -> None:
    found = gaps(Path("my cluster.yaml"), without(kind, *more))
    assert list(found) == [kind]
    assert unsaid in found[kind]
    get = f"kubectl get {resource} --all-namespaces -o yaml"
    assert found[kind].endswith(f"; add them: (echo ---; {get}) >> 'my cluster.yaml'")
    for path in (STDIN, Path("cluster.json")):
        anew = gaps(path, without(kind, *more))[kind]
        assert anew.endswith(f"; make it anew: {DUMP_COMMAND} > cluster.yaml")


def test_a_dump_that_was_added_to_as_told_lacks_nothing_any_more(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({"kind": "List", "items": without("DaemonSet")}))
    assert list(gaps(path, read_documents(path))) == ["DaemonSet"]
    lacking = [one for one in COMPLETE if one["kind"] == "DaemonSet"]
    with path.open("a") as file:
        file.write("---\n" + yaml.safe_dump({"kind": "List", "items": lacking}))
    assert gaps(path, read_documents(path)) == {}


@pytest.mark.parametrize("command", ["explain", "simulate", "inventory", "doctor"])
def test_every_command_says_so_and_answers_all_the_same(tmp_path: Path, command: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(without("Pod")))
    (pod, *_) = yaml.safe_load_all(PODS.read_text())
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump(pod))
    more = ("-f", manifest) if command in {"explain", "simulate"} else ()
    done = run(command, "--snapshot", path, *more)
    assert done.code in {0, 1}
    assert done.stdout
    assert "holds no Pod: every node looks empty" in done.stdout + done.stderr


def test_a_claim_of_the_pod_that_is_asked_about_is_missed_too(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    bare = [one for one in without("PersistentVolumeClaim") if one["kind"] != "Pod"]
    path.write_text(yaml.safe_dump_all([*bare, OF_A_JOB]))
    done = run("explain", "--snapshot", path, "-f", PODS)
    assert "holds no PersistentVolumeClaim, and pods mount claims" in done.stderr


@pytest.mark.parametrize("kind", [["Pod"], {"Pod": None}, None, 1])
def test_an_object_of_no_kind_at_all_is_no_reason_to_say_nothing(
    tmp_path: Path, kind: object
) -> None:
    dump = tmp_path / "cluster.yaml"
    dump.write_text(yaml.safe_dump_all([*COMPLETE, {"kind": kind}]), "utf-8")
    assert run("inventory", "--snapshot", str(dump)).code == 0
