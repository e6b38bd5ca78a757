"""bind: what it answers for everything that can become of a Binding, and what stays reserved."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

import msgspec
import pytest

from extender.cli.source import new_context
from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration, FreshnessSection
from extender.kube.objects import Node, Pod
from extender.placement.policy import OnStale, Policy
from extender.placement.reasons import TEXTS, Reason
from extender.verbs.bind import Answer, BindOutcome, Bound, Sent, bind
from extender.verbs.context import TOO_LATE, Context
from extender.verbs.doubt import settle
from extender.wire import BindArgs
from extender.workload.model import NEED_ANNOTATION
from tests.builders import (
    LOADING,
    READY,
    loader,
    loader_pod,
    node,
    relist,
    requesting,
    tmpfs,
    vllm,
)
from tests.builders import pod as plain
from tests.clock import Clock

DONE = Answer(Sent.DONE)
CLAIMS = count(1)
"""One process numbers its Bindings, however many contexts a test makes for it."""
UNBOUND = tmpfs("ram", size="20Gi")


class Apiserver:
    """Answers a Binding as told, and shows one pod."""

    def __init__(self, answer: Answer = DONE, pod: Pod | str | None = None) -> None:
        self.answer = answer
        self.shown = pod
        self.sent: list[tuple[BindArgs, dict[str, str]]] = []

    def create(
        self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str]
    ) -> Answer:
        assert not fence()
        self.sent.append((args, annotations))
        return self.answer

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        assert (namespace, name) == ("inference", "ram")
        return self.shown


@pytest.fixture
def state() -> ClusterState:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a", memory="64Gi"))
    state.upsert(node("b", memory="16Gi"))
    return state


def ask(state: ClusterState, apiserver: Apiserver, to: str = "a", **context: object) -> Bound:
    made = Context(state=state, claims=CLAIMS, **context)  # type: ignore[arg-type]
    made.request(tmpfs("ram", size="20Gi"))  # filter has read it
    return bind(ARGS if to == "a" else msgspec.structs.replace(ARGS, node=to), made, apiserver)


ARGS = BindArgs(namespace="inference", name="ram", uid="uid-ram", node="a")


def test_a_refused_binding_keeps_no_memory_because_one_to_another_node_is_in_doubt(
    state: ClusterState,
) -> None:
    state.upsert(node("b", memory="64Gi"))
    unbound = tmpfs("ram", size="20Gi")
    assert ask(state, Apiserver(Answer(Sent.LOST), unbound), "a").outcome is BindOutcome.UNKNOWN
    refused = Apiserver(Answer(Sent.REFUSED, "429"))
    assert ask(state, refused, "b").outcome is BindOutcome.ERROR
    nodes = state.view().nodes
    assert [bool(nodes[name].reserved) for name in "ab"] == [True, False]


def test_a_refused_binding_leaves_what_an_earlier_one_to_its_node_may_need(
    state: ClusterState,
) -> None:
    unbound = tmpfs("ram", size="20Gi")
    assert ask(state, Apiserver(Answer(Sent.LOST), unbound)).outcome is BindOutcome.UNKNOWN
    assert ask(state, Apiserver(Answer(Sent.REFUSED, "429"))).outcome is BindOutcome.ERROR
    assert state.view().nodes["a"].reserved


def test_a_pod_that_still_fits_is_bound_and_its_memory_kept(state: ClusterState) -> None:
    apiserver = Apiserver()
    bound = ask(state, apiserver)
    assert (bound.outcome, bound.error) == (BindOutcome.BOUND, "")
    assert state.view().nodes["a"].free_for("another", 0) == 43 * 2**30
    ((args, annotations),) = apiserver.sent
    assert args == ARGS
    written = json.loads(annotations[DECISION_ANNOTATION])
    assert (written["version"], written["node"]) == (1, "a")
    assert written["memoryDemandBytes"] == 21 * 2**30
    assert written["memoryFreeBytes"] == 64 * 2**30


def test_a_pod_that_no_longer_fits_is_refused_before_the_apiserver_is_asked(
    state: ClusterState,
) -> None:
    apiserver = Apiserver()
    bound = ask(state, apiserver, to="b")
    assert bound.outcome is BindOutcome.REFUSED
    assert TEXTS[Reason.INSUFFICIENT_MEMORY] in bound.error
    assert bound.decision is not None
    assert bound.decision.refused == {"InsufficientMemory": 1}
    assert apiserver.sent == []
    assert state.reserved() == 0


@pytest.mark.parametrize("policy", list(OnStale))
def test_memory_that_was_promised_is_not_promised_again_while_pods_are_not_heard_of(
    policy: OnStale,
) -> None:
    """Nothing but the promise tells of a pod that was bound since, however long that takes."""
    clock = Clock(1_000.0)
    state = ClusterState(clock=clock)
    state.upsert(node("a", memory="64Gi"))
    stale: tuple[str, ...] = ()
    shipped = ExtenderConfiguration(freshness=FreshnessSection(on_stale=policy))
    context = new_context(state, shipped, stale=lambda: stale)
    outcomes = []
    for number in range(4):
        pod = requesting(f"p{number}", memory="40Gi")
        context.request(pod)
        args = BindArgs(namespace="inference", name=f"p{number}", uid=pod.metadata.uid, node="a")
        outcomes.append(bind(args, context, Apiserver()).outcome)
        stale = ("Pod",)
        clock.now += 200.0
    assert outcomes == [BindOutcome.BOUND, *[BindOutcome.REFUSED] * 3]


@pytest.mark.parametrize("changed", ["resized", "annotated"])
@pytest.mark.parametrize("newer", ["the watch", "filter"])
def test_a_pod_that_is_not_what_it_was_for_filter_goes_where_both_may(
    state: ClusterState, changed: str, newer: str
) -> None:
    """Changed between filter and bind, or the watch is behind what kube-scheduler knows."""
    before, after = requesting("ram", memory="10Gi"), requesting("ram", memory="70Gi")
    if changed == "annotated":
        for obj in (loader(), loader_pod("a", LOADING)):
            state.upsert(obj)
        after = vllm("ram")
        ignored = msgspec.structs.replace(after.metadata, annotations={NEED_ANNOTATION: "ignore"})
        before = msgspec.structs.replace(after, metadata=ignored)
    asked, shown = (before, after) if newer == "the watch" else (after, before)
    context, apiserver = Context(state=state), Apiserver()
    context.request(asked)
    state.upsert(shown)
    bound = bind(ARGS, context, apiserver)
    assert bound.outcome is BindOutcome.REFUSED
    assert apiserver.sent == []
    assert state.reserved() == 0


@pytest.mark.parametrize("newer", ["the watch", "filter"])
def test_the_most_that_a_pod_may_ask_for_is_kept_for_it(state: ClusterState, newer: str) -> None:
    sizes = ["10Gi", "30Gi"] if newer == "the watch" else ["30Gi", "10Gi"]
    asked, shown = (requesting("ram", memory=size) for size in sizes)
    context = Context(state=state)
    context.request(asked)
    state.upsert(shown)
    assert bind(ARGS, context, Apiserver()).outcome is BindOutcome.BOUND
    assert state.view().nodes["a"].free_for("another", 0) == 34 * 2**30


def test_a_model_that_went_away_since_filter_is_noticed() -> None:
    moments = [1_000.0]
    state = ClusterState(clock=lambda: moments[-1])
    for obj in (node("a"), loader(), loader_pod("a", READY)):
        state.upsert(obj)
    context = Context(state=state)
    context.request(vllm("llama"))
    state.upsert(loader_pod("a", LOADING))
    moments.append(1_000.0 + context.policy.stale_grace + 1)
    args = BindArgs(namespace="inference", name="llama", uid="uid-llama", node="a")
    apiserver = Apiserver()
    assert bind(args, context, apiserver).outcome is BindOutcome.REFUSED
    assert apiserver.sent == []


@pytest.mark.parametrize("asks", [plain("ram"), tmpfs("ram", size="20Gi")], ids=["plain", "tmpfs"])
@pytest.mark.parametrize("listed", [False, True], ids=["watched", "listed"])
def test_a_node_deleted_since_filter_gets_no_pod_of_any_kind(
    state: ClusterState, asks: Pod, *, listed: bool
) -> None:
    context = Context(state=state)
    context.request(asks)
    if listed:
        relist(state, Node, [node("b", memory="16Gi")])
    else:
        state.delete(node("a"))
    apiserver = Apiserver()
    bound = bind(ARGS, context, apiserver)
    assert bound.outcome is BindOutcome.REFUSED
    assert TEXTS[Reason.NODE_GONE] in bound.error
    assert "(node a, checked at bind)" in bound.error
    assert apiserver.sent == []
    assert state.reserved() == 0


def test_a_node_that_was_deleted_as_far_as_is_known_is_not_refused_with_old_knowledge(
    state: ClusterState,
) -> None:
    """It may have come back since: a pod that needs no certainty goes as without us."""
    state.delete(node("a"))
    context = Context(state=state, stale=lambda: ("Node",))
    context.request(plain("ram"))
    assert bind(ARGS, context, Apiserver()).outcome is BindOutcome.BOUND


def test_a_bind_that_comes_too_late_is_refused_and_nothing_is_kept(state: ClusterState) -> None:
    """kube-scheduler has given the pod up already, and decides anew."""
    apiserver = Apiserver()
    bound = bind(ARGS, Context(state=state), apiserver, late=lambda: True)
    assert (bound.outcome, bound.error) == (BindOutcome.ERROR, TOO_LATE)
    assert apiserver.sent == []
    assert state.reserved() == 0


def test_a_bind_that_became_too_late_while_the_lease_was_read_is_refused(
    state: ClusterState,
) -> None:
    now = [0.0]

    def slow_fence() -> str:
        now[0] += 5.0
        return ""

    apiserver = Apiserver()
    context = Context(state=state, fence=slow_fence)
    context.request(UNBOUND)
    bound = bind(ARGS, context, apiserver, late=lambda: now[0] > 4.0)
    assert (bound.outcome, bound.error) == (BindOutcome.ERROR, TOO_LATE)
    assert apiserver.sent == []
    assert state.reserved() == 0


@pytest.mark.parametrize("step", [400.0, -3_600.0], ids=["forwards", "backwards"])
def test_what_bind_keeps_lasts_as_long_when_the_wall_clock_is_set(step: float) -> None:
    """What a lost Binding may need must not go at once, nor what nobody needs stay for an hour."""
    wall, steady = Clock(1_000.0), Clock(50.0)
    state = ClusterState(clock=wall, steady=steady)
    state.upsert(node("a", memory="64Gi"))
    assert ask(state, Apiserver(Answer(Sent.LOST), UNBOUND)).outcome is BindOutcome.UNKNOWN
    wall.now += step
    steady.now += 299.0
    assert state.view().nodes["a"].reserved
    steady.now += 1.0
    assert not state.view().nodes["a"].reserved


BOUND_HERE, BOUND_THERE = tmpfs("ram", on="a"), tmpfs("ram", on="b")
ANOTHER = msgspec.structs.replace(
    tmpfs("ram"), metadata=msgspec.structs.replace(tmpfs("ram").metadata, uid="another")
)


@pytest.mark.parametrize(
    ("sent", "shown", "outcome", "kept_on"),
    [
        (Sent.REFUSED, None, BindOutcome.ERROR, ()),
        (Sent.CONFLICT, BOUND_HERE, BindOutcome.BOUND, ("a",)),
        (Sent.CONFLICT, BOUND_THERE, BindOutcome.ELSEWHERE, ("b",)),
        (Sent.CONFLICT, tmpfs("ram"), BindOutcome.ERROR, ()),
        (Sent.CONFLICT, None, BindOutcome.GONE, ()),
        (Sent.CONFLICT, ANOTHER, BindOutcome.GONE, ()),
        (Sent.CONFLICT, "no answer", BindOutcome.UNKNOWN, ("a",)),
        (Sent.UNCLEAR, BOUND_HERE, BindOutcome.BOUND, ("a",)),
        (Sent.UNCLEAR, BOUND_THERE, BindOutcome.ELSEWHERE, ("b",)),
        (Sent.UNCLEAR, tmpfs("ram"), BindOutcome.UNKNOWN, ("a",)),
        (Sent.UNCLEAR, None, BindOutcome.GONE, ()),
        (Sent.UNCLEAR, "no answer", BindOutcome.UNKNOWN, ("a",)),
        (Sent.LOST, BOUND_HERE, BindOutcome.BOUND, ("a",)),
        (Sent.LOST, BOUND_THERE, BindOutcome.ELSEWHERE, ("b",)),
        (Sent.LOST, tmpfs("ram"), BindOutcome.UNKNOWN, ("a",)),
        (Sent.LOST, None, BindOutcome.GONE, ()),
        (Sent.LOST, "no answer", BindOutcome.UNKNOWN, ("a",)),
    ],
)
def test_an_answer_that_is_not_a_yes_is_looked_up(
    state: ClusterState,
    sent: Sent,
    shown: Pod | str | None,
    outcome: BindOutcome,
    kept_on: tuple[str, ...],
) -> None:
    apiserver = Apiserver(Answer(sent, "said no"), shown)
    bound = ask(state, apiserver)
    assert bound.outcome is outcome
    assert bool(bound.error) == (outcome is not BindOutcome.BOUND)
    in_doubt = outcome in {BindOutcome.UNKNOWN, BindOutcome.ELSEWHERE}
    assert (bound.doubt.node if bound.doubt else "") == (kept_on[0] if in_doubt else "")
    assert len(apiserver.sent) == 1  # never repeated blindly
    nodes = state.view().nodes
    assert tuple(name for name in ("a", "b") if nodes[name].reserved) == kept_on


class Overtaken(Apiserver):
    """While the first Binding is on its way, kube-scheduler gives it up and asks for a second."""

    def __init__(self, answer: Answer, context: Context, second: Apiserver) -> None:
        super().__init__(answer, tmpfs("ram"))
        self.context = context
        self.second = second
        self.outcome: BindOutcome | None = None

    def create(
        self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str]
    ) -> Answer:
        self.outcome = bind(args, self.context, self.second).outcome
        return super().create(args, annotations, fence)


@pytest.mark.parametrize(
    ("second", "outcome"),
    [(DONE, BindOutcome.BOUND), (Answer(Sent.LOST), BindOutcome.UNKNOWN)],
    ids=["that worked", "in doubt"],
)
def test_a_binding_that_is_refused_late_leaves_the_memory_of_a_later_one(
    state: ClusterState, second: Answer, outcome: BindOutcome
) -> None:
    context = Context(state=state)
    context.request(tmpfs("ram", size="20Gi"))
    first = Overtaken(Answer(Sent.REFUSED, "429"), context, Apiserver(second, tmpfs("ram")))
    assert bind(ARGS, context, first).outcome is BindOutcome.ERROR
    assert first.outcome is outcome
    assert state.view().nodes["a"].free_for("another", 0) == 43 * 2**30


@pytest.mark.parametrize(
    ("found", "given_back"),
    [(UNBOUND, True), (None, True), (ANOTHER, True), (BOUND_THERE, True), (BOUND_HERE, False)],
    ids=["unbound", "gone", "another by that name", "elsewhere", "there"],
)
def test_a_doubt_is_settled_by_what_a_later_write_to_the_pod_finds(
    state: ClusterState, found: Pod | None, *, given_back: bool
) -> None:
    doubt = ask(state, Apiserver(Answer(Sent.LOST), UNBOUND)).doubt
    assert doubt is not None
    assert settle(doubt, found, state) is given_back
    assert bool(state.view().nodes["a"].reserved) is not given_back


def test_what_settles_one_binding_settles_no_later_one(state: ClusterState) -> None:
    context = Context(state=state)
    context.request(UNBOUND)
    lost = Apiserver(Answer(Sent.LOST), UNBOUND)
    first, second = (bind(ARGS, context, lost).doubt for _ in range(2))
    assert first is not None
    assert second is not None
    assert settle(first, UNBOUND, state)
    assert state.view().nodes["a"].reserved
    assert settle(second, UNBOUND, state)
    assert not state.view().nodes["a"].reserved


def test_an_answered_doubt_is_looked_at_sooner_than_one_without_an_answer(
    state: ClusterState,
) -> None:
    """Without one a proxy may still hold the Binding, or the apiserver work at it."""
    doubts = [ask(state, Apiserver(Answer(s), UNBOUND)).doubt for s in (Sent.UNCLEAR, Sent.LOST)]
    assert [doubt.seconds for doubt in doubts if doubt] == [5.0, 75.0]


def test_a_pod_that_filter_never_saw_is_read_from_the_apiserver(state: ClusterState) -> None:
    """The extender was restarted between filter and bind."""
    apiserver = Apiserver(pod=tmpfs("ram", size="20Gi"))
    bound = bind(ARGS, Context(state=state), apiserver)
    assert bound.outcome is BindOutcome.BOUND
    assert state.view().nodes["a"].reserved[0].bytes == 21 * 2**30


@pytest.mark.parametrize(
    ("shown", "outcome"),
    [(None, BindOutcome.GONE), (ANOTHER, BindOutcome.GONE), ("down", BindOutcome.ERROR)],
    ids=["gone", "another by that name", "no answer"],
)
def test_a_pod_that_cannot_be_read_is_not_bound(
    state: ClusterState, shown: Pod | str | None, outcome: BindOutcome
) -> None:
    apiserver = Apiserver(pod=shown)
    assert bind(ARGS, Context(state=state), apiserver).outcome is outcome
    assert apiserver.sent == []


def test_nothing_is_bound_before_everything_was_listed(state: ClusterState) -> None:
    apiserver = Apiserver()
    bound = ask(state, apiserver, unsynced=lambda: ("Pod",))
    assert bound.outcome is BindOutcome.ERROR
    assert "Pod" in bound.error
    assert apiserver.sent == []


def test_a_lead_that_is_lost_while_the_pod_is_read_sends_no_binding(state: ClusterState) -> None:
    """Reading a pod takes seconds where the apiserver is slow."""
    lost = []

    class Slow(Apiserver):
        def pod(self, namespace: str, name: str) -> Pod | str | None:
            lost.append("another leads")
            return super().pod(namespace, name)

    apiserver = Slow(pod=tmpfs("ram", size="20Gi"))
    bound = bind(ARGS, Context(state=state, fence=lambda: "".join(lost)), apiserver)
    assert (bound.outcome, bound.error) == (BindOutcome.FENCED, "another leads")
    assert apiserver.sent == []
    assert state.view().nodes["a"].reserved == ()


class SlowCredential(Apiserver):
    """Time goes by before the Binding can leave."""

    def __init__(self, goes_by: Callable[[], None]) -> None:
        super().__init__()
        self.goes_by = goes_by

    def create(
        self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str]
    ) -> Answer:
        self.goes_by()
        closed = fence()
        if closed:
            return Answer(Sent.NEVER, f"the binding was not sent: {closed}")
        return super().create(args, annotations, fence)


def test_a_lead_that_is_lost_before_the_binding_can_leave_keeps_it_back(
    state: ClusterState,
) -> None:
    lost: list[str] = []
    apiserver = SlowCredential(lambda: lost.append("another leads"))
    bound = ask(state, apiserver, fence=lambda: "".join(lost))
    assert (bound.outcome, bound.doubt) == (BindOutcome.NOT_SENT, None)
    assert bound.error == "the binding was not sent: another leads"
    assert apiserver.sent == []
    assert state.reserved() == 0


def test_a_lead_that_came_back_before_the_binding_can_leave_keeps_it_back(
    state: ClusterState,
) -> None:
    """Another one may have led meanwhile, and given the memory away."""
    terms = ["first"]
    apiserver = SlowCredential(lambda: terms.append("second"))
    bound = ask(state, apiserver, term=lambda: terms[-1])
    assert bound.outcome is BindOutcome.NOT_SENT
    assert bound.error == (
        "the binding was not sent: another replica may have led since the memory was looked at"
    )
    assert apiserver.sent == []
    assert state.reserved() == 0


def test_a_deadline_that_passes_before_the_binding_can_leave_keeps_it_back(
    state: ClusterState,
) -> None:
    """Reading the Lease takes time as well, so that the deadline is looked at after it."""
    now = [0.0]

    def later() -> None:
        now[0] += 5.0

    def fence() -> str:
        if now[0]:
            later()
        return ""

    apiserver = SlowCredential(later)
    context = Context(state=state, fence=fence)
    context.request(UNBOUND)
    bound = bind(ARGS, context, apiserver, late=lambda: now[0] > 9.0)
    assert bound.outcome is BindOutcome.NOT_SENT
    assert TOO_LATE in bound.error
    assert apiserver.sent == []
    assert state.reserved() == 0


@pytest.mark.parametrize("on_stale", OnStale)
def test_no_pod_is_bound_over_memory_because_something_else_is_old(
    state: ClusterState, on_stale: OnStale
) -> None:
    """What Leases tell changes nothing about memory: pods and nodes are in sight."""
    state.upsert(tmpfs("taker", size="60Gi", on="a"))
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Lease",))
    context.request(requesting("ram", "20Gi"))
    apiserver = Apiserver()
    bound = bind(ARGS, context, apiserver)
    assert bound.outcome is BindOutcome.REFUSED
    assert TEXTS[Reason.INSUFFICIENT_MEMORY] in bound.error
    assert apiserver.sent == []


@pytest.mark.parametrize("on_stale", OnStale)
def test_what_was_bound_while_pods_are_out_of_sight_counts_at_the_next_bind(
    state: ClusterState, on_stale: OnStale
) -> None:
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Pod",))
    outcomes = []
    for name in ("first", "second", "third"):
        context.request(requesting(name, "30Gi"))
        args = msgspec.structs.replace(ARGS, name=name, uid=f"uid-{name}")
        outcomes.append(bind(args, context, Apiserver()).outcome)
    assert outcomes == [BindOutcome.BOUND, BindOutcome.BOUND, BindOutcome.REFUSED]


def test_nothing_that_needs_certainty_is_bound_with_old_knowledge(state: ClusterState) -> None:
    apiserver = Apiserver()
    bound = ask(state, apiserver, stale=lambda: ("Pod",))
    assert bound.outcome is BindOutcome.REFUSED
    assert TEXTS[Reason.KNOWLEDGE_STALE] in bound.error
    assert apiserver.sent == []
