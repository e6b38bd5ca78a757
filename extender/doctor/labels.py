"""Our own labels and annotations: misspelt, on the wrong object, or with a value that says nothing.

All of them are optional, so that a wrong one has no effect and nothing else says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import msgspec

from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.inventory import PROVIDES_ANNOTATION
from extender.cluster.loaders import TRUSTED_LABEL
from extender.cluster.namespaces import ENABLED, SCHEDULING_LABEL
from extender.doctor.examined import Examined
from extender.doctor.finding import Finding, Severity
from extender.doctor.owners import daemon_set_owner
from extender.report import REPORT_ANNOTATION
from extender.workload.model import (
    ANNOTATION_PREFIX,
    LOADER_LABEL,
    MODEL_ANNOTATION,
    MODELS_ANNOTATION,
    NEED_ANNOTATION,
)


class Known(msgspec.Struct, frozen=True):
    """One key: a label or an annotation, the kinds that carry it, and the values it takes."""

    what: str
    on: tuple[str, ...]
    values: tuple[str, ...] = ()


_POD, _TEMPLATE = "Pod", "DaemonSet template"
KEYS: dict[str, Known] = {
    MODEL_ANNOTATION: Known("annotation", (_POD,)),
    NEED_ANNOTATION: Known("annotation", (_POD,)),
    LOADER_LABEL: Known("label", (_TEMPLATE, _POD), ("true", "false")),
    MODELS_ANNOTATION: Known("annotation", (_TEMPLATE, _POD)),
    PROVIDES_ANNOTATION: Known("annotation", ("Node",)),
    REPORT_ANNOTATION: Known("annotation", (_POD,)),
    DECISION_ANNOTATION: Known("annotation", (_POD,)),
    f"{ANNOTATION_PREFIX}requeued-at": Known("annotation", (_POD,)),
    TRUSTED_LABEL: Known("label", ("Namespace",), ("trusted",)),
    SCHEDULING_LABEL: Known("label", ("Namespace",), (ENABLED,)),
}
"""Every key of ours; a template's are found on its pods too."""


def check_labels(examined: Examined) -> Iterator[Finding]:
    """Look at every object that can carry one."""
    for namespace in examined.namespaces:
        yield from _keys("Namespace", f"Namespace {namespace.metadata.name}", namespace.metadata)
    for node in examined.nodes:
        yield from _keys("Node", f"Node {node.metadata.name}", node.metadata)
    for daemon_set in examined.daemon_sets:
        name = str(daemon_set_owner(daemon_set.metadata))
        yield from _keys("DaemonSet", name, daemon_set.metadata)
        template = daemon_set.spec.template.metadata
        yield from _keys(_TEMPLATE, f"{name} spec.template", template)
    for group in examined.groups:
        if group.kind != "DaemonSet":
            where = f"{group.name} {group.owner.template or ''}".rstrip()
            yield from _keys(_POD, where, group.pod.metadata)


def _keys(kind: str, name: str, metadata: object) -> Iterator[Finding]:
    tables: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("label", getattr(metadata, "labels", {})),
        ("annotation", getattr(metadata, "annotations", {})),
    )
    for what, table in tables:
        for key, value in table.items():
            if key.startswith(ANNOTATION_PREFIX):
                yield from _key(kind, name, what, key, value)


def _key(kind: str, name: str, what: str, key: str, value: str) -> Iterator[Finding]:
    known = KEYS.get(key)
    if known is None:
        near = get_close_matches(key, KEYS, n=1)
        message = "is not known and has no effect"
        remedy = f"write {near[0]}" if near else f"known are: {', '.join(sorted(KEYS))}"
    elif known.what != what or kind not in known.on:
        message = f"has no effect as {what} of a {kind}"
        remedy = f"make it the {known.what} of a {known.on[0]}"
        if _TEMPLATE in known.on and kind == "DaemonSet":
            remedy = f"move it to spec.template.metadata.{known.what}s"
        meant = get_close_matches(key, [k for k, v in KEYS.items() if kind in v.on], n=1)
        if meant and meant[0] != key:
            remedy = f"write {meant[0]}, or {remedy}"
    elif known.values and value not in known.values:
        message = f"is {value[:60]!r}, which has no effect"
        remedy = f"{key}: {' or '.join(repr(v) for v in known.values)}"
    else:
        return
    yield Finding(
        severity=Severity.WARNING,
        check="LabelWithoutEffect",
        object=name,
        message=f"{what} {key} {message}",
        remedy=remedy,
    )
