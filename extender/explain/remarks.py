"""What deserves an event on a pod: what its author has to mend, and nothing that ends by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from extender.cluster.holdings import Evidence, ModelState
from extender.cluster.inventory import Answer
from extender.cluster.view import PodFacts
from extender.explain.logs import see_why
from extender.explain.volumes import Warned, volume_warnings
from extender.explain.words import SEEN_HERE_ALONE, no_new_node
from extender.placement.progress import in_words, seconds_left
from extender.placement.reasons import TEXTS, Reason
from extender.placement.request import PodRequest, cached_reference
from extender.placement.verdict import Judge
from extender.workload.model import Need

BEING_FETCHED = "ModelBeingFetched"
"""The one remark that is good news."""

_NO_CANDIDATE = "no candidate node for preemption"
"""What kube-scheduler says where extenders left none of the evictions that it proposed, and
otherwise never (pkg/scheduler/framework/preemption/preemption.go, ``evaluate``; 1.37)."""

_UNDER_WAY = frozenset({ModelState.ABSENT, ModelState.LOADING})
_WILL_FAIL = frozenset({"ModelExceedsLimit", "OversizedMemoryVolume", "VolumeTooSmall"})


def waiting_remarks(judge: Judge, refused: Collection[Reason]) -> Iterator[Warned]:
    """Yield what is to be said of a pod that no node takes.

    ``refused`` has the reasons that kube-scheduler was told when it last asked: minutes ago, maybe.
    """
    refused = _as_it_is_now(judge, refused)
    yield from volume_remarks(judge.request)
    yield from fetched_remarks(judge)
    for reference, answer in judge.answers.items():
        held = cached_reference(reference)
        if reference.need is not Need.REQUIRED or not answer.known or held is None:
            continue
        path = held.host_path or ""
        if Reason.MODEL_FAILED in refused:
            yield from _failed(answer, path)
        if Reason.MODEL_ABSENT in refused and not _carried(answer):
            owners = ", ".join(answer.loaders) or "a node's annotation"
            yield (
                "ModelNotCarried",
                f"no loader puts {path} on any node ({owners} owns its directory): add the model "
                "to a loader, or declare what is baked in by the node's annotation "
                "modelcache.dev/provides",
            )
    # A node that is still loading takes the pod when it is done: no other one is needed.
    if set(refused) & SEEN_HERE_ALONE - {Reason.MODEL_LOADING}:
        yield "NoNewNode", no_new_node(judge, refused)


def fetched_remarks(judge: Judge) -> Iterator[Warned]:
    """Yield where the pod's models are being fetched because pods wait for them."""
    for answer in judge.answers.values():
        for node, held in sorted(answer.nodes.items()):
            wish = judge.view.wish(held, node)
            if wish is None or held.state not in _UNDER_WAY:
                continue
            transfer = judge.view.transfer(held, node)
            start = judge.start(judge.view.nodes[node]) if node in judge.view.nodes else None
            left = seconds_left(transfer) if transfer is not None else start and start.fetch
            yield (
                BEING_FETCHED,
                f"{held.path} is being fetched on {node}, asked for at {wish.asked_at} by pod "
                f"{wish.pod}" + (f", about {in_words(left)} left" if left else ""),
            )


def evicts_in_vain(pod: PodFacts) -> bool:
    """Tell whether kube-scheduler would have evicted others for a waiting pod, and was let not."""
    return _NO_CANDIDATE in pod.unscheduled


def eviction_remark(judge: Judge) -> Warned:
    """Say why nobody is evicted for such a pod."""
    nodes = judge.view.nodes
    refused = Counter(
        TEXTS[reason]
        for name in nodes
        if (reason := judge.reason(name, freed=nodes[name].allocatable)) is not None
    )
    told = [f"{count} of {len(nodes)}: {text}" for text, count in refused.most_common()]
    if refused.total() < len(nodes):
        told.append("elsewhere too little memory would come back")
    return (
        "EvictionsInVain",
        "kube-scheduler found pods to evict for this one, but with none of them gone would it run "
        f"({', '.join(told)}), so nobody is evicted. It is tried again when an eviction would "
        "help; where every node is full by requests, by kube-scheduler alone: when other pods "
        "leave, or after five minutes",
    )


def volume_remarks(request: PodRequest) -> Iterator[Warned]:
    """Yield what is to be said of memory-backed volumes that have the pod fail once filled."""
    yield from (one.told for one in volume_warnings(request) if one.reason in _WILL_FAIL)


def _as_it_is_now(judge: Judge, refused: Collection[Reason]) -> frozenset[Reason]:
    """Return the reasons without "still loading" where nobody loads any more what the pod needs."""
    states = {
        held.state
        for reference, answer in judge.answers.items()
        if reference.need is Need.REQUIRED
        for held in answer.nodes.values()
    }
    if Reason.MODEL_LOADING not in refused or states - {ModelState.ABSENT}:
        return frozenset(refused)
    return frozenset(refused) - {Reason.MODEL_LOADING} | {Reason.MODEL_ABSENT}


def _carried(answer: Answer) -> bool:
    """Tell whether some loader has the model, or has it in its catalog."""
    return any(
        held.state is not ModelState.ABSENT or held.evidence is Evidence.VERIFIED
        for held in answer.nodes.values()
    )


def _failed(answer: Answer, path: str) -> Iterator[Warned]:
    failed = {n: held for n, held in answer.nodes.items() if held.state is ModelState.FAILED}
    if not failed:
        return
    node = min(failed)
    held = failed[node]
    namespace, _, name = held.witness.partition("/")
    others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    yield (
        "LoaderFailed",
        f"loader pod {held.witness} on node {node}{others} failed to load {path}: "
        f"{held.reason or 'no reason given'}; {see_why(namespace, name, held.log)}",
    )
