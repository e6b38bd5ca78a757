"""The scheduling of replicas one after another, by the verbs themselves.

filter, prioritize and bind are called as kube-scheduler calls them, and what bind sends goes into
the state instead of to an apiserver. A placed pod counts as Ready at once: its memory is taken, and
what it reads is in its node's page cache for those that follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from extender.cluster.kept import Kept
from extender.cluster.requests import pod_requests
from extender.cluster.view import NodeView, View
from extender.explain.answers import EXTENDER, answers_for, refusal_message
from extender.explain.causes import all_that_refuses
from extender.explain.remedies import remedy
from extender.kube.objects import Condition, Pod, PodStatus
from extender.placement import narrowing
from extender.placement.in_tree import Objections, all_requests
from extender.placement.verdict import Verdict
from extender.simulate.counting import Replica
from extender.verbs.bind import Answer, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import BindArgs, ExtenderArgs

NOT_MODELLED = (
    "kube-scheduler's own scores (spreading, balance, image locality), other schedulers, pods that "
    "end or come meanwhile, and volumes that claims get with their first pod"
)


class Placement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One placed replica and what it leaves on its node.

    ``score`` is None where one node alone passed: kube-scheduler asks for no scores then. So many
    nodes ``passed`` both. ``memory_free_bytes`` is what our ledger has left, ``free``
    what requests leave of other resources (CPU in thousandths). ``models`` are the paths that the
    node's cache holds or a pod there keeps open. ``part`` is which of a workload's pods it is,
    where there are several kinds.
    """

    replica: int
    part: str | None
    node: str
    score: int | None
    passed: int
    state: str | None
    evidence: str | None
    estimated_start_seconds: float | None
    memory_free_bytes: int
    free: Mapping[str, int]
    models: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """One node that did not take a replica that waits. ``by`` is who refuses it.

    ``reason`` is a token of ours or of kube-scheduler's refusals; None where bind alone refused.
    """

    name: str
    by: str
    reason: str | None
    message: str
    remedy: str | None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The first replica of a part that waits; of a DaemonSet all that do, one for each node."""

    replica: int
    part: str | None
    summary: str
    nodes: tuple[Refused, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of all replicas; ``others_wait`` has the parts that wait after ``waits``."""

    replicas: int
    placed: int
    waiting: int
    placements: tuple[Placement, ...]
    waits: Waiting | None
    others_wait: tuple[Waiting, ...]
    not_judged: tuple[str, ...]
    not_modelled: str = NOT_MODELLED


class _Daemons(msgspec.Struct, frozen=True):
    """The pods of a DaemonSet that wait: the first of them, and the node of each.

    ``tried`` has what bind said of it there, empty where another one refused it.
    """

    number: int
    replica: Replica
    tried: dict[str, str]


class _Scratch:
    """Bindings that only take effect in the state."""

    def __init__(self, kept: Kept, pod: Pod) -> None:
        self._kept = kept
        self._pod = pod

    def create(self, args: BindArgs, annotations: dict[str, str], _: Callable[[], str]) -> Answer:
        pod = self._pod
        self._kept.upsert(
            Pod(
                metadata=msgspec.structs.replace(
                    pod.metadata, annotations={**pod.metadata.annotations, **annotations}
                ),
                spec=msgspec.structs.replace(pod.spec, node_name=args.node),
                status=PodStatus(
                    phase="Running", conditions=(Condition(type="Ready", status="True"),)
                ),
            )
        )
        return Answer(Sent.DONE)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        return self._pod if self._pod.metadata.name == name and namespace else None


