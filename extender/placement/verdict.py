"""One pod against many nodes: fits or not, why, and how soon it would serve there.

``Judge`` prepares the pod's question once (lookups, claim problems) and then answers node by node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from extender.cluster.claims import ClaimFacts
from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.cluster.inventory import Answer
from extender.cluster.view import NodeView, View
from extender.cluster.warmth import WarmKey, warm_key
from extender.kube.objects import Node, Pod
from extender.placement import estimate
from extender.placement.estimate import Others, Start
from extender.placement.images import image_names
from extender.placement.patience import impatient, without_patience
from extender.placement.policy import OnStale, Policy
from extender.placement.progress import bytes_left, describe
from extender.placement.reasons import Reason
from extender.placement.request import (
    PodRequest,
    Refusal,
    cache_answers,
    cached_reference,
    claim_problem,
)
from extender.workload.model import ModelReference, Need, Source, Strategy


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One node's answer for one pod.

    ``resolvable`` is whether evicting pods could change it; nothing that only this program sees is
    (kube-scheduler's preemption never asks an extender again). ``detail`` is for people.
    ``refusals`` are those of the pod's models, the first of which is the ``reason``. ``state`` and
    ``evidence`` are of the model that refuses the node; of the first in a cache where none does.
    ``memory_free`` is bytes before this pod; ``missing`` the bytes it lacks.
    """

    node: str
    reason: Reason | None = None
    detail: str = ""
    resolvable: bool = False
    refusals: Mapping[ModelReference, Refusal] = {}
    state: ModelState | None = None
    evidence: Evidence | None = None
    start: Start | None = None
    memory_free: int | None = None
    missing: int = 0

    @property
    def fits(self) -> bool:
        """Tell whether the pod may go there."""
        return self.reason is None


_FROM_STATE = {
    ModelState.LOADING: Reason.MODEL_LOADING,
    ModelState.FAILED: Reason.MODEL_FAILED,
    ModelState.ABSENT: Reason.MODEL_ABSENT,
    ModelState.STALE: Reason.MODEL_STALE,
}


