"""The laws of what is bound where, judged by what was so at the moment of each Binding.

A Binding rests on what could be known when it was decided. So each is compared with what was so at
its own moment, with an allowance that is stated here: the time that a change takes to be known
(``Known``; ``ARRIVAL_SECONDS`` while nothing is wrong) and that a Binding may be on its way. The
apiserver tells the moment in whole seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from math import inf
from typing import NoReturn

import msgspec

from extender.kube.times import unix_time
from extender.watch.resources import CLAIMS, DAEMON_SETS, JOBS, NODES, PODS
from tests.truth.memory import Object, demand, finished
from tests.truth.past import Past, Until

ARRIVAL_SECONDS = 2.0
"""What an event may take to the extender on a busy machine, while nothing is wrong."""

SENDING_SECONDS = 4.0
"""What a Binding may be on its way after the last look (docs/faults.md: 3.5 s), and a moment."""

KEPT_SECONDS = 600.0

Known = Callable[[float, Collection[str]], float]
"""By when all that was so at a moment was known of some kinds, which are named by their API paths.
In UNIX seconds; what an event takes while nothing is wrong is not in it."""


def at_once(moment: float, _kinds: Collection[str]) -> float:
    """Return when all is known where nobody's sight is ever broken."""
    return moment


class BrokenLawError(AssertionError):
    """A pod is where it may not be."""


class World:
    """What was so when. ``grace``: for so long after a loader's end what it loaded counts, in s."""

    def __init__(self, grace: float, known: Known = at_once) -> None:
        self.grace = grace
        self.known = known
        self.allocatable: defaultdict[str, Past[Decimal]] = defaultdict(lambda: Past(Decimal()))
        """By node, in bytes."""
        self.loaded: defaultdict[str, Past[bool]] = defaultdict(lambda: Past(value=False))
        """By node: whether a loader there is done, and Ready."""
        self.owned = Past(value=True)
        """Whether there is any loader. Without one nobody can tell where the model is."""
        self.filled: defaultdict[str, Past[bool]] = defaultdict(lambda: Past(value=True))
        """By claim: whether no Job is under way that is to fill it."""

    def until(self, *kinds: str, grace: float = 0.0) -> Until:
        """Return until when something may be acted on that rests on these kinds."""
        slack = ARRIVAL_SECONDS + SENDING_SECONDS + grace
        return lambda moment: self.known(moment, kinds) + slack


class Bound(msgspec.Struct, kw_only=True):
    """A bound pod. ``second``: when, in whole UNIX seconds; ``gone``: when its deletion began."""

    name: str
    node: str
    second: float
    bytes: Decimal
    ours: bool
    gone: float = inf