def simulate(replicas: Sequence[Replica], context: Context, kept: Kept) -> Outcome:
    """Place pods in this order; the state behind the context is changed by it.

    Once one waits that any node would do for, those like it are in its place: they are not tried.
    Pods that belong to one node each are in the place of those that their DaemonSet has there.
    """
    for part in {replica.part.name: replica.part for replica in replicas if replica.node}.values():
        _take_away(part.pod, kept)
    # All nodes that fit are looked at: which of equal ones are offered is drawn by lot elsewhere.
    context = msgspec.structs.replace(context, offered_percentage=narrowing.ALL)
    placements: list[Placement] = []
    waits: list[Waiting] = []
    blocked: set[str] = set()
    daemons: dict[str, _Daemons] = {}
    questions = _questions(replicas, context)
    for number, replica in enumerate(replicas, start=1):
        part, (objections, wanted) = replica.part, questions[replica.part.name]
        if part.name in blocked:
            continue
        names = (replica.node,) if replica.node else sorted(context.state.view().nodes)
        in_tree = [objections.of(wanted, name, number=number - 1) for name in names]
        candidates = [name for name, objection in zip(names, in_tree, strict=True) if not objection]
        pod = _numbered(part.pod, number)
        placed, tried = _place(pod, number, candidates, context, kept)
        if placed is None and replica.node:
            waiting = daemons.setdefault(part.name, _Daemons(number, replica, {}))
            waiting.tried[replica.node] = tried.get(replica.node, "")
            continue
        if placed is None:
            waits.append(_waiting(number, replica, tried, context))
            blocked.add(part.name)
            continue
        claims, name = objections.claims(number - 1), pod.metadata.name
        for other, _ in questions.values():
            other.add(wanted, placed.node)
            other.mount(claims, f"{pod.metadata.namespace}/{name}", placed.node)
        free = objections.free(placed.node)
        placements.append(msgspec.structs.replace(placed, part=part.name or None, free=free))
    waits += [_waiting(one.number, one.replica, one.tried, context) for one in daemons.values()]
    return Outcome(
        replicas=len(replicas),
        placed=len(placements),
        waiting=len(replicas) - len(placements),
        placements=tuple(placements),
        waits=waits[0] if waits else None,
        others_wait=tuple(waits[1:]),
        not_judged=tuple(
            dict.fromkeys(name for asking, _ in questions.values() for name in asking.not_judged())
        ),
    )


def _take_away(daemon: Pod, kept: Kept) -> None:
    """Take away the pods that a DaemonSet has now."""
    owner = daemon.metadata.controller()
    for pod in kept.all(Pod):
        owned = pod.metadata.controller()
        if (
            owner is not None
            and owned is not None
            and (owned.kind, owned.name) == (owner.kind, owner.name)
            and pod.metadata.namespace == daemon.metadata.namespace
        ):
            kept.delete(pod)


Question = tuple[Objections, dict[str, int]]
"""What kube-scheduler holds against the nodes for a part, and what one of its pods requests."""


def _questions(replicas: Sequence[Replica], context: Context) -> dict[str, Question]:
    """Prepare each part's question by its name."""
    view, pods = context.state.view(), context.state.pods()
    found = {}
    for part in {replica.part.name: replica.part for replica in replicas}.values():
        request = context.request(part.pod)
        objections = Objections(
            view,
            pods,
            part.asked,
            namespace=request.namespace,
            references=request.workload.references,
        )
        found[part.name] = objections, all_requests(pod_requests(part.pod), request.demand)
    return found


def _numbered(pod: Pod, number: int) -> Pod:
    name = f"{pod.metadata.name or pod.metadata.generate_name}-simulated-{number}"
    metadata = msgspec.structs.replace(
        pod.metadata, name=name, uid=f"simulated-{number}", creation_timestamp=""
    )
    spec = msgspec.structs.replace(pod.spec, node_name="")
    return Pod(metadata=metadata, spec=spec, status=PodStatus(phase="Pending"))


