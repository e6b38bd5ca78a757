"""bind: the pod goes to the node, if that is still right at this moment.

Between filter and bind other pods were placed and loaders may have failed. So the ledger and the
model's state are checked again, under the state's lock, and the memory is reserved in the same
step; the apiserver is called after the lock. Where the watch shows the pod other than filter was
asked about it (resized, annotated), the node has to be right for both: which is the newer one
cannot be told. Nothing is bound while another replica may be binding:
the fence is looked at before the memory is reserved, and again when nothing more is waited for
before the Binding leaves: its credential may come from a plugin that takes seconds, in which the
lead may even have gone and come back. The reservation stays until the watch shows the pod on its
node. The decision is written with the binding: the apiserver copies a Binding's annotations onto
the pod, both or neither (kubernetes/pkg/registry/core/pod/storage).

An answer that was lost is looked up, never repeated blindly. Where it cannot be told whether the
pod is bound, the reservation stays until that is settled (``doubt``), or it expires: memory is
rather kept too long than given twice. Each Binding has a claim of its own on the memory, and gives
back no other's: kube-scheduler may ask for a second one while the first is still on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from extender.cluster.decisions import BoundDecision
from extender.cluster.reservations import Reservation
from extender.cluster.view import View
from extender.cluster.warmth import openings
from extender.kube.objects import Pod
from extender.placement.reasons import TEXTS, Reason
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge, Verdict
from extender.verbs.context import TOO_LATE, Context, Late, never, not_listed
from extender.verbs.decision import Decision, count, decision
from extender.verbs.doubt import LOST_SECONDS, UNCLEAR_SECONDS, Doubt
from extender.wire import BindArgs

_ANOTHER_TERM = "another replica may have led since the memory was looked at"


class Sent(StrEnum):
    """What became of a Binding that was sent to the apiserver."""

    DONE = "done"
    REFUSED = "refused"
    """The apiserver did not do it, and will not."""
    CONFLICT = "conflict"
    """The same, because the pod is bound, being deleted, not to be scheduled, or another one."""
    UNCLEAR = "unclear"
    """The apiserver failed, and its storage may have done it, or do it yet."""
    LOST = "lost"
    """There was no answer: it may be done, or be on its way."""
    NEVER = "never"
    """It did not leave: meanwhile its time was over, or the lead."""


class Answer(msgspec.Struct, frozen=True):
    """``sent`` in words for people."""

    sent: Sent
    message: str = ""


class Bindings(Protocol):
    """The apiserver, as far as bind needs it. Neither call raises or outlasts its deadline."""

    def create(
        self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str], /
    ) -> Answer:
        """Create a Binding, valid for the pod with this UID alone.

        ``fence`` is asked when nothing more is waited for before it is sent: what it says, if
        anything, is why it may not be.
        """

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        """Return a pod as it is now, None where there is none, or why that cannot be told."""


class BindOutcome(StrEnum):
    """How a bind ended; also the label of its metric."""

    BOUND = "bound"
    REFUSED = "refused"
    FENCED = "fenced"
    NOT_SENT = "notSent"
    GONE = "gone"
    ELSEWHERE = "boundElsewhere"
    ERROR = "error"
    UNKNOWN = "unknown"


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of bind. ``error`` is empty where the pod is bound to the node asked for.

    ``doubt`` is what has to be settled where memory is kept and nobody knows for how long.
    """

    outcome: BindOutcome
    error: str = ""
    decision: Decision | None = None
    doubt: Doubt | None = None


def bind(args: BindArgs, context: Context, bindings: Bindings, *, late: Late = never) -> Bound:
    """Answer one bind request.

    One that comes too late is refused: kube-scheduler has given the pod up and decides anew.
    """
    unsynced = context.unsynced()
    if unsynced:
        return Bound(outcome=BindOutcome.ERROR, error=not_listed(unsynced))
    if late():
        return Bound(outcome=BindOutcome.ERROR, error=TOO_LATE)
    request = _request(args, context, bindings)
    if isinstance(request, Bound):
        return request
    closed, term = context.fence(), context.term()
    if closed:
        return Bound(outcome=BindOutcome.FENCED, error=closed)
    if late():  # the pod and the Lease may have been read, which takes seconds
        return Bound(outcome=BindOutcome.ERROR, error=TOO_LATE)

    def fence() -> str:  # it may read the Lease: the time is looked at last
        closed = context.fence() or ("" if context.term() == term else _ANOTHER_TERM)
        return closed or (TOO_LATE if late() else "")

    return _Binder(args, request, context, bindings, fence).bind()


def _request(args: BindArgs, context: Context, bindings: Bindings) -> PodRequest | Bound:
    """Return what filter read of this pod, else read it from the apiserver."""
    known = context.remembered(args.uid)
    if known is not None:
        return known
    pod = bindings.pod(args.namespace, args.name)
    if isinstance(pod, str):
        return Bound(outcome=BindOutcome.ERROR, error=f"the pod cannot be read: {pod}")
    if pod is None or pod.metadata.uid != args.uid:
        return _gone(args)
    return context.request(pod)


def _shown_otherwise(request: PodRequest, context: Context) -> list[PodRequest]:
    """Return what the watch shows that the pod asks for, if that is something else."""
    facts = context.state.pod(request.uid)
    if facts is None:
        return []
    shown = context.request_of(facts)
    same = shown.demand == request.demand and shown.workload == request.workload
    return [] if same else [shown]


