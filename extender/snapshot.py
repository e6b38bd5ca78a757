"""A cluster from a file: what ``kubectl get ... -o yaml`` prints, or the same as JSON.

Reading files is I/O, so this stands beside the core and not in it. An object that cannot be read is
named and left out; kinds that decide nothing are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import yaml

from extender.errors import InvalidObjectError, UsageError
from extender.kube.decode import KINDS, convert
from extender.kube.objects import KubeObject

DUMP_COMMAND = (
    "kubectl get nodes,pods,daemonsets,jobs,persistentvolumeclaims,persistentvolumes,"
    "storageclasses,namespaces --all-namespaces -o yaml"
)
"""The command that makes such a file."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader that leaves times as the texts they are in the API."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


class Sink(Protocol):
    """Where the objects go."""

    def replace(self, kind: type[KubeObject], objects: list[KubeObject]) -> None:
        """Make these all there is of a kind."""


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Return all objects of a YAML or JSON file, the items of lists one by one.

    Raises UsageError that names the file and the place.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        documents = parse_documents(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return [item for document in documents for item in _items(document)]


def fill(sink: Sink, documents: list[dict[str, Any]]) -> list[str]:
    """Put a dump's objects into the state; return what could not be read, in words."""
    problems: list[str] = []
    found: dict[str, list[KubeObject]] = {kind: [] for kind in KINDS}
    for document in documents:
        kind = document.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            continue
        try:
            found[kind].append(convert(document, KINDS[kind]))
        except InvalidObjectError as error:
            problems.append(str(error))
    for kind, objects in found.items():
        sink.replace(KINDS[kind], objects)
    return problems


def parse_documents(text: bytes) -> list[Any]:
    """Parse a YAML stream or one JSON document. Raises ValueError that says where it is wrong."""
    try:
        if text.lstrip()[:1] == b"{":
            return [msgspec.json.decode(text)]
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"neither YAML nor JSON: {error}") from error


def _items(document: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if isinstance(items, list) and str(document.get("kind", "List")).endswith("List"):
        kind = str(document.get("kind", ""))[: -len("List")]
        for item in items:
            if isinstance(item, dict):
                yield {"kind": kind, **item} if kind else item
    else:
        yield document
