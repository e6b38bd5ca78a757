"""A KubeSchedulerConfiguration as far as extenders are concerned, and where in its file it says so.

kube-scheduler reads its file strictly: an unknown key or a value of the wrong type keeps it from
starting (pkg/scheduler/apis/config/v1, staging/src/k8s.io/kube-scheduler/config/v1/types.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from extender.doctor.finding import Finding, Severity
from extender.snapshot import parse_documents

DEFAULT_SCHEDULER = "default-scheduler"
API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"

Step = str | int


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the parts of the document."""


class Tls(_Part, frozen=True):
    """``extenders[].tlsConfig``."""

    insecure: bool = False
    ca_file: str = ""
    ca_data: str = ""
    cert_file: str = ""
    cert_data: str = ""
    key_file: str = ""
    key_data: str = ""
    server_name: str = ""


class ManagedResource(_Part, frozen=True):
    """``extenders[].managedResources[]``."""

    name: str = ""
    ignored_by_scheduler: bool = False


class ExtenderEntry(_Part, frozen=True):
    """``extenders[]``. ``http_timeout`` is a Go duration such as ``5s``."""

    url_prefix: str = ""
    filter_verb: str = ""
    preempt_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    enable_https: bool = msgspec.field(name="enableHTTPS", default=False)
    tls_config: Tls | None = None
    http_timeout: str | None = None
    node_cache_capable: bool = False
    managed_resources: tuple[ManagedResource, ...] = ()
    ignorable: bool = False


class Profile(_Part, frozen=True):
    """``profiles[]``. A name is empty only where kube-scheduler refuses it."""

    scheduler_name: str = ""
    percentage_of_nodes_to_score: int | None = None


class LeaderElection(_Part, frozen=True):
    """``leaderElection``, with kube-scheduler's own defaults."""

    leader_elect: bool = True
    resource_name: str = "kube-scheduler"
    resource_namespace: str = "kube-system"


class SchedulerConfiguration(_Part, frozen=True):
    """The parts of the document that matter here."""

    api_version: str = ""
    leader_election: LeaderElection = LeaderElection()
    percentage_of_nodes_to_score: int | None = None
    pod_initial_backoff_seconds: int | None = None
    pod_max_backoff_seconds: int | None = None
    profiles: tuple[Profile, ...] = ()
    extenders: tuple[ExtenderEntry, ...] = ()

    @property
    def scheduler_names(self) -> list[str]:
        """Return the names under which pods come to this kube-scheduler."""
        return [profile.scheduler_name for profile in self.profiles if profile.scheduler_name]


_TOP_KEYS = frozenset(
    {
        "apiVersion", "kind", "parallelism", "leaderElection", "clientConnection",
        "enableProfiling", "enableContentionProfiling", "percentageOfNodesToScore",
        "podInitialBackoffSeconds", "podMaxBackoffSeconds", "profiles", "extenders",
        "delayCacheUntilActive",
    }
)  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[A-Za-z]+)|\[(?P<index>\d+|\.\.\.)\]")


class SchedulerFile(msgspec.Struct, frozen=True, kw_only=True):
    """The document, with the name of its file and the node tree that knows its lines."""

    name: str
    configuration: SchedulerConfiguration
    root: Any = None

    def place(self, *path: Step) -> str:
        """Name a field: ``FILE:LINE extenders[0].weight``; the line of what holds it if absent."""
        return place(self.name, self.root, path)


class Entry(msgspec.Struct, frozen=True):
    """One extender of the file with its place."""

    file: SchedulerFile
    index: int
    given: ExtenderEntry

    def at(self, field: str) -> str:
        """Name one of its fields."""
        return self.file.place("extenders", self.index, field)


def place(name: str, root: Any, path: tuple[Step, ...]) -> str:
    """Name a field of a file with its line, as far as the tree knows it."""
    line = _line(root, path)
    where = f"{name}:{line}" if line else name
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"{where} {words.lstrip('.')}".rstrip()


