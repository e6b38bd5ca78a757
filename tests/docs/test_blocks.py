"""What the documentation shows is so: manifests are read, documents are valid, commands run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.config import read_configuration
from extender.kube.decode import KINDS, convert
from extender.kube.objects import DaemonSet, Job
from extender.loader.catalog import read_catalog
from extender.workload.jobs import read_job
from extender.workload.loaders import read_loader
from extender.workload.manifest import CARRIERS
from tests.cli.program import CLUSTER, run
from tests.docs.commands import checkout, commands, execute, matches, script
from tests.docs.pages import BLOCKS, DOCS, PAGES, ROOT, Block, Page

LANGUAGES = {"console", "json", "promql", "sh", "text", "yaml"}
OUT_OF_REACH = {
    "cluster": "a cluster that is yours; some of these are run in tests/controlplane/test_docs.py",
    "docker": "a Docker engine",
    "kind": "kind, which needs a Docker engine",
    "minutes": "minutes, which the tests themselves take",
    "network": "a network, to fetch what this is made of",
    "root": "root, and a machine to itself",
    "second terminal": "a command that goes on running in a terminal of its own",
}
TO_RUN = [
    page
    for page in PAGES
    if any(
        block.language in {"console", "sh"} and "needs" not in block.marks for block in page.blocks
    )
]
Manifest = dict[str, Any]


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_its_language_and_one_that_is_indented_holds_no_commands(block: Block) -> None:
    if block.language != "indented":
        assert block.language in LANGUAGES
        return
    words = [line.split(maxsplit=1)[0] for line in block.text.splitlines() if line.strip()]
    programs = {"$", "make", "sudo", "kubectl", "docker", "curl", "model-cache-extender"}
    assert not programs & set(words), "write it as ```sh or ```console: tests run those"


@pytest.mark.parametrize("page", [p for p in PAGES if DOCS in p.path.parents], ids=str)
def test_no_block_of_the_site_stands_in_a_list(page: Page) -> None:
    """Python-Markdown takes it for text there, unless it is indented in a way of its own."""
    assert re.findall(r"^ +```", page.path.read_text("utf-8"), re.MULTILINE) == []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_what_is_not_run_names_why(block: Block) -> None:
    if "needs" in block.marks:
        assert block.language in {"console", "sh"}
        assert block.marks["needs"] in OUT_OF_REACH


def test_json_can_be_read() -> None:
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)


# -- manifests and documents -----------------------------------------------------------------------


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_yaml_is_what_its_reader_takes(block: Block) -> None:
    carrying = 0
    for document in block.documents():
        assert isinstance(document, dict)
        kind = document.get("kind")
        if kind is None:  # a fragment, or values for something else
            continue
        READERS.get(kind, an_object)(document)
        carrying += kind in CARRIERS
    assert carrying == ("expect" in block.marks), "one manifest a block, with what is made of it"


def an_object(document: Manifest) -> None:
    assert document["apiVersion"]
    assert document["metadata"]["name"]
    if document["kind"] in KINDS:
        convert(document, KINDS[document["kind"]])


READERS: dict[str, Callable[[Manifest], object]] = {
    "ExtenderConfiguration": read_configuration,
    "ModelCatalog": read_catalog,
}


@pytest.mark.parametrize("block", [b for b in BLOCKS if "expect" in b.marks], ids=str)
def test_a_manifest_is_read_as_the_page_says(block: Block, tmp_path: Path) -> None:
    expected = dict(part.split("=", 1) for part in block.marks["expect"].split())
    (manifest,) = [one for one in block.documents() if one.get("kind") in CARRIERS]
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(manifest), "utf-8")
    match manifest["kind"]:
        case "DaemonSet":
            loader = read_loader(convert(manifest, DaemonSet))
            assert loader is not None
            assert {"loads": " ".join(model.path for model in loader.models)} == expected
        case "Job":
            writers = read_job(convert(manifest, Job))
            fills = " ".join(f"{writer.claim}/{writer.model.path}" for writer in writers)
            assert {"fills": fills} == expected
        case _:
            asked = ("-f", tmp_path / "manifest.yaml", "--snapshot", CLUSTER, "-o", "json")
            said = run("explain", *asked).json()
            for part in said if isinstance(said, list) else [said]:
                first = part["references"][0]
                assert {key: str(first[key]) for key in expected} == expected


# -- commands --------------------------------------------------------------------------------------


def test_there_is_something_to_run() -> None:
    assert len(TO_RUN) >= 12
    assert ROOT / "README.md" in [page.path for page in TO_RUN]


@pytest.mark.parametrize("page", TO_RUN, ids=str)
def test_the_commands_of_a_page_do_what_it_shows(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout(tmp_path)
    for block in page.blocks:
        if block.title:
            (folder / block.title).write_text(block.text, "utf-8")
        if "needs" in block.marks:
            continue
        if block.language == "sh":
            done = script(block.text, folder)
            assert done.code == int(block.marks.get("exit", 0)), (block.text, done)
        if block.language == "console":
            assert list(commands(block)), "a console block shows commands after $"
            for command in commands(block):
                done = execute(command.line, folder, monkeypatch)
                assert matches(command.shown, done.stdout + done.stderr), (command, done)
                assert done.code == int(block.marks.get("exit", 0)), (command, done)
