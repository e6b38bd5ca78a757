"""Every law can be broken: a core with a planted fault is caught, soon, by the law that names it.

This is what shows that the simulation can fail, and that its histories become short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import extender.verbs.bind
import extender.verbs.doubt
import simulation.extender
from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.holdings import ModelState
from extender.cluster.leases import Leases
from extender.cluster.ledger import Ledger
from extender.cluster.reservations import HOLD, Reservations
from extender.cluster.state import ClusterState
from extender.cluster.witnesses import LoaderPod, Witness
from extender.placement.verdict import Judge
from extender.serving.leadership import Fence
from extender.verbs.bind import Answer, BindOutcome, Bound, Sent
from extender.verbs.context import Context
from extender.verbs.doubt import Doubt
from extender.verbs.takeover import Takeover
from extender.waiting.nominate import Nominations
from extender.waiting.wake import Waker
from extender.wire import BindArgs, ExtenderArgs, FilterResult, PreemptArgs, Victims
from simulation.history import Failure, run
from simulation.scenario import Scenario
from tests.simulation.clusters import CROWDED, PAIR, REPORTING

SEEDS = 120
STEPS = 1_500

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
    def locked(args: Any, context: Context, bindings: Any) -> Any:
        with context.state._lock:
            return bind(args, context, bindings)

    return locked


def _committing(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context) -> Any:
        result = filter_nodes(args, context)
        context.state.release(args.pod.metadata.uid, "", HOLD)
        return result

    return filtered


def _foreign(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context) -> Any:
        result, made = filter_nodes(args, context)
        return FilterResult(names=["node-0", *result.names[1:]]), made

    return filtered


def _silent(filter_nodes: Any) -> Any:
    def filtered(args: ExtenderArgs, context: Context) -> Any:
        result, made = filter_nodes(args, context)
        return msgspec.structs.replace(result, unresolvable={}), made

    return filtered


def _keep_all(_: Any) -> Any:
    return lambda args, _: (args.candidates, None)


def _one_victim_fewer(preempt: Any) -> Any:
    def fewer(args: PreemptArgs, context: Context) -> Any:
        kept, made = preempt(args, context)
        return {
            name: Victims(uids=victims.uids[1:], pdb_violations=0) for name, victims in kept.items()
        }, made

    return fewer


def _too_high(prioritize: Any) -> Any:
    def scored(args: ExtenderArgs, context: Context) -> Any:
        ranked, made = prioritize(args, context)
        return [(name, score + 1) for name, score in ranked], made

    return scored


def _best_only(prioritize: Any) -> Any:
    def scored(args: ExtenderArgs, context: Context) -> Any:
        ranked, made = prioritize(args, context)
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


def _speechless(bind: Any) -> Any:
    return lambda *args: msgspec.structs.replace(bind(*args), error="")


BINDER = extender.verbs.bind._Binder
VERBS = simulation.extender
DOUBT = extender.verbs.doubt

FAULTS: list[tuple[str, str, Plant]] = [
    (
        "bind forgets to reserve",
        "what may come has its memory",
        _instead(ClusterState, "_reserve", _nothing),
    ),
    (
        "bind does not check again",
        "memory is never given twice",
        _instead(BINDER, "_check", _nothing),
    ),
    (
        "a lost answer gives the memory back",
        "memory is never given twice",
        _instead(BINDER, "_look_up", _reserve_unlocked),
    ),
    (
        "a refused Binding keeps its memory",
        "memory is kept only for what may come",
        _instead(BINDER, "_failed", _failed_and_kept),
    ),
    (
        "a late refusal gives back what a later Binding has",
        "what may come has its memory",
        _around(Reservations, "drop", _anybodys),
    ),
    (
        "a doubt is settled without a look",
        "what may come has its memory",
        _around(DOUBT, "settle", _hasty),
    ),
    (
        "a doubt is never settled",
        "memory is kept only for what may come",
        _instead(DOUBT, "settle", lambda *_: True),
    ),
    (
        "a lost answer is taken for a yes",
        "bind says yes only to what is bound",
        _around(BINDER, "_settle", _believe),
    ),
    (
        "the apiserver is called under the lock",
        "the apiserver is not called under the lock",
        _around(VERBS, "bind", _under_lock),
    ),
    ("bind refuses without a word", "a refusal says why", _around(VERBS, "bind", _speechless)),
    (
        "the decision names another node",
        "the decision is written with the Binding",
        _instead(BINDER, "_annotations", lambda _: {DECISION_ANNOTATION: '{"node": ""}'}),
    ),
    (
        "models are not asked for",
        "a pod is bound where its model is",
        _instead(Judge, "_cache_refusal", _nothing),
    ),
    (
        "old knowledge passes for new",
        "old knowledge is not trusted",
        _instead(Judge, "_lost_sight", _nothing),
    ),
    ("filter commits", "filter changes nothing", _around(VERBS, "filter_nodes", _committing)),
    (
        "filter names another node",
        "filter answers what it was asked",
        _around(VERBS, "filter_nodes", _foreign),
    ),
    (
        "filter gives no reasons",
        "every refusal has a reason",
        _around(VERBS, "filter_nodes", _silent),
    ),
    (
        "scores exceed 10",
        "scores lie between 0 and 10",
        _around(VERBS, "prioritize_nodes", _too_high),
    ),
    (
        "prioritize leaves nodes out",
        "every node asked about is scored",
        _around(VERBS, "prioritize_nodes", _best_only),
    ),
    ("every eviction is kept", "evictions help", _around(VERBS, "preempt", _keep_all)),
    (
        "a victim is left out",
        "victims are those proposed",
        _around(VERBS, "preempt", _one_victim_fewer),
    ),
    (
        "room is made for two at a time",
        "evictions help",
        _instead(ClusterState, "await_nomination", _nothing),
    ),
    (
        "deleted pods stay in the ledger",
        "what is known is what was told",
        _instead(Ledger, "forget_pod", _nothing),
    ),
    (
        "a list forgets nothing",
        "what is known is what was told",
        _instead(ClusterState, "_identities", lambda *_: set()),
    ),
    (
        "a nomination is forgotten while memory is kept elsewhere",
        "nominations are what was told",
        _instead(Ledger, "_kept_changed", _there_alone),
    ),
    (
        "a bound pod keeps its reservation",
        "a pod counts once",
        _instead(Reservations, "drop", lambda *_: set()),
    ),
    (
        "reservations never expire",
        "reservations expire",
        _instead(Reservations, "expire", lambda *_: set()),
    ),
    (
        "reservations end by a clock that is set",
        "reservations expire",
        _around(ClusterState, "__init__", _by_the_wall),
    ),
    ("nobody is woken", "no pod waits that could run", _instead(Waker, "due", lambda _: iter(()))),
    (
        "a list ends no reservation",
        "memory is kept only for what may come",
        _instead(Ledger, "reserved_for", lambda _: set()),
    ),
    (
        "a node is given away without its memory",
        "a nominated pod's memory is held",
        _instead(Nominations, "take", lambda _, pod: pod.right_node),
    ),
    (
        "it is forgotten to whom a node was given",
        "a node is given to one pod at a time",
        _around(Nominations, "take", _forgetting),
    ),
]

FAULTS_OF_REPORTS: list[tuple[str, str, Plant]] = [
    (
        "a loader's silence goes unnoticed",
        "who is silent is not believed for ever",
        _instead(Leases, "turned", lambda *_: []),
    ),
    (
        "what a loader left is forgotten with its pod",
        "what is there is not taken for absent",
        _instead(LoaderPod, "leaves", property(lambda _: False)),
    ),
    (
        "a model that was taken back is still believed",
        "a pod is bound where its model is",
        _around(Witness, "_reported", _credulous),
    ),
]


def caught(law: str, scenario: Scenario) -> Failure:
    """Run seeds until one breaks a law."""
    for seed in range(SEEDS):
        failure = run(scenario, seed, STEPS).failure
        if failure is not None and failure.law == law:
            return failure
    pytest.fail(f"{SEEDS} seeds of {STEPS} steps do not show it")


@pytest.mark.parametrize(("fault", "law", "plant"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_a_planted_fault_is_caught(
    fault: str, law: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert caught(law, CROWDED).law == law


@pytest.mark.parametrize(
    ("fault", "law", "plant"), FAULTS_OF_REPORTS, ids=[fault for fault, _, _ in FAULTS_OF_REPORTS]
)
def test_a_planted_fault_about_reports_is_caught(
    fault: str, law: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert caught(law, REPORTING).law == law


def _two_binding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fence, "closed", lambda _: "")
    patch.setattr(Takeover, "unknown", lambda *_: "")


@pytest.mark.parametrize(
    ("fault", "plant"),
    [
        ("two replicas bind at once", _two_binding),
        (
            "a new leader binds before it knows what was bound",
            _instead(Takeover, "unknown", lambda *_: ""),
        ),
    ],
    ids=["two replicas bind at once", "a new leader binds before it knows what was bound"],
)
def test_a_planted_fault_of_leaders_is_caught(
    fault: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert caught("memory is never given twice", PAIR).law == "memory is never given twice"


def test_a_binding_that_leaves_late_behind_its_credential_gives_memory_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = simulation.extender.Extender.create

    def unasked(self: Any, args: BindArgs, annotations: dict[str, str], _: Any) -> Answer:
        return create(self, args, annotations, str)

    monkeypatch.setattr(simulation.extender.Extender, "create", unasked)
    assert caught("memory is never given twice", PAIR).law == "memory is never given twice"
