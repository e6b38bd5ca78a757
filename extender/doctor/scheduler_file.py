"""Reads a kube-scheduler's configuration, and names its fields by their lines.

kube-scheduler reads its file strictly: an unknown key, a value of the wrong type or out of its
range keeps it from starting (cmd/kube-scheduler/app/options/configfile.go of kubernetes v1.37).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from extender.doctor.decoded import Path, Refusal, present, refused, without
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler_types import (
    API_VERSION,
    DEFAULT_SCHEDULER,
    KIND,
    ExtenderEntry,
    SchedulerConfiguration,
)
from extender.doctor.scheduler_values import refused_values
from extender.snapshot import parse_documents


class SchedulerFile(msgspec.Struct, frozen=True, kw_only=True):
    """The document, with the name of its file and the node tree that knows its lines."""

    name: str
    configuration: SchedulerConfiguration
    root: Any = None

    def place(self, *path: str | int) -> str:
        """Name a field: ``FILE:LINE extenders[0].weight``; the line of what holds it if absent."""
        return place(self.name, self.root, path)


Read = tuple[SchedulerFile | None, list[Finding]]
"""What was read, None where it cannot be, and what is wrong with it."""

_UNSTARTED = "kube-scheduler does not start with it"


class Entry(msgspec.Struct, frozen=True):
    """One extender of the file with its place."""

    file: SchedulerFile
    index: int
    given: ExtenderEntry

    def at(self, field: str) -> str:
        """Name one of its fields."""
        return self.file.place("extenders", self.index, field)


def place(name: str, root: Any, path: Path) -> str:
    """Name a field of a file with its line, as far as the tree knows it."""
    line = _line(root, path)
    where = f"{name}:{line}" if line else name
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"{where} {words.lstrip('.')}".rstrip()


def read_scheduler_file(name: str, text: bytes) -> Read:
    """Read a file; what kube-scheduler would not take is a finding with its place, never an error.

    A ConfigMap that carries the document is opened.
    """
    try:
        documents = parse_documents(text)
    except ValueError as error:
        return None, [_broken(name, f"cannot be read: {error}", "mend the file")]
    nodes = _nodes(text)
    for index, document in enumerate(documents):
        if not isinstance(document, dict):
            continue
        if document.get("kind") == KIND:
            root = nodes[index] if index < len(nodes) else None
            file, findings = _typed(name, document, root)
            return file, [*findings, *_not_read(name, text, index, root)]
        for key, inner in _carried(document):
            return read_scheduler_file(f"{name}({key})", inner)
    kinds = ", ".join(str(d.get("kind")) for d in documents if isinstance(d, dict)) or "nothing"
    return None, [_broken(name, f"holds no {KIND} (found: {kinds})", f"begin it with kind: {KIND}")]


def _carried(document: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    data = document.get("data")
    if document.get("kind") == "ConfigMap" and isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str) and re.search(rf"^\s*kind:\s*{KIND}", value, re.MULTILINE):
                yield f"data[{key}]", value.encode()


def _nodes(text: bytes) -> list[Any]:
    """Return the node trees of a text's documents; none where only JSON can read it."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.compose_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []


def _line(node: Any, path: Path) -> int | None:
    """Return the line, from 1, of a field or of the nearest thing that holds it."""
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == step), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                return line
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _typed(name: str, document: dict[str, Any], root: Any) -> Read:
    """Type the document; None where a value is of another type, and no trap can be looked for."""
    given = _defaulted(document)
    wrong = list(refused(given, SchedulerConfiguration))
    refusals = [*_given_twice(root), *wrong]
    if document.get("apiVersion") != API_VERSION:
        said = f"is {document.get('apiVersion')!r}"
        refusals.append(Refusal(("apiVersion",), said, f"write apiVersion: {API_VERSION}"))
    file = None
    try:
        read = msgspec.convert(present(given), SchedulerConfiguration)
        file = SchedulerFile(name=name, configuration=read, root=root)
    except msgspec.ValidationError:  # each is among the refusals; the other values are judged
        right = without(given, [one.path for one in wrong])
        read = msgspec.convert(present(right), SchedulerConfiguration)
    refusals += refused_values(read)
    return file, [
        _broken(place(name, root, one.path), f"{one.message}: {_UNSTARTED}", one.remedy)
        for one in refusals
    ]


def _defaulted(document: dict[str, Any]) -> dict[str, Any]:
    """Fill in profiles as kube-scheduler does (pkg/scheduler/apis/config/v1/defaults.go).

    Without any, an empty list included, there is one; only a single one has a name by default.
    """
    given = document.get("profiles")
    profiles = [{}] if given in (None, []) else given
    if isinstance(profiles, list) and len(profiles) == 1:
        only = {} if profiles[0] is None else profiles[0]
        if isinstance(only, dict):
            profiles = [{"schedulerName": DEFAULT_SCHEDULER, **present(only)}]
    return {**document, "profiles": profiles}


def _not_read(name: str, text: bytes, index: int, root: Any) -> Iterator[Finding]:
    """Tell a document that kube-scheduler does not come to read."""
    where = place(name, root, ())
    if index:
        said = f"is document {index + 1} of the file: kube-scheduler reads the first alone"
        yield _broken(where, said, "put it into a file of its own")
    if text.lstrip().startswith(b"{") and not _is_json(text):
        said = f"begins with a brace, and is no JSON, which it is read as: {_UNSTARTED}"
        yield _broken(where, said, "write it as JSON, or as YAML with a key in each line")


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _given_twice(root: Any) -> Iterator[Refusal]:
    """Tell keys that stand twice in one object: PyYAML takes the last, kube-scheduler neither."""
    nodes: list[tuple[Any, Path]] = [(root, ())]
    looked_at = set()  # an alias is the node that it stands for, and may lie within itself
    while nodes:
        node, path = nodes.pop()
        if id(node) in looked_at:
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            for at, key in enumerate(keys):
                if key in keys[:at]:
                    yield Refusal((*path, str(key)), "stands here twice", "take one of them out")
            nodes += [(inner, (*path, str(key.value))) for key, inner in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += [(inner, (*path, index)) for index, inner in enumerate(node.value)]


def _broken(where: str, message: str, remedy: str) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        check="SchedulerFileBroken",
        object=where,
        message=message,
        remedy=remedy,
    )
