"""What one node should hold: what the catalog wants there, and what a waiting pod needs there."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.spreading import holders, selected
from extender.report import Wanted

Nodes = Mapping[str, Mapping[str, str]]
"""Labels of nodes that have a loader, by name."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One model that this node should hold. ``pod`` waits for it; empty: the catalog wants it."""

    model: CatalogModel
    pod: str = ""

    @property
    def order(self) -> tuple[int, int, str]:
        """Return what sorts wishes: a pod that waits, then the highest priority, then by name."""
        return (0 if self.pod else 1, -self.model.priority, self.model.name)


def wishes(catalog: Catalog, node: str, nodes: Nodes, wanted: Wanted) -> tuple[Wish, ...]:
    """Return what ``node`` should hold, the most urgent first.

    ``nodes`` has this node, and all others where a model has ``copies``. A pod is given only what
    the catalog allows on this node. Where on-demand is switched off, a model that is fetched on
    demand only is held nowhere.
    """
    asked = {model.path: model.pod or "a waiting pod" for model in wanted.models}
    found = []
    for model in catalog.models:
        pod = asked.get(model.directory, "") if catalog.fetches_on_demand(model) else ""
        if pod and selected(model, nodes.get(node, {})):
            found.append(Wish(model=model, pod=pod))
        elif not model.on_demand and node in holders(model, nodes):
            found.append(Wish(model=model))
    return tuple(sorted(found, key=lambda wish: wish.order))


def on_node(catalog: Catalog, labels: Mapping[str, str]) -> Catalog:
    """Return the catalog with those models alone that may be on a node with these labels."""
    here = tuple(model for model in catalog.models if selected(model, labels))
    return msgspec.structs.replace(catalog, models=here)


def needs_all_nodes(catalog: Catalog) -> bool:
    """Tell whether other nodes have to be known to say what one should hold."""
    return any(model.copies is not None for model in catalog.models)
