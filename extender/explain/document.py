"""The ``explain`` document: what a pod asks for and what every node answers.

The shape is fixed (see the reference documentation): absent is null, never a missing key; byte
counts are integers; times are seconds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from extender.cluster.holdings import Evidence
from extender.cluster.ledger import FINISHED
from extender.cluster.view import PodFacts
from extender.explain.answers import Answers, NodeAnswer, answers_for, refusal_message
from extender.explain.claims import empty_claims
from extender.explain.daemons import is_template, made_for, meant
from extender.explain.held import held_back, not_asked
from extender.explain.instead import without_its_own
from extender.explain.remarks import eviction_remark, evicts_in_vain, fetched_remarks
from extender.explain.remedies import remedy
from extender.explain.standing import State, named, standing
from extender.explain.strategies import better_strategy
from extender.explain.volumes import volume_warnings
from extender.explain.words import elsewhere, no_new_node, patience, summarize
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes
from extender.kube.times import time_text
from extender.placement.progress import describe
from extender.placement.verdict import Judge, Verdict
from extender.verbs.context import Context
from extender.verbs.prioritize import node_scores
from extender.workload.constraints import ANYWHERE, Constraints
from extender.workload.counts import EACH_NODE, Wanted
from extender.workload.manifest import POD_SPEC
from extender.workload.model import ModelReference, Need, Source

Document = dict[str, Any]


def explain(
    pod: Pod,
    context: Context,
    asked: Constraints = ANYWHERE,
    *,
    part: str = "",
    field: str = POD_SPEC,
    only: str | None = None,
    wanted: Wanted | None = None,
) -> Document:
    """Judge a pod on all nodes and say everything in one document.

    ``asked`` is what its spec asks of kube-scheduler. ``part`` tells it from the other pods of its
    workload, where there are several, and ``field`` is where its spec stands in the manifest: what
    is said of its fields begins with ``spec`` all the same. ``only`` is the one node to list:
    scores, and what is said of the pod, are by all nodes all the same. ``wanted`` is how many of it
    its workload asks for; of a DaemonSet that is told by the nodes.
    """
    view, pods = without_its_own(context.state.view(), context.state.pods(), pod)
    judge = Judge(context.request(pod), view, context.policy, stale=context.stale())
    requests = context.state.templates.read(pod).requests or {}
    if pod.status.phase in FINISHED:  # whoever comes in its place may go anywhere
        asked = msgspec.structs.replace(asked, node_name="")
    asking = answers_for(judge, pods, requests=requests, asked=asked)
    answers = asking.nodes
    if is_template(pod):
        wanted = Wanted(len(meant(answers)), EACH_NODE)
    own = answers if judge.request.node else made_for(answers)
    held = held_back(pod, asked, context.schedulers, pods, view)
    goes_to = "" if judge.request.node else asked.node_name
    stands = named(goes_to, judge, answers) if goes_to else standing(pod, judge, answers)
    scores = node_scores(judge, tuple(answer.node for answer in answers if answer.fits))
    request = judge.request
    return {
        "pod": request.name or None,
        "namespace": request.namespace or None,
        "part": part or None,
        "template": None if field == POD_SPEC else field,
        "wanted": None if wanted is None else msgspec.to_builtins(wanted),
        "references": [_reference(reference) for reference in request.workload.references],
        "memory": {
            "demandBytes": request.demand.bytes,
            "requestBytes": request.demand.request,
            "volumes": [
                {"name": volume.name, "bytes": volume.bytes, "counted": volume.counted}
                for volume in request.demand.volumes
            ],
        },
        "held": None if held is None else msgspec.to_builtins(held),
        "standing": None if stands is None else msgspec.to_builtins(stands),
        "nodes": [
            _node(answer, judge, pod, scores) for answer in answers if only in {None, answer.node}
        ],
        "summary": summarize(
            judge,
            own,
            pods,
            held=held,
            stands=stands,
            wanted=wanted,
            pinned=len(own) < len(answers),
        ),
        "warnings": [
            {"reason": reason, "message": message}
            for reason, message in (
                *_of_others(pod, asking, judge, context),
                *_warnings(
                    pod,
                    judge,
                    own,
                    None if goes_to or len(own) < len(answers) else _alike(judge, pods, wanted),
                ),
            )
        ],
    }


def is_well(document: Document, only: str | None = None) -> bool:
    """Tell whether a pod runs, or may: whether a script may go on.

    One that has a node runs there unless something is in its way; of another one nothing holds it
    back, and some node takes it; of a DaemonSet's all that it is for. ``only``: whether that node
    does, or it runs there.
    """
    stands = document["standing"]
    if document["held"] is not None:
        return False
    if stands is not None and only in {None, stands["node"]}:
        return bool(stands["state"] != State.STUCK)
    fitting, wanted = sum(node["fits"] for node in document["nodes"]), document["wanted"]
    every = only is None and wanted is not None and wanted["said"] == EACH_NODE
    return bool(fitting >= wanted["pods"] > 0) if every else fitting > 0


def in_namespace(manifest: Any, namespace: str) -> Any:
    """Return a manifest that names no namespace as it would be created in one.

    Claims and loaders are looked up there. What is no manifest stays as it is, to be refused.
    """
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if isinstance(manifest, dict) and isinstance(metadata, dict | None):
        metadata = metadata or {}
        named = metadata.get("namespace")
        named = namespace if named is None or named == "" else named
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


def _node(answer: NodeAnswer, judge: Judge, pod: Pod, scores: dict[str, int]) -> Document:
    verdict, start = answer.verdict, answer.start
    fix = remedy(answer, judge, pod)
    return {
        "name": verdict.node,
        "fits": answer.fits,
        "refusedBy": answer.by,
        "reason": answer.reason,
        "message": _of_fitting(answer, judge) if answer.fits else refusal_message(answer, fix),
        "resolvable": None if answer.fits else _resolvable(answer),
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
        "score": scores.get(verdict.node, 0) if answer.fits else None,
        "memoryFreeBytes": verdict.memory_free,
        "remedy": fix or None,
    }


def _resolvable(answer: NodeAnswer) -> bool:
    """Tell whether kube-scheduler's own preemption could make room, as far as it sees what lacks.

    Where our verdict refuses the node, too, it is not asked before it has.
    """
    if answer.objection is None:
        return answer.verdict.resolvable
    return answer.objection.is_shortage and answer.verdict.fits


def _of_fitting(answer: NodeAnswer, judge: Judge) -> str | None:
    """Say what is to be known of a node that fits; None where there is nothing."""
    waits = f"it would not start there: {answer.elsewhere}" if answer.elsewhere else ""
    return "; ".join(filter(None, (waits, _cache_message(answer.verdict, judge)))) or None


def _cache_message(verdict: Verdict, judge: Judge) -> str:
    """Say what the report of a fitting node's loader adds to its state; empty without one."""
    reference = next((r for r, answer in judge.answers.items() if answer.known), None)
    holding = judge.holding(reference, verdict.node) if reference is not None else None
    if holding is None or holding.evidence is not Evidence.VERIFIED:
        return ""
    transfer = judge.view.transfer(holding, verdict.node)
    said = [
        describe(transfer) if transfer is not None else "",
        format_bytes(holding.bytes) if holding.bytes is not None else "",
        f"proven at {time_text(holding.proven_at)}" if holding.proven_at is not None else "",
        holding.reason,
    ]
    return ", ".join(filter(None, said))