class Bindings:
    """Every Binding that was seen, each judged once."""

    def __init__(self, world: World, *, label: str, reads_cache: str) -> None:
        """Take pods with a label for the extender's own.

        Those whose first container has the name ``reads_cache`` need the model of a node's cache.
        """
        self.judged = 0
        self.evictions = 0
        self._world = world
        self._label = label
        self._reads_cache = reads_cache
        self._bound: dict[str, Bound] = {}
        self._unjudged: list[tuple[Object, Bound]] = []
        self._listed_at = -inf

    def listed(self, pods: Iterable[Object], at: float) -> None:
        """Take all pods that there are, as listed at a moment; raises BrokenLawError."""
        present = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, bound in self._bound.items():
            over = uid not in present or finished(present[uid])
            if over and bound.gone == inf:  # not before it was listed last
                bound.gone = self._listed_at
        self._listed_at = at
        self._take(present.values(), inf)
        unjudged, self._unjudged = self._unjudged, []
        for pod, bound in unjudged:
            self._judge(pod, bound)
        self._bound = {u: b for u, b in self._bound.items() if b.gone > at - KEPT_SECONDS}

    def deleted(self, pod: Object, at: float) -> None:
        """Take a pod as it was when it was deleted at a moment.

        Who was there beside it is known when everybody is listed next: it is judged then.
        """
        self.went(pod["metadata"]["uid"], at)
        self._take([pod], at)

    def went(self, uid: str, at: float) -> None:
        """Note that the deletion of a pod has begun by a moment."""
        known = self._bound.get(uid)
        if known is not None:
            known.gone = min(known.gone, at)

    def evicted(self, pod: Object, node: str, victims: Collection[str], at: float) -> None:
        """Take an eviction for a pod, of ``victims`` by their UIDs; raises BrokenLawError.

        Nobody goes in vain: the model is there, and without the victims there is the memory.
        """
        self.evictions += 1
        name, bytes_ = pod["metadata"]["name"], demand(pod)
        self._judge_model(pod, name, node, at, "let evict on")
        until = self._world.until(PODS.path)
        there = {
            uid: other
            for uid, other in self._bound.items()
            if other.node == node
            and other.second + 1.0 <= at
            and other.gone > at + 1.0
            and (other.ours or until(other.second + 1.0) < at)
        }
        left = [other for uid, other in there.items() if uid not in victims]
        taken = sum((other.bytes for other in left), bytes_)
        had = self._world.allocatable[node].may_have_been(at, self._world.until(NODES.path))
        if taken > max(had):
            names = ", ".join(sorted(other.name for other in left))
            _broken(
                f"{node} had {_gib(max(had))} when {name} was let evict there, "
                f"and {_gib(taken)} may be taken of it by that pod and {names}"
            )

    def _take(self, pods: Iterable[Object], gone: float) -> None:
        """Note pods that are new, all of them before any is judged: they were there together."""
        for pod in pods:
            uid = pod["metadata"]["uid"]
            bound = self._read(pod, gone) if uid not in self._bound else None
            if bound is not None:
                self._bound[uid] = bound
                self._unjudged.append((pod, bound))

    def _judge(self, pod: Object, bound: Bound) -> None:
        if bound.ours:
            self.judged += 1
            self._judge_memory(bound)
            self._judge_model(pod, bound.name, bound.node, bound.second, "bound to")

    def _read(self, pod: Object, gone: float) -> Bound | None:
        found = bound_in(pod)
        if found is None or finished(pod):
            return None
        name, second = found
        return Bound(
            name=name,
            node=pod["spec"]["nodeName"],
            second=second,
            bytes=demand(pod),
            ours=self._label in pod["metadata"].get("labels", {}),
            gone=gone,
        )

    def _judge_memory(self, pod: Bound) -> None:
        """See that what was there already left room, as far as it had to be known.

        Of two pods of one second either may be the later one: each is judged as if it was, unless
        it was gone by then and the other one may have come into its place.
        """
        stayed = pod.gone > pod.second + 1.0
        until = self._world.until(PODS.path)
        there = [
            other
            for other in self._bound.values()
            if other.node == pod.node
            and (other.second < pod.second or (other.second == pod.second and stayed))
            and other.gone > pod.second + 1.0
            and (other.ours or until(other.second + 1.0) < pod.second)
        ]
        taken = sum((other.bytes for other in there if other is not pod), pod.bytes)
        had = self._world.allocatable[pod.node].may_have_been(
            pod.second, self._world.until(NODES.path)
        )
        if taken > max(had):
            names = ", ".join(sorted(other.name for other in there))
            _broken(
                f"{pod.node} had {_gib(max(had))} when {pod.name} was bound to it, "
                f"and {_gib(taken)} may be taken of it by {names}"
            )

    def _judge_model(self, pod: Object, name: str, node: str, second: float, what: str) -> None:
        """See that the model was there, or could not be known to be missing."""
        world = self._world
        if pod["spec"]["containers"][0]["name"] == self._reads_cache:
            last = world.until(PODS.path, NODES.path, grace=world.grace)
            there = world.loaded[node].may_have_been(second, last)
            owned = world.owned.may_have_been(second, world.until(DAEMON_SETS.path))
            if True not in there and False not in owned:
                _broken(f"{name} was {what} {node}, which had no model")
        for claim in claims_of(pod):
            filled = world.filled[claim].may_have_been(
                second, world.until(JOBS.path, PODS.path, CLAIMS.path)
            )
            if True not in filled:
                _broken(f"{name} was {what} {node} before {claim} was filled")


def bound_in(pod: Object) -> tuple[str, float] | None:
    """Return a pod's name and the whole second of its Binding; None while there is none."""
    conditions = {one["type"]: one for one in pod.get("status", {}).get("conditions", [])}
    if not pod["spec"].get("nodeName") or "PodScheduled" not in conditions:
        return None
    second = unix_time(conditions["PodScheduled"]["lastTransitionTime"])
    assert second is not None
    return pod["metadata"]["name"], second


def claims_of(pod: Object) -> list[str]:
    """Return the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes", [])
    return [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]


def _gib(number: Decimal) -> str:
    return f"{number / 2**30:.2f} GiB"


def _broken(text: str) -> NoReturn:
    raise BrokenLawError(text)