class Judge:
    """Answers for one pod over one view. ``stale`` names the kinds that the watch lost sight of.

    Of models and claims nothing is believed then. Memory rests on pods and nodes alone, and what
    this program has promised itself is known whatever is stale (``_memory_missing``).

    ``impatient``: the pod has waited for a model that it can fetch as long as is configured; its
    ``request`` here only prefers that model. ``asked`` is as it was.
    """

    def __init__(
        self, request: PodRequest, view: View, policy: Policy, *, stale: tuple[str, ...] = ()
    ) -> None:
        self.asked = request
        self.impatient = impatient(request, policy, view.now)
        self.request = without_patience(request) if self.impatient else request
        self.view = view
        self.policy = policy
        self.stale = stale
        self._lost_pods = Pod.__name__ in stale
        self._lost_nodes = Node.__name__ in stale
        self._required = tuple(
            reference
            for reference in self.request.workload.references
            if reference.need is Need.REQUIRED
        )
        self._answers = cache_answers(self.request, view)
        self._claims = self._claim_problems()

    @property
    def answers(self) -> Mapping[ModelReference, Answer]:
        """Return what the inventory said of the pod's node caches."""
        return self._answers

    @property
    def claims(self) -> tuple[tuple[Refusal | None, ClaimFacts | None], ...]:
        """Return what is known of each of the pod's claims: its problem, and what it is tied to."""
        view, namespace = self.view, self.request.namespace
        return tuple(
            (self._claims.get(reference), view.claim(namespace, reference.claim or ""))
            for reference in self._claim_references()
        )

    def of_its_kind(self) -> Judge:
        """Return the judge of any such pod, for which nothing is kept on any node."""
        anybody = msgspec.structs.replace(self.asked, uid="", node="")
        return Judge(anybody, self.view, self.policy, stale=self.stale)

    def own_nodes(self) -> list[str]:
        """Return the known nodes where something is kept for this very pod, or where it counts."""
        names = {*self.view.own.get(self.request.uid, ()), self.request.node}
        return [name for name in names if name in self.view.nodes]

    @property
    def has_preference(self) -> bool:
        """Tell whether nodes can differ in estimated start; not where old knowledge says so."""
        return not self.stale and any(
            reference.need not in {Need.IGNORE, Need.UNKNOWN} and self._differs(reference)
            for reference in self.request.workload.references
        )

    def verdict(self, name: str) -> Verdict:
        """Judge one node: what refuses it, and its estimated start."""
        node = self.view.nodes.get(name)
        if self.stale:
            return self._verdict_in_part(name, node)
        if node is None:
            return self._unknown_node(name)
        missing = self._memory_missing(node)
        refusals = {
            reference: refusal
            for reference in self._required
            if (refusal := self._refused_by(reference, node)) is not None
        }
        refusing = next(iter(refusals), None)
        state, evidence = self._known_state(name, refusing)
        verdict = Verdict(
            node=name,
            refusals=refusals,
            state=state,
            evidence=evidence,
            start=self.start(node),
            memory_free=self.free(node),
            missing=missing,
        )
        if refusing is not None:
            refusal, called = refusals[refusing], self.called(refusing)
            detail = f"{called}: {refusal.detail}" if called else refusal.detail
            return msgspec.structs.replace(verdict, reason=refusal.reason, detail=detail)
        if missing:
            return msgspec.structs.replace(verdict, reason=Reason.INSUFFICIENT_MEMORY)
        return verdict

    def reason(self, name: str, *, freed: int = 0) -> Reason | None:
        """Judge one node without its estimate: the fast path of filter.

        ``freed`` is bytes that evicting pods would give back.
        """
        node = self.view.nodes.get(name)
        if self.stale:
            return self._reason_in_part(name, node, freed=freed)
        if node is None:
            return self._unknown_node(name).reason
        for reference in self._required:
            refusal = self._refused_by(reference, node)
            if refusal is not None:
                return refusal.reason
        return Reason.INSUFFICIENT_MEMORY if self._memory_missing(node) > freed else None

    def start(self, node: NodeView) -> Start:
        """Estimate the start on a node: all references one after another, one engine start."""
        fetch = read = penalty = 0.0
        first: Start | None = None
        for reference in self.request.workload.references:
            if reference.need is Need.IGNORE:
                continue
            part = self._start(reference, node)
            if first is None:
                first = msgspec.structs.replace(
                    part, correction=self._correction(reference.strategy, part)
                )
            fetch, read, penalty = (
                fetch + part.fetch,
                read + part.read,
                penalty + part.penalty,
            )
        first = first or Start()
        return Start(
            fetch=fetch,
            read=read,
            penalty=penalty,
            engine=self.policy.engine_start,
            correction=first.correction,
            tier=first.tier,
            evidence=first.evidence,
        )

    def holding(self, reference: ModelReference, node: str) -> Holding | None:
        """Return what the node's cache holds of a reference."""
        answer = self._answers.get(reference)
        return answer.nodes.get(node) if answer else None

    def called(self, reference: ModelReference) -> str:
        """Return what tells one of the pod's models from the others; empty where it is alone."""
        return reference.title if len(self.request.workload.references) > 1 else ""

    def free(self, node: NodeView) -> int:
        """Return the bytes that are left for this pod: what it holds or takes itself is its own.

        Where pods are not in sight, what others have reserved is all that is taken off.
        """
        request = self.request
        if self._lost_pods:
            return node.unreserved_for(request.uid)
        own = request.demand.on(node.allocatable) if request.node == node.name else 0
        return node.free_for(request.uid, request.priority) + own

    # -- refusing --------------------------------------------------------------------------------

    def _unknown_node(self, name: str) -> Verdict:
        if name in self.view.gone:
            return Verdict(node=name, reason=Reason.NODE_GONE)
        refuse = self.request.needs_certainty
        return Verdict(node=name, reason=Reason.NODE_UNKNOWN if refuse else None)

    def _lost_sight(self) -> Reason | None:
        """Refuse what needs certainty, or not, as configured."""
        if self.policy.on_stale is OnStale.REFUSE and self.request.needs_certainty:
            return Reason.KNOWLEDGE_STALE
        return None

    def _reason_in_part(self, name: str, node: NodeView | None, *, freed: int = 0) -> Reason | None:
        """Judge one node by what is still in sight: nothing old is held against it.

        What an eviction would free is not known where pods are out of sight.
        """
        lost = self._lost_sight()
        if lost is not None:
            return lost
        if node is None:
            seen_to_go = name in self.view.gone and not self._lost_nodes
            return Reason.NODE_GONE if seen_to_go else None
        missing = self._memory_missing(node)
        enough = missing <= (0 if self._lost_pods else freed)
        return None if enough else Reason.INSUFFICIENT_MEMORY

    def _verdict_in_part(self, name: str, node: NodeView | None) -> Verdict:
        reason = self._reason_in_part(name, node)
        not_told = reason in {None, Reason.KNOWLEDGE_STALE}
        in_sight = not (self._lost_pods or self._lost_nodes)
        return Verdict(
            node=name,
            reason=reason,
            detail=", ".join(self.stale) if not_told else "",
            memory_free=self.free(node) if node is not None and in_sight else None,
            missing=self._memory_missing(node) if node is not None else 0,
        )

    def _memory_missing(self, node: NodeView) -> int:
        """Return the bytes a pod lacks; one that asks for none is never refused for memory.

        The size of a node that is out of sight is as it was last told. That alone refuses nobody:
        it may have grown.
        """
        wanted = self.request.demand.on(node.allocatable)
        if not wanted:
            return 0
        left = self.free(node)
        if self._lost_nodes and left >= node.allocatable:
            return 0
        return max(0, wanted - left)

    def _refused_by(self, reference: ModelReference, node: NodeView) -> Refusal | None:
        for problem_of in (reference, reference.origin):
            if problem_of is None or problem_of.source is not Source.CLAIM:
                continue
            problem = self._claims.get(problem_of)
            if problem is not None:
                return problem
            if not self._reachable(problem_of, node):
                claim = problem_of.claim or ""
                detail = f"claim {claim} is tied to other nodes"
                return Refusal(Reason.CLAIM_UNREACHABLE, detail, claim)
        answer = self._answers.get(reference)
        if answer is None or not answer.known:
            return None
        if answer.nodes.get(node.name) is None and node.name in answer.untold:
            return None
        return self._cache_refusal(answer.nodes.get(node.name), node.name)

    def _cache_refusal(self, holding: Holding | None, node: str) -> Refusal | None:
        if holding is None:
            return Refusal(Reason.MODEL_ABSENT, "no loader pod on this node vouches for it")
        leaves = holding.leaves_soon(self.view.now)
        if holding.state is ModelState.READY and not leaves:
            return None
        detail = f"{holding.witness}: {holding.reason}" if holding.reason else holding.witness
        if leaves:
            return Refusal(Reason.MODEL_ABSENT, detail)
        if holding.state is ModelState.STALE:
            age = self.view.now - holding.since if holding.since is not None else 0.0
            if age <= self.policy.stale_grace:
                return None
            return Refusal(Reason.MODEL_STALE, f"{detail}, {age:.0f} s ago")
        transfer = self.view.transfer(holding, node)
        wish = self.view.wish(holding, node)
        if transfer is not None:
            detail = f"{holding.witness}: {describe(transfer)}"
        elif wish is not None:
            detail = f"{holding.witness}: asked for at {wish.asked_at} by pod {wish.pod}"
        elif holding.on_demand:
            detail = f"{holding.witness}: fetched on demand"
        return Refusal(_FROM_STATE[holding.state], detail)

    def _claim_problems(self) -> dict[ModelReference, Refusal]:
        problems = {}
        for reference in self._claim_references():
            problem = claim_problem(reference, self.request.namespace, self.view)
            if problem is not None:
                problems[reference] = problem
        return problems

    def _claim_references(self) -> Iterator[ModelReference]:
        for reference in self.request.workload.references:
            for candidate in (reference, reference.origin):
                if candidate is not None and candidate.source is Source.CLAIM:
                    yield candidate

    def _reachable(self, reference: ModelReference, node: NodeView) -> bool:
        claim = self.view.claim(self.request.namespace, reference.claim or "")
        return claim is None or claim.reachable(node.name, node.labels)

    def _known_state(
        self, name: str, refusing: ModelReference | None
    ) -> tuple[ModelState | None, Evidence | None]:
        """Return the state of what refuses a node, else of the first model in a cache, if known."""
        for reference, answer in self._answers.items():
            if answer.known and refusing in {None, reference}:
                holding = answer.nodes.get(name)
                if holding is None:
                    return None if name in answer.untold else ModelState.ABSENT, None
                return holding.state, holding.evidence
        return None, None

    # -- estimating ------------------------------------------------------------------------------

    def _correction(self, strategy: Strategy, part: Start) -> float:
        """Return what starts that happened make of an estimate; a stale node stays last."""
        learnt = self.view.corrections
        if part.penalty:
            return learnt.largest(strategy)
        return learnt.factor(strategy, part.evidence, part.tier)

    def _differs(self, reference: ModelReference) -> bool:
        held = cached_reference(reference)
        if held is not None:
            answer = self._answers.get(reference)
            return answer is not None and answer.known
        sources = {reference.source, reference.origin.source if reference.origin else None}
        return bool(sources & {Source.CLAIM, Source.IMAGE, Source.MEMORY})

    def _start(self, reference: ModelReference, node: NodeView) -> Start:
        origin = reference.origin
        if reference.source is Source.MEMORY and origin is not None:
            return self._start(origin, node)
        key = warm_key(reference, self.request.namespace)
        warm = key is not None and (key in node.warm or self._still_cached(key, node))
        if reference.source is Source.HOST_PATH:
            return self._start_from_cache(reference, node, warm=warm)
        size = estimate.model_bytes(reference, None, self.policy)
        if reference.source is Source.CLAIM:
            return estimate.from_claim(size, warm=warm, policy=self.policy)
        if reference.source is Source.IMAGE:
            return self._start_from_image(reference, node, size)
        if reference.source is Source.UNKNOWN:
            return Start()
        return estimate.from_hub(size, self.policy)

    def _still_cached(self, key: WarmKey, node: NodeView) -> bool:
        """Tell whether a node's page cache has room for what was opened there up to a model.

        Pages stay after the pod that read them, as long as nothing else takes the memory.
        """
        room = node.free
        for one in node.lately:
            room -= estimate.model_bytes(one.reference, None, self.policy)
            if room < 0 or one.key == key:
                return room >= 0
        return False

    def _start_from_cache(self, reference: ModelReference, node: NodeView, *, warm: bool) -> Start:
        answer = self._lookup(reference)
        if not answer.known:
            return Start()
        holding = answer.nodes.get(node.name)
        size = estimate.model_bytes(reference, holding.bytes if holding else None, self.policy)
        start = estimate.from_cache(
            size,
            holding,
            warm=warm,
            policy=self.policy,
            transfer=self.view.transfer(holding, node.name) if holding else None,
            disk=self.view.disk(answer, node.name),
            others=self._others(reference, node, answer),
        )
        if holding is None:
            return start
        return msgspec.structs.replace(start, evidence=holding.evidence)

    def _others(self, reference: ModelReference, node: NodeView, answer: Answer) -> Others:
        """Tell what is under way on a node, but for this pod."""
        own = warm_key(reference, self.request.namespace)
        opened = {
            opening.key: opening.reference
            for opening in node.opening
            if opening.uid != self.request.uid and opening.key not in node.warm
        }
        same = own is not None and opened.pop(own, None) is not None
        holding = answer.nodes.get(node.name)
        return Others(
            same=same,
            reading=tuple(
                estimate.model_bytes(other, None, self.policy)
                for other in opened.values()
                if other.source is Source.HOST_PATH
            ),
            fetching=tuple(
                bytes_left(transfer)
                for transfer in self.view.transfers(answer, node.name)
                if holding is None or transfer.path != holding.entry
            ),
        )

    def _lookup(self, reference: ModelReference) -> Answer:
        assert reference.host_path is not None
        return self.view.inventory.lookup(reference.host_path, self.request.namespace)

    def _start_from_image(self, reference: ModelReference, node: NodeView, size: int) -> Start:
        names = image_names(reference.image or "")
        present = next((node.images[name] for name in names if name in node.images), None)
        return estimate.from_image(present or size, present=present is not None, policy=self.policy)
