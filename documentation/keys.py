"""Annotations and labels, told by the constants that name them in the code.

Such a constant is followed by a docstring: ``On OBJECTS, by WHOM: what it means.``
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import extender
from documentation.tables import code, table
from extender.workload.model import ANNOTATION_PREFIX

_PACKAGE = Path(extender.__file__).parent
_SAID = re.compile(r"On (?P<on>[^:]+?), (?:written )?by (?P<by>[^:]+): (?P<meaning>.+)", re.DOTALL)
_KINDS = {"ANNOTATION": "annotation", "LABEL": "label"}


class Key(NamedTuple):
    """One key, with the module and the docstring of its constant."""

    name: str
    kind: str
    module: str
    docstring: str


def keys() -> str:
    """Return one row a key. Raises ValueError for one without the docstring that it needs."""
    rows = []
    for key in sorted(constants()):
        said = _SAID.fullmatch(key.docstring)
        if said is None:
            raise ValueError(
                f"{key.module}: {key.name} has no docstring 'On OBJECTS, by WHOM: meaning'"
            )
        meaning = said["meaning"].replace("``", "`")
        rows.append((code(key.name), key.kind, said["on"], said["by"], meaning))
    return table(("key", "kind", "on", "written by", "meaning"), rows)


def constants() -> Iterator[Key]:
    """Find the constants ``..._ANNOTATION`` and ``..._LABEL`` that name a key of this program."""
    for file in sorted(_PACKAGE.rglob("*.py")):
        body = ast.parse(file.read_text("utf-8")).body
        for statement, after in zip(body, [*body[1:], None], strict=True):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)]) if kind := _kind(name):
                    module = ".".join(file.relative_to(_PACKAGE.parent).with_suffix("").parts)
                    value = getattr(importlib.import_module(module), name)
                    if value.startswith(ANNOTATION_PREFIX):
                        yield Key(value, kind, module, _docstring(after))
                case _:
                    pass


def _kind(name: str) -> str:
    return _KINDS.get(name.rpartition("_")[2], "")


def _docstring(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return text
        case _:
            return ""
