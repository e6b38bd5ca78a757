"""Every law can be broken: a core with a planted fault is caught, soon, by the law that names it.

This is what shows that the simulation can fail, and that its histories become short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import extender.cluster.resizes
import extender.placement.evictions
import extender.verbs.bind
import extender.verbs.doubt
import extender.verbs.preempt
import extender.waiting.rounds
import simulation.extender
from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.holdings import ModelState
from extender.cluster.leases import Leases
from extender.cluster.ledger import Ledger
from extender.cluster.reservations import HOLD, Reservations
from extender.cluster.resizes import Resizes
from extender.cluster.state import ClusterState
from extender.cluster.view import PodFacts
from extender.cluster.witnesses import LoaderPod, Witness
from extender.kube.objects import Pod
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.serving.leadership import Fence
from extender.verbs.bind import Answer, BindOutcome, Bound, Sent
from extender.verbs.context import Context
from extender.verbs.doubt import Doubt
from extender.verbs.takeover import Takeover
from extender.waiting.fetching import Wishing
from extender.waiting.lost import LostNominations
from extender.waiting.nominate import Nominations
from extender.waiting.pods import WaitingPods
from extender.waiting.telling import Told, Word
from extender.waiting.underway import UnderWay
from extender.waiting.wake import Waker
from extender.wire import BindArgs, ExtenderArgs, FilterResult, PreemptArgs, Victims
from simulation.history import run
from simulation.law import Law
from simulation.requests import WRITE_SECONDS, Requests
from simulation.scenario import Scenario
from tests.simulation.clusters import (
    ANSWERED_LATE,
    CROWDED,
    EVICTING,
    FETCHING,
    HANGING,
    HOARDING,
    NEUTRAL,
    OUTRANKING,
    OVERLOADED,
    PAIR,
    REPORTING,
    STRANDING,
)

SEEDS = 120
RARE = {
    "a new leader binds before it knows what was bound": 19,
    "a nomination in doubt is taken for one that leads somewhere": 13,
    "who was answered too late about evictions is not tried again": 35,
    "who was refused before the Lease was read is forgotten": 81,
}
"""What few seeds show: with which it begins, so that it does not take minutes."""

STEPS = 1_500
FEW = {
    "each answer to a write is waited for": 100,
    "who was answered too late about evictions is not tried again": 120,
}
"""Where a step takes seconds, or what comes after them shows it, so many are enough."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
"""Some take a minute of a processor, which others may have as well."""

Plant = Callable[[pytest.MonkeyPatch], None]


def _instead(owner: Any, name: str, new: Any) -> Plant:
    return lambda patch: patch.setattr(owner, name, new)


