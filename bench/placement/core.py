"""The extender itself as a policy: its state told by watches, its verbs asked as by kube-scheduler.

Nothing of its logic is here. What happens in the benchmark's cluster becomes objects on the
simulated apiserver, watches bring them late, and the answers of filter, prioritize and bind decide,
added to kube-scheduler's own scores by the shipped weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

import msgspec
import yaml

from bench.placement.cluster import Cluster
from bench.placement.cluster import Pod as Started
from bench.placement.intree import in_tree
from bench.placement.loaders import Loader
from bench.placement.machine import Machine
from bench.results import ROOT
from extender.cluster.ledger import OPEN_LATELY
from extender.cluster.state import ClusterState
from extender.kube.objects import Condition, Pod, PodStatus
from extender.placement import policy as placement
from extender.verbs.bind import Answer, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.waiting.fetching import Bounds, Wishing
from extender.waiting.pods import WaitingPods
from extender.waiting.wake import Waker
from extender.wire import BindArgs, ExtenderArgs
from simulation.apiserver import KINDS, Apiserver
from simulation.choices import Choices
from simulation.scenario import Delays
from simulation.watch import Watch
from tests.builders import our_loader, vllm

WAKING_SECONDS, FETCHING_SECONDS = 1.0, 2.0
"""How often waiting pods are looked at, to wake them and to ask loaders for what they need
(extender/serving/waking.py, fetching.py)."""

_RETRY_SECONDS = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator can set. ``weight`` is that of the extender in kube-scheduler.

    ``on_demand``: pods require their model and loaders fetch it for them while they wait; else a
    pod prefers a node that has it, and fetches it where it is put. ``open_lately`` is no setting of
    an operator's: what is remembered of a node's page cache (extender/cluster/ledger.py).
    """

    policy: placement.Policy = placement.Policy()
    weight: float
    on_demand: bool = False
    open_lately: int = OPEN_LATELY


@lru_cache(maxsize=1)
def shipped_weight() -> float:
    """Return the weight in config/scheduler-config.yaml."""
    text = (ROOT / "config" / "scheduler-config.yaml").read_text(encoding="utf-8")
    (extender,) = yaml.safe_load(text)["extenders"]
    return float(extender["weight"])


def preferring(cluster: Cluster) -> Core:
    """Place pods that prefer a node with their model, with everything as it is shipped."""
    return Core(cluster, Settings(weight=shipped_weight()))


def on_demand(cluster: Cluster) -> Core:
    """Place pods that require their model, which loaders fetch, with everything as shipped."""
    return Core(cluster, Settings(weight=shipped_weight(), on_demand=True))


