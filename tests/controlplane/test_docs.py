"""The tutorial's commands as they stand, and the manifests of all pages, on a real apiserver."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import MINOR, OPTS_IN
from tests.docs.commands import commands, matches, script
from tests.docs.pages import BLOCKS, DOCS, Block, read

NODES = ("models-control-plane", "models-worker", "models-worker2", "models-worker3")
SPACE = "inference"
BUILT_IN = (
    "v1",
    "apps/v1",
    "batch/v1",
    "rbac.authorization.k8s.io/v1",
    "admissionregistration.k8s.io/v1",
)
SINCE = {"          image:\n            reference:": 35}
"""Fields that older minors refuse or drop, with the first minor that takes them."""


@pytest.fixture
def space(control_plane: ControlPlane) -> Iterator[str]:
    """The name of a namespace that the page's own command creates."""
    name = f"tutorial-{secrets.token_hex(4)}"
    control_plane.add_nodes(NODES)
    taint = "node-role.kubernetes.io/control-plane=:NoSchedule"  # as kind does
    control_plane.kubectl("taint", "node", NODES[0], taint)
    yield name
    control_plane.delete_namespace(name)
    control_plane.delete_nodes(NODES)


@pytest.mark.skipif(not OPTS_IN, reason="the namespace's label takes Kubernetes 1.36")
def test_the_tutorial_does_what_it_shows(
    control_plane: ControlPlane, placing: Extender, space: str, tmp_path: Path
) -> None:
    _ = placing
    ran = 0
    for block in read(DOCS / "tutorial.md").blocks:
        text = block.text.replace(SPACE, space)
        if block.title:
            (tmp_path / block.title).write_text(text, "utf-8")
        if block.marks.get("needs") == "cluster":
            run(control_plane, block, space, tmp_path)
            ran += 1
    assert ran >= 9


def run(control_plane: ControlPlane, block: Block, space: str, folder: Path) -> None:
    """Run a block's commands in a namespace of the test's own."""
    around = {
        "kubeconfig": str(control_plane.kubeconfig()),
        "programs": str(control_plane.binaries),
    }
    if block.language == "sh":
        done = script(block.text.replace(SPACE, space), folder, **around)
        assert done.code == 0, (block.text, done)
        return
    for command in commands(block):
        done = script(command.line.replace(SPACE, space), folder, **around)
        assert matches(command.shown.replace(SPACE, space), done.stdout), (command, done)
        assert done.code == int(block.marks.get("exit", 0)), (command, done)


def test_the_manifests_of_the_pages_are_accepted_whole(
    control_plane: ControlPlane, namespace: str
) -> None:
    found = [
        placed(document, namespace)
        for block in BLOCKS
        if block.language == "yaml" and not needs_newer(block)
        for document in block.documents()
        if document.get("apiVersion") in BUILT_IN
    ]
    assert len(found) > 25
    text = "\n---\n".join(json.dumps(manifest) for manifest in found)
    control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)


def needs_newer(block: Block) -> bool:
    return any(field in block.text and since > MINOR for field, since in SINCE.items())


def placed(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Put an object of a namespace into the test's."""
    metadata = manifest["metadata"]
    moved = {"namespace": namespace} if metadata.get("namespace") else {}
    return {**manifest, "metadata": {**metadata, **moved}}
