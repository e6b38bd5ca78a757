"""What would end a refusal, to paste where it can be pasted."""

from __future__ import annotations

import posixpath
import shlex

from extender.cluster.inventory import PROVIDES_ANNOTATION
from extender.explain.answers import NodeAnswer
from extender.explain.room import in_tree_remedy, smaller_request
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes, format_quantity
from extender.placement.reasons import Reason
from extender.placement.request import cached_reference
from extender.placement.verdict import Judge, Verdict
from extender.workload.model import ModelReference, Source
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
            return _memory(verdict, judge, pod)
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
            return _claim(verdict.reason, judge)


def memory_request(judge: Judge) -> str:
    """Return the request that would show a pod's memory-backed volumes to everyone; else empty."""
    demand = judge.request.demand
    if not demand.volume_bytes:
        return ""
    quantity = format_quantity(demand.bytes)
    return f"spec.resources.requests.memory: {quantity} (of the pod, Kubernetes 1.34 or newer)"


def _memory(verdict: Verdict, judge: Judge, pod: Pod) -> str:
    lacking = format_bytes(verdict.missing)
    request = memory_request(judge)
    if request:
        return (
            f"lacks {lacking}, which autoscalers do not see; no node is added for it "
            f"before the pod requests it: {request}"
        )
    smaller = smaller_request(pod, verdict.missing)
    return f"lacks {lacking}" + (f"; it would fit with {smaller}" if smaller else "")


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
    value = "\\n".join(one.replace("\\", r"\\").replace("'", r"\'") for one in (*provided, path))
    return f"--overwrite {PROVIDES_ANNOTATION}=$'{value}'"


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


def _claim(reason: Reason, judge: Judge) -> str:
    """Say what to do about the claim of a pod's model."""
    request = judge.request
    named = [
        one.claim
        for reference in request.workload.references
        for one in (reference, reference.origin)
        if one is not None and one.source is Source.CLAIM and one.claim
    ]
    claim = named[0] if named else "CLAIM"
    space = f"-n {request.namespace or 'default'}"
    jobs = sorted({job.name for job, _ in judge.view.writers(request.namespace, claim)})
    job = f"job/{jobs[0]}" if jobs else "job/JOB"
    return {
        Reason.CLAIM_MISSING: f"create it, as in deploy/examples/shared-volume.yaml, or name one "
        f"of: kubectl get persistentvolumeclaims {space}",
        Reason.CLAIM_NOT_BOUND: f"kubectl describe persistentvolumeclaim {space} {claim}",
        Reason.CLAIM_UNREACHABLE: "place the pod, or the volume, elsewhere: kubectl get "
        f"persistentvolume $(kubectl get persistentvolumeclaim {space} {claim} "
        "-o jsonpath='{.spec.volumeName}') -o jsonpath='{.spec.nodeAffinity}'",
        Reason.CLAIM_FILLING: f"none: the pod is woken when it is filled; see how far: kubectl "
        f"logs -f {space} {job}",
        Reason.CLAIM_FILL_FAILED: f"look at the logs of what failed: kubectl logs {space} {job} "
        "--all-containers",
    }.get(reason, "")
