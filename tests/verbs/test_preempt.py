"""preempt: only evictions that leave the pod with its model and its memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from extender.cluster.ledger import OVERDUE_SECONDS
from extender.cluster.reservations import HOLD, Reservation
from extender.cluster.state import ClusterState
from extender.errors import ProtocolError
from extender.kube.objects import Condition, Pod
from extender.kube.times import unix_time
from extender.placement.policy import OnStale, Policy
from extender.verbs.context import Context, Late, never
from extender.verbs.filter import filter_nodes
from extender.verbs.preempt import AGAIN_SECONDS, WAIT_SECONDS, no_eviction, preempt
from extender.wire import (
    ExtenderArgs,
    PreemptArgs,
    Victims,
    read_preempt_args,
    write_preempt_result,
)
from tests.builders import (
    LOADING,
    READY,
    deleted,
    loader,
    loader_pod,
    node,
    pod,
    requesting,
    tmpfs,
    vllm,
)
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000.0)


@pytest.fixture
def state(clock: Clock) -> ClusterState:
    state = ClusterState(clock=clock)
    for name, status in (("warm", READY), ("cold", LOADING)):
        state.upsert(node(name, memory="64Gi"))
        state.upsert(loader_pod(name, status))
        state.upsert(tmpfs(f"big-{name}", size="40Gi", on=name))
        state.upsert(tmpfs(f"small-{name}", size="4Gi", on=name))
    state.upsert(loader())
    return state


def victims(*uids: str) -> Victims:
    return Victims(uids=uids, pdb_violations=0)


def kept(state: ClusterState, pod: Any, **candidates: Victims) -> dict[str, Victims]:
    return preempt(PreemptArgs(pod=pod, candidates=candidates), Context(state=state))[0]


def above(pod: Pod) -> Pod:
    """Return a pod with a higher priority than all others."""
    spec = replace(pod.spec, priority=1000)
    return Pod(metadata=pod.metadata, spec=spec, status=pod.status)


def test_nobody_is_evicted_where_the_model_is_not(state: ClusterState) -> None:
    candidates = {"warm": victims("uid-big-warm"), "cold": victims("uid-big-cold")}
    assert kept(state, vllm("asks", memory="8Gi"), **candidates) == {
        "warm": victims("uid-big-warm")
    }


def test_nobody_is_evicted_where_too_little_memory_comes_back(state: ClusterState) -> None:
    asks = tmpfs("asks", size="40Gi")
    assert kept(state, asks, warm=victims("uid-small-warm")) == {}
    assert kept(state, asks, warm=victims("uid-big-warm")) == {"warm": victims("uid-big-warm")}


def test_victims_of_other_nodes_free_nothing_here(state: ClusterState) -> None:
    assert kept(state, tmpfs("asks", size="40Gi"), warm=victims("uid-big-cold")) == {}


@pytest.mark.parametrize("claim", [HOLD, 1], ids=["chosen", "being bound"])
def test_a_victim_that_the_watch_has_not_shown_on_its_node_yet_frees_what_is_kept_for_it(
    state: ClusterState, claim: int
) -> None:
    """kube-scheduler evicts whom it has sent there a moment ago, and what is kept counts."""
    asks, sent = tmpfs("asks", size="40Gi"), tmpfs("sent", size="18Gi")
    state.upsert(sent)
    uid, size = sent.metadata.uid, 19 * 2**30
    state.hold(Reservation(uid=uid, node="warm", bytes=size, expires=2_000.0, claim=claim))
    both = victims("uid-big-warm", uid)
    assert kept(state, asks, warm=victims("uid-big-warm")) == {}
    assert kept(state, asks, warm=both) == {"warm": both}
    assert kept(state, asks, cold=victims(uid)) == {}, "it is not kept for it there"
    state.stop_awaiting("uid-asks")
    state.upsert(tmpfs("sent", size="18Gi", on="warm"))
    assert kept(state, asks, warm=victims("uid-big-warm")) == {}
    assert kept(state, asks, warm=both) == {"warm": both}, "and once only when it is shown"


def test_a_candidate_without_victims_is_judged_like_any_other(state: ClusterState) -> None:
    assert kept(state, tmpfs("asks", size="40Gi"), warm=victims()) == {}
    assert kept(state, tmpfs("asks", size="4Gi"), warm=victims()) == {"warm": victims()}


def test_room_that_another_pod_was_promised_is_not_made_for_a_second_one(
    state: ClusterState,
) -> None:
    """kube-scheduler has evicted for the first; the second would evict and still find no room."""
    first = tmpfs("first", size="20Gi")
    status = replace(first.status, nominated_node_name="warm")
    asks, evicts = tmpfs("asks", size="40Gi"), {"warm": victims("uid-big-warm")}
    assert kept(state, asks, **evicts) == evicts
    state.upsert(Pod(metadata=first.metadata, spec=first.spec, status=status))
    assert kept(state, asks, **evicts) == {}
    assert kept(state, above(asks), **evicts) == evicts  # it goes before those of lower priority


def test_room_is_not_made_for_a_second_pod_before_the_watch_tells_of_the_first(
    clock: Clock, state: ClusterState
) -> None:
    """kube-scheduler asks for the second within milliseconds of the first answer."""
    context, evicts = Context(state=state), {"warm": victims("uid-big-warm")}
    first, second = tmpfs("first", size="40Gi"), tmpfs("second", size="40Gi")

    def ask(pod: Pod, **candidates: Victims) -> dict[str, Victims]:
        return preempt(PreemptArgs(pod=pod, candidates=candidates), context)[0]

    assert ask(first, **evicts) == evicts
    assert ask(second, **evicts) == {}
    assert ask(first, **evicts) == evicts, "a pod does not compete with itself"
    both = evicts | {"cold": victims("uid-big-cold")}
    assert ask(second, **both) == {"cold": victims("uid-big-cold")}
    assert ask(above(tmpfs("urgent", size="40Gi")), **evicts) == evicts
    clock.now += context.hold_seconds
    assert ask(second, **evicts) == evicts, "the nomination did not come"


def test_room_is_not_made_twice_on_a_node_that_the_watch_shows_between_the_two(
    state: ClusterState,
) -> None:
    """kube-scheduler has heard of the node before, and until then nothing speaks against it."""
    evicts = {"new": victims("uid-there")}
    assert kept(state, requesting("first", memory="40Gi"), **evicts) == evicts
    state.upsert(node("new", memory="64Gi"))
    state.upsert(tmpfs("there", size="40Gi", on="new"))
    assert kept(state, tmpfs("second", size="40Gi"), **evicts) == {}
    assert kept(state, tmpfs("second", size="20Gi"), **evicts) == evicts


@pytest.mark.parametrize("nominated", ["warm", "cold"])
def test_what_the_watch_tells_of_a_pod_counts_in_place_of_the_answer(
    state: ClusterState, nominated: str
) -> None:
    first = tmpfs("first", size="40Gi")
    state.upsert(first)
    kept(state, first, warm=victims("uid-big-warm"))
    status = replace(first.status, nominated_node_name=nominated)
    state.upsert(Pod(metadata=first.metadata, spec=first.spec, status=status))
    nodes = state.view().nodes
    assert {name: [one.uid for one in nodes[name].nominated] for name in nodes} == {
        name: ["uid-first"] if name == nominated else [] for name in nodes
    }


@pytest.mark.parametrize(
    "ends",
    [
        lambda state: state.delete(tmpfs("first", size="40Gi")),
        lambda state: state.upsert(tmpfs("first", size="40Gi", on="cold")),
        lambda state: state.upsert(deleted(tmpfs("first", size="40Gi"))),
        lambda state: kept(
            state,
            tmpfs("first", size="4Gi"),
            warm=victims("uid-big-warm"),
            cold=victims("uid-big-cold"),
        ),
    ],
    ids=["gone", "bound elsewhere", "being deleted", "another answer leaves it two nodes"],
)
def test_room_is_given_back_once_it_is_clear_that_its_pod_does_not_come(
    state: ClusterState, ends: Callable[[ClusterState], object]
) -> None:
    first, evicts = tmpfs("first", size="40Gi"), {"warm": victims("uid-big-warm")}
    state.upsert(first)
    assert kept(state, first, **evicts) == evicts
    assert kept(state, tmpfs("second", size="40Gi"), **evicts) == {}
    ends(state)
    assert kept(state, tmpfs("second", size="40Gi"), **evicts) == evicts


class Moments:
    """A clock that goes on while an answer waits; ``then`` happens at the first look."""

    def __init__(self, clock: Clock, then: Callable[[], None]) -> None:
        self._clock = clock
        self._then: Callable[[], None] | None = then
        self.waited = 0.0

    def __call__(self, seconds: float) -> None:
        self._clock.now += seconds
        self.waited += seconds
        if self._then is not None:
            self._then()
        self._then = None


@pytest.mark.parametrize("chosen", ["warm", "cold"])
def test_an_answer_waits_for_the_choice_that_kube_scheduler_makes_of_the_one_before(
    clock: Clock, state: ClusterState, chosen: str
) -> None:
    both = {"warm": victims("uid-big-warm"), "cold": victims("uid-big-cold")}
    first, second = tmpfs("first", size="40Gi"), tmpfs("second", size="40Gi")
    status = replace(first.status, nominated_node_name=chosen)
    nominated = Pod(metadata=first.metadata, spec=first.spec, status=status)
    pause = Moments(clock, lambda: state.upsert(nominated))
    context = Context(state=state, pause=pause)
    assert preempt(PreemptArgs(pod=first, candidates=both), context)[0] == both
    assert pause.waited == 0, "nobody was before it"
    left = {name: evicts for name, evicts in both.items() if name != chosen}
    assert preempt(PreemptArgs(pod=second, candidates=both), context)[0] == left
    assert pause.waited == pytest.approx(0.005)


def test_an_answer_waits_for_no_longer_than_a_moment_and_not_for_what_decides_nothing(
    clock: Clock, state: ClusterState
) -> None:
    both = {"warm": victims("uid-big-warm"), "cold": victims("uid-big-cold")}
    pause = Moments(clock, lambda: None)
    context = Context(state=state, pause=pause)

    def ask(pod: Pod, late: Late = never) -> dict[str, Victims]:
        args = PreemptArgs(pod=pod, candidates=both)
        return preempt(args, context, late=late)[0]

    assert ask(tmpfs("first", size="40Gi")) == both
    assert ask(tmpfs("hopeless", size="60Gi")) == {}
    assert ask(tmpfs("small", size="4Gi")) == both, "there is room for both on either node"
    assert ask(above(tmpfs("urgent", size="40Gi"))) == both
    assert pause.waited == 0
    assert ask(tmpfs("second", size="40Gi")) == both, "the nomination did not come"
    assert pause.waited == pytest.approx(WAIT_SECONDS, abs=0.01)
    looks = iter([False, False, True])  # when it is asked, before a wait, and before the next one
    ask(tmpfs("hurried", size="40Gi"), lambda: next(looks))
    assert pause.waited < WAIT_SECONDS + 0.05


def test_of_two_answers_at_the_same_moment_one_makes_room(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second was judged before the first was counted."""
    evicts, other = {"warm": victims("uid-big-warm")}, tmpfs("other", size="40Gi")
    await_nomination = state.await_nomination

    def overtaken(*args: Any) -> Any:
        monkeypatch.undo()
        assert kept(state, other, **evicts) == evicts
        return await_nomination(*args)

    monkeypatch.setattr(state, "await_nomination", overtaken)
    assert kept(state, tmpfs("asks", size="40Gi"), **evicts) == {}


