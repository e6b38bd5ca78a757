"""The reference is the code's own: what is generated is fresh, and says something of everything."""

from __future__ import annotations

import re

import pytest

from documentation import keys
from documentation.generated import DOCS, PARTS, names, pages, renewed
from documentation.sections import catalog, configuration
from extender.doctor.labels import KEYS


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


def test_a_key_without_its_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = keys.Key("modelcache.dev/x", "label", "extender.x", "")
    monkeypatch.setattr(keys, "constants", lambda: iter([bare]))
    with pytest.raises(ValueError, match=r"extender\.x: modelcache\.dev/x has no docstring"):
        keys.keys()
