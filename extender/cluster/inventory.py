"""What each node holds: from loader DaemonSets, their pods, and what nodes say of themselves.

A loader vouches for the host directories that it fills; ``witnesses`` has what its pods say.
Absence needs a witness: where no loader owns a path and no node declares it, nothing is known and
nothing is refused, and neither where a loader's report had no room for all of its models.

An inventory never changes. Its successor shares what is known of the nodes that did not change, and
their part of the answers that were asked for before. They are mended when they are asked for again:
a change on one node of thousands costs no new look at the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from extender.cluster.holdings import Evidence, Holding, ModelState, better
from extender.cluster.witnesses import LoaderPod, Witness
from extender.workload.model import LoaderTemplate
from extender.workload.volumes import is_within, normal

PROVIDES_ANNOTATION = "modelcache.dev/provides"
"""On nodes, by you: paths of models that are baked into the machine, one a line."""

MAX_ANSWERS = 2_000
"""Paths that are remembered, those of an inventory's predecessors included."""

_MAX_PENDING = 512
"""An answer is made anew rather than mended where more nodes changed since it was asked for."""


class Loader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A loader DaemonSet, known also where it has no pod."""

    uid: str
    namespace: str
    name: str
    template: LoaderTemplate


class NodeWitnesses(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks of one node.

    Its loader pods, those that ``left`` and whose successors do not speak yet, and the node itself
    with the paths that it ``provides``.
    """

    left: tuple[Witness, ...] = ()
    present: tuple[Witness, ...] = ()
    provides: tuple[str, ...] = ()


def provided_paths(annotation: str | None) -> tuple[str, ...]:
    """Read a node's ``provides`` annotation: absolute paths, one a line; others are skipped."""
    lines = (line.strip() for line in (annotation or "").splitlines())
    return tuple(normal(line) for line in lines if line.startswith("/"))