def _around(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Plant:
    return lambda patch: patch.setattr(owner, name, wrap(getattr(owner, name)))


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _reserve_unlocked(self: Any, answer: Answer) -> Bound:
    """Give the memory back though nobody knows what became of the Binding."""
    self._release()
    return Bound(outcome=BindOutcome.UNKNOWN, error=answer.message)


def _failed_and_kept(_: Any, answer: Answer) -> Bound:
    return Bound(outcome=BindOutcome.ERROR, error=answer.message)


def _believe(settle: Any) -> Any:
    def settled(self: Any, answer: Answer) -> Any:
        return settle(self, Answer(Sent.DONE) if answer.sent is Sent.LOST else answer)

    return settled


def _under_lock(bind: Any) -> Any:
    def locked(args: Any, context: Context, bindings: Any, **late: Any) -> Any:
        with context.state._lock:
            return bind(args, context, bindings, **late)

    return locked


def _committing(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context, **late: Any) -> Any:
        result = filter_nodes(args, context, **late)
        context.state.release(args.pod.metadata.uid, "", HOLD)
        return result

    return filtered


def _foreign(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context, **late: Any) -> Any:
        result, made = filter_nodes(args, context, **late)
        return FilterResult(names=["node-0", *result.names[1:]]), made

    return filtered


def _silent(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context, **late: Any) -> Any:
        result, made = filter_nodes(args, context, **late)
        return msgspec.structs.replace(result, unresolvable={}), made

    return filtered


def _keep_all(_: Any) -> Any:
    return lambda args, _, **_late: (args.candidates, None)


def _one_victim_fewer(preempt: Any) -> Any:
    def fewer(args: PreemptArgs, context: Context, **late: Any) -> Any:
        kept, made = preempt(args, context, **late)
        return {
            name: Victims(uids=victims.uids[1:], pdb_violations=0) for name, victims in kept.items()
        }, made

    return fewer


def _too_high(prioritize: Any) -> Any:
    def scored(args: ExtenderArgs, context: Context, **late: Any) -> Any:
        ranked, made = prioritize(args, context, **late)
        return [(name, score + 1) for name, score in ranked], made

    return scored


def _best_only(prioritize: Any) -> Any:
    def scored(args: ExtenderArgs, context: Context, **late: Any) -> Any:
        ranked, made = prioritize(args, context, **late)
        return list(ranked)[:1], made

    return scored


def _forgetting(take: Any) -> Any:
    def taken(self: Any, pod: Any) -> Any:
        self._given.clear()
        return take(self, pod)

    return taken


def _credulous(reported: Any) -> Any:
    def ready(self: Any, holding: Any) -> Any:
        return msgspec.structs.replace(reported(self, holding), state=ModelState.READY)

    return ready


def _anybodys(drop: Any) -> Any:
    """Forget whose claim it is that ends."""

    def dropped(self: Any, uid: str, node: str | None = None, _claim: int | None = None) -> Any:
        return drop(self, uid, node)

    return dropped


def _there_alone(self: Any, _uid: str, nodes: set[str]) -> None:
    """Have what is kept for a pod change the nodes where it is kept, and no other."""
    self._changed |= nodes


def _bound_alone(node: Any, victims: Any, pod_of: Any) -> int:
    """Count what victims free that the watch has shown on the node, and nothing else."""
    pods = [pod for pod in map(pod_of, victims) if pod is not None]
    return sum(pod.demand.bytes for pod in pods if node is not None and pod.node == node.name)


def _as_if_fresh(refused_eviction: Any) -> Any:
    def refused(judge: Judge, *more: Any) -> Any:
        return refused_eviction(Judge(judge.asked, judge.view, judge.policy), *more)

    return refused


def _never_again(no_eviction: Any) -> Any:
    return lambda *args: msgspec.structs.replace(no_eviction(*args), again_at=None)


def _by_the_wall(init: Any) -> Any:
    def made(self: Any, *, clock: Any, **more: Any) -> None:
        init(self, **{**more, "clock": clock, "steady": clock})

    return made


def _hasty(_settle: Any) -> Any:
    """Take a Binding for lost as soon as it is looked at."""

    def settled(doubt: Doubt, _pod: Any, state: ClusterState) -> bool:
        state.release(doubt.uid, doubt.node, doubt.claim)
        return True

    return settled


def _both_bind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fence, "closed", lambda _: "")
    patch.setattr(Takeover, "unknown", lambda *_: "")


def _recovered_once(patch: pytest.MonkeyPatch) -> None:
    """Forget at a new term who was refused before it was seen, and ask the watch alone once."""
    patch.setattr(WaitingPods, "renew", WaitingPods.clear)
    patch.setattr(VERBS.Extender, "caught_up", lambda _: True)


def _unasked(create: Any) -> Any:
    """Send what had to wait for a credential without a look at the fence."""

    def created(self: Any, args: BindArgs, annotations: dict[str, str], _: Any) -> Answer:
        answer: Answer = create(self, args, annotations, str)
        return answer

    return created


def _without_volumes(demand: Any) -> Any:
    def counted(*args: Any) -> Any:
        found = demand(*args)
        return msgspec.structs.replace(found, bytes=found.request)

    return counted


def _speechless(bind: Any) -> Any:
    return lambda *args, **late: msgspec.structs.replace(bind(*args, **late), error="")


def _has_no_node(pod: PodFacts) -> bool:
    return pod.counts and not pod.node


def _infeasible_at_any_time(pod: Pod) -> bool:
    return any(one.reason == "Infeasible" for one in pod.status.conditions)


def _refuse_whatever_is_configured(judge: Judge) -> Reason | None:
    return Reason.KNOWLEDGE_STALE if judge.request.needs_certainty else None


def _by_filters_rule(judge: Judge, name: str, victims: Any, pod_of: Any) -> Reason | None:
    room = extender.placement.evictions.freed(judge.view.nodes.get(name), victims, pod_of)
    return judge.reason(name, freed=room)


