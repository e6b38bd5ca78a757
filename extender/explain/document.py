"""The ``explain`` document: what a pod asks for and what every node answers.

The shape is fixed (see the reference documentation): absent is null, never a missing key; byte
counts are integers; times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extender.cluster.holdings import Evidence
from extender.explain.remarks import fetched_remarks
from extender.explain.remedies import remedy
from extender.explain.strategies import better_strategy
from extender.explain.volumes import volume_warnings
from extender.explain.words import no_new_node, patience, summarize
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes
from extender.kube.times import time_text
from extender.placement.progress import describe
from extender.placement.reasons import TEXTS
from extender.placement.verdict import Judge, Verdict
from extender.verbs.context import Context
from extender.verbs.prioritize import node_scores
from extender.workload.model import ModelReference

Document = dict[str, Any]


def explain(
    pod: Pod, context: Context, *, part: str = "", nodes: Sequence[str] | None = None
) -> Document:
    """Judge a pod on all nodes, or on those named, and say everything in one document.

    ``part`` tells it from the other pods of its workload, where there are several.
    """
    judge = context.judge(pod)
    names = tuple(nodes if nodes is not None else sorted(judge.view.nodes))
    verdicts = [judge.verdict(name) for name in names]
    fitting = tuple(verdict.node for verdict in verdicts if verdict.fits)
    scores = node_scores(judge, fitting)
    request = judge.request
    return {
        "pod": request.name or None,
        "namespace": request.namespace or None,
        "part": part or None,
        "references": [_reference(reference) for reference in request.workload.references],
        "memory": {
            "demandBytes": request.demand.bytes,
            "requestBytes": request.demand.request,
            "volumes": [
                {"name": volume.name, "bytes": volume.bytes, "counted": volume.counted}
                for volume in request.demand.volumes
            ],
        },
        "nodes": [_node(verdict, judge, scores) for verdict in verdicts],
        "summary": summarize(judge, verdicts, context.state.pods()),
        "warnings": _warnings(judge, verdicts, _alike(judge, context)),
    }


def in_namespace(manifest: Any, namespace: str) -> Any:
    """Return a manifest that names no namespace as it would be created in one.

    Claims and loaders are looked up there. What is no manifest stays as it is, to be refused.
    """
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if isinstance(manifest, dict) and isinstance(metadata, dict | None):
        metadata = metadata or {}
        named = metadata.get("namespace") or namespace
        return {**manifest, "metadata": {**metadata, "namespace": named}}
    return manifest


def _reference(reference: ModelReference) -> Document:
    return {
        "role": reference.role,
        "strategy": reference.strategy,
        "source": reference.source,
        "need": reference.need,
        "model": reference.model,
        "revision": reference.revision,
        "hostPath": reference.host_path,
        "claim": reference.claim,
        "image": reference.image,
        "volume": reference.volume,
        "bytes": reference.bytes,
        "readFrom": list(reference.read_from),
        "unknown": reference.unknown,
    }


def _node(verdict: Verdict, judge: Judge, scores: dict[str, int]) -> Document:
    start = verdict.start
    return {
        "name": verdict.node,
        "fits": verdict.fits,
        "reason": verdict.reason,
        "message": _message(verdict, judge),
        "resolvable": None if verdict.fits else verdict.resolvable,
        "evidence": verdict.evidence,
        "state": verdict.state,
        "estimatedStartSeconds": None if start is None else round(start.seconds, 1),
        "parts": None
        if start is None
        else {
            "fetchSeconds": round(start.fetch, 1),
            "readSeconds": round(start.read, 1),
            "engineSeconds": round(start.engine, 1),
            "penaltySeconds": round(start.penalty, 1),
            "correction": round(start.correction, 2),
        },
        "score": scores.get(verdict.node, 0) if verdict.fits else None,
        "memoryFreeBytes": verdict.memory_free,
        "remedy": remedy(verdict, judge) or None,
    }


def _message(verdict: Verdict, judge: Judge) -> str | None:
    if verdict.reason is None:
        return _cache_message(verdict, judge)
    said = TEXTS[verdict.reason]
    detail = f": {verdict.detail}" if verdict.detail else ""
    fix = remedy(verdict, judge)
    return f"{said}{detail}" + (f"; {fix}" if fix else "")


def _cache_message(verdict: Verdict, judge: Judge) -> str | None:
    """Say what the report of a fitting node's loader adds to its state, if there is one."""
    reference = next((r for r, answer in judge.answers.items() if answer.known), None)
    holding = judge.holding(reference, verdict.node) if reference is not None else None
    if holding is None or holding.evidence is not Evidence.VERIFIED:
        return None
    transfer = judge.view.transfer(holding, verdict.node)
    said = [
        describe(transfer) if transfer is not None else "",
        format_bytes(holding.bytes) if holding.bytes is not None else "",
        f"proven at {time_text(holding.proven_at)}" if holding.proven_at is not None else "",
        holding.reason,
    ]
    return ", ".join(text for text in said if text) or None


def _alike(judge: Judge, context: Context) -> int:
    """Count the pods that ask for the very same, this one included."""
    request = judge.request
    same = (pod.uid for pod in context.state.pods() if pod.workload == request.workload)
    return len({*same, request.uid or "this one"})


def _warnings(judge: Judge, verdicts: Sequence[Verdict], alike: int) -> list[Document]:
    request = judge.request
    found = [(warning.reason, warning.message) for warning in request.workload.warnings]
    found += volume_warnings(request)
    untrusted = {loader for answer in judge.answers.values() for loader in answer.untrusted}
    found += [
        (
            "UntrustedLoader",
            f"loader {loader} fills the model's directory, but its namespace may not vouch for "
            f"pods of {request.namespace}; if it may, label it modelcache.dev/loaders=trusted",
        )
        for loader in sorted(untrusted)
    ]
    found += fetched_remarks(judge)
    if not verdicts:
        found.append(("NoNodes", "the cluster has no nodes"))
    answers = [verdict.reason for verdict in verdicts]
    told = (
        ("NoNewNode", no_new_node(judge, answers)),
        ("RequiredTimeout", patience(judge)),
        ("BetterStrategy", better_strategy(judge, verdicts, alike)),
    )
    found += [(reason, message) for reason, message in told if message]
    return [{"reason": reason, "message": message} for reason, message in found]
