"""What would help, on a terminal: a line for several nodes says only what is true of all."""

from __future__ import annotations

from typing import Any

from extender.explain.table import remedy_lines


def refused(name: str, remedy: str, **more: Any) -> dict[str, Any]:
    text = "untolerated taint {dedicated: t0}"
    node = {"refusedBy": "kube-scheduler", "reason": "UntoleratedTaint", "message": text}
    return {**node, "name": name, "remedy": remedy, **more}


def test_nodes_that_differ_by_their_names_alone_share_a_line() -> None:
    nodes = [refused(f"n-{n}", f"kubectl uncordon n-{n}") for n in range(3)]
    assert remedy_lines(nodes) == ["UntoleratedTaint (n-0 and 2 more): kubectl uncordon n-0"]


def test_what_lacks_on_one_node_is_not_said_of_others() -> None:
    nodes = [refused("n-0", "tolerate it; besides, it lacks 1 gpu"), refused("n-1", "tolerate it")]
    assert remedy_lines(nodes) == [
        "UntoleratedTaint (n-0): tolerate it; besides, it lacks 1 gpu",
        "UntoleratedTaint (n-1): tolerate it",
    ]


def test_a_name_that_is_part_of_another_is_left_alone() -> None:
    nodes = [refused("n1", "see node n1, not n12"), refused("n2", "see node n2, not n12")]
    assert remedy_lines(nodes) == ["UntoleratedTaint (n1 and 1 more): see node n1, not n12"]


def test_amounts_of_many_nodes_are_told_of_the_most_and_counted_for_the_rest() -> None:
    nodes = [refused(f"n-{n}", f"lacks {max(n, 1)} GiB") for n in range(10)]
    assert remedy_lines(nodes) == [
        "UntoleratedTaint (n-0 and 1 more): lacks 1 GiB",
        "UntoleratedTaint (n-2): lacks 2 GiB",
        "UntoleratedTaint (n-3 and 6 more): each its own, as by --node n-3",
    ]


def test_a_node_that_fits_needs_no_help() -> None:
    assert remedy_lines([{**refused("n-0", ""), "remedy": None}]) == []