def _alike(judge: Judge, pods: Iterable[PodFacts], wanted: Wanted | None) -> int:
    """Count the pods that ask for the very same, this one included; of a manifest those wanted."""
    if wanted is not None and wanted.pods:
        return wanted.pods
    request = judge.request
    same = (pod.uid for pod in pods if pod.workload == request.workload)
    return len({*same, request.uid or "this one"})


def _of_others(
    pod: Pod, asking: Answers, judge: Judge, context: Context
) -> Iterator[tuple[str, str]]:
    """Say what others decide about the pod, and is not looked at here."""
    if asking.not_judged:
        skipped = ", ".join(asking.not_judged)
        yield (
            "NotJudged",
            f"not looked at here: {skipped}; kube-scheduler may refuse nodes for it",
        )
    opted_in = context.state.opted_in(judge.request.namespace)
    facts = context.state.pod(judge.request.uid)
    if facts is not None and evicts_in_vain(facts):
        yield eviction_remark(judge)
    elsewhere = not_asked(pod, context.schedulers, opted_in=opted_in)
    if elsewhere and judge.request.needs_certainty:
        yield "NotAsked", elsewhere


def _warnings(
    pod: Pod, judge: Judge, answers: Sequence[NodeAnswer], alike: int | None
) -> list[tuple[str, str]]:
    """Return what is to be said of a pod; ``alike`` are such pods, None where it is not placed."""
    request = judge.request
    found = [(warning.reason, warning.message) for warning in request.workload.warnings]
    found += [one.told for one in volume_warnings(request, pod)]
    untrusted = {loader for answer in judge.answers.values() for loader in answer.untrusted}
    found += [
        (
            "UntrustedLoader",
            f"loader {loader} fills the model's directory, but its namespace may not vouch for "
            f"pods of {request.namespace}; if it may: kubectl label namespace "
            f"{shlex.quote(loader.split('/')[0])} modelcache.dev/loaders=trusted",
        )
        for loader in sorted(untrusted)
    ]
    found += [
        (
            "PathWithoutLoader",
            f"{reference.host_path}: no known loader fills it on any node, so no node is refused "
            "for it, or preferred; see that the path is right, and what doctor says of it",
        )
        for reference, answer in judge.answers.items()
        if reference.source is Source.HOST_PATH
        and reference.need is Need.REQUIRED
        and answer.is_unowned
    ]
    found += fetched_remarks(judge)
    if not answers:
        found.append(("NoNodes", "the cluster has no nodes"))
    is_to_go = not (alike is None or request.node or pod.metadata.deletion_timestamp)
    ours = [answer.verdict.reason for answer in answers if answer.objection is None]
    told = (
        *(("ClaimEmpty", message) for message in empty_claims(judge)),
        ("ClaimElsewhere", elsewhere(answers)),
        ("NoNewNode", no_new_node(judge, ours) if is_to_go else ""),
        ("RequiredTimeout", patience(judge)),
        ("BetterStrategy", "" if alike is None else better_strategy(judge, answers, alike)),
    )
    return found + [(reason, message) for reason, message in told if message]
