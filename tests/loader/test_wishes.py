"""What one node should hold: the catalog's word, and what pods wait for."""

from __future__ import annotations

import pytest

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.wishes import Nodes, Wish, allowed, needs_all_nodes, wishes
from extender.report import Wanted, WantedModel

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
SOON = "2026-01-01T00:05:00Z"
PAST = "2025-12-31T23:59:59Z"
GPU = {"accelerator": "a100"}


def model(name: str, **fields: object) -> CatalogModel:
    return CatalogModel(name=name, source=f"hf://org/{name}", **fields)  # type: ignore[arg-type]


def names(found: tuple[Wish, ...]) -> list[str]:
    return [wish.model.name for wish in found]


def ask(*paths: str, until: str = SOON) -> Wanted:
    models = tuple(WantedModel(path=path, until=until, pod="ml/server") for path in paths)
    return Wanted(models=models)


def test_every_node_holds_a_model_without_selector_and_copies() -> None:
    catalog = Catalog(models=(model("a"),))
    assert names(wishes(catalog, "n1", {"n1": {}}, Wanted(), now=NOW)) == ["a"]


def test_a_selector_keeps_other_nodes_free_of_a_model() -> None:
    catalog = Catalog(models=(model("a", node_selector=GPU),))
    assert names(wishes(catalog, "n1", {"n1": GPU}, Wanted(), now=NOW)) == ["a"]
    assert not wishes(catalog, "n1", {"n1": {}}, Wanted(), now=NOW)


def test_as_many_nodes_hold_a_model_as_it_has_copies() -> None:
    catalog = Catalog(models=(model("a", copies=2),))
    nodes: Nodes = {f"n{at}": {} for at in range(9)}
    holding = [node for node in nodes if wishes(catalog, node, nodes, Wanted(), now=NOW)]
    assert len(holding) == 2
    assert needs_all_nodes(catalog)
    assert not needs_all_nodes(Catalog(models=(model("a"),)))


def test_the_highest_priority_comes_first_and_a_waiting_pod_before_all() -> None:
    catalog = Catalog(
        models=(model("low"), model("high", priority=9), model("asked", on_demand=True))
    )
    found = wishes(catalog, "n1", {"n1": {}}, ask("asked"), now=NOW)
    assert names(found) == ["asked", "high", "low"]
    assert found[0].pod == "ml/server"


@pytest.mark.parametrize(
    ("wanted", "switched_on", "labels"),
    [
        (ask("asked", until=PAST), True, GPU),
        (ask("asked", until="never"), True, GPU),
        (ask("asked"), False, GPU),
        (ask("asked"), True, {}),
        (ask("other"), True, GPU),
        (Wanted(), True, GPU),
    ],
    ids=["too late", "no time", "switched off", "not on this node", "not in the catalog", "no"],
)
def test_what_nobody_may_ask_for_here_is_not_fetched(
    wanted: Wanted, switched_on: bool, labels: dict[str, str]
) -> None:
    asked = model("asked", on_demand=True, node_selector=GPU)
    catalog = Catalog(on_demand=switched_on, models=(asked,))
    assert not wishes(catalog, "n1", {"n1": labels}, wanted, now=NOW)


def test_a_model_that_other_nodes_hold_can_be_asked_for_here() -> None:
    catalog = Catalog(models=(model("a", copies=1),))
    nodes: Nodes = {"n1": {}, "n2": {}}
    other = next(n for n in nodes if not wishes(catalog, n, nodes, Wanted(), now=NOW))
    assert names(wishes(catalog, other, nodes, ask("a"), now=NOW)) == ["a"]


def test_only_what_may_be_on_a_node_is_allowed_there() -> None:
    catalog = Catalog(models=(model("a"), model("b", node_selector=GPU)))
    assert [m.name for m in allowed(catalog, {})] == ["a"]
    assert [m.name for m in allowed(catalog, GPU)] == ["a", "b"]
