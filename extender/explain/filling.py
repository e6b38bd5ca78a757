"""How an absent model gets onto a node: by its loader, by a catalog, or declared as baked in."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable

import msgspec

from extender.cluster.holdings import ModelState
from extender.cluster.inventory import PROVIDES_ANNOTATION, Answer, Loader
from extender.explain.naming import yaml_text
from extender.placement.request import cached_reference
from extender.placement.verdict import Judge
from extender.workload.model import ModelReference
from extender.workload.names import Kind, parse_name, repository_directory
from extender.workload.volumes import is_within

_UNKNOWN_SOURCE = "ORGANISATION/NAME"
_ONE_FILE = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".llamafile")
_HUB_CACHE = "models--"


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A model that lacks on nodes: where, what is known of it, and who could fill it."""

    path: str
    hub_id: str
    revision: str | None
    loaders: tuple[Loader, ...]
    answer: Answer | None


def how_to_fill(reference: ModelReference, node: str, judge: Judge) -> str:
    """Say which loader would bring one of the pod's cached models onto a node, to paste."""
    return _by_loader(_wanted(reference, judge), node)


def or_declare(references: Iterable[ModelReference], node: str, judge: Judge) -> str:
    """Say how a node declares these models of a pod, all at once: the annotation is one."""
    paths = tuple(dict.fromkeys(_wanted(one, judge).path for one in references))
    declare = _declare(judge.view.inventory.provided(node), paths)
    return f"or declare what is baked in: kubectl annotate node {shlex.quote(node)} {declare}"


def _wanted(reference: ModelReference, judge: Judge) -> _Wanted:
    held = cached_reference(reference)
    path = (held.host_path if held is not None else None) or "/path"
    answer = judge.answers.get(reference)
    owners = set(answer.loaders) if answer is not None else set()
    loaders = judge.view.inventory.loaders
    hub_id, revision = _source(path, loaders, reference)
    return _Wanted(
        path=path,
        hub_id=hub_id,
        revision=revision,
        loaders=tuple(one for one in loaders if f"{one.namespace}/{one.name}" in owners),
        answer=answer,
    )


def _source(
    path: str, loaders: tuple[Loader, ...], reference: ModelReference
) -> tuple[str, str | None]:
    """Return the hub id and the revision of what lies at a path, as loaders or the pod say."""
    said = [(m.model, m.revision) for one in loaders for m in one.template.models if m.path == path]
    said.append((reference.model, reference.revision))
    for model, revision in said:
        name = parse_name(model or "")
        if name.kind is Kind.HUB:
            return name.text, revision or name.revision
    cached = _in_hub_cache(path)
    return (cached or _UNKNOWN_SOURCE), None


def _by_loader(wanted: _Wanted, node: str) -> str:
    if not wanted.loaders:
        return f"have a loader fill it there, by a ModelCatalog with {_entry(wanted)}"
    carrier = _carrier(wanted)
    loader = carrier or wanted.loaders[0]
    who, daemonset = (
        f"loader {loader.namespace}/{loader.name}",
        f"daemonset -n {shlex.quote(loader.namespace)} {shlex.quote(loader.name)}",
    )
    holding = wanted.answer.nodes.get(node) if wanted.answer is not None else None
    if holding is None and carrier is not None:
        return (
            f"{who} has it and no pod on {node}: see its node selector, affinity and tolerations: "
            f"kubectl get {daemonset} -o yaml"
        )
    if loader.template.reports:
        return f"add it to the ModelCatalog of {who}: {_entry(wanted)}"
    return (
        f"have {who} fetch {wanted.hub_id} to {wanted.path} (as the node has it): kubectl edit "
        f"{daemonset}"
    )


def _carrier(wanted: _Wanted) -> Loader | None:
    """Return the loader that puts the model on nodes, or says that it does; None without one."""
    held = wanted.answer.nodes.values() if wanted.answer is not None else ()
    witnesses = [one.witness for one in held if one.state is not ModelState.ABSENT]
    for loader in wanted.loaders:
        if any(model.path == wanted.path for model in loader.template.models):
            return loader
    for loader in wanted.loaders:
        pods = f"{loader.namespace}/{loader.name}-"
        if any(witness.startswith(pods) for witness in witnesses):
            return loader
    return None


def _entry(wanted: _Wanted) -> str:
    """Return the entry of a ModelCatalog that puts a model at a host path, or what to change first.

    Its place is relative to the directory that a loader owns, where one is known.
    """
    path = wanted.path
    directories = [
        directory
        for loader in wanted.loaders
        for directory in loader.template.directories
        if is_within(path, directory)
    ]
    base = max(directories, key=len, default=posixpath.dirname(path))
    if _in_hub_cache(path):
        name = posixpath.basename(wanted.hub_id)
        return (
            f"{_line(wanted, name, name)}, and have the pod open {posixpath.join(base, name)}: a "
            "catalog keeps no cache of the hub's own layout"
        )
    place = posixpath.relpath(path, base)
    folder, file = posixpath.split(place)
    if not file.endswith(_ONE_FILE):
        return _line(wanted, posixpath.basename(path), place)
    include = f", include: [{yaml_text(file)}]"
    if folder:
        return _line(wanted, posixpath.basename(folder), folder, include)
    folder = posixpath.splitext(file)[0]
    return (
        f"{_line(wanted, folder, folder, include)}, and have the pod open "
        f"{posixpath.join(base, folder, file)}: a catalog has a directory for each model"
    )


def _line(wanted: _Wanted, name: str, place: str, more: str = "") -> str:
    called = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-") or "model"
    where = "" if place == called else f", path: {yaml_text(place)}"
    revision = f", revision: {yaml_text(wanted.revision)}" if wanted.revision else ""
    source = yaml_text(f"hf://{wanted.hub_id}")
    return f"models: [{{name: {yaml_text(called)}, source: {source}{revision}{where}{more}}}]"


def _in_hub_cache(path: str) -> str:
    """Return the hub id of a path in a cache of the hub's own layout; else empty."""
    for part in path.split("/"):
        if part.startswith(_HUB_CACHE):
            hub_id = part.removeprefix(_HUB_CACHE).replace("--", "/", 1)
            return hub_id if repository_directory(hub_id) == part else ""
    return ""


def _declare(provided: tuple[str, ...], paths: tuple[str, ...]) -> str:
    """Return the arguments that add paths to those that a node says it provides."""
    if not provided and len(paths) == 1:
        return shlex.quote(f"{PROVIDES_ANNOTATION}={paths[0]}")
    lines = " ".join(shlex.quote(one) for one in (*provided, *paths))
    again = "--overwrite " if provided else ""
    return f"{again}{PROVIDES_ANNOTATION}=\"$(printf '%s\\n' {lines})\""
