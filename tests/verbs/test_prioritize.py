"""prioritize: how soon the pod would serve on each node, as a score."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given

from extender.cluster.memory import VolumeCounting
from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.placement.policy import OnStale, Policy
from extender.placement.score import HEADROOM_SECONDS
from extender.verbs.context import Context
from extender.verbs.decision import Decision
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import ExtenderArgs, write_priorities
from tests.builders import (
    LOADING,
    READY,
    STOPPED,
    claim,
    loader,
    loader_pod,
    node,
    tmpfs,
    vllm,
)
from tests.placement.situations import (
    GI,
    IMAGE,
    annotated,
    cluster,
    from_claim,
    from_hub,
    from_image,
    memory_pod,
    plain,
)
from tests.verbs.random_clusters import Drawn, askers, clusters, questions

CACHES = (
    node("ready"),
    node("warm"),
    node("stale"),
    node("loading"),
    node("bare"),
    loader(),
    loader_pod("ready", READY),
    loader_pod("warm", READY),
    vllm("reader", on="warm"),
    loader_pod("stale", STOPPED),
    loader_pod("loading", LOADING),
)
ALL = ("bare", "loading", "ready", "stale", "warm")


def ask(
    asker: Pod, names: tuple[str, ...], state: ClusterState, **context: Any
) -> tuple[list[tuple[str, int]], Decision]:
    """Ask prioritize; there must be a decision."""
    args = ExtenderArgs(pod=asker, names=names, nodes=None)
    ranked, made = prioritize_nodes(args, Context(state=state, **context))
    assert made is not None
    return list(ranked), made


def scored(
    asker: Pod, names: tuple[str, ...], state: ClusterState, **context: Any
) -> dict[str, int]:
    return dict(ask(asker, names, state, **context)[0])


@given(clusters(), askers, questions)
def test_every_node_asked_about_is_answered_once_with_an_integer_from_0_to_10(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    """Left out, it would have no part in kube-scheduler's drawing of lots among equals."""
    ranked, _ = ask(asker, names, drawn.state)
    assert sorted(name for name, _ in ranked) == sorted(names)
    assert all(type(score) is int and 0 <= score <= 10 for _, score in ranked)