def read_scheduler_file(name: str, text: bytes) -> tuple[SchedulerFile | None, list[Finding]]:
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
            return _typed(name, document, nodes[index] if index < len(nodes) else None)
        for key, inner in _carried(document):
            return read_scheduler_file(f"{name}({key})", inner)
    kinds = ", ".join(str(d.get("kind")) for d in documents if isinstance(d, dict)) or "nothing"
    return None, [_broken(name, f"holds no {KIND} (found: {kinds})", f"begin it with kind: {KIND}")]


def seconds(duration: str) -> float | None:
    """Read a Go duration (``1m30s``, ``500ms``); None where it is none."""
    parts = list(_DURATION_PART.finditer(duration))
    if "".join(part[0] for part in parts) != duration or not parts:
        return 0.0 if duration == "0" else None
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


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


def _line(node: Any, path: tuple[Step, ...]) -> int | None:
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


def _typed(
    name: str, document: dict[str, Any], root: Any
) -> tuple[SchedulerFile | None, list[Finding]]:
    findings = [
        _broken(
            place(name, root, path),
            "is a key that kube-scheduler does not know; it does not start with it",
            f"take {path[-1]} out",
        )
        for path in _unknown_keys(document)
    ]
    if document.get("apiVersion") != API_VERSION:
        findings.append(
            _broken(
                place(name, root, ("apiVersion",)),
                f"is {document.get('apiVersion')!r}",
                f"write apiVersion: {API_VERSION}",
            )
        )
    given = _defaulted(_present(document))
    wrong = [
        _broken(place(name, root, path), said, "mend its value")
        for path, said in _wrong_values(given)
    ]
    if wrong:
        return None, findings + wrong
    read = msgspec.convert(given, SchedulerConfiguration)
    return SchedulerFile(name=name, configuration=read, root=root), findings


def _defaulted(document: dict[str, Any]) -> dict[str, Any]:
    """Fill in profiles as kube-scheduler does (pkg/scheduler/apis/config/v1/defaults.go).

    Without any, an empty list included, there is one; only a single one has a name by default.
    """
    profiles = document.get("profiles") or [{}]
    if isinstance(profiles, list) and len(profiles) == 1 and isinstance(profiles[0], dict):
        profiles = [{"schedulerName": DEFAULT_SCHEDULER, **profiles[0]}]
    return {**document, "profiles": profiles}


def _wrong_values(document: dict[str, Any]) -> Iterator[tuple[tuple[Step, ...], str]]:
    """Yield what has the wrong type; the entries of lists one by one, so that all is said."""
    lists: tuple[tuple[str, type[Any]], ...] = (("profiles", Profile), ("extenders", ExtenderEntry))
    parts: list[tuple[tuple[Step, ...], Any, type[Any]]] = []
    alone = dict(document)
    for key, kind in lists:
        if isinstance(document.get(key), list):
            parts += [((key, i), entry, kind) for i, entry in enumerate(alone.pop(key))]
    parts.append(((), alone, SchedulerConfiguration))
    for path, value, wanted in parts:
        try:
            msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            at = _AT.search(str(error))
            yield (*path, *_path(at["path"] if at else "")), _AT.sub("", str(error))


def _present(value: Any) -> Any:
    """Leave out nulls: to kube-scheduler they are absent."""
    if isinstance(value, dict):
        return {str(k): _present(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_present(item) for item in value]
    return value


def _unknown_keys(document: dict[str, Any]) -> Iterator[tuple[Step, ...]]:
    yield from ((str(key),) for key in document if key not in _TOP_KEYS)
    known = {field.encode_name for field in msgspec.structs.fields(ExtenderEntry)}
    entries = document.get("extenders")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield from (("extenders", index, str(key)) for key in entry if key not in known)


def _path(text: str) -> tuple[Step, ...]:
    """Read msgspec's path ``.extenders[...].weight``; an index that it leaves open ends it."""
    steps: list[Step] = []
    for step in _STEP.finditer(text):
        if step["index"] == "...":
            break
        steps.append(step["key"] or int(step["index"]))
    return tuple(steps)


def _broken(where: str, message: str, remedy: str) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        check="SchedulerFileBroken",
        object=where,
        message=message,
        remedy=remedy,
    )
