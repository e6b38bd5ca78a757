"""``doctor``: its outputs, its exit codes, and what it says to wrong use."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.program import CLUSTER, Done, run
from tests.deploy.manifests import ROOT

SHIPPED = ROOT / "config/scheduler-config.yaml"
KEYS = ["severity", "check", "object", "message", "remedy"]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have a cluster: it is not the one to look at."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def doctor(*arguments: str | Path) -> Done:
    return run("doctor", *arguments)


def broken(folder: Path, old: str, new: str) -> Path:
    text = SHIPPED.read_text()
    assert old in text
    path = folder / "scheduler.yaml"
    path.write_text(text.replace(old, new))
    return path


def test_what_is_shipped_is_well() -> None:
    done = doctor("--scheduler-config", SHIPPED, "-o", "json")
    document = done.json()
    assert list(document) == ["findings", "checked", "notChecked", "summary"]
    assert (done.code, document["findings"]) == (0, [])
    assert document["checked"] == ["scheduler configuration"]
    unchecked = {row["subject"] for row in document["notChecked"]}
    assert unchecked == {"cluster", "rights", "clock", "version", "extender"}


def test_an_error_ends_with_exit_code_1_and_says_what_to_change(tmp_path: Path) -> None:
    file = broken(tmp_path, "ignorable: false", "ignorable: true")
    done = doctor("--scheduler-config", file)
    assert done.code == 1
    line = next(i for i, t in enumerate(file.read_text().splitlines(), 1) if "ignorable:" in t)
    assert f"ERROR   {file}:{line} extenders[0].ignorable [Ignorable]" in done.stdout
    assert "-> ignorable: false" in done.stdout
    assert "1 error, 0 warnings, 0 notes" in done.stdout


def test_a_warning_alone_is_no_failure(tmp_path: Path) -> None:
    file = broken(tmp_path, "podMaxBackoffSeconds: 2", "podMaxBackoffSeconds: 20")
    done = doctor("--scheduler-config", file, "-o", "json")
    (found,) = done.json()["findings"]
    assert list(found) == KEYS
    assert (done.code, found["severity"]) == (0, "warning")


def test_a_dump_is_checked_without_a_cluster() -> None:
    done = doctor("--snapshot", CLUSTER, "-o", "json")
    document = done.json()
    assert "cluster" in document["checked"]
    assert "LoaderFailed" in {found["check"] for found in document["findings"]}
    assert {row["subject"] for row in document["notChecked"]} >= {"rights", "clock", "version"}


def test_the_worst_comes_first(tmp_path: Path) -> None:
    file = broken(tmp_path, "nodeCacheCapable: true", "nodeCacheCapable: false")
    found = doctor("--snapshot", CLUSTER, "--scheduler-config", file, "-o", "json").json()[
        "findings"
    ]
    order = ["error", "warning", "note"]
    ranks = [order.index(one["severity"]) for one in found]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0


def test_what_is_wrong_with_many_alike_is_said_once_and_listed_whole(tmp_path: Path) -> None:
    """A thousand pods without an owner are no thousand paragraphs."""
    cluster = yaml.safe_load(CLUSTER.read_text())
    (pod,) = (item for item in cluster["items"] if item["metadata"]["name"] == "qwen-0")
    pod["metadata"]["namespace"] = "elsewhere"
    cluster["items"] += [
        {**pod, "metadata": {**pod["metadata"], "name": f"qwen-{n}", "uid": f"uid-{n}"}}
        for n in range(1, 40)
    ]
    dump = tmp_path / "dump.yaml"
    dump.write_text(yaml.safe_dump(cluster))
    listed = doctor("--snapshot", dump, "-o", "json").json()["findings"]
    assert sum(one["check"] == "NotAskedAbout" for one in listed) == 40
    text = doctor("--snapshot", dump).stdout
    assert text.count("[NotAskedAbout]") == 1
    said = "Pod elsewhere/qwen-0, Pod elsewhere/qwen-1, Pod elsewhere/qwen-10 and 37 more"
    assert f"WARNING {said} [NotAskedAbout]" in text


def test_an_object_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    dump = tmp_path / "dump.yaml"
    bad = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": 5}}
    dump.write_text(yaml.safe_dump(bad))
    (found,) = doctor("--snapshot", dump, "-o", "json").json()["findings"]
    assert (found["check"], found["object"]) == ("ObjectUnreadable", str(dump))
    assert "Pod n/p" in found["message"]


def test_a_file_that_is_not_yaml_is_a_finding_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text("kind: KubeSchedulerConfiguration\nextenders: [}")
    done = doctor("--scheduler-config", file, "-o", "json")
    (found,) = done.json()["findings"]
    assert (done.code, found["check"]) == (1, "SchedulerFileBroken")
    assert "line 2" in found["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scheduler-config", "/does/not/exist"), "cannot be read"),
        (("--snapshot", "/does/not/exist"), "cannot be read"),
        (("--scheduler-config", SHIPPED, "--extender", "127.0.0.1:8889"), "no http:// or https://"),
        (("--snapshot", CLUSTER, "--service-account", "a/b"), "leave out --snapshot"),
        ((), "kubeconfig"),
    ],
    ids=["no file", "no dump", "no address", "an account in a dump", "no cluster"],
)
def test_wrong_use_is_refused_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in doctor(*arguments).refusal()


def test_an_extender_that_does_not_answer_is_an_error() -> None:
    done = doctor("--scheduler-config", SHIPPED, "--extender", "http://127.0.0.1:9", "-o", "json")
    (found,) = done.json()["findings"]
    assert (done.code, found["check"]) == (1, "ExtenderUnreachable")
