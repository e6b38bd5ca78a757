"""The table of pod specs: each as its stack's own documentation writes it, and how it is read.

One entry is one pod (``metadata`` and ``spec``) or a ``manifest`` that carries one, with the
``source`` that it was written after. ``expect`` lists the references in order; what an entry
leaves out is expected to be absent. Three keys are looser: ``unknown`` is a part of the words,
``readFrom`` is compared only where it is given, ``origin`` compares the keys that it gives.
"""

from __future__ import annotations

from typing import Any

import pytest

from extender.workload.model import ModelReference
from tests.workload.table import SPECS, read

_EXACT = {
    "role": "role",
    "strategy": "strategy",
    "source": "source",
    "need": "need",
    "model": "model",
    "revision": "revision",
    "hostPath": "host_path",
    "claim": "claim",
    "claimPath": "claim_path",
    "image": "image",
    "volume": "volume",
}
_LOOSE = {"unknown", "readFrom", "origin"}


@pytest.mark.parametrize("entry", SPECS.values(), ids=SPECS.keys())
def test_spec_is_read_as_its_stack_documents_it(entry: dict[str, Any]) -> None:
    references = read(entry).references
    expected = entry["expect"]
    assert [_said(reference) for reference in references] == [_meant(want) for want in expected]
    for reference, want in zip(references, expected, strict=True):
        _assert_loosely(reference, want)


KSERVE = {name: entry for name, entry in SPECS.items() if name.startswith("kserve")}


@pytest.mark.parametrize("entry", KSERVE.values(), ids=KSERVE.keys())
def test_kserve_says_what_puts_a_model_on_its_volume(entry: dict[str, Any]) -> None:
    """The source's annotation where there is one, else the mount at the models' directory."""
    assert all(reference.read_from for reference in read(entry).references if reference.volume)


def test_table_covers_the_stacks_and_says_where_each_spec_comes_from() -> None:
    assert len(SPECS) >= 60
    assert all(entry["source"].startswith("https://") for entry in SPECS.values())
    known = {*_EXACT, *_LOOSE}
    strays = [key for e in SPECS.values() for want in e["expect"] for key in set(want) - known]
    assert strays == []


def _said(reference: ModelReference) -> dict[str, Any]:
    return {
        key: str(value) if key in {"role", "strategy", "source", "need"} else value
        for key, field in _EXACT.items()
        for value in (getattr(reference, field),)
    }


def _meant(want: dict[str, Any]) -> dict[str, Any]:
    return {key: want.get(key) for key in _EXACT} | {"role": want.get("role", "model")}


def _assert_loosely(reference: ModelReference, want: dict[str, Any]) -> None:
    if "unknown" in want:
        assert want["unknown"] in (reference.unknown or "")
    else:
        assert reference.unknown is None
    if "readFrom" in want:
        assert list(reference.read_from) == want["readFrom"]
    if "origin" in want:
        assert reference.origin is not None
        said = _said(reference.origin)
        assert {key: said[key] for key in want["origin"]} == want["origin"]
