"""The laws of bind: memory is given once, and kept for as long as a Binding may take effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from extender.cluster.decisions import DECISION_ANNOTATION
from extender.kube.objects import Node, Pod
from extender.placement.policy import OnStale
from extender.verbs.bind import BindOutcome, Bound
from extender.verbs.doubt import Doubt
from extender.wire import BindArgs
from simulation.apiserver import Apiserver, may_be_bound
from simulation.law import Law, broken
from simulation.laws.clocks import Clocks
from simulation.scenario import Ask, Scenario
from simulation.truth import Truth, allocatable, place

if TYPE_CHECKING:
    from simulation.extender import Extender

_GIB = 2**30

_MEMORY_IS_SEEN_IN = frozenset({"Node", "Pod"})


class Binding:
    """What is sent, what becomes of it, and what is answered."""

    def __init__(
        self,
        scenario: Scenario,
        api: Apiserver,
        *,
        asks: Mapping[str, Ask],
        truth: Truth,
        clocks: Clocks,
    ) -> None:
        self._neutral = scenario.policy.on_stale is OnStale.NEUTRAL
        self._api = api
        self._asks = asks
        self._truth = truth
        self._clocks = clocks
        self._effects: set[tuple[str, str]] = set()
        """By UID and node: what took effect."""
        self._known: dict[tuple[str, str], dict[str, int]] = {}
        """By UID and node of a Binding: what was told, when it was sent, of the pods there."""
        self._blind: set[str] = set()
        """UIDs of pods that were last sent to a node when memory was out of sight."""

    def sending(self, extender: Extender, args: BindArgs, annotations: Mapping[str, str]) -> None:
        """Look at a Binding that was decided, before anything is waited for."""
        if extender.locked():
            broken(Law.UNLOCKED, args.name)
        decided = msgspec.json.decode(annotations[DECISION_ANNOTATION])
        if decided["node"] != args.node:
            broken(Law.DECISION, str(decided))
        ask = self._asks[args.uid]
        if ask.needs_certainty and extender.stale() and not self._neutral:
            broken(Law.OLD_KNOWLEDGE, f"{args.name} -> {args.node}")
        neutral = self._neutral and extender.stale()
        lacking = extender.witness.vouched(args.node) > self._clocks.grace[1]
        if ask.needs_model and lacking and not neutral:
            broken(Law.MODEL, f"{args.name} -> {args.node}")
        untold = (Node, args.node) not in extender.witness.others
        blind = untold or bool(_MEMORY_IS_SEEN_IN & set(extender.stale()))
        (self._blind.add if blind else self._blind.discard)(args.uid)
        self._check_promised(extender, args)

    def bound(self, args: BindArgs) -> None:
        """Look at the truth once a Binding has taken effect."""
        self._effects.add((args.uid, args.node))
        self._check_room(args, self._taken(args), "holds")

    def _taken(self, args: BindArgs) -> int:
        """Return what is taken of a node, but for what pods were resized to since a Binding left.

        Nobody is asked before a pod may take more where it is.
        """
        known = self._known[args.uid, args.node]
        return sum(
            min(self._truth.size(uid), known.get(uid, self._asks[uid].demand))
            for uid in self._truth.on(args.node)
        )

    def _check_promised(self, extender: Extender, args: BindArgs) -> None:
        """See that what is on a node and on its way there leaves room for one more."""
        name = args.node
        sent = {uid for (uid, node), number in extender.sending.items() if number and node == name}
        coming = {uid for uid in {*sent, args.uid} if self._may_be_bound(uid)}
        self._known[args.uid, name] = {
            pod.metadata.uid: self._truth.demand(pod) for pod in extender.witness.on(name)
        }
        taken = self._taken(args) + sum(self._asks[uid].demand for uid in coming)
        self._check_room(args, taken, "is promised")

    def _check_room(self, args: BindArgs, taken: int, how: str) -> None:
        """See that memory is not given twice: never, for a pod that only this program counts.

        One that kube-scheduler counts itself passes where nodes and pods are not seen any more, or
        that node not yet.
        """
        node = self._api.get(Node, args.node)
        if node is None or taken <= allocatable(node) or not self._asks[args.uid].demand:
            return
        if not any(map(self._is_unseen, {args.uid, *self._truth.on(args.node)})):
            broken(
                Law.MEMORY,
                f"{args.node} {how} {taken / _GIB:.1f} GiB of {allocatable(node) / _GIB:.0f}",
            )

    def _is_unseen(self, uid: str) -> bool:
        """Tell whether memory was out of sight when a pod was sent, and nothing was against it."""
        return uid in self._blind and (self._neutral or not self._asks[uid].needs_certainty)

    def answered(self, extender: Extender, args: BindArgs, bound: Bound) -> None:
        """Look at an answer of bind."""
        yes = bound.outcome is BindOutcome.BOUND
        if yes == bool(bound.error):
            broken(Law.BIND_SAYS_WHY, f"{bound.outcome}: {bound.error!r}")
        sent = args.uid, args.node
        if yes and sent not in self._effects:
            broken(Law.BIND_SAYS_YES, f"{args.name} -> {args.node}")
        if yes:
            extender.promised.add(sent)
        self._check_kept(extender, args.uid, args.node)

    def settled(self, extender: Extender, doubt: Doubt) -> None:
        """Look at the memory of a Binding that is in doubt no more."""
        if self._is_on(doubt.uid, doubt.node):
            extender.promised.add((doubt.uid, doubt.node))
        self._check_kept(extender, doubt.uid, doubt.node)

    def _check_kept(self, extender: Extender, uid: str, name: str) -> None:
        """See that memory is kept for a pod where it may come, and nowhere else."""
        node, told = extender.state.view().nodes.get(name), extender.witness.pods.get(uid)
        if node is None or (told is not None and told.spec.node_name):
            return
        kept = any(entry.firm and entry.uid == uid for entry in node.reserved)
        what = f"{self._asks[uid].pod.metadata.name} on {name}"
        sending = bool(extender.sending[uid, name])
        doubted = any((doubt.uid, doubt.node) == (uid, name) for doubt in extender.doubts.open())
        if kept and not (sending or doubted or (uid, name) in self._effects):
            broken(Law.KEPT_FOR_SOMEBODY, what)
        comes = (uid, name) in extender.promised and self._is_on(uid, name)
        if (sending or comes) and not kept:
            broken(Law.HAS_MEMORY, what)

    def _may_be_bound(self, uid: str) -> bool:
        pod = self._api.get(Pod, self._asks[uid].pod.metadata.name, uid)
        return pod is not None and not pod.spec.node_name and may_be_bound(pod)

    def _is_on(self, uid: str, node: str) -> bool:
        pod = self._api.get(Pod, self._asks[uid].pod.metadata.name, uid)
        return pod is not None and place(pod) == node
