"""A cluster from a file: what ``kubectl get ... -o yaml`` prints, or the same as JSON.

Reading files is I/O, so this stands beside the core and not in it. An object that cannot be read is
named and left out; kinds that decide nothing are skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median_low
from typing import Any, Protocol

import msgspec
import yaml

from extender.documents import NOT_YAML
from extender.errors import InvalidObjectError, UsageError
from extender.kube.decode import KINDS, NO_NAME, convert
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject
from extender.kube.times import unix_time
from extender.workload.manifest import inner

DUMP_COMMAND = (
    "kubectl get nodes,pods,daemonsets,jobs,persistentvolumeclaims,persistentvolumes,"
    "storageclasses,namespaces,leases.coordination.k8s.io --all-namespaces -o yaml"
)
"""The command that makes such a file."""

STDIN = Path("-")

ALIASED_NODES = 100_000
"""How many more values a YAML document's aliases may stand for than it has characters.

A few lines of nested aliases stand for billions of values (https://en.wikipedia.org/wiki/
Billion_laughs_attack); files that people write stay far below.
"""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER_BITS = 64
_TIME_KEYS = ("Time", "Timestamp", "startedAt", "finishedAt")
_NODE_LEASES = "kube-node-lease"


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader that leaves times as the texts they are in the API."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int | str:
        """Leave a number with thousands of digits as text, which Python refuses to convert.

        It is the field's value that is wrong then, and its object can be named.
        """
        try:
            value: int = yaml.constructor.SafeConstructor.construct_yaml_int(self, node)
        except ValueError:
            return str(node.value)
        return value if value.bit_length() <= _INTEGER_BITS else str(node.value)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class Sink(Protocol):
    """Where the objects go."""

    def listing(self, kind: type[KubeObject]) -> Draft:
        """Begin a complete list."""


def read_documents(path: Path, problems: list[str] | None = None) -> list[dict[str, Any]]:
    """Return all objects of a YAML or JSON file, the items of lists one by one.

    What is no object is left out, and said in ``problems``. Raises UsageError that names the file
    and the place. The path ``-`` is standard input.
    """
    try:
        documents = parse_documents(read_bytes(path))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    objects = []
    items = (item for document in documents for item in _items(document))
    for number, item in enumerate(items, start=1):
        if isinstance(item, dict):
            objects.append(item)
        elif problems is not None:
            problems.append(f"object {number} is {kind_of(item)}, not an object of a cluster")
    return objects


def kind_of(value: Any) -> str:
    """Name the type of a value as JSON has it."""
    names = {type(None): "null", bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; the path ``-`` is standard input. Raises UsageError."""
    try:
        return sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def fill(sink: Sink, documents: list[dict[str, Any]]) -> list[str]:
    """Put a dump's objects into the state; return what could not be read, in words."""
    problems: list[str] = []
    found: dict[str, list[KubeObject]] = {kind: [] for kind in KINDS}
    for document in documents:
        kind = document.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            continue
        try:
            obj = convert(document, KINDS[kind])
        except InvalidObjectError as error:
            problems.append(str(error))
            continue
        if obj.metadata.name or obj.metadata.generate_name:
            found[kind].append(obj)
        else:
            problems.append(f"{kind} {NO_NAME}: metadata.name is missing")
    for kind, objects in found.items():
        draft = sink.listing(KINDS[kind])
        draft.add(objects)
        draft.replace()
    return problems


