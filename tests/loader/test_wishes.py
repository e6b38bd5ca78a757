"""What one node should hold: the catalog's word, and what pods wait for."""

from __future__ import annotations

import pytest

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.wishes import Nodes, Wish, needs_all_nodes, on_node, wishes
from extender.report import Wanted, WantedModel

GPU = {"accelerator": "a100"}


def model(name: str, **fields: object) -> CatalogModel:
    return CatalogModel(name=name, source=f"hf://org/{name}", **fields)  # type: ignore[arg-type]


def names(found: tuple[Wish, ...]) -> list[str]:
    return [wish.model.name for wish in found]


def ask(*paths: str) -> Wanted:
    models = (WantedModel(path=path, until="some day", pod="ml/server") for path in paths)
    return Wanted(models=tuple(models))


def test_every_node_holds_a_model_without_selector_and_copies() -> None:
    catalog = Catalog(models=(model("a"),))
    assert names(wishes(catalog, "n1", {"n1": {}}, Wanted())) == ["a"]


def test_a_selector_keeps_other_nodes_free_of_a_model() -> None:
    catalog = Catalog(models=(model("a", node_selector=GPU),))
    assert names(wishes(catalog, "n1", {"n1": GPU}, Wanted())) == ["a"]
    assert not wishes(catalog, "n1", {"n1": {}}, Wanted())


def test_as_many_nodes_hold_a_model_as_it_has_copies() -> None:
    catalog = Catalog(models=(model("a", copies=2),))
    nodes: Nodes = {f"n{at}": {} for at in range(9)}
    holding = [node for node in nodes if wishes(catalog, node, nodes, Wanted())]
    assert len(holding) == 2
    assert needs_all_nodes(catalog)
    assert not needs_all_nodes(Catalog(models=(model("a"),)))


def test_the_highest_priority_comes_first_and_a_waiting_pod_before_all() -> None:
    catalog = Catalog(
        models=(model("low"), model("high", priority=9), model("asked", on_demand=True))
    )
    found = wishes(catalog, "n1", {"n1": {}}, ask("asked"))
    assert names(found) == ["asked", "high", "low"]
    assert found[0].pod == "ml/server"


@pytest.mark.parametrize(
    ("wanted", "switched_on", "labels"),
    [
        (ask("asked"), False, GPU),
        (ask("asked"), True, {}),
        (ask("other"), True, GPU),
        (Wanted(), True, GPU),
    ],
    ids=["switched off", "not on this node", "not in the catalog", "no"],
)
def test_what_nobody_may_ask_for_here_is_not_fetched(
    wanted: Wanted, switched_on: bool, labels: dict[str, str]
) -> None:
    asked = model("asked", on_demand=True, node_selector=GPU)
    catalog = Catalog(on_demand=switched_on, models=(asked,))
    assert not wishes(catalog, "n1", {"n1": labels}, wanted)


def test_a_model_that_other_nodes_hold_can_be_asked_for_here() -> None:
    catalog = Catalog(models=(model("a", copies=1),))
    nodes: Nodes = {"n1": {}, "n2": {}}
    other = next(n for n in nodes if not wishes(catalog, n, nodes, Wanted()))
    assert names(wishes(catalog, other, nodes, ask("a"))) == ["a"]


def test_a_model_that_says_no_is_not_fetched_because_a_pod_waits() -> None:
    nodes: Nodes = {"n1": {}, "n2": {}}
    silent = Catalog(models=(model("a", copies=1),))
    other = next(n for n in nodes if not wishes(silent, n, nodes, Wanted()))
    refusing = Catalog(models=(model("a", copies=1, on_demand=False),))
    assert names(wishes(silent, other, nodes, ask("a"))) == ["a"]
    assert not wishes(refusing, other, nodes, ask("a"))
    (holder,) = set(nodes) - {other}
    assert names(wishes(refusing, holder, nodes, ask("a"))) == ["a"]


def test_a_node_is_concerned_by_what_may_be_there_alone() -> None:
    catalog = Catalog(models=(model("a"), model("b", node_selector=GPU)))
    assert [m.name for m in on_node(catalog, {}).models] == ["a"]
    assert on_node(catalog, GPU) == catalog
