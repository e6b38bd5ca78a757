"""What kube-scheduler holds against nodes because of a pod's claims.

The rules are those of kubernetes/pkg/scheduler/framework/plugins/volumebinding (``PreFilter``,
``FindPodVolumes`` and its ``checkVolumeProvisions``), volumezone and volumerestrictions
(ReadWriteOncePod), over the claims, volumes and classes that are known. A claim need not hold a
model for that. What depends on the drivers' limits or on free storage is named and not judged; what
kube-scheduler does not look at, and keeps the pod from starting, is told apart (``elsewhere``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from extender.cluster.claims import OF_MANY_NODES, ClaimFacts, claim_facts, in_words, selects
from extender.cluster.ledger import ZONE_LABEL
from extender.cluster.view import NodeView, View
from extender.errors import InvalidQuantityError
from extender.kube.objects import (
    PersistentVolume,
    PersistentVolumeClaim,
    Resources,
)
from extender.kube.quantity import parse_quantity
from extender.placement.objections import InTree, Objection
from extender.workload.constraints import Constraints
from extender.workload.model import ModelReference, Source
from extender.workload.volumes import mounted_claims

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NEVER_PROVISIONS = "kubernetes.io/no-provisioner"
_GA = {
    "failure-domain.beta.kubernetes.io/zone": ZONE_LABEL,
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
_TOPOLOGY = (*_GA, *_GA.values())
"""The labels of volumes and nodes that ``volumezone`` compares."""


class _Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of the pod; ``made``: its controller makes it with the pod where it is not there.

    ``claim`` is what is asked for: of one that is to be made its template. ``facts`` is None where
    there is none and nobody makes it.
    """

    name: str
    claim: PersistentVolumeClaim | None
    facts: ClaimFacts | None
    made: bool = False


class User(msgspec.Struct, frozen=True):
    """Another pod, by namespace and name, and the node where it has a claim mounted."""

    pod: str
    node: str