def _waited_for(self: Any, _uid: str) -> Word:
    self._timeline.until(self._timeline.now + WRITE_SECONDS)
    return Word(Told.UNANSWERED)


BINDER = extender.verbs.bind._Binder
VERBS = simulation.extender
DOUBT = extender.verbs.doubt

FAULTS: list[tuple[str, Law, Plant]] = [
    (
        "bind forgets to reserve",
        Law.HAS_MEMORY,
        _instead(ClusterState, "_reserve", _nothing),
    ),
    (
        "bind does not check again",
        Law.MEMORY,
        _instead(BINDER, "_check", _nothing),
    ),
    (
        "a lost answer gives the memory back",
        Law.MEMORY,
        _instead(BINDER, "_look_up", _reserve_unlocked),
    ),
    (
        "a refused Binding keeps its memory",
        Law.KEPT_FOR_SOMEBODY,
        _instead(BINDER, "_failed", _failed_and_kept),
    ),
    (
        "a late refusal gives back what a later Binding has",
        Law.HAS_MEMORY,
        _around(Reservations, "drop", _anybodys),
    ),
    (
        "a doubt is settled without a look",
        Law.HAS_MEMORY,
        _around(DOUBT, "settle", _hasty),
    ),
    (
        "a doubt is never settled",
        Law.KEPT_FOR_SOMEBODY,
        _instead(DOUBT, "settle", lambda *_: True),
    ),
    (
        "a lost answer is taken for a yes",
        Law.BIND_SAYS_YES,
        _around(BINDER, "_settle", _believe),
    ),
    (
        "the apiserver is called under the lock",
        Law.UNLOCKED,
        _around(VERBS, "bind", _under_lock),
    ),
    ("bind refuses without a word", Law.BIND_SAYS_WHY, _around(VERBS, "bind", _speechless)),
    (
        "the decision names another node",
        Law.DECISION,
        _instead(BINDER, "_annotations", lambda _: {DECISION_ANNOTATION: '{"node": ""}'}),
    ),
    (
        "models are not asked for",
        Law.MODEL,
        _instead(Judge, "_cache_refusal", _nothing),
    ),
    (
        "old knowledge passes for new",
        Law.OLD_KNOWLEDGE,
        _instead(Judge, "_lost_sight", _nothing),
    ),
    ("filter commits", Law.FILTER_CHANGES_NOTHING, _around(VERBS, "filter_nodes", _committing)),
    (
        "filter names another node",
        Law.FILTER_ANSWERS,
        _around(VERBS, "filter_nodes", _foreign),
    ),
    (
        "filter gives no reasons",
        Law.FILTER_SAYS_WHY,
        _around(VERBS, "filter_nodes", _silent),
    ),
    (
        "scores exceed 10",
        Law.SCORES,
        _around(VERBS, "prioritize_nodes", _too_high),
    ),
    (
        "prioritize leaves nodes out",
        Law.ALL_SCORED,
        _around(VERBS, "prioritize_nodes", _best_only),
    ),
    ("every eviction is kept", Law.EVICTIONS_HELP, _around(VERBS, "preempt", _keep_all)),
    (
        "a victim is left out",
        Law.VICTIMS,
        _around(VERBS, "preempt", _one_victim_fewer),
    ),
    (
        "a pod's volumes are not counted",
        Law.LEDGER,
        _around(ClusterState, "demand", _without_volumes),
    ),
    (
        "a limit counts as soon as it is lowered",
        Law.GRANTED,
        _instead(Resizes, "limit", lambda self, one: self._amount(one.resources.limits)),
    ),
    (
        "what was infeasible before keeps from counting what is asked for now",
        Law.LEDGER,
        _instead(extender.cluster.resizes, "_infeasible", _infeasible_at_any_time),
    ),
    (
        "who is being deleted is woken",
        Law.LEFT_ALONE,
        _instead(PodFacts, "has_no_place", property(_has_no_node)),
    ),
    (
        "who is held back by scheduling gates is taken for refused after a restart",
        Law.LEFT_ALONE,
        _instead(PodFacts, "may_be_bound", property(lambda pod: pod.has_no_place)),
    ),
    (
        "deleted pods stay in the ledger",
        Law.KNOWN,
        _instead(Ledger, "forget_pod", _nothing),
    ),
    (
        "a list forgets nothing",
        Law.KNOWN,
        _instead(ClusterState, "_identities", lambda *_: set()),
    ),
    (
        "a bound pod keeps its reservation",
        Law.COUNTS_ONCE,
        _instead(Reservations, "drop", lambda *_: set()),
    ),
    (
        "reservations end by a clock that is set",
        Law.EXPIRES,
        _around(ClusterState, "__init__", _by_the_wall),
    ),
    ("nobody is woken", Law.NOBODY_WAITS, _instead(Waker, "due", lambda _: iter(()))),
    (
        "a list ends no reservation",
        Law.KEPT_FOR_SOMEBODY,
        _instead(Ledger, "reserved_for", lambda _: set()),
    ),
    (
        "a node is given away without its memory",
        Law.NOMINATED_HELD,
        _instead(Nominations, "take", lambda _, pod: pod.right_node),
    ),
    (
        "it is forgotten to whom a node was given",
        Law.GIVEN_ONCE,
        _around(Nominations, "take", _forgetting),
    ),
]