def _place(
    replica: Pod, number: int, candidates: Sequence[str], context: Context, kept: Kept
) -> tuple[Placement | None, dict[str, str]]:
    """Ask the verbs about the nodes that kube-scheduler leaves, and bind to the best.

    Returns what bind said of those that it refused, too.
    """
    tried: dict[str, str] = {}
    while True:
        names = tuple(name for name in candidates if name not in tried)
        asked = ExtenderArgs(pod=replica, names=names, nodes=None)
        passed, _ = filter_nodes(asked, context)
        if not passed.names:
            return None, tried
        node, score = _best(replica, tuple(passed.names), context)
        before = context.judge(replica).verdict(node)
        args = BindArgs(
            namespace=replica.metadata.namespace,
            name=replica.metadata.name,
            uid=replica.metadata.uid,
            node=node,
        )
        bound = bind(args, context, _Scratch(kept, replica))
        if not bound.error:
            found = _placement(number, score, len(passed.names), before, context.state.view())
            return found, tried
        tried[node] = bound.error


def _best(replica: Pod, names: tuple[str, ...], context: Context) -> tuple[str, int | None]:
    """Choose as kube-scheduler would by our points alone; of equals, the one with most memory.

    It asks for no scores where one node is left.
    """
    if len(names) == 1:
        return names[0], None
    ranked, _ = prioritize_nodes(ExtenderArgs(pod=replica, names=names, nodes=None), context)
    view = context.state.view()
    node, score = max(ranked, key=lambda one: (one[1], view.nodes[one[0]].free, one[0]))
    return node, score


def _placement(
    number: int, score: int | None, passed: int, before: Verdict, view: View
) -> Placement:
    node, start = view.nodes[before.node], before.start
    return Placement(
        replica=number,
        part=None,
        node=before.node,
        score=score,
        passed=passed,
        state=before.state,
        evidence=before.evidence,
        estimated_start_seconds=round(start.seconds, 1) if start and start.is_told else None,
        memory_free_bytes=node.free,
        free={},
        models=_models(node, view),
    )


def _models(node: NodeView, view: View) -> tuple[str, ...]:
    held = {holding.path for holding in view.inventory.holdings().get(node.name, ())}
    return tuple(sorted(held | {key[3] for key in node.warm}))


def _waiting(number: int, replica: Replica, tried: Mapping[str, str], context: Context) -> Waiting:
    """Say why no node takes a replica, as ``explain`` would.

    ``tried`` has what bind said of the nodes that only it refused. Of a DaemonSet it names all
    nodes whose pods wait, and ``number`` is the first of them: what is on one is no business of
    another.
    """
    pod = _numbered(replica.part.pod, number)
    judge = context.judge(pod)
    asking = answers_for(
        judge,
        context.state.pods(),
        requests=pod_requests(pod),
        asked=replica.part.asked,
        number=number - 1,
    )
    refused = [
        (answer, remedy(answer, judge, pod))
        for answer in asking.nodes
        if not replica.node or answer.node in tried
    ]
    counts = Counter(
        all_that_refuses(answer, judge) or tried.get(answer.node, "") for answer, _ in refused
    )
    said = ", ".join(f"{count} {text}" for text, count in counts.most_common())
    summary = f"replica {number} waits: 0/{len(refused)} nodes: {said or 'there are no nodes'}"
    if replica.node:
        summary = f"the pods of {len(refused)} nodes wait: {said}"
    return Waiting(
        replica=number,
        part=replica.part.name or None,
        summary=summary,
        nodes=tuple(
            Refused(
                name=answer.node,
                by=answer.by or EXTENDER,
                reason=answer.reason,
                message=refusal_message(answer, fix) or tried.get(answer.node, ""),
                remedy=fix or None,
            )
            for answer, fix in refused
        ),
    )


def document(outcome: Outcome, pod: Pod) -> dict[str, Any]:
    """Return the JSON document; ``pod`` names it. Absent is null, never a missing key."""
    metadata = pod.metadata
    names = {"pod": metadata.name or metadata.generate_name, "namespace": metadata.namespace}
    return {**names, **msgspec.to_builtins(outcome)}