class PodClaims:
    """The claims of one pod, and what they hold against nodes.

    Those of its volumes, and those that its models are read from where a controller mounts them
    (``pvc://`` of KServe). ``ordinal`` is the pod's own in a StatefulSet: each has its own claims.
    ``everywhere`` keeps the pod from all nodes, before kube-scheduler looks at any. ``users`` has
    the other pods by the claims of this namespace that they have mounted.
    """

    def __init__(
        self,
        view: View,
        namespace: str,
        asked: Constraints,
        references: Iterable[ModelReference] = (),
        *,
        ordinal: int = 0,
        users: Mapping[str, Sequence[User]],
    ) -> None:
        self._view = view
        self._users = users
        self._namespace = namespace
        self._free: dict[str, list[PersistentVolume]] = {}
        sources = (s for r in references for s in (r, r.origin) if s is not None)
        names = [*mounted_claims(asked.volumes)]
        names += [s.claim for s in sources if s.source is Source.CLAIM and s.claim]
        self._mounted = [self._existing(name) for name in dict.fromkeys(names) if name]
        self._mounted += [
            self._templated(f"{template.metadata.name}-{ordinal}", template)
            for template in asked.claim_templates.claims
        ]
        self.everywhere = tuple(filter(None, map(self._refused_everywhere, self._mounted)))

    def objections(self, node: NodeView) -> Iterator[Objection]:
        """Say for which claims this node is refused."""
        yield from filter(None, (self._refused(one, node) for one in self._mounted))
        yield from filter(None, map(self._in_use, self._mounted))

    def elsewhere(self, node: NodeView) -> Iterator[str]:
        """Say which claims cannot be attached to a node while others have them on another one.

        Of volumes that a driver attaches, and that may be on one node at a time: kube-scheduler
        places the pod all the same, and it does not start (``IsMultiAttachAllowed`` in
        kubernetes/pkg/volume/util/util.go).
        """
        for one in self._mounted:
            users = self._users.get(one.name, ())
            if not users or not self._is_on_one_node(one):
                continue
            if all(user.node != node.name for user in users):
                pod, where = users[0].pod, users[0].node
                yield f"claim {one.name} is attached to {where}, where pod {pod} has it"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the claims."""
        return tuple(one.name for one in self._mounted)

    def not_judged(self) -> Iterator[str]:
        """Name what could refuse a node for a claim and is not looked at here."""
        if any(map(self._is_attached, self._mounted)):
            yield "how many volumes a node's CSI driver attaches"
        for one in self._mounted:
            if one.facts is not None and not one.facts.bound and self._waits(one):
                yield f"free storage for claim {one.name}"

    # -- reading ---------------------------------------------------------------------------------

    def _existing(self, name: str) -> _Mounted:
        claim = self._view.claims.get((self._namespace, name))
        return _Mounted(name=name, claim=claim, facts=self._view.claim(self._namespace, name))

    def _templated(self, name: str, template: PersistentVolumeClaim) -> _Mounted:
        there = self._existing(name)
        if there.claim is not None:
            return there
        view, spec = self._view, template.spec
        if spec.storage_class_name is None:
            spec = msgspec.structs.replace(spec, storage_class_name=self._default_class())
        claim = msgspec.structs.replace(template, spec=spec)
        facts = claim_facts(claim, view.volumes, view.classes)
        return _Mounted(name=name, claim=claim, facts=facts, made=True)

    def _default_class(self) -> str | None:
        named = (
            name
            for name, one in self._view.classes.items()
            if one.metadata.annotations.get(_DEFAULT_CLASS) == "true"
        )
        return next(named, None)

    def _waits(self, one: _Mounted) -> bool:
        """Tell whether a volume is found or made once the pod has a node."""
        return one.facts is not None and one.facts.waits_for_consumer and not one.facts.volume

    def _is_attached(self, one: _Mounted) -> bool:
        """Tell whether a driver mounts it, which takes so many on a node and no more."""
        volume = self._volume(one)
        return volume is not None and volume.spec.csi is not None

    def _is_on_one_node(self, one: _Mounted) -> bool:
        volume = self._volume(one)
        modes = volume.spec.access_modes if volume is not None else ()
        return self._is_attached(one) and bool(modes) and OF_MANY_NODES.isdisjoint(modes)

    def _volume(self, one: _Mounted) -> PersistentVolume | None:
        return self._view.volumes.get(one.facts.volume) if one.facts is not None else None

    # -- on every node ---------------------------------------------------------------------------

    def _refused_everywhere(self, one: _Mounted) -> Objection | None:
        facts, name = one.facts, one.name
        if facts is None:
            return Objection(
                reason=InTree.CLAIM_MISSING, text=f"claim {name} does not exist", claim=name
            )
        if facts.deleted:
            return Objection(
                reason=InTree.CLAIM_DELETED, text=f"claim {name} is being deleted", claim=name
            )
        if facts.lost or self._volume_is_gone(facts):
            return Objection(
                reason=InTree.CLAIM_NOT_BOUND,
                text=f"claim {name} has lost its volume",
                detail=f"{facts.volume or 'it'} does not exist any more",
                claim=name,
            )
        if facts.bound or self._waits(one):
            return None
        classes, named = self._view.classes, _class_name(one)
        lacking = named if named and classes and named not in classes else ""
        if one.made and not lacking:
            return None  # made with the pod, and bound before the pod is asked about
        why = f"its storage class {named} does not exist" if lacking else ""
        if facts.volume:
            why = f"it is meant for volume {facts.volume}"
        return Objection(
            reason=InTree.CLAIM_NOT_BOUND,
            text=f"claim {name} is not bound",
            detail=why,
            claim=name,
            storage_class=lacking,
        )

    def _volume_is_gone(self, facts: ClaimFacts) -> bool:
        """Tell whether a bound claim's volume is none of those known; of none known, nothing is."""
        known = self._view.volumes
        return facts.bound and bool(known) and facts.volume not in known

    def _in_use(self, one: _Mounted) -> Objection | None:
        users = self._users.get(one.name, ())
        if one.facts is None or not one.facts.single_pod or not users:
            return None
        return Objection(
            reason=InTree.CLAIM_IN_USE,
            text=f"claim {one.name} (ReadWriteOncePod) is in use by another pod",
            detail=f"pod {users[0].pod} on {users[0].node}",
            claim=one.name,
        )

    # -- on one node -----------------------------------------------------------------------------

    def _refused(self, one: _Mounted, node: NodeView) -> Objection | None:
        facts, why = one.facts, ""
        if facts is None:
            return None
        if facts.bound:
            why = self._out_of_reach(facts, node)
        elif self._waits(one):
            why = self._not_made_there(one, facts, node)
        if not why:
            return None
        return Objection(
            reason=InTree.CLAIM_UNREACHABLE,
            text=f"claim {one.name} cannot be mounted on the node",
            detail=why,
            claim=one.name,
            storage_class="" if facts.volume else _class_name(one),
        )

    def _out_of_reach(self, facts: ClaimFacts, node: NodeView) -> str:
        if not facts.reachable(node.name, node.labels):
            nodes = in_words(facts.affinity) if facts.affinity is not None else "other nodes"
            return f"its volume {facts.volume} is tied to {nodes}"
        volume = self._view.volumes.get(facts.volume)
        labels = volume.metadata.labels if volume is not None else {}
        if not any(key in node.labels for key in _TOPOLOGY):
            return ""
        for key in _TOPOLOGY:
            has = node.labels.get(key, node.labels.get(_GA.get(key, key)))
            if key in labels and has not in labels[key].split("__"):
                return f"its volume {facts.volume} is in {key.rpartition('/')[2]} {labels[key]}"
        return ""

    def _not_made_there(self, one: _Mounted, facts: ClaimFacts, node: NodeView) -> str:
        if facts.selected_node:
            there = facts.selected_node == node.name
            return "" if there else f"its volume is being made for node {facts.selected_node}"
        if any(_is_reachable(volume, node) for volume in self._free_for(one)):
            return ""
        storage_class = self._view.classes.get(_class_name(one))
        if storage_class is not None and storage_class.provisioner == NEVER_PROVISIONS:
            return f"no free volume of its storage class {storage_class.metadata.name} is there"
        if not facts.reachable(node.name, node.labels):
            return f"its storage class {_class_name(one)} makes no volumes there"
        return ""

    def _free_for(self, one: _Mounted) -> list[PersistentVolume]:
        """Return the volumes that are there already and can become the claim's, somewhere."""
        if one.name not in self._free:
            volumes = self._view.volumes.values()
            self._free[one.name] = [volume for volume in volumes if self._could_be(volume, one)]
        return self._free[one.name]

    def _could_be(self, volume: PersistentVolume, one: _Mounted) -> bool:
        claim, spec = one.claim, volume.spec
        if claim is None or spec.storage_class_name != _class_name(one):
            return False
        taken = spec.claim_ref
        if taken is not None and (taken.namespace, taken.name) != (self._namespace, one.name):
            return False
        return set(claim.spec.access_modes) <= set(spec.access_modes) and _storage(
            spec.capacity
        ) >= _storage(claim.spec.resources.requests)


def _is_reachable(volume: PersistentVolume, node: NodeView) -> bool:
    affinity = volume.spec.node_affinity
    required = affinity.required if affinity is not None else None
    return required is None or selects(required, node.name, node.labels)


def _class_name(one: _Mounted) -> str:
    return (one.claim.spec.storage_class_name if one.claim is not None else None) or ""


def _storage(amounts: Resources) -> int:
    """Read how much storage is asked for or there, in bytes; 0 where that cannot be read."""
    try:
        return parse_quantity(amounts.get("storage", 0))
    except InvalidQuantityError:
        return 0
