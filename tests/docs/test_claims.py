"""Figures that pages give are those of the program and of what is shipped; sources are listed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from extender.kube.quantity import parse_quantity
from extender.placement.policy import GB, Policy
from extender.placement.score import scores
from extender.snapshot import DUMP_COMMAND
from tests.cli.program import CLUSTER, run
from tests.deploy.manifests import DEPLOYMENT, LOADER, Workload
from tests.docs.pages import DOCS, PAGES, Page

WEIGHTS = {"name": "weights", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}
UNSIZED = {"name": "weights", "emptyDir": {"medium": "Memory"}}
SHM = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}


def taker(
    *,
    request: str = "8Gi",
    limit: str = "",
    whole: str = "",
    volume: dict[str, Any] = WEIGHTS,
    at: str = "/models",
) -> dict[str, Any]:
    """The spec of a pod that requests memory and mounts one memory-backed volume."""
    resources = {"requests": {"memory": request}} | ({"limits": {"memory": limit}} if limit else {})
    mounts = [{"name": volume["name"], "mountPath": at}]
    container = {"name": "c", "image": "i", "resources": resources, "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": [volume]}
    return spec | ({"resources": {"requests": {"memory": whole}}} if whole else {})


def with_exporter(spec: dict[str, Any]) -> dict[str, Any]:
    """The same beside a small container that mounts the volume as well."""
    resources = {kind: {"memory": "1Gi"} for kind in ("requests", "limits")}
    mounts = spec["containers"][0]["volumeMounts"]
    exporter = {"name": "e", "image": "i", "resources": resources, "volumeMounts": mounts}
    return spec | {"containers": [*spec["containers"], exporter]}


TAKES: dict[str, dict[str, Any]] = {
    "requests 8Gi, a volume with `sizeLimit: 20Gi`": taker(),
    "the same, with a limit of 24Gi on every container together": taker(limit="24Gi"),
    "the same, with `spec.resources.requests.memory: 28Gi` of the pod": taker(whole="28Gi"),
    "a container with request = limit = 28Gi that mounts the volume": taker(
        request="28Gi", limit="28Gi"
    ),
    "the same, and a second container with request = limit = 1Gi that mounts it, too": (
        with_exporter(taker(request="28Gi", limit="28Gi"))
    ),
    "requests 8Gi, and a second container with request = limit = 1Gi, both of which mount it": (
        with_exporter(taker())
    ),
    "requests 8Gi, `/dev/shm` of 16Gi": taker(volume=SHM, at="/dev/shm"),
    "requests 8Gi, a volume without `sizeLimit`": taker(volume=UNSIZED),
}


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    text = (DOCS / page).read_text("utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_ledger_counts_as_the_page_on_memory_says(tmp_path: Path) -> None:
    said = {row[0]: row[1] for row in rows("explanation/memory.md", "What counts")}
    assert said.keys() == TAKES.keys()
    for words, spec in TAKES.items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        (tmp_path / "pod.yaml").write_text(json.dumps(pod), "utf-8")
        asked = ("-f", tmp_path / "pod.yaml", "--snapshot", CLUSTER, "-o", "json")
        answer = run("explain", *asked).json()
        counted = re.match(r"\d+Gi", said[words])
        assert counted
        assert answer["memory"]["demandBytes"] == parse_quantity(counted[0]), words
        warned = any("not counted" in warning["message"] for warning in answer["warnings"])
        assert warned == said[words].endswith("and a warning"), words


def test_the_decision_that_is_worked_through_comes_out_as_the_page_says() -> None:
    text = (DOCS / "explanation/decision.md").read_text("utf-8")
    policy = Policy()
    size = 16 * GB
    cold = size / policy.bandwidths.disk / GB + policy.engine_start
    warm = size / policy.bandwidths.page_cache / GB + policy.engine_start
    assert f"= {cold:.0f} s\n" in text
    assert f"16 / 6 + 20 = {warm:.0f} s" in text
    points = scores({"warm": warm, "cold": cold}, policy)
    assert f"gives it {points['warm']} points" in text
    assert f"later, get {points['cold']}." in text


def test_requests_and_limits_are_those_of_the_manifests() -> None:
    found: dict[str, Workload] = {
        "extender": DEPLOYMENT,
        "kube-scheduler": DEPLOYMENT,
        "loader": LOADER,
    }
    table = (DOCS / "operations/sizing.md").read_text("utf-8")
    said = re.findall(
        r"^\| `([a-z-]+)`[^|]*\| (\w+) processor, (\w+) memory \| (\w+) \|", table, re.MULTILINE
    )
    assert [name for name, *_ in said] == list(found)
    for name, processor, memory, limit in said:
        resources = found[name].container(name)["resources"]
        assert resources["requests"] == {"cpu": processor, "memory": memory}
        assert resources["limits"] == {"memory": limit}


def test_the_command_that_makes_a_dump_is_the_one_that_help_prints() -> None:
    text = (DOCS / "how-to/explain-a-pod.md").read_text("utf-8")
    assert f"\n{DUMP_COMMAND} > cluster.yaml\n" in text


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "\n## Sources\n" in page.path.read_text("utf-8")], ids=str
)
def test_every_source_that_is_named_is_listed_and_the_other_way_round(page: Page) -> None:
    body, sources = page.path.read_text("utf-8").split("\n## Sources\n")
    cited = {int(number) for number in re.findall(r"\[(\d+)\](?!\()", body)}
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", sources, re.MULTILINE)}
    assert cited == listed