def nominated(pod: Pod, node: str) -> Pod:
    """Return a pod as kube-scheduler has it that has evicted for it on a node."""
    return replace(pod, status=replace(pod.status, nominated_node_name=node))


def evicted(pod: Pod, reason: str = "PreemptionByScheduler") -> Pod:
    """Return a pod on its way out, as kube-scheduler marks those that it evicts."""
    said = Condition(type="DisruptionTarget", status="True", reason=reason)
    return replace(deleted(pod), status=replace(pod.status, conditions=(said,)))


def refused_there(context: Context, pod: Pod) -> bool:
    """Ask filter about the node that a pod is nominated to, as kube-scheduler does at first."""
    names = (pod.status.nominated_node_name,)
    return not filter_nodes(ExtenderArgs(pod=pod, names=names, nodes=None), context)[0].names


@pytest.mark.parametrize("gone", [False, True], ids=["still seen", "gone by now"])
def test_nobody_is_evicted_elsewhere_while_others_make_way_where_the_pod_is_nominated(
    state: ClusterState, gone: bool
) -> None:
    """kube-scheduler has heard before us that they are gone, and asked filter too early.

    It takes the node for lost then, and would evict on another one as well.
    """
    context = Context(state=state)
    asks = nominated(above(tmpfs("asks", size="40Gi")), "warm")
    state.upsert(asks)
    state.upsert(evicted(tmpfs("big-warm", size="40Gi", on="warm")))
    args = PreemptArgs(pod=asks, candidates={"cold": victims("uid-big-cold")})
    assert refused_there(context, asks)
    if gone:
        state.delete(tmpfs("big-warm", size="40Gi", on="warm"))
    kept_, made = preempt(args, context)
    assert kept_ == {}
    assert made is not None
    assert made.refused == {"OthersLeave": 1}
    assert no_eviction(args, made, context).again_at == state.steady() + AGAIN_SECONDS
    if not gone:
        state.delete(tmpfs("big-warm", size="40Gi", on="warm"))
    assert not refused_there(context, asks), "it goes where room was made for it"
    assert preempt(args, context)[0] == args.candidates, "it was not this program that refused"


