"""The laws of what is known: it is what was told, memory counts once, and loaders are believed.

They are asked after every step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from extender.cluster.holdings import ModelState
from extender.cluster.ledger import FINISHED
from extender.cluster.view import View
from extender.kube.objects import KubeObject, Node, Pod
from simulation.apiserver import Apiserver, may_be_bound
from simulation.law import Law, broken
from simulation.laws.clocks import Clocks
from simulation.laws.evictions import Evictions, is_kept_somewhere
from simulation.scenario import Ask, Scenario, Size
from simulation.truth import Truth, place

if TYPE_CHECKING:
    from simulation.extender import Extender

_GIB = 2**30

_THERE = (ModelState.READY, ModelState.STALE)


class Knowledge:
    """What every extender that runs knows, beside everything that it was told.

    ``in_force``: the size of a pod, by UID, that its kubelet has given it.
    """

    def __init__(
        self,
        scenario: Scenario,
        api: Apiserver,
        *,
        asks: Mapping[str, Ask],
        in_force: Callable[[str], Size | None],
        truth: Truth,
        evictions: Evictions,
        clocks: Clocks,
    ) -> None:
        self._api = api
        self._asks = asks
        self._in_force = in_force
        self._truth = truth
        self._evictions = evictions
        self._clocks = clocks
        self._reported = scenario.reported
        self._loaders_in = scenario.loaders[0].metadata.namespace
        self._followed: list[Extender] = []
        self._agreed: dict[Extender, dict[object, list[Any]]] = {}
        """What was told and what is known of it, where the two agreed."""
        self._gone: dict[str, float] = {}
        """When pods went, by UID."""
        api.listeners.append(self._happened)

    def follow(self, extender: Extender) -> None:
        """Watch over an extender for as long as it runs."""
        self._followed = [other for other in self._followed if other.running]
        self._agreed = {one: self._agreed.get(one, {}) for one in self._followed}
        self._followed.append(extender)

    def check(self) -> None:
        """Compare everything that is known with everything that was told."""
        for extender in self._followed:
            if extender.running:
                view = extender.state.view()
                self._check_known(extender, view)
                self._check_nominations(extender, view)
                self._check_ledger(extender, view)
                self._check_models(extender, view)

    def at_rest(self) -> None:
        """See that nothing is kept for pods that are where they are going."""
        for extender in self._followed:
            kept = extender.state.reserved() if extender.running else 0
            if kept:
                broken(Law.EXPIRES, f"{kept} pods have memory kept at rest")

    def _check_known(self, extender: Extender, view: View) -> None:
        """See that what is known is what was told, and that nothing else is known.

        What agreed once agrees for as long as all of it is the same. What a loader's pod
        reports is kept apart from the pod, in what makes the inventory.
        """
        state, told = extender.state, extender.witness
        pods = {facts.uid: facts for facts in state.pods()}
        if pods.keys() != told.pods.keys():
            broken(Law.KNOWN, f"pods {sorted(pods.keys() ^ told.pods.keys())}")
        nodes = {name for kind, name in told.others if kind is Node}
        if view.nodes.keys() != nodes:
            broken(Law.KNOWN, f"nodes {sorted(view.nodes.keys() ^ nodes)}")
        known: list[tuple[object, Any, object, object]] = [
            (uid, pod, pods[uid], view.inventory if pod.metadata.owner_references else None)
            for uid, pod in told.pods.items()
        ]
        known += [(key, obj, state.known(obj), None) for key, obj in told.others.items()]
        agreed = self._agreed.setdefault(extender, {})
        for key, *now in known:
            before = agreed.get(key)
            if before is None or not all(map(_is_same, before, now)):
                obj = now[0]
                if state.differs(obj):
                    broken(Law.KNOWN, f"{type(obj).__name__} {obj.metadata.name}")
                agreed[key] = now

    def _check_ledger(self, extender: Extender, view: View) -> None:
        on: dict[str, int] = defaultdict(int)
        given: dict[str, int] = defaultdict(int)
        for pod in extender.witness.pods.values():
            size = self._truth.demand(pod)
            on[place(pod)] += size
            given[place(pod)] += self._given(pod, size)
        for name, node in view.nodes.items():
            if node.promised < given[name]:
                broken(
                    Law.GRANTED,
                    f"{name} has {node.promised / _GIB:.1f} GiB promised,"
                    f" {given[name] / _GIB:.1f} are in force",
                )
            reserved = 0
            for entry in node.reserved:
                reserved += entry.bytes
                told = extender.witness.pods.get(entry.uid)
                if told is not None and told.spec.node_name:
                    broken(Law.COUNTS_ONCE, f"{told.metadata.name} on {name}")
                gone = self._gone.get(entry.uid, inf)
                if gone < extender.witness.listed_at and not extender.sending[entry.uid, name]:
                    broken(Law.KEPT_FOR_SOMEBODY, f"{entry.uid} on {name}")
                left = round(entry.expires - self._api.now, 3)
                if not 0 <= left <= extender.context.reservation_seconds:
                    broken(Law.EXPIRES, f"{entry.uid} on {name} in {left:.0f} s")
            if node.promised != on[name] + reserved:
                broken(
                    Law.LEDGER,
                    f"{name} has {node.promised / _GIB:.1f} GiB promised,"
                    f" {on[name] / _GIB:.1f} on it and {reserved / _GIB:.1f} reserved",
                )

    def _given(self, pod: Pod, size: int) -> int:
        """Return what of a pod is in force at a kubelet, as far as anybody could be told of it."""
        metadata = pod.metadata
        force = self._in_force(metadata.uid)
        if force is None:
            return 0
        ask, present = self._asks[metadata.uid], self._api.get(Pod, metadata.name, metadata.uid)
        told = pod is present and ask.sizes[ask.given(pod)] is force
        return force.demand if told else min(size, force.demand)

    def _check_nominations(self, extender: Extender, view: View) -> None:
        """See that a node has the pods that were told to be nominated to it, as if told just now.

        One for which memory is kept somewhere is left out: it counts there. Of one that is expected
        on a node that is not known it cannot be seen whether memory is kept there, too.
        """
        told: defaultdict[str, set[str]] = defaultdict(set)
        perhaps: defaultdict[str, set[str]] = defaultdict(set)
        expected = self._evictions.expected(extender)
        for uid, pod in extender.witness.pods.items():
            name = pod.status.nominated_node_name
            known = view.nodes.get(name)
            waits = may_be_bound(pod) and pod.status.phase not in FINISHED
            if known is None or pod.spec.node_name or not waits:
                continue
            room = expected.get(uid)
            if room is not None and room.node not in view.nodes:
                perhaps[name].add(uid)
            elif not is_kept_somewhere(view, uid, besides=room.node if room else ""):
                told[name].add(uid)
        for name, node in view.nodes.items():
            known_as = {one.uid for one in node.nominated}
            awaited = {uid for uid, room in expected.items() if room.node == name}
            allowed = told[name] | awaited | perhaps[name]
            if not told[name] <= known_as <= allowed:
                odd = sorted((told[name] - known_as) | (known_as - allowed))
                broken(Law.NOMINATIONS, f"{odd} on {name}")

    def _check_models(self, extender: Extender, view: View) -> None:
        """See that what loaders report is neither forgotten nor believed for ever."""
        if not self._reported:
            return
        witness = extender.witness
        fresh, silent = self._clocks.grace[0], self._clocks.silence[1]
        held = view.inventory.lookup(self._reported, self._loaders_in).nodes
        for name in view.nodes:
            state = held[name].state if name in held else ModelState.ABSENT
            if witness.vouched(name) < fresh and state not in _THERE:
                broken(Law.NOT_ABSENT, f"{name}: {state}")
            if witness.silent(name) > silent and state is _THERE[0]:
                broken(Law.NOT_FOR_EVER, f"{name}: {state}")

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Pod) and now is None:
            self._gone[before.metadata.uid] = self._api.now


def _is_same(one: object, two: object) -> bool:
    """Tell whether nothing has changed; what is known of a node is put together each time."""
    return one is two or (isinstance(one, tuple) and one == two)
