"""The zones of a view: every known node once, whatever came and went."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.state import ClusterState
from tests.builders import node
from tests.placement.situations import ZONE, cluster

MOVES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "x", "y", "gone"])))


@given(MOVES)
def test_each_node_is_in_its_zone_and_in_no_other(moves: list[tuple[str, str]]) -> None:
    state, zones = cluster(), dict[str, str]()
    for name, zone in moves:
        if zone == "gone":
            state.delete(node(name))
            zones.pop(name, None)
        else:
            state.upsert(node(name, labels={ZONE: zone} if zone else {}))
            zones[name] = zone
        assert _found(state) == zones


def _found(state: ClusterState) -> dict[str, str]:
    view = state.view()
    found = [(name, view.nodes[name].zone) for names in view.zones.nodes for name in names]
    assert len(found) == len(view.nodes)
    assert all(len({view.nodes[n].zone for n in names}) == 1 for names in view.zones.nodes)
    return dict(found)


def test_nodes_that_are_named_in_a_row_do_not_follow_one_another() -> None:
    state = cluster(*(node(f"rack-{number:03d}") for number in range(200)))
    (names,) = state.view().zones.nodes
    numbers = [int(name.removeprefix("rack-")) for name in names]
    neighbours = sum(abs(a - b) == 1 for a, b in pairwise(numbers))
    assert neighbours < 10
