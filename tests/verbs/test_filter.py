"""filter: which nodes pass, what is said of the others, and that nothing is committed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.placement.policy import OnStale, Policy
from extender.placement.reasons import TEXTS, Reason
from extender.placement.tables import LOOK_AT_THE_CLOCK_EVERY
from extender.verbs.context import TOO_LATE, Context, ListRejected
from extender.verbs.decision import Decision
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import ExtenderArgs, FilterResult, read_args, write_filter_result
from extender.workload.model import Need, Strategy
from tests.builders import CRASHING, LOADING, READY, claim, loader, loader_pod, node, vllm
from tests.placement.situations import (
    GI,
    Clock,
    cluster,
    from_claim,
    from_hub,
    memory_pod,
    plain,
)
from tests.verbs.random_clusters import Drawn, askers, clusters, questions

CACHES = (
    node("ready"),
    node("loading"),
    node("crashing"),
    node("bare"),
    loader(),
    loader_pod("ready", READY),
    loader_pod("loading", LOADING),
    loader_pod("crashing", CRASHING),
)
ALL = ("bare", "crashing", "loading", "ready")


def ask(
    asker: Pod, names: tuple[str, ...], state: ClusterState, **context: Any
) -> tuple[FilterResult, Decision]:
    """Ask filter; there must be a decision."""
    args = ExtenderArgs(pod=asker, names=names, nodes=None)
    result, made = filter_nodes(args, Context(state=state, **context))
    assert made is not None
    return msgspec.structs.replace(result, names=list(result.names)), made


def passed(asker: Pod, names: tuple[str, ...], state: ClusterState, **context: Any) -> list[str]:
    return list(ask(asker, names, state, **context)[0].names)


# -- who passes ----------------------------------------------------------------------------------


@given(clusters(), askers, questions)
def test_the_nodes_that_pass_are_those_whose_verdict_fits_in_the_order_asked(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    verdicts = Context(state=drawn.state).judge(asker)
    fitting = [name for name in names if verdicts.verdict(name).fits]
    assert passed(asker, names, drawn.state) == fitting


@given(clusters(), askers, questions)
def test_the_fast_answer_and_the_whole_verdict_give_one_reason(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    judge = Context(state=drawn.state).judge(asker)
    assert [judge.reason(name) for name in names] == [judge.verdict(name).reason for name in names]


@given(clusters(), askers, questions)
def test_no_node_passes_that_has_less_memory_left_than_the_pod_may_take(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    demand = Context(state=drawn.state).request(asker).demand.bytes
    for name in passed(asker, names, drawn.state):
        if demand and name in drawn.free:
            assert demand <= drawn.free[name] * GI


@given(clusters(), askers, questions)
def test_asking_changes_nothing_and_asking_again_gives_the_same_answer(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    """It is asked for nominated nodes, in retries and in simulations."""
    before = drawn.state.view().nodes
    first, second = (ask(asker, names, drawn.state) for _ in range(2))
    assert first == second
    assert drawn.state.view().nodes == before


@given(clusters(), askers, questions)
def test_a_node_passes_alone_or_among_others_alike(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    alone = [name for name in names if passed(asker, (name,), drawn.state)]
    assert passed(asker, names, drawn.state) == alone


@pytest.mark.parametrize("asker", [plain(), from_hub()], ids=["no model", "model of a hub"])
def test_a_pod_that_needs_nothing_of_its_node_passes_everywhere(asker: Pod) -> None:
    names = (*ALL, "never-seen")
    assert passed(asker, names, cluster(*CACHES)) == list(names)


def test_a_node_that_is_not_known_is_refused_to_a_pod_that_needs_its_model() -> None:
    result, made = ask(vllm(), ("never-seen",), cluster(*CACHES))
    assert dict(result.unresolvable) == {"never-seen": TEXTS[Reason.NODE_UNKNOWN]}
    assert made.refused == {"NodeUnknown": 1}


def test_no_nodes_asked_about_is_no_nodes_passed() -> None:
    result, made = ask(vllm(), (), cluster(*CACHES))
    assert (result.names, result.unresolvable, result.error) == ([], {}, "")
    assert (made.asked, made.passed) == (0, 0)


# -- what is said of the others ------------------------------------------------------------------


def test_refused_nodes_are_left_out_of_the_answer_while_another_passes() -> None:
    """kube-scheduler reads the reasons only where no node is left."""
    result, _ = ask(vllm(), ALL, cluster(*CACHES))
    assert result.names == ["ready"]
    assert result.unresolvable == {}


def test_refused_nodes_are_listed_where_none_passes() -> None:
    result, _ = ask(vllm(), ("bare", "loading", "crashing"), cluster(*CACHES))
    assert result.names == []
    assert dict(result.unresolvable) == {
        "bare": TEXTS[Reason.MODEL_ABSENT],
        "loading": TEXTS[Reason.MODEL_LOADING],
        "crashing": TEXTS[Reason.MODEL_FAILED],
    }


def test_refused_nodes_are_always_listed_where_that_is_configured() -> None:
    result, _ = ask(vllm(), ALL, cluster(*CACHES), list_rejected=ListRejected.ALWAYS)
    assert result.names == ["ready"]
    assert set(result.unresolvable) == {"bare", "loading", "crashing"}


@given(clusters(), askers, questions)
def test_every_node_asked_about_passes_or_is_refused_and_never_both(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    result, made = ask(asker, names, drawn.state, list_rejected=ListRejected.ALWAYS)
    assert sorted([*result.names, *result.unresolvable]) == sorted(names)
    assert made.asked == len(names)
    assert made.passed == len(result.names)
    assert sum(made.refused.values()) == len(result.unresolvable)


@given(clusters(), askers, questions)
def test_what_is_said_of_a_node_is_a_text_of_the_fixed_list(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    """kube-scheduler counts equal texts into one event line: no name, no number in them."""
    result, _ = ask(asker, names, drawn.state, list_rejected=ListRejected.ALWAYS)
    assert set(result.unresolvable.values()) <= set(TEXTS.values())
    assert not any(letter.isdigit() for text in result.unresolvable.values() for letter in text)


def test_the_text_stays_the_same_while_the_numbers_behind_it_change() -> None:
    """A text that changes would patch the pod on every attempt, and so wake it by itself."""
    texts = {
        ask(memory_pod(request="1Gi", size=size), ("n",), cluster(node("n", memory)))[
            0
        ].unresolvable["n"]
        for size, memory in [("20Gi", "4Gi"), ("21Gi", "4Gi"), ("21Gi", "5Gi")]
    }
    assert len(texts) == 1


# -- on the wire ---------------------------------------------------------------------------------


def over_the_wire(question: dict[str, Any], state: ClusterState) -> dict[str, Any]:
    args = read_args(json.dumps(question).encode())
    result, _ = filter_nodes(args, Context(state=state))
    answer: dict[str, Any] = json.loads(write_filter_result(result, args))
    return answer


def as_json(asker: Pod) -> Any:
    return json.loads(msgspec.json.encode(asker))


def test_refusals_go_to_failed_and_unresolvable_nodes_and_never_to_failed_nodes() -> None:
    """Preemption's dry run asks no extender: as FailedNodes they would evict for nothing."""
    question = {"Pod": as_json(vllm()), "Nodes": None, "NodeNames": ["bare", "loading"]}
    answer = over_the_wire(question, cluster(*CACHES))
    assert answer["FailedNodes"] == {}
    assert set(answer["FailedAndUnresolvableNodes"]) == {"bare", "loading"}
    assert answer["NodeNames"] == []
    assert answer["Error"] == ""