FAULTS_OF_EVICTIONS: list[tuple[str, Law, Plant]] = [
    (
        "a victim that is on its way counts for nothing",
        Law.HELP_IS_KEPT,
        _instead(extender.placement.evictions, "freed", _bound_alone),
    ),
    (
        "evictions are judged by old knowledge",
        Law.OLD_KNOWLEDGE_EVICTS_NOBODY,
        _around(extender.verbs.preempt, "refused_eviction", _as_if_fresh),
    ),
    (
        "memory is not looked at while anything at all is old",
        Law.MEMORY,
        _instead(Judge, "_reason_in_part", lambda self, *_, **__: self._lost_sight()),
    ),
]

FAULTS_OF_HOARDERS: list[tuple[str, Law, Plant]] = [
    (
        "room is made for two at a time",
        Law.EVICTIONS_HELP,
        _instead(ClusterState, "await_nomination", _nothing),
    ),
    (
        "an eviction that becomes worth it wakes nobody",
        Law.NOBODY_WAITS_FOR_ROOM,
        _instead(WaitingPods, "evictions", _nothing),
    ),
    (
        "it is not noted for whom nobody was evicted",
        Law.NOBODY_WAITS_FOR_ROOM,
        _instead(WaitingPods, "refuse_preemption", _nothing),
    ),
    (
        "a nomination is forgotten while memory is kept elsewhere",
        Law.NOMINATIONS,
        _instead(Ledger, "_kept_changed", _there_alone),
    ),
]

FAULTS_OF_THE_STRANDED: list[tuple[str, Law, Plant]] = [
    (
        "a nomination that leads nowhere is not taken back",
        Law.NOT_IN_VAIN,
        _instead(LostNominations, "put", _nothing),
    ),
    (
        "taking a nomination back is given up once it was refused",
        Law.NOT_IN_VAIN,
        _instead(LostNominations, "missed", lambda self, lost, _: self.drop(lost)),
    ),
    (
        "a nomination is taken back that has come to lead somewhere",
        Law.STAYS,
        _instead(LostNominations, "drop_of", _nothing),
    ),
    (
        "who is being deleted counts where it is nominated",
        Law.NOMINATIONS,
        _instead(PodFacts, "may_be_bound", property(_has_no_node)),
    ),
]

FAULTS_OF_THE_OUTRANKED: list[tuple[str, Law, Plant]] = [
    (
        "others are evicted elsewhere while room is made already",
        Law.NOBODY_ELSE_EVICTED,
        _instead(extender.verbs.preempt, "_becomes_free", lambda *_: False),
    ),
]

FAULTS_OF_THE_OVERLOADED: list[tuple[str, Law, Plant]] = [
    (
        "a nomination in doubt is taken for one that leads somewhere",
        Law.NOT_IN_VAIN,
        _instead(extender.waiting.rounds, "leads_somewhere", lambda *_: True),
    ),
]

FAULTS_OF_LATE_ANSWERS: list[tuple[str, Law, Plant]] = [
    (
        "who was answered too late about evictions is not tried again",
        Law.NOBODY_WAITS_FOR_ROOM,
        _around(VERBS, "no_eviction", _never_again),
    ),
]

