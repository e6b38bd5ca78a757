"""Which nodes hold a model that not every node should hold.

Every loader computes it alone from the names and labels of the nodes that have one (``peers``), and
all come to the same answer: the nodes are ranked for each model by a hash of both names (rendezvous
hashing, Thaler and Ravishankar 1998), and the first ``copies`` hold it. A node that comes or goes
moves only the models that it gains or had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from extender.loader.catalog import CatalogModel


def selected(model: CatalogModel, labels: Mapping[str, str]) -> bool:
    """Return whether a node with these labels may hold the model."""
    return all(labels.get(key) == value for key, value in model.node_selector.items())


def holders(model: CatalogModel, nodes: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """Return the names of the nodes that should hold the model, of ``nodes`` (name -> labels)."""
    matching = [name for name, labels in nodes.items() if selected(model, labels)]
    if model.copies is None:
        return frozenset(matching)
    return frozenset(sorted(matching, key=lambda node: _rank(model, node))[: model.copies])


def _rank(model: CatalogModel, node: str) -> bytes:
    return hashlib.sha256(f"{model.name}\0{node}".encode()).digest()