def _gone(args: BindArgs) -> Bound:
    return Bound(
        outcome=BindOutcome.GONE,
        error=f"pod {args.namespace}/{args.name} with UID {args.uid} does not exist any more",
    )


class _Binder:
    """One bind request on its way, with its own claim on the memory."""

    def __init__(
        self,
        args: BindArgs,
        request: PodRequest,
        context: Context,
        bindings: Bindings,
        fence: Callable[[], str],
    ) -> None:
        self._args = args
        self._request = request
        self._asked = [*_shown_otherwise(request, context), request]
        self._context = context
        self._bindings = bindings
        self._fence = fence
        self._verdict = Verdict(node=args.node)
        self._now = 0.0
        self._claim = next(context.claims)

    def bind(self) -> Bound:
        context = self._context
        refused = context.state.reserve(self._reservation(self._args.node), self._check)
        if refused is not None:
            return Bound(
                outcome=BindOutcome.REFUSED,
                error=f"{TEXTS[refused]} (node {self._args.node}, checked at bind)",
                decision=self._decision(refused),
            )
        answer = self._bindings.create(self._args, self._annotations(), self._fence)
        return self._settle(answer)

    def _reservation(self, node: str) -> Reservation:
        known = self._context.state.view().nodes.get(node)
        return Reservation(
            uid=self._args.uid,
            node=node,
            bytes=max(one.demand.on(known.allocatable if known else 0) for one in self._asked),
            expires=self._context.state.steady() + self._context.reservation_seconds,
            claim=self._claim,
            opens=openings(self._args.uid, self._request.workload, self._request.namespace),
        )

    def _release(self) -> None:
        """Give back what this Binding claimed; what an earlier one may need stays."""
        self._context.state.release(self._args.uid, self._args.node, self._claim)

    def _check(self, view: View) -> Reason | None:
        """Judge the node over the view of the moment of reserving."""
        self._now, stale = view.now, self._context.stale()
        for request in self._asked:
            judge = Judge(request, view, self._context.policy, stale=stale)
            self._request = judge.request
            self._verdict = judge.verdict(self._args.node)
            if self._verdict.reason is not None:
                break
        return self._verdict.reason

    def _settle(self, answer: Answer) -> Bound:
        if answer.sent is Sent.DONE:
            return Bound(outcome=BindOutcome.BOUND, decision=self._decision(None))
        if answer.sent in {Sent.REFUSED, Sent.NEVER}:
            return self._failed(answer)
        return self._look_up(answer)

    def _failed(self, answer: Answer) -> Bound:
        self._release()
        never = answer.sent is Sent.NEVER
        return Bound(
            outcome=BindOutcome.NOT_SENT if never else BindOutcome.ERROR, error=answer.message
        )

    def _look_up(self, answer: Answer) -> Bound:
        """Find out what became of the pod."""
        args = self._args
        pod = self._bindings.pod(args.namespace, args.name)
        if isinstance(pod, str):
            return self._unknown(answer, pod)
        if pod is None or pod.metadata.uid != args.uid:
            self._release()
            return _gone(args)
        if pod.spec.node_name == args.node:
            return Bound(outcome=BindOutcome.BOUND, decision=self._decision(None))
        if pod.spec.node_name:
            self._context.state.hold(self._reservation(pod.spec.node_name))
            self._release()
            return Bound(
                outcome=BindOutcome.ELSEWHERE,
                error=f"the pod is already bound to node {pod.spec.node_name}",
                doubt=self._doubt(pod.spec.node_name, UNCLEAR_SECONDS),  # it may be gone by now
            )
        if answer.sent is Sent.CONFLICT:
            return self._failed(answer)
        return self._unknown(answer, "the pod is not bound so far")

    def _unknown(self, answer: Answer, found: str) -> Bound:
        """Keep the reservation: the Binding may yet take effect."""
        node = self._args.node
        seconds = LOST_SECONDS if answer.sent is Sent.LOST else UNCLEAR_SECONDS
        return Bound(
            outcome=BindOutcome.UNKNOWN,
            error=f"{answer.message}; {found}; its memory stays reserved on {node} until it is "
            f"certain, which is looked at again in {seconds:.0f} s",
            doubt=self._doubt(node, seconds),
        )

    def _doubt(self, node: str, seconds: float) -> Doubt:
        args = self._args
        return Doubt(
            namespace=args.namespace,
            name=args.name,
            uid=args.uid,
            node=node,
            claim=self._claim,
            seconds=seconds,
        )

    def _decision(self, refused: Reason | None) -> Decision:
        return decision(
            "bind",
            self._request,
            time=self._now,
            asked=1,
            passed=0 if refused else 1,
            node=self._args.node,
            starts={self._args.node: self._verdict.start.seconds} if self._verdict.start else {},
            tier=self._verdict.start.tier if self._verdict.start else None,
            refused=count({self._args.node: refused} if refused else {}),
        )

    def _annotations(self) -> dict[str, str]:
        """Return why the pod goes there, for whoever reads the pod."""
        verdict, first = self._verdict, next(iter(self._request.workload.references), None)
        start = verdict.start
        return BoundDecision(
            time=self._now,
            node=self._args.node,
            model=first.model if first else None,
            strategy=first.strategy if first else None,
            need=first.need if first else None,
            state=verdict.state,
            evidence=verdict.evidence,
            tier=start.tier if start else None,
            estimated_start_seconds=start.seconds if start else None,
            correction=start.correction if start else 1.0,
            memory_demand_bytes=self._request.demand.bytes,
            memory_free_bytes=verdict.memory_free,
        ).annotations()