def relates(held: str, wanted: str) -> bool:
    """Tell whether a held path answers for a wanted one: the same, above it, or below it.

    Above: the loader put the whole directory there. Below: the pod opens a repository (a Triton
    model repository, a Hugging Face cache) of which the loader fills a part.
    """
    return is_within(wanted, held) or is_within(held, wanted)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the inventory says of one path for pods of one namespace.

    ``known`` is false where nobody could say where the path is absent: no trusted loader owns it
    and no node provides it. ``nodes`` maps node names to their best holding; a node that is not in
    it is ``absent`` when ``known``, unless it is one of ``untold``. ``loaders`` names the loaders
    that own the path and ``namespaces`` theirs; ``untrusted`` those whose namespace is not trusted
    by the asker's.
    """

    known: bool
    nodes: Mapping[str, Holding]
    untold: frozenset[str] = frozenset()
    loaders: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()

    @property
    def is_unowned(self) -> bool:
        """Tell whether no loader, trusted or not, and no node says that it has the path."""
        return not (self.known or self.untrusted)


class _Found(msgspec.Struct):
    """What the nodes hold of a path: ``direct`` at or above it, ``below`` only inside it.

    ``pending`` are the nodes that changed since.
    """

    direct: dict[str, Holding]
    below: dict[str, Holding]
    untold: set[str]
    pending: frozenset[str]


class Inventory:
    """An immutable index of who says what of which node."""

    def __init__(
        self,
        *,
        loaders: Iterable[Loader] = (),
        nodes: Mapping[str, NodeWitnesses] | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        """Build the index.

        ``nodes`` maps node names to their witnesses; ``trusted`` are the namespaces whose loaders
        may vouch for pods of every namespace.
        """
        self.loaders = tuple(loaders)
        self._nodes = dict(nodes or {})
        self._trusted = trusted
        self._found: dict[tuple[str, str], _Found] = {}
        self._answers: dict[tuple[str, str], Answer] = {}

    @property
    def pods(self) -> Iterator[LoaderPod]:
        """Yield the loader pods that there are now."""
        for said in self._nodes.values():
            for witness in said.present:
                yield witness.pod

    def changed(self, nodes: Mapping[str, NodeWitnesses | None]) -> Inventory:
        """Return the inventory after these nodes changed (None: has no witness any more)."""
        successor = Inventory(loaders=self.loaders, nodes=self._nodes, trusted=self._trusted)
        for name, witnesses in nodes.items():
            if witnesses is None:
                successor._nodes.pop(name, None)
            else:
                successor._nodes[name] = witnesses
        pending: dict[frozenset[str], frozenset[str]] = {}
        for key, found in list(self._found.items()):
            late = pending.setdefault(found.pending, found.pending.union(nodes))
            if len(late) <= _MAX_PENDING:
                successor._found[key] = _Found(found.direct, found.below, found.untold, late)
        return successor

    def lookup(self, path: str, namespace: str) -> Answer:
        """Return what is known of a host path, for a pod of this namespace."""
        key = (path, namespace)
        answer = self._answers.get(key)
        if answer is None:
            for kept in (self._found, self._answers):
                if len(kept) >= MAX_ANSWERS:  # some of all of them: who asks for more stays in part
                    for old in list(kept)[::8]:
                        kept.pop(old, None)
            answer = self._answers[key] = self._build(path, namespace)
        return answer

    def holdings(self) -> dict[str, list[Holding]]:
        """Return everything that is held, by node, for listings; sorted by path."""
        rows = ((node, self.holdings_of(node)) for node in sorted(self._nodes))
        return {node: row for node, row in rows if row}

    def holdings_of(self, node: str) -> list[Holding]:
        """Return everything that one node holds, sorted by path."""
        said = self._nodes.get(node, NodeWitnesses())
        row: dict[str, Holding] = {}
        for witness in (*said.left, *said.present):
            for holding in witness.held.values():
                row[holding.path] = better(row.get(holding.path), holding)
        for path in said.provides:
            row[path] = better(row.get(path), _provided(node, path))
        return [row[path] for path in sorted(row)]

    def provided(self, node: str) -> tuple[str, ...]:
        """Return the paths that a node itself says are baked into it."""
        return self._nodes.get(node, NodeWitnesses()).provides

    def _vouches(self, loader_namespace: str, namespace: str) -> bool:
        return loader_namespace == namespace or loader_namespace in self._trusted

    def _build(self, path: str, namespace: str) -> Answer:
        found = self._find(path, namespace)
        owners = [loader for loader in self.loaders if _owns(loader.template, path)]
        trusted = [loader for loader in owners if self._vouches(loader.namespace, namespace)]
        return Answer(
            known=bool(trusted or found.direct or found.below),
            nodes=self._best(found, trusted, path),
            untold=frozenset(found.untold),
            loaders=_names(trusted),
            namespaces=tuple(sorted({loader.namespace for loader in trusted})),
            untrusted=_names(loader for loader in owners if loader not in trusted),
        )

    def _find(self, path: str, namespace: str) -> _Found:
        found = self._found.get((path, namespace))
        if found is not None and not found.pending:
            return found
        if found is None:
            names: Iterable[str] = self._nodes
            found = _Found({}, {}, set(), frozenset())
        else:
            names = found.pending
            found = _Found(dict(found.direct), dict(found.below), set(found.untold), frozenset())
        for name in names:
            self._look(found, name, path, namespace)
        self._found[path, namespace] = found
        return found

    def _best(self, found: _Found, trusted: Sequence[Loader], path: str) -> Mapping[str, Holding]:
        """Return what counts on each node.

        What a loader puts there, by its manifest or its report, is one model, and a part of it that
        somebody else has put there does not make it whole. Other paths are repositories, of which
        loaders fill parts.
        """
        if any(_declares(loader.template, path) for loader in trusted) or any(
            holding.evidence is Evidence.VERIFIED for holding in found.direct.values()
        ):
            return found.direct
        return {**found.below, **found.direct}

    def _look(self, found: _Found, node: str, path: str, namespace: str) -> None:
        """Put what one node holds of a path in place of what was found there before."""
        found.direct.pop(node, None)
        found.below.pop(node, None)
        found.untold.discard(node)
        said = self._nodes.get(node)
        if said is None:
            return
        direct: Holding | None = None
        below: Holding | None = None
        untold = False
        for witness in (*said.left, *said.present):
            if not self._vouches(witness.namespace, namespace):
                continue
            held = witness.above(path)
            if held is not None:
                direct = better(direct, held)
            for holding in witness.below(path):
                below = better(below, holding)
            untold = untold or witness.is_silent_on(path)
        if any(is_within(path, held) for held in said.provides):
            direct = better(direct, _provided(node, path))
        if direct is not None:
            found.direct[node] = direct
        elif below is not None:
            found.below[node] = below
        if untold and direct is None:
            found.untold.add(node)


def _names(loaders: Iterable[Loader]) -> tuple[str, ...]:
    return tuple(f"{loader.namespace}/{loader.name}" for loader in loaders)


def _provided(node: str, path: str) -> Holding:
    return Holding(
        path=path,
        state=ModelState.READY,
        evidence=Evidence.DECLARED,
        witness=f"annotation {PROVIDES_ANNOTATION} of node {node}",
    )


def _owns(template: LoaderTemplate, path: str) -> bool:
    """Tell whether a loader is the one to ask about a path."""
    if any(is_within(path, directory) for directory in template.directories):
        return True
    return any(relates(model.path, path) for model in template.models)


def _declares(template: LoaderTemplate, path: str) -> bool:
    """Tell whether a loader puts a model at a path, or above it."""
    return any(is_within(path, model.path) for model in template.models)