def test_names_are_answered_with_names() -> None:
    question = {"Pod": as_json(vllm()), "Nodes": None, "NodeNames": list(ALL)}
    answer = over_the_wire(question, cluster(*CACHES))
    assert (answer["NodeNames"], answer["Nodes"]) == (["ready"], None)


def test_full_nodes_are_answered_with_full_nodes() -> None:
    items = [{"metadata": {"name": name, "labels": {"own": name}}} for name in ALL]
    question = {"Pod": as_json(vllm()), "Nodes": {"items": items}, "NodeNames": None}
    answer = over_the_wire(question, cluster(*CACHES))
    assert answer["NodeNames"] is None
    assert answer["Nodes"]["items"] == [{"metadata": {"name": "ready", "labels": {"own": "ready"}}}]


# -- what is not known, or no longer -------------------------------------------------------------


def test_an_unsynced_state_is_an_error_that_names_what_is_missing_and_no_decision() -> None:
    args = ExtenderArgs(pod=plain(), names=ALL, nodes=None)
    context = Context(state=cluster(*CACHES), unsynced=lambda: ("Pod", "Node"))
    result, made = filter_nodes(args, context)
    assert made is None
    assert result.names == ()
    assert "Pod, Node" in result.error


def test_old_knowledge_refuses_every_node_to_a_pod_that_needs_its_model() -> None:
    result, made = ask(vllm(), ALL, cluster(*CACHES), stale=lambda: ("Pod",))
    assert result.names == []
    assert set(result.unresolvable.values()) == {TEXTS[Reason.KNOWLEDGE_STALE]}
    assert result.error == ""
    assert made.stale == ("Pod",)
    assert made.refused == {"KnowledgeStale": 4}


