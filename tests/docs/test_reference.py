"""The reference is the code's own: what is generated is fresh, and says something of everything."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from documentation import keys
from documentation.generated import DOCS, PARTS, names, pages, renewed
from documentation.sections import catalog, configuration
from extender.cli.main import cli
from extender.doctor.labels import KEYS
from extender.explain import remarks
from tests.serving.openapi import DOCUMENT, OPERATIONS


@pytest.mark.parametrize("page", [path.relative_to(DOCS).as_posix() for path in pages()])
def test_a_generated_part_is_fresh(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert renewed(text) == text, "run make docs-reference"


def test_every_part_has_its_page_once() -> None:
    assert sorted(name for page in pages() for name in names(page.read_text("utf-8"))) == sorted(
        PARTS
    )


@pytest.mark.parametrize("part", [configuration, catalog], ids=["configuration", "catalog"])
def test_every_key_of_a_document_says_what_it_is_for(part: object) -> None:
    assert callable(part)
    rows = [line for line in part().splitlines() if line.startswith("| `")]
    assert len(rows) > 15
    assert [row for row in rows if row.endswith("| - |")] == []


def test_every_annotation_and_label_that_doctor_knows_is_told() -> None:
    told = {(key.name, key.kind) for key in keys.constants()}
    assert {(name, known.what) for name, known in KEYS.items()} <= told
    assert len(told) == len(re.findall(r"^\| `modelcache", keys.keys(), re.MULTILINE))


def test_every_operation_and_every_field_of_a_form_is_on_the_page() -> None:
    page = PARTS["http"]()
    for path, method in OPERATIONS:
        assert f"\n### {method} {path}\n" in page
    for name, schema in DOCUMENT["components"]["schemas"].items():
        (form,) = re.findall(rf"^### {name}$(.*?)(?=^### |\Z)", page, re.MULTILINE | re.DOTALL)
        assert all(f"| `{field}` |" in form for field in schema.get("properties", {}))


def test_every_command_and_option_is_on_the_page() -> None:
    page = PARTS["command line"]()
    loader = cli.commands["loader"]
    assert isinstance(loader, click.Group)
    for name, command in [*cli.commands.items(), *loader.commands.items()]:
        (section,) = re.findall(
            rf"^## (?:loader )?{name}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL
        )
        options = [one for one in command.params if isinstance(one, click.Option)]
        for option in options:
            assert option.hidden or all(name in section for name in option.opts)


def test_every_event_is_told() -> None:
    tree = ast.parse(Path(remarks.__file__).read_text("utf-8"))
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    said = {word for word in words if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", str(word))}
    text = (DOCS / "reference" / "reasons.md").read_text("utf-8")
    _, events = text.split("## Events of the extender")
    assert set(re.findall(r"^\| `(\w+)`", events, re.MULTILINE)) == said


def test_a_key_without_its_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = keys.Key("modelcache.dev/x", "label", "extender.x", "")
    monkeypatch.setattr(keys, "constants", lambda: iter([bare]))
    with pytest.raises(ValueError, match=r"extender\.x: modelcache\.dev/x has no docstring"):
        keys.keys()