FAULTS_OF_THE_NEUTRAL: list[tuple[str, Law, Plant]] = [
    (
        "old knowledge is held against nodes where that is neutral",
        Law.OLD_KNOWLEDGE,
        _instead(Judge, "_lost_sight", _refuse_whatever_is_configured),
    ),
    (
        "evictions on a guess are neutral, too",
        Law.OLD_KNOWLEDGE_EVICTS_NOBODY,
        _instead(extender.verbs.preempt, "refused_eviction", _by_filters_rule),
    ),
]

FAULTS_OF_WHAT_HANGS: list[tuple[str, Law, Plant]] = [
    (
        "each answer to a write is waited for",
        Law.NOBODY_WAITS,
        _instead(Requests, "_hang", _waited_for),
    ),
    (
        "what hangs is tried again at once",
        Law.NOBODY_WAITS,
        _instead(UnderWay, "_leave_alone", lambda self, key: self._slow.pop(key, None)),
    ),
]

FAULTS_OF_REPORTS: list[tuple[str, Law, Plant]] = [
    (
        "a loader's silence goes unnoticed",
        Law.NOT_FOR_EVER,
        _instead(Leases, "turned", lambda *_: []),
    ),
    (
        "what a loader left is forgotten with its pod",
        Law.NOT_ABSENT,
        _instead(LoaderPod, "leaves", property(lambda _: False)),
    ),
    (
        "a model that was taken back is still believed",
        Law.MODEL,
        _around(Witness, "_reported", _credulous),
    ),
]

FAULTS_OF_FETCHING: list[tuple[str, Law, Plant]] = [
    (
        "no loader is asked",
        Law.NOBODY_WAITS_FOR_A_LOADER,
        _instead(Wishing, "wishes", lambda *_: {}),
    ),
]

FAULTS_OF_LEADERS: list[tuple[str, Law, Plant]] = [
    (
        "reservations never expire",
        Law.EXPIRES,
        _instead(Reservations, "expire", lambda *_, **__: set()),
    ),
    ("two replicas bind at once", Law.MEMORY, _both_bind),
    (
        "a new leader binds before it knows what was bound",
        Law.MEMORY,
        _instead(Takeover, "unknown", lambda *_: ""),
    ),
    (
        "a Binding leaves late behind its credential",
        Law.MEMORY,
        _around(simulation.extender.Extender, "create", _unasked),
    ),
    (
        "who was refused before the Lease was read is forgotten",
        Law.REMEMBERED,
        _recovered_once,
    ),
]

PLANTED = [
    *((*one, CROWDED) for one in FAULTS),
    *((*one, EVICTING) for one in FAULTS_OF_EVICTIONS),
    *((*one, HOARDING) for one in FAULTS_OF_HOARDERS),
    *((*one, STRANDING) for one in FAULTS_OF_THE_STRANDED),
    *((*one, OUTRANKING) for one in FAULTS_OF_THE_OUTRANKED),
    *((*one, OVERLOADED) for one in FAULTS_OF_THE_OVERLOADED),
    *((*one, ANSWERED_LATE) for one in FAULTS_OF_LATE_ANSWERS),
    *((*one, NEUTRAL) for one in FAULTS_OF_THE_NEUTRAL),
    *((*one, HANGING) for one in FAULTS_OF_WHAT_HANGS),
    *((*one, REPORTING) for one in FAULTS_OF_REPORTS),
    *((*one, FETCHING) for one in FAULTS_OF_FETCHING),
    *((*one, PAIR) for one in FAULTS_OF_LEADERS),
]


@pytest.mark.parametrize(
    ("fault", "law", "plant", "scenario"), PLANTED, ids=[fault for fault, *_ in PLANTED]
)
def test_a_planted_fault_is_caught(
    fault: str, law: Law, plant: Plant, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    first = RARE.get(fault, 0)
    for seed in range(first, first + SEEDS):
        failure = run(scenario, seed, FEW.get(fault, STEPS)).failure
        if failure is not None and failure.law is law:
            return
    pytest.fail(f"{SEEDS} seeds do not show it")


def test_every_law_is_broken_by_a_fault() -> None:
    assert {law for _, law, *_ in PLANTED} == set(Law)
