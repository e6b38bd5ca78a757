"""kube-scheduler, as far as an extender can tell: its queue, its cycles, its preemption.

After kubernetes/pkg/scheduler (schedule_one.go, backend/queue/scheduling_queue.go, extender.go):

- Cycles are one after another, binding cycles side by side.
- In-tree filters come first; where no node is left the extender is not asked. Every node is asked
  about (``percentageOfNodesToScore: 100``). A nominated node is asked about alone at first. For one
  node alone prioritize is left out. A nomination that came to nothing is cleared.
- A refused pod waits until an event moves it, for 5 minutes at most: any event, where filter had a
  part in refusing it, else one that gives something back (the hints of its own plugins), which a
  change of the pod itself does not. Then it
  waits for its backoff of 1 to 2 s (``podMaxBackoffSeconds: 2``); with nothing else to do the
  backoff is skipped. A failed bind goes to the error backoff, which is never skipped; to the other
  pods it is the end of one that had a place, as is a nomination that goes to those it went before.
- A pod that scheduling gates hold back is not tried before they are gone, and one that is being
  deleted not any more.
- Why a bind failed is written to the pod.
- Preemption is for nodes that failed in-tree. Its dry run never asks filter. A pod whose Binding is
  on its way is a victim like any other: the cache has it on its node from the scheduling cycle on.
  A pod whose victims are still ending evicts nobody more, unless its node is out of the question by
  now. Where an extender refuses every eviction, a nomination stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from extender.cluster.ledger import FINISHED
from extender.kube.objects import Condition, KubeObject, Node, Pod
from extender.wire import Victims
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.extender import Extender
from simulation.faults import Faults
from simulation.kubelet import Kubelets, is_evicted
from simulation.scenario import Ask, Delays
from simulation.timeline import Timeline
from simulation.truth import allocatable, priority

FIRST_BACKOFF_SECONDS = 1.0
LAST_BACKOFF_SECONDS = 2.0
FLUSH_AFTER_SECONDS = 300.0
_FLUSH_EVERY_SECONDS = 30.0
_STALLED_SECONDS = 30.0
_PATIENCE_SECONDS = 2.0
"""What is left of ``httpTimeout`` where a call has waited for its turn before."""


class Scheduler:
    """One kube-scheduler with one extender, which can be replaced by another."""

    def __init__(
        self,
        extender: Extender,
        *,
        api: Apiserver,
        kubelets: Kubelets,
        timeline: Timeline,
        choices: Choices,
        faults: Faults,
        delays: Delays,
        asks: dict[str, Ask],
        say: Callable[[str], None],
    ) -> None:
        self.extender = extender
        self._api = api
        self._kubelets = kubelets
        self._timeline = timeline
        self._choices = choices
        self._faults = faults
        self._delays = delays
        self._asks = asks
        self._say = say
        self._names: dict[str, str] = {}
        """Every pod that is not bound, its name by UID; each is in one of the places below."""
        self._active: list[str] = []
        self._backoff: dict[str, float] = {}
        self._unschedulable: dict[str, float] = {}
        self._ours: dict[str, None] = {}
        """Of these, the ones that filter had a part in refusing."""
        self._assumed: dict[str, str] = {}
        self._tried: dict[str, tuple[int, float]] = {}
        self._busy = False
        self._stopped = self._stalled = False
        api.listeners.append(self._happened)
        for pod in list(api.all(Pod)):
            if pod.metadata.uid in asks and not pod.spec.node_name:
                self._happened(pod, pod)  # as one that has just come
        self._flush()

    def stop(self, *, stalled: bool = False) -> None:
        """Begin no more cycles; the binding cycles of one that stands still end late."""
        self._stopped, self._stalled = True, stalled
        self._api.listeners.remove(self._happened)

    def waiting(self) -> list[Pod]:
        """Return the pods that are not on their way to a node."""
        pods = (self._pod(uid) for uid in self._names if uid not in self._assumed)
        return [pod for pod in pods if pod is not None]

    def heeds(self, uid: str) -> bool:
        """Tell whether a change of a refused pod alone has it tried again."""
        return uid in self._ours

    def fitting(self, pod: Pod, *, without: Collection[str] = ()) -> list[str]:
        """Return the nodes that the in-tree filters leave, once some other pods are gone."""
        taken = self._requested(pod, without)
        wanted = self._asks[pod.metadata.uid].request
        return [
            node.metadata.name
            for node in self._api.all(Node)
            if not node.spec.unschedulable
            and taken.get(node.metadata.name, 0) + wanted <= allocatable(node)
        ]

    def _pod(self, uid: str) -> Pod | None:
        return self._api.get(Pod, self._names[uid], uid) if uid in self._names else None

    def _requested(self, asking: Pod, without: Collection[str] = ()) -> dict[str, int]:
        """Add up requests by node: of what is there, on its way, or nominated before this pod."""
        table: dict[str, int] = {}
        for pod in self._api.all(Pod):
            ask = self._asks.get(pod.metadata.uid)
            if ask is None or pod.status.phase in FINISHED or pod.metadata.uid in without:
                continue
            uid = pod.metadata.uid
            node = self._place(pod)
            if not node and uid != asking.metadata.uid and priority(pod) >= priority(asking):
                node = pod.status.nominated_node_name
            if node:
                table[node] = table.get(node, 0) + ask.request_of(pod)
        return table

    def _place(self, pod: Pod) -> str:
        """Return the node that a pod is on, or on its way to: the cache has it there already."""
        return pod.spec.node_name or self._assumed.get(pod.metadata.uid, "")

    # -- the queue -------------------------------------------------------------------------------

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Node):
            self._move(list(self._unschedulable))
        elif isinstance(before, Pod):
            after = now if isinstance(now, Pod) else None
            if _leaves_its_nomination(before, after):
                self._move([uid for uid in self._unschedulable if self._gives_way(uid, before)])
            if after is None or after.spec.node_name or after.metadata.deletion_timestamp:
                bound = after is not None and after.spec.node_name
                gave_up = not bound and before.metadata.uid in self._assumed
                self._forget(before.metadata.uid)
                if gave_up:
                    self._move(list(self._unschedulable))
                if before.spec.node_name or bound:
                    free = after is None or self._gives_back(before, after)
                    self._move(list(self._unschedulable if free else self._ours))
            elif after.spec.scheduling_gates:
                pass
            elif after is before or before.spec.scheduling_gates:
                self._names[after.metadata.uid] = after.metadata.name
                self._activate(after.metadata.uid)
            elif self.heeds(after.metadata.uid):
                self._move([after.metadata.uid])

    def _gives_back(self, before: Pod, after: Pod) -> bool:
        """Tell whether a pod on a node has ended, or requests less than before."""
        ask = self._asks.get(after.metadata.uid)
        less = ask is not None and ask.request_of(after) < ask.request_of(before)
        return less or after.status.phase in FINISHED

    def _gives_way(self, uid: str, other: Pod) -> bool:
        """Tell whether a pod was tried as if another one that is nominated were there already."""
        return priority(self._asks[uid].pod) <= priority(other)

    def _forget(self, uid: str) -> None:
        self._names.pop(uid, None)
        if uid in self._active:
            self._active.remove(uid)
        self._ours.pop(uid, None)
        for table in (self._backoff, self._unschedulable, self._assumed, self._tried):
            table.pop(uid, None)

    def _move(self, uids: Iterable[str]) -> None:
        """Try refused pods again: something has changed that may concern them."""
        for uid in uids:
            self._ours.pop(uid, None)
            if self._unschedulable.pop(uid, None) is None:
                continue
            attempts, last = self._tried[uid]
            wait = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (attempts - 1))
            left = last + wait - self._timeline.now
            if left > 0 and (self._active or self._busy):
                self._back_off(uid, left)
            else:
                self._activate(uid)

    def _back_off(self, uid: str, seconds: float) -> None:
        due = self._timeline.now + seconds
        self._backoff[uid] = due

        def over() -> None:
            if self._backoff.get(uid) == due:
                del self._backoff[uid]
                self._activate(uid)

        self._timeline.after(seconds, over)

    def _activate(self, uid: str) -> None:
        self._active.append(uid)
        self._cycle_soon()

    def _flush(self) -> None:
        if self._stopped:
            return
        self._timeline.after(_FLUSH_EVERY_SECONDS, self._flush)
        old = self._timeline.now - FLUSH_AFTER_SECONDS
        self._move([uid for uid, since in self._unschedulable.items() if since <= old])

    # -- the scheduling cycle --------------------------------------------------------------------

    def _cycle_soon(self) -> None:
        if self._active and not self._busy and not self._stopped:
            self._busy = True
            self._timeline.after(self._choices.between(*self._delays.cycle), self._cycle)

    def _cycle(self) -> None:
        self._busy = False
        if self._active and not self._stopped:
            uid = max(self._active, key=lambda u: self._asks[u].pod.spec.priority or 0)
            self._active.remove(uid)
            pod = self._pod(uid)
            if pod is not None:
                attempts = self._tried.get(uid, (0, 0.0))[0]
                self._tried[uid] = attempts + 1, self._timeline.now
                self._schedule(pod)
        self._cycle_soon()

    def _schedule(self, pod: Pod) -> None:
        uid, name = pod.metadata.uid, pod.metadata.name
        fitting = self.fitting(pod)
        passed: list[str] = []
        nominated = pod.status.nominated_node_name
        if nominated in fitting:
            passed = list(self.extender.filter(pod, (nominated,)).names)
        if fitting and not passed:
            result = self.extender.filter(pod, tuple(fitting))
            if result.error:
                self._back_off(uid, FIRST_BACKOFF_SECONDS)
                return
            passed = list(result.names)
        if not passed:
            self._say(f"{name} fits nowhere")
            self._unschedulable[uid] = self._timeline.now
            if fitting:
                self._ours[uid] = None
            target = self._preempt(pod, fitting)
            if target != nominated:
                self._nominate(pod, target)
            return
        chosen = passed[0] if len(passed) == 1 else self._choose(pod, passed)
        self._say(f"{name} chosen for {chosen}")
        self._assumed[uid] = chosen
        delay = self._choices.between(*self._delays.bind)
        self._timeline.after(delay, lambda: self._bind(pod, chosen))

    def _choose(self, pod: Pod, names: list[str]) -> str:
        """Take one of the best; sometimes, faults or not, in-tree plugins outvote the extender."""
        scores = self.extender.prioritize(pod, tuple(names))
        top = max(score for _, score in scores)
        best = [name for name, score in scores if score == top]
        return self._choices.one(names if self._choices.chance(20) else best)

    def _bind(self, pod: Pod, node: str) -> None:
        """End a binding cycle. Sometimes it is given up, whatever the answer will be."""
        if self._stalled:
            self._stalled = False  # it goes on once
            delay = self._choices.between(0.0, _STALLED_SECONDS)
            self._timeline.after(delay, lambda: self._bind(pod, node))
            return
        if not self.extender.running:
            return
        uid = pod.metadata.uid
        over = False

        def end(backoff: float) -> None:
            nonlocal over
            if not over and self._assumed.pop(uid, None) is not None:
                if self._pod(uid) is not None:
                    self._back_off(uid, backoff)
                self._move(list(self._unschedulable))
            over = True

        if self._faults.happens(3):
            patience = self._choices.between(0.0, _PATIENCE_SECONDS)
            self._timeline.after(patience, lambda: end(FIRST_BACKOFF_SECONDS))
        bound = self.extender.bind(pod, node)
        if bound.error:
            self._tell(uid, bound.error)
            end(LAST_BACKOFF_SECONDS)

    def _tell(self, uid: str, message: str) -> None:
        """Write to a pod why it is not scheduled, unless that is what it says already."""
        pod = self._pod(uid)
        said = Condition(type="PodScheduled", status="False", message=message)
        if pod is not None and said not in pod.status.conditions:
            status = msgspec.structs.replace(pod.status, conditions=(said,))
            self._api.put(msgspec.structs.replace(pod, status=status))

    # -- preemption ------------------------------------------------------------------------------

    def _nominate(self, pod: Pod, node: str) -> None:
        status = msgspec.structs.replace(pod.status, nominated_node_name=node)
        self._api.put(msgspec.structs.replace(pod, status=status))

    def _preempt(self, pod: Pod, fitting: list[str]) -> str:
        """Evict pods for one that fits nowhere; return where it is nominated to from now on."""
        nominated = pod.status.nominated_node_name
        if nominated not in fitting and self.makes_way(nominated, pod):
            return nominated
        candidates = self.candidates(pod, fitting)
        if not candidates:
            return ""
        kept = self.extender.preempt(pod, candidates)
        if not kept:
            return nominated
        node = min(kept, key=lambda name: len(kept[name].uids))
        self._say(f"{pod.metadata.name} evicts {', '.join(kept[node].uids)} from {node}")
        for victim in [p for p in self._api.all(Pod) if p.metadata.uid in kept[node].uids]:
            self._kubelets.evict(victim)
        return node

    def takes_pods(self, name: str) -> bool:
        """Tell whether there is such a node, and it is not cordoned."""
        node = self._api.get(Node, name)
        return node is not None and not node.spec.unschedulable

    def makes_way(self, name: str, pod: Pod) -> bool:
        """Tell whether a node takes pods, and one that was evicted there for it still ends."""
        return self.takes_pods(name) and any(
            other.spec.node_name == name and is_evicted(other) and priority(other) < priority(pod)
            for other in self._api.all(Pod)
        )

    def candidates(self, pod: Pod, fitting: list[str]) -> dict[str, Victims]:
        """Return whom the pod could have evicted where it does not fit, by node."""
        taken = self._requested(pod)
        wanted = self._asks[pod.metadata.uid].request
        candidates = {}
        for node in self._api.all(Node):
            name = node.metadata.name
            if name in fitting or node.spec.unschedulable:
                continue
            lacking = taken.get(name, 0) + wanted - allocatable(node)
            victims = []
            for other in sorted(self._api.all(Pod), key=priority):
                ask = self._asks.get(other.metadata.uid)
                if ask is None or self._place(other) != name or other.status.phase in FINISHED:
                    continue
                if lacking <= 0 or priority(other) >= priority(pod):
                    continue
                victims.append(other.metadata.uid)
                lacking -= ask.request_of(other)
            if lacking <= 0 and victims:
                candidates[name] = Victims(uids=tuple(victims), pdb_violations=0)
        return candidates


def _leaves_its_nomination(before: Pod, after: Pod | None) -> bool:
    """Tell whether a pod that is on no node is not meant any more for the node that it was."""
    nominated = before.status.nominated_node_name
    if not nominated or before.spec.node_name:
        return False
    return after is None or (
        not after.spec.node_name and after.status.nominated_node_name != nominated
    )
