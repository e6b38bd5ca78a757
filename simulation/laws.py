"""What must be true at every step, by what the models know, not by what the core believes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.holdings import ModelState
from extender.cluster.ledger import FINISHED
from extender.cluster.view import View
from extender.kube.objects import KubeObject, Node, Pod
from extender.placement.policy import OnStale
from extender.verbs.bind import BindOutcome, Bound
from extender.verbs.doubt import Doubt
from extender.wire import BindArgs, FilterResult, Victims
from simulation.apiserver import Apiserver, may_be_bound
from simulation.evictions import Evictions, is_kept_somewhere
from simulation.law import Law, broken
from simulation.loaders import LEASE_SECONDS
from simulation.nominations import Nominations
from simulation.scenario import Ask, Scenario, Size
from simulation.truth import Truth, allocatable, place

if TYPE_CHECKING:
    from simulation.extender import Extender

GIB = 2**30
CLOCK_SLACK_SECONDS = 450.0
"""By how much clocks are set back, all together, and by how much forward."""

_MEMORY_IS_SEEN_IN = frozenset({"Node", "Pod"})

_THERE = (ModelState.READY, ModelState.STALE)

PATIENCE_SECONDS = 10.0
"""A pod that could run is bound after so long, once nothing is wrong any more."""


class Laws:
    """The laws of one world. Each broken one raises BrokenLawError."""

    def __init__(
        self,
        scenario: Scenario,
        api: Apiserver,
        *,
        asks: dict[str, Ask],
        in_force: Callable[[str], Size | None],
    ) -> None:
        self.asks = asks
        self._in_force = in_force
        self._neutral = scenario.policy.on_stale is OnStale.NEUTRAL
        self._reported = scenario.reported
        self._loaders_in = scenario.loaders[0].metadata.namespace
        self._grace = scenario.policy.stale_grace
        self.set_back = self.set_forward = 0.0
        """By how many seconds clocks were set, all together. What is timed by them may take so much
        longer or end so much sooner; nothing else may."""
        self._api = api
        self._effects: set[tuple[str, str]] = set()
        self._could: dict[tuple[Law, str], float] = {}
        """Since when a pod waits that need not, by law and UID."""
        self._followed: list[Extender] = []
        self._agreed: dict[Extender, dict[object, list[Any]]] = {}
        """What was told and what is known of it, where the two agreed."""
        self._gone: dict[str, float] = {}
        """When pods went, by UID."""
        self._known: dict[tuple[str, str], dict[str, int]] = {}
        """By UID and node of a Binding: what was told, when it was sent, of the pods there."""
        self._blind: set[str] = set()
        """UIDs of pods that were last sent to a node when memory was out of sight."""
        self._refused: set[str] = set()
        """The UIDs of pods that filter refused everywhere, to the present kube-scheduler."""
        self._asked: Extender | None = None
        """Whom that asks."""
        self.truth = Truth(api, self.asks, reporting=bool(scenario.reported))
        self.evictions = Evictions(api, self.asks)
        self.nominations = Nominations(api)
        api.listeners.append(self._happened)

    def follow(self, extender: Extender) -> None:
        """Watch over an extender for as long as it runs."""
        self._followed = [other for other in self._followed if other.running]
        self._agreed = {one: self._agreed.get(one, {}) for one in self._followed}
        self._followed.append(extender)

    # -- after every step ------------------------------------------------------------------------

    def check(self) -> None:
        """Compare everything that is known with everything that was told."""
        for extender in self._followed:
            if extender.running:
                view = extender.state.view()
                self._check_known(extender, view)
                self._check_nominations(extender, view)
                self._check_ledger(extender, view)
                self._check_models(extender, view)

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
            size = self.truth.demand(pod)
            on[place(pod)] += size
            given[place(pod)] += self._given(pod, size)
        for name, node in view.nodes.items():
            if node.promised < given[name]:
                broken(
                    Law.GRANTED,
                    f"{name} has {node.promised / GIB:.1f} GiB promised,"
                    f" {given[name] / GIB:.1f} are in force",
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
                    f"{name} has {node.promised / GIB:.1f} GiB promised,"
                    f" {on[name] / GIB:.1f} on it and {reserved / GIB:.1f} reserved",
                )

    def _given(self, pod: Pod, size: int) -> int:
        """Return what of a pod is in force at a kubelet, as far as anybody could be told of it."""
        metadata = pod.metadata
        force = self._in_force(metadata.uid)
        if force is None:
            return 0
        ask, present = self.asks[metadata.uid], self._api.get(Pod, metadata.name, metadata.uid)
        told = pod is present and ask.sizes[ask.given(pod)] is force
        return force.demand if told else min(size, force.demand)

    def _check_nominations(self, extender: Extender, view: View) -> None:
        """See that a node has the pods that were told to be nominated to it, as if told just now.

        One for which memory is kept somewhere is left out: it counts there. Of one that is expected
        on a node that is not known it cannot be seen whether memory is kept there, too.
        """
        told: defaultdict[str, set[str]] = defaultdict(set)
        perhaps: defaultdict[str, set[str]] = defaultdict(set)
        expected = self.evictions.expected(extender)
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
        fresh = self._grace - self.set_forward
        held = view.inventory.lookup(self._reported, self._loaders_in).nodes
        for name in view.nodes:
            state = held[name].state if name in held else ModelState.ABSENT
            if witness.vouched(name) < fresh and state not in _THERE:
                broken(Law.NOT_ABSENT, f"{name}: {state}")
            if witness.silent(name) > LEASE_SECONDS + self.set_back and state is _THERE[0]:
                broken(Law.NOT_FOR_EVER, f"{name}: {state}")

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Pod) and now is None:
            self._gone[before.metadata.uid] = self._api.now

    # -- the verbs -------------------------------------------------------------------------------

    def filtered(
        self,
        extender: Extender,
        pod: Pod,
        names: Sequence[str],
        result: FilterResult,
        *,
        changed: bool,
    ) -> None:
        """Look at an answer of filter."""
        if changed:
            broken(Law.FILTER_CHANGES_NOTHING, pod.metadata.name)
        if not set(names) >= set(result.names):
            broken(Law.FILTER_ANSWERS, f"{result.names} of {names}")
        if not result.names and set(result.unresolvable) != set(names) and not result.error:
            broken(Law.FILTER_SAYS_WHY, f"{result.unresolvable} of {names}")
        self._check_old_knowledge(extender, pod, names, result)
        self.nominations.meant(extender, pod, result.names)
        if result.names:
            self._refused.discard(pod.metadata.uid)
        elif not result.error:
            self._refused.add(pod.metadata.uid)

    def _check_old_knowledge(
        self, extender: Extender, pod: Pod, names: Sequence[str], result: FilterResult
    ) -> None:
        """See that an answer by old knowledge is what the policy makes of it.

        Nothing passes that needs certainty, or, where that is neutral, nothing is held against a
        node but memory that it has not got even by what was told.
        """
        if not extender.stale() or result.error:
            return
        if not self._neutral:
            if result.names and self._uncertain(extender, pod):
                broken(Law.OLD_KNOWLEDGE, f"{pod.metadata.name}: {result.names}")
            return
        view, nobody = extender.state.view(), Victims(uids=(), pdb_violations=0)
        for name in sorted({*names} - {*result.names}):
            node = view.nodes.get(name)
            if node is not None and self.evictions.has_room(extender, node, pod, nobody):
                broken(Law.OLD_KNOWLEDGE, f"{pod.metadata.name} is refused on {name}")

    def told(self, extender: Extender, uid: str) -> None:
        """Look at a pod that kube-scheduler is about to be told of.

        Who asks for one has seen before us that its gates are gone.
        """
        pod = extender.witness.pods.get(uid)
        if pod is not None and (pod.metadata.deletion_timestamp or self._is_gated(pod)):
            broken(Law.LEFT_ALONE, pod.metadata.name)

    def _is_gated(self, pod: Pod) -> bool:
        present = self._api.get(Pod, pod.metadata.name, pod.metadata.uid)
        return present is not None and bool(present.spec.scheduling_gates)

    def leads(self, extender: Extender) -> None:
        """Take it that a new kube-scheduler leads, which asks this one about all who wait."""
        self._refused.clear()
        self.goes_on(extender)

    def goes_on(self, extender: Extender) -> None:
        """Take it that kube-scheduler asks this one from now on."""
        self._asked = extender

    def remembered(self, extender: Extender) -> None:
        """See that who was refused, by a process that has ended, too, and waits would be woken.

        Who is held back by gates was never refused.
        """
        for told in extender.witness.pods.values():
            if told.metadata.uid in extender.waiting and self._is_gated(told):
                broken(Law.LEFT_ALONE, told.metadata.name)
        for uid in sorted(self._refused) if extender is self._asked else ():
            name = self.asks[uid].pod.metadata.name
            pod = self._api.get(Pod, name, uid)
            if pod is None or pod.spec.node_name or not may_be_bound(pod):
                self._refused.discard(uid)
            elif uid not in extender.waiting:
                broken(Law.REMEMBERED, name)

    def prioritized(self, names: Sequence[str], scores: Sequence[tuple[str, int]]) -> None:
        """Look at an answer of prioritize."""
        if sorted(names) != sorted(name for name, _ in scores):
            broken(Law.ALL_SCORED, f"{scores} of {names}")
        if any(not 0 <= score <= 10 for _, score in scores):
            broken(Law.SCORES, str(scores))

    def preempted(
        self,
        extender: Extender,
        pod: Pod,
        candidates: Mapping[str, Victims],
        kept: Mapping[str, Victims],
    ) -> None:
        """Look at an answer of preempt."""
        if kept and self._uncertain(extender, pod):
            broken(Law.OLD_KNOWLEDGE_EVICTS_NOBODY, f"{pod.metadata.name} on {sorted(kept)}")
        self.nominations.meant(extender, pod, kept)
        self.evictions.answered(
            extender,
            pod,
            candidates,
            kept,
            left_for=self._longest,
            may_be_silent=LEASE_SECONDS - self.set_forward,
        )

    def sending(self, extender: Extender, args: BindArgs, annotations: Mapping[str, str]) -> None:
        """Look at a Binding that was decided, before anything is waited for."""
        if extender.locked():
            broken(Law.UNLOCKED, args.name)
        decided = msgspec.json.decode(annotations[DECISION_ANNOTATION])
        if decided["node"] != args.node:
            broken(Law.DECISION, str(decided))
        ask = self.asks[args.uid]
        if self._uncertain(extender, ask.pod) and not self._neutral:
            broken(Law.OLD_KNOWLEDGE, f"{args.name} -> {args.node}")
        neutral = self._neutral and extender.stale()
        lacking = extender.witness.vouched(args.node) > self._longest
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
            min(self.truth.size(uid), known.get(uid, self.asks[uid].demand))
            for uid in self.truth.on(args.node)
        )

    def _check_promised(self, extender: Extender, args: BindArgs) -> None:
        """See that what is on a node and on its way there leaves room for one more."""
        name = args.node
        sent = {uid for (uid, node), number in extender.sending.items() if number and node == name}
        coming = {uid for uid in {*sent, args.uid} if self._may_be_bound(uid)}
        self._known[args.uid, name] = {
            pod.metadata.uid: self.truth.demand(pod) for pod in extender.witness.on(name)
        }
        taken = self._taken(args) + sum(self.asks[uid].demand for uid in coming)
        self._check_room(args, taken, "is promised")

    def _check_room(self, args: BindArgs, taken: int, how: str) -> None:
        """See that memory is not given twice: never, for a pod that only this program counts.

        One that kube-scheduler counts itself passes where nodes and pods are not seen any more, or
        that node not yet.
        """
        node = self._api.get(Node, args.node)
        if node is None or taken <= allocatable(node) or not self.asks[args.uid].demand:
            return
        if not any(map(self._is_unseen, {args.uid, *self.truth.on(args.node)})):
            broken(
                Law.MEMORY,
                f"{args.node} {how} {taken / GIB:.1f} GiB of {allocatable(node) / GIB:.0f}",
            )

    def _is_unseen(self, uid: str) -> bool:
        """Tell whether memory was out of sight when a pod was sent, and nothing was against it."""
        return uid in self._blind and (self._neutral or not _is_certain(self.asks[uid]))

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
        what = f"{self.asks[uid].pod.metadata.name} on {name}"
        sending = bool(extender.sending[uid, name])
        doubted = any((doubt.uid, doubt.node) == (uid, name) for doubt in extender.doubts.open())
        if kept and not (sending or doubted or (uid, name) in self._effects):
            broken(Law.KEPT_FOR_SOMEBODY, what)
        comes = (uid, name) in extender.promised and self._is_on(uid, name)
        if (sending or comes) and not kept:
            broken(Law.HAS_MEMORY, what)

    def _may_be_bound(self, uid: str) -> bool:
        pod = self._api.get(Pod, self.asks[uid].pod.metadata.name, uid)
        return pod is not None and not pod.spec.node_name and may_be_bound(pod)

    def _is_on(self, uid: str, node: str) -> bool:
        pod = self._api.get(Pod, self.asks[uid].pod.metadata.name, uid)
        return pod is not None and place(pod) == node

    def nominated(self, extender: Extender, uid: str, node: str) -> None:
        """Look at a nomination that is about to be written."""
        self.told(extender, uid)
        known = extender.state.view().nodes.get(node)
        held = () if known is None else known.reserved
        what = f"{self.asks[uid].pod.metadata.name} on {node}"
        if all(entry.uid != uid for entry in held):
            broken(Law.NOMINATED_HELD, what)
        now = extender.state.steady()
        other, until = extender.given.get(node, ("", now))
        if (other != uid and now < until) or (known is not None and known.nominated):
            broken(Law.GIVEN_ONCE, what)

    # -- at rest ---------------------------------------------------------------------------------

    def nobody_waits(self, could: Mapping[Law, Iterable[str]]) -> None:
        """Take the pods that wait at a moment and need not, by the law that says so.

        None may be among them for long.
        """
        present = {(law, uid) for law, uids in could.items() for uid in uids}
        now = self._api.now
        self._could = {one: since for one, since in self._could.items() if one in present}
        for law, uid in sorted(present):
            since = self._could.setdefault((law, uid), now)
            if now - since > PATIENCE_SECONDS:
                broken(law, f"{self.asks[uid].pod.metadata.name} for {now - since:.0f} s")

    def at_rest(self) -> None:
        """See that nothing is kept for pods that are where they are going."""
        for extender in self._followed:
            kept = extender.state.reserved() if extender.running else 0
            if kept:
                broken(Law.EXPIRES, f"{kept} pods have memory kept at rest")

    @property
    def _longest(self) -> float:
        """Return for how many seconds at most what a loader left is good for anything."""
        return self._grace + self.set_back

    def _uncertain(self, extender: Extender, pod: Pod) -> bool:
        return _is_certain(self.asks[pod.metadata.uid]) and bool(extender.stale())


def _is_same(one: object, two: object) -> bool:
    """Tell whether nothing has changed; what is known of a node is put together each time."""
    return one is two or (isinstance(one, tuple) and one == two)


def _is_certain(ask: Ask) -> bool:
    """Tell whether a wrong yes would hurt: a model, or memory that only this program counts."""
    return ask.needs_model or ask.demand > ask.request
