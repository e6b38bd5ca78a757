"""The pods of a manifest that a command is given with ``-f``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extender.errors import InvalidObjectError, UsageError
from extender.explain.document import in_namespace
from extender.snapshot import read_documents
from extender.workload.manifest import CARRIERS, Part, parts_of


def pods_of_file(filename: Path, namespace: str) -> list[tuple[dict[str, Any], tuple[Part, ...]]]:
    """Return each manifest that carries pods, with its pods.

    Those that name no namespace are in the one given, as in kubectl. Raises UsageError where there
    is none, or one cannot be read.
    """
    carriers = [d for d in read_documents(filename) if d.get("kind") in CARRIERS]
    if not carriers:
        raise UsageError(f"{filename}: holds no pod; known kinds: {', '.join(CARRIERS)}")
    placed = [in_namespace(manifest, namespace) for manifest in carriers]
    try:
        return [(manifest, parts_of(manifest)) for manifest in placed]
    except InvalidObjectError as error:
        raise UsageError(f"{filename}: {error}") from error