def test_old_knowledge_lets_every_node_pass_where_that_is_configured_and_it_is_said() -> None:
    neutral = Policy(on_stale=OnStale.NEUTRAL)
    names = (*ALL, "never-seen")
    result, made = ask(vllm(), names, cluster(*CACHES), stale=lambda: ("Pod",), policy=neutral)
    assert result.names == list(names)
    assert made.stale == ("Pod",)


@pytest.mark.parametrize("on_stale", OnStale)
def test_old_knowledge_is_nothing_to_a_pod_that_needs_none(on_stale: OnStale) -> None:
    policy = Policy(on_stale=on_stale)
    names = passed(plain(), ALL, cluster(*CACHES), stale=lambda: ("Pod",), policy=policy)
    assert names == list(ALL)


# -- the decision --------------------------------------------------------------------------------


def test_the_decision_counts_nodes_by_reason_and_has_one_example_of_each() -> None:
    state = cluster(*CACHES, node("bare-too"))
    _, made = ask(vllm(), (*ALL, "bare-too"), state)
    assert made.refused == {"ModelAbsent": 2, "ModelFailed": 1, "ModelLoading": 1}
    assert made.examples == {
        "ModelAbsent": "bare: no loader pod on this node vouches for it",
        "ModelFailed": (
            "crashing: inference/model-loader-crashing: CrashLoopBackOff, OOMKilled exit 137"
        ),
        "ModelLoading": "loading: inference/model-loader-loading",
    }


def test_the_decision_says_who_asked_for_what_and_when() -> None:
    clock = Clock()
    _, made = ask(from_claim(), ("n",), cluster(node("n"), claim(), clock=clock))
    assert (made.verb, made.namespace, made.pod, made.uid) == (
        "filter",
        "inference",
        "from-claim",
        "uid-from-claim",
    )
    assert (made.strategy, made.need) == (Strategy.SHARED_VOLUME, Need.REQUIRED)
    assert made.model == "/models/llama-3.1-8b-instruct"
    assert made.time == clock.now


def test_a_refusal_for_memory_has_an_example_too() -> None:
    _, made = ask(memory_pod(size="99Gi"), ("n",), cluster(node("n")))
    assert made.examples == {"InsufficientMemory": f"n: {TEXTS[Reason.INSUFFICIENT_MEMORY]}"}


# -- in time -------------------------------------------------------------------------------------


def test_an_answer_that_would_come_too_late_is_an_error_and_no_decision() -> None:
    """The scheduler has stopped waiting: it would only keep a thread from the next question."""
    state = cluster(*CACHES)
    looks: list[bool] = []

    def late() -> bool:
        looks.append(len(looks) == 1)  # in time at first
        return looks[-1]

    names = tuple(f"n-{number}" for number in range(LOOK_AT_THE_CLOCK_EVERY * 4))
    for name in names:
        state.upsert(node(name))
    args = ExtenderArgs(pod=vllm(), names=names, nodes=None)
    result, made = filter_nodes(args, Context(state=state), late=late)
    assert (result.error, made, list(result.names)) == (TOO_LATE, None, [])
    assert looks == [False, True]


def test_scores_that_would_come_too_late_are_all_nought() -> None:
    state = cluster(*CACHES)
    args = ExtenderArgs(pod=vllm(), names=ALL, nodes=None)
    scores, made = prioritize_nodes(args, Context(state=state), late=lambda: True)
    assert (list(scores), made) == ([(name, 0) for name in ALL], None)
