"""What a model names beside its weights: directories of a pipeline, and code of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from extender.loader.proof.beginnings import MAX_JSON_BYTES, read_bounded
from extender.loader.proof.scan import Scan
from extender.loader.proof.verdict import Problem, ProblemKind

DIFFUSERS = "model_index.json"
SENTENCE_TRANSFORMERS = "modules.json"
PIPELINES = (DIFFUSERS, SENTENCE_TRANSFORMERS)
"""They name directories that belong to the model."""

_WITH_FILES = frozenset({"Transformer", "Pooling", "Dense", "LayerNorm"})
"""Modules of sentence-transformers that read their directory; others have nothing to keep there."""


def check_parts(directory: Path, scan: Scan, *, vouched: bool) -> None:
    """Look for the directories that a pipeline names; what is missing goes to ``scan``.

    Where somebody ``vouched`` for the list of files that is said, and no damage: whoever opens a
    pipeline may give it a part of his own, or none (a safety checker).
    """
    folders = {path.partition("/")[0] for path in scan.files if "/" in path}
    for pipeline in PIPELINES:
        if pipeline not in scan.files:
            continue
        for folder in _folders(pipeline, _content(directory, pipeline, scan)):
            if folder in folders:
                continue
            message = f"{pipeline} names this directory, and no file of it is there"
            problem = Problem(f"{folder}/", ProblemKind.MISSING, message)
            if vouched:
                scan.unchecked.append(str(problem))
            else:
                scan.problems.append(problem)


def note_code(config: dict[str, Any], scan: Scan) -> None:
    """Say which code a config names that is not there: not every program asks for it."""
    named = config.get("auto_map")
    for each in named.values() if isinstance(named, dict) else ():
        for reference in each if isinstance(each, list) else [each]:
            module = str(reference).rpartition(".")[0]
            file = f"{module}.py"
            if module and "--" not in module and file not in scan.files:
                note = f"{file}: config.json names this code, it is not there"
                if note not in scan.unchecked:
                    scan.unchecked.append(note)


def _content(directory: Path, path: str, scan: Scan) -> Any:
    try:
        return msgspec.json.decode(read_bounded(directory / path, MAX_JSON_BYTES))
    except OSError as error:
        scan.problems.append(Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        scan.problems.append(Problem(path, ProblemKind.INDEX, f"cannot be read: {error}"))
    return None


def _folders(pipeline: str, content: Any) -> Iterator[str]:
    if pipeline == DIFFUSERS and isinstance(content, dict):
        for name, value in content.items():
            made_by = value if isinstance(value, list) else []  # library and class, or numbers
            class_told = len(made_by) == 2 and all(isinstance(each, str) for each in made_by)
            if class_told and not name.startswith("_"):
                yield name
    if pipeline == SENTENCE_TRANSFORMERS and isinstance(content, list):
        for module in content:
            told = module if isinstance(module, dict) else {}
            kind, path = str(told.get("type", "")), str(told.get("path", ""))
            if path and kind.rpartition(".")[2] in _WITH_FILES:
                yield path.partition("/")[0]