def test_who_should_be_gone_long_since_keeps_no_pod_from_evicting_elsewhere(
    clock: Clock, state: ClusterState
) -> None:
    """A container that no signal ends, or a node whose kubelet is not heard of."""
    asks = nominated(above(tmpfs("asks", size="40Gi")), "warm")
    leaves = evicted(tmpfs("big-warm", size="40Gi", on="warm"))
    state.upsert(asks)
    state.upsert(leaves)
    context, candidates = Context(state=state), {"cold": victims("uid-big-cold")}
    args = PreemptArgs(pod=asks, candidates=candidates)
    gone_by = unix_time(leaves.metadata.deletion_timestamp)
    assert gone_by is not None
    clock.now = gone_by + OVERDUE_SECONDS - 1
    assert refused_there(context, asks)
    assert preempt(args, context)[0] == {}
    clock.now += 1
    assert refused_there(context, asks)
    assert preempt(args, context)[0] == candidates


@pytest.mark.parametrize("why", ["asked nobody", "too little", "not for a pod", "more important"])
def test_a_nomination_that_does_not_come_true_keeps_no_pod_from_evicting_elsewhere(
    state: ClusterState, why: str
) -> None:
    context = Context(state=state)
    asks = nominated(above(tmpfs("asks", size="40Gi")), "warm")
    state.upsert(asks)
    leaves = tmpfs("big-warm", size="40Gi", on="warm")
    if why == "too little":
        leaves = tmpfs("small-warm", size="4Gi", on="warm")
    if why == "more important":
        leaves = replace(leaves, spec=replace(leaves.spec, priority=2000))
    state.upsert(
        evicted(
            leaves, "EvictionByEvictionAPI" if why == "not for a pod" else "PreemptionByScheduler"
        )
    )
    if why != "asked nobody":  # kube-scheduler's own filters let that node pass
        assert refused_there(context, asks)
    candidates = {"cold": victims("uid-big-cold")}
    assert preempt(PreemptArgs(pod=asks, candidates=candidates), context)[0] == candidates