def taken_at(documents: list[dict[str, Any]], now: float) -> float | None:
    """Return about when a dump was made, as UNIX seconds; None where it has no times.

    Where kubelets renewed the Leases of their nodes, the moment that most of those of Ready nodes
    agree on, which is seconds off at most in a live cluster: no single clock that is ahead makes
    all else look old. What was created later bounds it, as the apiserver alone says when. Without
    such Leases the latest time that control planes and kubelets wrote of what has been: minutes
    off, as a kubelet reports at least every five minutes.

    Nothing counts that is to come or that anybody may have written: annotations, the time at which
    a pod will have to be gone, other Leases. ``now`` bounds it.
    """
    read = [one for one in documents if isinstance(one.get("kind"), str) and one["kind"] in KINDS]
    created = (text for document in read for text in _created(document))
    latest = _latest(created, now)
    unready = {_name(one) for one in read if one["kind"] == "Node" and _is_unready(one)}
    renewed = [
        moment
        for one in read
        if _is_of_kubelet(one) and _name(one) not in unready
        if (moment := _latest(_times(one.get("spec")), now)) is not None
    ]
    if renewed:
        beat = median_low(renewed)
        return beat if latest is None else max(beat, latest)
    return _latest((text for document in read for text in _written(document)), now)


def _latest(texts: Iterator[str], now: float) -> float | None:
    times = (moment for text in texts if (moment := unix_time(text)) is not None)
    return max((moment for moment in times if moment <= now), default=None)


def _name(document: dict[str, Any]) -> str:
    return str(inner(document, ("metadata", "name")))


def _is_of_kubelet(document: dict[str, Any]) -> bool:
    space = inner(document, ("metadata", "namespace"))
    return bool(document["kind"] == "Lease" and space == _NODE_LEASES)


def _is_unready(node: dict[str, Any]) -> bool:
    """Tell whether a node's kubelet was not heard of any more, or said that it is not ready."""
    conditions = inner(node, ("status", "conditions"))
    return any(
        isinstance(one, dict) and one.get("type") == "Ready" and one.get("status", "True") != "True"
        for one in (conditions if isinstance(conditions, list) else [])
    )


def _created(document: dict[str, Any]) -> Iterator[str]:
    created = inner(document, ("metadata", "creationTimestamp"))
    yield from [created] if isinstance(created, str) else []


def _written(document: dict[str, Any]) -> Iterator[str]:
    """Yield the times of an object that tell what has been, as its cluster wrote them."""
    yield from _created(document)
    if _is_of_kubelet(document):
        yield from _times(document.get("spec"))
    yield from _times(document.get("status"))


def _times(value: Any) -> Iterator[str]:
    """Yield the texts under keys that hold times (``lastTransitionTime``, ``startedAt``, ...)."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, dict | list):
                    rest.append(item)
                elif isinstance(item, str) and str(key).endswith(_TIME_KEYS):
                    yield item


def parse_documents(text: bytes) -> list[Any]:
    """Parse a YAML stream or one JSON document. Raises ValueError that says where it is wrong."""
    as_json = ""
    if text.lstrip()[:1] in {b"{", b"["}:  # not always JSON: YAML's flow style begins so, too
        try:
            return [msgspec.json.decode(text)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            as_json = f" (as JSON: {error})"
    try:
        return list(_yaml(text))
    except NOT_YAML as error:
        raise ValueError(f"neither YAML nor JSON: {error}{as_json}") from error


def _yaml(text: bytes) -> Iterator[Any]:
    aliases = b"&" in text and b"*" in text
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if aliases and _size(node, {}) > len(text) + ALIASED_NODES:
                raise ValueError("its aliases stand for too many values; write them out")
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[yaml.Node, int | None]) -> int:
    """Count the values that a document holds once every alias is written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node in known:
        size = known[node]
        if size is None:
            raise ValueError("an alias stands for a value that holds it")
        return size
    known[node] = None
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value
    known[node] = size = 1 + sum(_size(part, known) for part in parts)
    return size


def _items(document: Any) -> Iterator[Any]:
    """Yield the objects of one document: itself, the items of a list, nothing for an empty one."""
    if document is None:
        return
    if isinstance(document, list):
        yield from document
        return
    items = document.get("items") if isinstance(document, dict) else None
    if isinstance(items, list) and str(document.get("kind", "List")).endswith("List"):
        kind = str(document.get("kind", ""))[: -len("List")]
        for item in items:
            yield {"kind": kind, **item} if kind and isinstance(item, dict) else item
    else:
        yield document
