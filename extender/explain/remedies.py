"""What would end a refusal, to paste where it can be pasted."""

from __future__ import annotations

import posixpath
import shlex

from extender.cluster.inventory import PROVIDES_ANNOTATION
from extender.explain.answers import NodeAnswer
from extender.explain.claims import claim_remedy, model_claim
from extender.explain.room import in_tree_remedy, smaller_request, too_small
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes, format_quantity
from extender.placement.reasons import Reason
from extender.placement.request import cached_reference
from extender.placement.verdict import Judge, Verdict
from extender.workload.model import ModelReference
from extender.workload.names import Kind, parse_name
from extender.workload.volumes import is_within

_UNKNOWN_SOURCE = "hf://ORGANISATION/NAME"


def remedy(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would end a node's refusal; empty where it fits."""
    if answer.objection is not None:
        return in_tree_remedy(answer, judge, pod)
    verdict = answer.verdict
    match verdict.reason:
        case None:
            return ""
        case Reason.INSUFFICIENT_MEMORY:
            return _memory(answer, judge, pod)
        case Reason.MODEL_ABSENT:
            return _absent(verdict, judge)
        case Reason.MODEL_LOADING:
            return f"none: the pod is woken when it is ready{_follow(verdict, judge, 'logs -f')}"
        case Reason.MODEL_FAILED:
            asked = _witness(verdict, judge, "logs", " --all-containers --previous")
            return f"look at the logs of its loader: {asked}" if asked else "look at its loader"
        case Reason.MODEL_STALE:
            asked = _witness(verdict, judge, "describe pod")
            return f"see why its loader is not Ready: {asked}" if asked else "look at its loader"
        case Reason.NODE_UNKNOWN:
            return "none: it passes once the watch has shown the node"
        case Reason.NODE_GONE:
            return "none: the node was deleted; one that comes back by its name is judged anew"
        case Reason.KNOWLEDGE_STALE:
            return "see /readyz of the extender, and model-cache-extender doctor"
        case _:
            return claim_remedy(verdict.reason, model_claim(judge), judge)


def memory_request(judge: Judge) -> str:
    """Return the request that would show a pod's memory-backed volumes to everyone; else empty."""
    demand = judge.request.demand
    if not demand.volume_bytes:
        return ""
    quantity = format_quantity(demand.bytes)
    return f"spec.resources.requests.memory: {quantity} (of the pod, Kubernetes 1.34 or newer)"


def _memory(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    verdict = answer.verdict
    lacking = f"lacks {format_bytes(verdict.missing)}"
    small = f"; {too_small(answer)}" if answer.beyond else ""
    request = memory_request(judge)
    if request:
        return (
            f"{lacking}, which autoscalers do not see; no node is added for it before the pod "
            f"requests it: {request}{small}"
        )
    smaller = smaller_request(pod, verdict.missing)
    return lacking + (f"; it would fit with {smaller}" if smaller else "") + small


def _absent(verdict: Verdict, judge: Judge) -> str:
    found = next(
        ((held, r) for r in judge.answers if (held := cached_reference(r)) is not None), None
    )
    path = (found[0].host_path if found else None) or "/path"
    declare = _annotation(judge.view.inventory.provided(verdict.node), path)
    line = catalog_line(path, judge, found[1] if found else None)
    return (
        f"have a loader fill it there (its ModelCatalog: {line}), or declare what is baked in: "
        f"kubectl annotate node {verdict.node} {declare}"
    )


def _annotation(provided: tuple[str, ...], path: str) -> str:
    """Return the arguments that add a path to those that a node says it provides."""
    if not provided:
        return shlex.quote(f"{PROVIDES_ANNOTATION}={path}")
    lines = " ".join(shlex.quote(one) for one in (*provided, path))
    return f"--overwrite {PROVIDES_ANNOTATION}=\"$(printf '%s\\n' {lines})\""


def catalog_line(path: str, judge: Judge, reference: ModelReference | None) -> str:
    """Return the entry of a ModelCatalog that puts a model at a host path.

    Its place is relative to the directory that a loader owns, where one is known; its source is
    what a loader, or the pod, says of that path.
    """
    answer = judge.answers.get(reference) if reference is not None else None
    owners = set(answer.loaders) if answer is not None else set()
    loaders = judge.view.inventory.loaders
    directories = [
        directory
        for loader in loaders
        if f"{loader.namespace}/{loader.name}" in owners
        for directory in loader.template.directories
        if is_within(path, directory)
    ]
    base = max(directories, key=len, default=posixpath.dirname(path))
    place = posixpath.relpath(path, base)
    name = posixpath.basename(path)
    declared = (m.model for loader in loaders for m in loader.template.models if m.path == path)
    asked = reference.model if reference is not None else None
    named = (text for text in (*declared, asked) if text and parse_name(text).kind is Kind.HUB)
    source = next((f"hf://{parse_name(text).text}" for text in named), _UNKNOWN_SOURCE)
    where = "" if place == name else f", path: {_yaml(place)}"
    return f"models: [{{name: {_yaml(name)}, source: {_yaml(source)}{where}}}]"


def _yaml(text: str) -> str:
    """Quote what YAML's flow style could take for something else."""
    plain = all(c.isalnum() or c in "._-/:" for c in text) and not text[:1].isdigit()
    return text if plain else "'" + text.replace("'", "''") + "'"


def _follow(verdict: Verdict, judge: Judge, verb: str) -> str:
    asked = _witness(verdict, judge, verb, " --all-containers")
    return f"; see how far: {asked}" if asked else ""


def _witness(verdict: Verdict, judge: Judge, verb: str, flags: str = "") -> str:
    """Return a kubectl command on the loader pod that speaks for a node; empty without one."""
    for answer in judge.answers.values():
        holding = answer.nodes.get(verdict.node)
        namespace, slash, name = (holding.witness if holding else "").partition("/")
        if slash and name and " " not in name:
            return f"kubectl {verb} -n {namespace} {name}{flags}"
    return ""