def test_a_refusal_of_an_earlier_try_keeps_no_pod_from_evicting_elsewhere(
    state: ClusterState,
) -> None:
    """kube-scheduler found no candidates then and cleared the nomination; there is another now."""

    def asks(version: str) -> Pod:
        found = nominated(above(tmpfs("asks", size="40Gi")), "warm")
        return replace(found, metadata=replace(found.metadata, resource_version=version))

    context = Context(state=state)
    assert refused_there(context, asks("1"))
    state.delete(tmpfs("big-warm", size="40Gi", on="warm"))
    evicts = {"cold": victims("uid-big-cold")}
    assert preempt(PreemptArgs(pod=asks("3"), candidates=evicts), context)[0] == evicts


def test_before_the_first_lists_nobody_is_evicted(state: ClusterState) -> None:
    args = PreemptArgs(pod=vllm("asks"), candidates={"warm": victims("uid-big-warm")})
    assert preempt(args, Context(state=state, unsynced=lambda: ("Node",))) == ({}, None)


def test_nobody_is_evicted_by_an_answer_that_comes_too_late(state: ClusterState) -> None:
    args = PreemptArgs(pod=vllm("asks"), candidates={"warm": victims("uid-big-warm")})
    assert preempt(args, Context(state=state), late=lambda: True) == ({}, None)