class Core:
    """A policy, a watcher, and the apiserver that bind sends to."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._random = Random(f"{cluster.seed} ties")
        self._api = Apiserver(cluster.timeline)
        self._state = ClusterState(
            clock=lambda: cluster.timeline.now, open_lately=settings.open_lately
        )
        self._context = Context(state=self._state, policy=settings.policy)
        self._waiting = WaitingPods()
        self._waker = Waker(
            self._state, self._waiting, settings.policy, stale=tuple, may_tell=lambda _: True
        )
        choices = Choices(cluster.seed)
        for kind in KINDS:
            Watch(
                kind,
                api=self._api,
                sink=self._state,
                timeline=cluster.timeline,
                choices=choices,
                delay=Delays().watch,
            )
        self._api.put(our_loader())
        catalogue = cluster.models if settings.on_demand else ()
        self._loaders = {
            machine.name: Loader(machine, self._api, cluster.timeline, catalogue)
            for machine in cluster.machines
        }
        for loader in self._loaders.values():
            loader.tell()
        cluster.watchers.append(self)
        if settings.on_demand:
            self._wake()
            self._fetch()

    # -- the policy ------------------------------------------------------------------------------

    def choose(self, pod: Started, fitting: Sequence[Machine]) -> Machine | None:
        """Ask the verbs, as a scheduling and a binding cycle do."""
        asked = self._get(pod)
        names = tuple(machine.name for machine in fitting)
        passed = self._filter(asked, names)
        among = [machine for machine in fitting if machine.name in passed]
        if not among:
            return None
        chosen = among[0] if len(among) == 1 else self._best(pod, asked, among)
        args = BindArgs(
            namespace=asked.metadata.namespace,
            name=asked.metadata.name,
            uid=asked.metadata.uid,
            node=chosen.name,
        )
        if bind(args, self._context, self).error:
            self._cluster.timeline.after(_RETRY_SECONDS, self._cluster.try_again)
            return None
        return chosen

    def _filter(self, asked: Pod, names: tuple[str, ...]) -> frozenset[str]:
        args = ExtenderArgs(pod=asked, names=names, nodes=None)
        result, made = filter_nodes(args, self._context)
        assert made is not None
        request = self._context.remembered(made.uid)
        assert request is not None
        if made.passed:
            self._waiting.drop(made.uid)
        else:
            self._waiting.refuse(
                request,
                asked=names,
                nodes=self._context.state.view().nodes,
                refused=made.refused,
                examples=made.examples,
                created=asked.metadata.creation_timestamp,
                now=made.time,
                steady=self._state.steady(),
            )
        return frozenset(result.names)

    def _best(self, pod: Started, asked: Pod, among: Sequence[Machine]) -> Machine:
        names = tuple(machine.name for machine in among)
        ranking, _ = prioritize_nodes(
            ExtenderArgs(pod=asked, names=names, nodes=None), self._context
        )
        scores = dict(ranking)
        totals = [
            points + scores.get(machine.name, 0) * self._settings.weight * 10
            for machine, points in zip(among, in_tree(pod, among), strict=True)
        ]
        top = max(totals)
        best = [machine for machine, total in zip(among, totals, strict=True) if total == top]
        return self._random.choice(best)

    # -- waiting pods ----------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have those tried again that could go somewhere now."""
        woken = list(self._waker.due())
        for pod in woken:
            self._waiting.touched(pod.request.uid, self._state)
        if woken:
            self._cluster.try_again()
        self._cluster.timeline.after(WAKING_SECONDS, self._wake)

    def _fetch(self) -> None:
        """Ask loaders for what is needed now, and for nothing else any more."""
        view = self._state.view()
        wishing = Wishing(
            self._state,
            view,
            self._settings.policy,
            Bounds(),
            asked=view.leases,
            apart=self._waiting.apart,
        )
        wishes = {node: models for (_, node), models in wishing.wishes(self._waiting.all()).items()}
        for node, loader in self._loaders.items():
            loader.ask(wishes.get(node, ()))
        self._cluster.timeline.after(FETCHING_SECONDS, self._fetch)

    # -- the apiserver, as bind sees it ----------------------------------------------------------

    def create(self, args: BindArgs, annotations: dict[str, str], _: Callable[[], str]) -> Answer:
        """Take a Binding; the condition PodScheduled comes with it."""
        if not self._api.bind(args.name, args.uid, args.node, annotations):
            return Answer(Sent.CONFLICT, "conflict")
        bound = self._api.get(Pod, args.name)
        assert bound is not None
        self._put(bound, "PodScheduled")
        return Answer(Sent.DONE)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        """Return a pod; all are in one namespace."""
        del namespace
        return self._api.get(Pod, name)

    # -- the watcher -----------------------------------------------------------------------------

    def came(self, pod: Started) -> None:
        """Create the pod."""
        plain = vllm(_name(pod), model=f"/models/{pod.model.name}", gpus=pod.model.gpus)
        metadata = msgspec.structs.replace(plain.metadata, creation_timestamp=self._api.stamp())
        if not self._settings.on_demand:
            metadata = msgspec.structs.replace(
                metadata, annotations={"modelcache.dev/need": "preferred"}
            )
        self._api.put(msgspec.structs.replace(plain, metadata=metadata))

    def was_bound(self, pod: Started) -> None:
        """Nothing: ``create`` did it."""

    def is_ready(self, pod: Started) -> None:
        """Tell as the kubelet does."""
        self._put(self._get(pod), "Ready")

    def gone(self, pod: Started) -> None:
        """Delete the pod."""
        self._api.delete(self._get(pod))

    def changed(self, machine: Machine) -> None:
        """Let its loader tell."""
        self._loaders[machine.name].tell()

    def _get(self, pod: Started) -> Pod:
        known = self._api.get(Pod, _name(pod))
        assert known is not None
        return known

    def _put(self, pod: Pod, kind: str) -> None:
        """Let one more condition of a pod be true."""
        condition = Condition(type=kind, status="True", last_transition_time=self._api.stamp())
        status = PodStatus(phase="Running", conditions=(*pod.status.conditions, condition))
        self._api.put(msgspec.structs.replace(pod, status=status))


def _name(pod: Started) -> str:
    return f"pod-{pod.number}"