@given(clusters(), askers, questions)
def test_a_node_on_which_the_pod_serves_later_never_scores_higher(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    """By more than headroom is worth, and the lead among nodes that are equally good."""
    judge = Context(state=drawn.state).judge(asker)
    table = scored(asker, names, drawn.state)
    starts = {n: judge.start(judge.view.nodes[n]).seconds for n in names if n in drawn.free}
    for sooner, later in permutations(starts, 2):
        if starts[sooner] + HEADROOM_SECONDS + 2 < starts[later]:
            assert table[sooner] >= table[later]


@given(clusters(), askers, questions)
def test_asking_again_in_another_order_gives_every_node_the_same_score(
    drawn: Drawn, asker: Pod, names: tuple[str, ...]
) -> None:
    """Also where memory is held for the pod since the first time: it is its own."""
    assert scored(asker, names, drawn.state) == scored(asker, names[::-1], drawn.state)


def test_warm_beats_ready_beats_stale_beats_loading_beats_absent() -> None:
    table = scored(annotated(vllm(), need="preferred"), ALL, cluster(*CACHES))
    assert table == {"warm": 10, "ready": 8, "stale": 6, "loading": 1, "bare": 0}


def test_nodes_that_start_equally_soon_score_equally() -> None:
    state = cluster(*CACHES, node("twin"), loader_pod("twin", READY))
    table = scored(vllm(), (*ALL, "twin"), state)
    assert table["twin"] == table["ready"] > 0


def test_a_node_that_already_reads_the_claim_comes_first() -> None:
    readers = vllm("reader", on="b", volume={"persistentVolumeClaim": {"claimName": "model-store"}})
    table = scored(from_claim(), ("a", "b"), cluster(node("a"), node("b"), claim(), readers))
    assert table["b"] == 10 > table["a"]


def test_a_node_that_has_the_image_comes_first() -> None:
    state = cluster(node("a"), node("b", images={IMAGE: 16 * GI}))
    table = scored(from_image(), ("a", "b"), state)
    assert table["b"] == 10 > table["a"]


@pytest.mark.parametrize(
    "asker",
    [plain(), from_hub(), annotated(vllm(), need="ignore")],
    ids=["no model", "downloads wherever it lands", "told to ignore"],
)
def test_a_pod_for_which_nodes_do_not_differ_leaves_the_choice_to_others(asker: Pod) -> None:
    assert set(scored(asker, ALL, cluster(*CACHES)).values()) == {0}


def test_a_cache_of_which_nothing_is_known_leaves_the_choice_to_others() -> None:
    assert scored(vllm(), ("a", "b"), cluster(node("a"), node("b"))) == {"a": 0, "b": 0}


def test_a_node_that_is_not_known_scores_nothing_and_takes_nothing_from_others() -> None:
    table = scored(vllm(), ("never-seen", "ready"), cluster(*CACHES))
    assert table == {"never-seen": 0, "ready": 10}


# -- memory --------------------------------------------------------------------------------------

ROOM = (
    node("empty", "64Gi"),
    node("full", "64Gi"),
    tmpfs("other", size="40Gi", on="full"),
)


def test_a_memory_backed_pod_prefers_the_node_with_more_room() -> None:
    table = scored(memory_pod(request="1Gi", size="20Gi"), ("full", "empty"), cluster(*ROOM))
    assert table["empty"] == 10 > table["full"]


def test_a_pod_without_memory_volumes_does_not_care_for_room() -> None:
    state = cluster(*ROOM, loader(), loader_pod("full", READY), loader_pod("empty", READY))
    table = scored(vllm(), ("full", "empty"), state)
    assert table == {"empty": 10, "full": 10}


def test_room_decides_nothing_where_volumes_are_not_counted() -> None:
    state = cluster(*ROOM, counting=VolumeCounting.OFF)
    assert scored(memory_pod(size="20Gi"), ("full", "empty"), state) == {"empty": 0, "full": 0}


def test_memory_that_is_held_for_the_pod_is_not_held_against_its_node() -> None:
    """It is scored again after a failed binding, or while volumes are bound."""
    state, sharp = cluster(node("a", "64Gi"), node("b", "64Gi")), Policy(half_life=0.5)
    asker = memory_pod(request="1Gi", size="29Gi")
    first = scored(asker, ("a", "b"), state, policy=sharp)
    assert scored(asker, ("a", "b"), state, policy=sharp) == first


# -- what is not known, or no longer -------------------------------------------------------------


def test_an_answer_about_the_same_nodes_is_written_once_until_one_of_them_changes() -> None:
    state = cluster(*CACHES)
    context = Context(state=state)

    def answer(*names: str) -> bytes:
        args = ExtenderArgs(pod=vllm("asker"), names=names, nodes=None)
        return write_priorities(prioritize_nodes(args, context)[0])

    first = answer(*ALL)
    assert answer(*reversed(ALL)) is first
    assert b"bare" not in answer(*ALL[1:])
    assert answer(*ALL) == first
    state.upsert(loader_pod("loading", READY))
    assert answer(*ALL) != first


def test_an_unsynced_state_scores_nothing_and_decides_nothing() -> None:
    args = ExtenderArgs(pod=vllm(), names=ALL, nodes=None)
    context = Context(state=cluster(*CACHES), unsynced=lambda: ("Pod",))
    ranked, made = prioritize_nodes(args, context)
    assert list(ranked) == [(name, 0) for name in ALL]
    assert made is None


@pytest.mark.parametrize("on_stale", OnStale)
@pytest.mark.parametrize(
    "asker",
    [vllm(), annotated(vllm(), need="preferred"), memory_pod(request="1Gi", size="20Gi")],
    ids=["required", "preferred", "memory"],
)
def test_old_knowledge_favours_no_node_and_it_is_said(asker: Pod, on_stale: OnStale) -> None:
    policy = Policy(on_stale=on_stale)
    ranked, made = ask(asker, ALL, cluster(*CACHES), stale=lambda: ("Node",), policy=policy)
    assert ranked == [(name, 0) for name in ALL]
    assert made.stale == ("Node",)


# -- the decision --------------------------------------------------------------------------------


def test_the_decision_keeps_the_ten_best_nodes() -> None:
    names = tuple(f"n{number:02}" for number in range(15))
    caches = [loader_pod(name, READY) for name in names[5:]]
    _, made = ask(vllm(), names, cluster(*map(node, names), loader(), *caches))
    assert dict(made.scores) == dict.fromkeys(names[5:], 10)
    assert (made.verb, made.asked) == ("prioritize", 15)