@pytest.mark.parametrize("on_stale", list(OnStale))
@pytest.mark.parametrize("asks", [vllm("asks"), tmpfs("asks", size="4Gi")], ids=["model", "tmpfs"])
def test_with_old_knowledge_nobody_is_evicted_for_a_pod_that_needs_certainty(
    state: ClusterState, asks: Pod, on_stale: OnStale
) -> None:
    """``neutral`` lets such a pod go anywhere; it does not let others be evicted on a guess."""
    args = PreemptArgs(pod=asks, candidates={"warm": victims("uid-big-warm")})
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Pod",))
    kept, made = preempt(args, context)
    assert kept == {}
    assert made is not None
    assert (made.refused, made.stale) == ({"KnowledgeStale": 1}, ("Pod",))


@pytest.mark.parametrize("on_stale", list(OnStale))
def test_with_old_knowledge_a_pod_that_needs_none_of_it_preempts_as_without_us(
    state: ClusterState, on_stale: OnStale
) -> None:
    args = PreemptArgs(pod=pod("asks"), candidates={"warm": victims("uid-big-warm")})
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Pod",))
    assert preempt(args, context)[0] == args.candidates


@pytest.mark.parametrize("on_stale", list(OnStale))
def test_nobody_is_evicted_where_too_little_memory_comes_back_because_something_else_is_old(
    state: ClusterState, on_stale: OnStale
) -> None:
    needless = requesting("asks", "30Gi")
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Lease",))

    def kept(*uids: str) -> list[str]:
        args = PreemptArgs(pod=needless, candidates={"warm": victims(*uids)})
        return list(preempt(args, context)[0])

    assert kept("uid-small-warm") == []
    assert kept("uid-big-warm") == ["warm"]


def test_no_victim_makes_room_among_promises_while_pods_are_out_of_sight(
    state: ClusterState,
) -> None:
    """Whether it is still there to be evicted is not known, and what was promised is."""
    promised = Reservation(uid="other", node="warm", bytes=50 * 2**30, expires=2e9, claim=1)
    state.hold(promised)
    candidates = {"warm": victims("uid-big-warm")}
    args = PreemptArgs(pod=requesting("asks", "30Gi"), candidates=candidates)
    assert preempt(args, Context(state=state, stale=lambda: ("Pod",)))[0] == {}


POD = {"metadata": {"name": "asks", "namespace": "inference", "uid": "u"}}
META = {"n": {"Pods": [{"UID": "v"}, {"UID": "w"}], "NumPDBViolations": 1}}
FULL = {
    "n": {
        "Pods": [{"metadata": {"uid": "v", "name": "v"}}, {"metadata": {"uid": "w"}}],
        "NumPDBViolations": 1,
    }
}


@pytest.mark.parametrize(
    "form",
    [
        {"NodeNameToMetaVictims": META},
        {"NodeNameToVictims": FULL},
        {"NodeNameToVictims": None, "NodeNameToMetaVictims": META},
        {"NodeNameToVictims": FULL, "NodeNameToMetaVictims": None},
    ],
)
def test_both_forms_are_read_and_answered_in_the_short_one(form: dict[str, Any]) -> None:
    args = read_preempt_args(json.dumps({"Pod": POD, **form}).encode())
    assert args.candidates == {"n": Victims(uids=("v", "w"), pdb_violations=1)}
    assert json.loads(write_preempt_result(args.candidates)) == {"NodeNameToMetaVictims": META}


@pytest.mark.parametrize("empty", [{"n": None}, {"n": {"Pods": None}}, {"n": {"Pods": [None]}}])
def test_no_null_comes_back(empty: dict[str, Any]) -> None:
    """One as victims crashes kube-scheduler (pkg/scheduler/extender.go)."""
    args = read_preempt_args(json.dumps({"Pod": POD, "NodeNameToMetaVictims": empty}).encode())
    assert "null" not in write_preempt_result(args.candidates).decode()


@pytest.mark.parametrize(
    "odd", [{"n": []}, {"n": {"Pods": {}}}, {"n": {"Pods": [{}]}}, [], "n", {"n": {"Pods": [1]}}]
)
def test_what_is_not_the_protocol_is_refused_by_name(odd: Any) -> None:
    with pytest.raises(ProtocolError, match="NodeNameToMetaVictims"):
        read_preempt_args(json.dumps({"Pod": POD, "NodeNameToMetaVictims": odd}).encode())
