"""The nodes that filter was asked about: the same set, in a byte a node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.numbers import KEPT_GONE
from extender.cluster.state import ClusterState
from extender.waiting.asked import asked_nodes
from tests.builders import node
from tests.clock import Clock

NAMES = [f"n{number}" for number in range(12)]
SOME = st.sets(st.sampled_from(NAMES))


def knowing(*names: str) -> ClusterState:
    state = ClusterState(clock=Clock())
    for name in names:
        state.upsert(node(name))
    return state


@given(known=SOME, asked=SOME)
def test_what_was_asked_about_is_told_of_every_node_known_or_not(
    known: set[str], asked: set[str]
) -> None:
    nodes = knowing(*known).view().nodes
    kept = asked_nodes(asked, nodes)
    assert {name for name in known if kept.has(nodes[name])} == known & asked
    assert sorted(kept.among(nodes)) == sorted(asked)


def test_what_is_not_known_comes_in_the_order_of_names_in_every_process() -> None:
    assert list(asked_nodes(NAMES, {}).among({})) == sorted(NAMES)


def test_a_node_that_becomes_known_counts_as_asked_about() -> None:
    state = knowing("n0")
    kept = asked_nodes(["n0", "n1"], state.view().nodes)
    state.upsert(node("n1"))
    nodes = state.view().nodes
    assert kept.has(nodes["n1"])


def test_a_node_that_went_and_came_back_is_still_the_one_that_was_asked_about() -> None:
    """kube-scheduler asked about the new one while the watch still told of the old one."""
    state = knowing("n0", "n1")
    kept = asked_nodes(["n1"], state.view().nodes)
    for gone in ("n0", "n1"):
        state.delete(node(gone))
    for comes in ("another", "n1"):
        state.upsert(node(comes))
    nodes = state.view().nodes
    assert kept.has(nodes["n1"])
    assert not kept.has(nodes["another"])
    assert list(kept.among(nodes)) == ["n1"]


def test_no_more_deleted_nodes_than_a_bound_are_remembered_and_their_numbers_used_again() -> None:
    state = knowing()
    for number in range(3 * KEPT_GONE):
        state.upsert(node(f"spot-{number}"))
        state.delete(node(f"spot-{number}"))
    assert len(state.view().gone) == KEPT_GONE
    state.upsert(node("next"))
    assert state.view().nodes["next"].number <= KEPT_GONE


@given(st.lists(st.sampled_from(NAMES), max_size=60))
def test_numbers_tell_nodes_apart_and_stay_below_the_most_and_those_remembered(
    turns: list[str],
) -> None:
    state, there, ever, most = knowing(), set[str](), set[str](), 0
    for name in turns:
        before = {name: known.number for name, known in state.view().nodes.items()}
        (state.delete if name in there else state.upsert)(node(name))
        there ^= {name}
        most = max(most, len(there))
        ever.add(name)
        now = {name: known.number for name, known in state.view().nodes.items()}
        assert all(now[name] == before[name] for name in now.keys() & before.keys())
        assert len(set(now.values())) == len(now)
        assert all(number < min(len(ever), most + KEPT_GONE) for number in now.values())


def test_a_set_of_five_thousand_takes_no_more_than_a_byte_for_each() -> None:
    names = [f"gpu-pool-a-{number:05d}-x7" for number in range(5_000)]
    kept = asked_nodes(names[:2_500], knowing(*names).view().nodes)
    assert len(kept.flags) <= 5_000
    assert kept.others == frozenset()
