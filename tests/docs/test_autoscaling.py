"""What docs/autoscaling.md shows is what this program reads; its manifests are taken from there."""

from __future__ import annotations

import re
from typing import Any

import pytest

from extender.cluster.memory import memory_demand
from extender.config import read_configuration
from extender.kube.decode import convert
from extender.kube.objects import DaemonSet, Pod
from extender.workload.loaders import read_loader
from tests.docs.pages import BLOCKS, DOCS

FILE = DOCS / "autoscaling.md"
TEXT = FILE.read_text("utf-8")
TAINT = "startup-taint.cluster-autoscaler.kubernetes.io/model-cache"


def shown() -> list[dict[str, Any]]:
    """Return every YAML document of the page."""
    blocks = [block for block in BLOCKS if block.page == FILE and block.language == "yaml"]
    return [document for block in blocks for document in block.documents()]


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [document for document in shown() if document.get("kind") == kind]
    return found


def test_the_loader_that_lifts_the_taint_is_read_as_any_other_loader() -> None:
    loader = read_loader(convert(of_kind("DaemonSet"), DaemonSet))
    assert loader is not None
    assert [model.path for model in loader.models] == ["/var/lib/models/llama-3.1-8b-instruct"]
    assert not loader.opaque
    assert loader.ready_means_done


def test_the_taint_is_lifted_only_after_the_download() -> None:
    spec = of_kind("DaemonSet")["spec"]["template"]["spec"]
    assert [container["name"] for container in spec["initContainers"]] == ["download", "lift-taint"]
    assert {"key": TAINT, "operator": "Exists"} in spec["tolerations"]


@pytest.mark.parametrize("kind", ["NodePool", "DaemonSet", "ValidatingAdmissionPolicy"])
def test_everybody_means_the_same_taint(kind: str) -> None:
    keys = re.findall(r"startup-taint[a-z.\-/]+", str(of_kind(kind)))
    assert set(keys) == {TAINT}


def test_the_configuration_is_valid() -> None:
    policy = read_configuration(of_kind("ExtenderConfiguration")).policy()
    assert policy.required_timeout == 900


def test_the_request_of_the_example_covers_its_volume() -> None:
    (shape,) = [document for document in shown() if "kind" not in document]
    volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}
    spec = {**shape["spec"], "volumes": [volume]}
    demand = memory_demand(convert({"metadata": {"name": "p"}, "spec": spec}, Pod))
    assert demand.volume_bytes == 0
    assert demand.bytes == 28 * 2**30
