"""A state, the pods that wait in it, who wakes them, and a clock that tests set."""

from __future__ import annotations

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.placement.evictions import NoEviction
from extender.placement.policy import Policy
from extender.verbs.context import Context
from extender.verbs.preempt import no_eviction, preempt
from extender.waiting.asked import asked_nodes
from extender.waiting.nominate import Nominations
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.wake import Waker
from extender.wire import PreemptArgs, Victims


class Room:
    """A state, the waiting pods, and a clock."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now = 1_000.0
        """Seconds of the clock that nobody sets."""
        self.set_by = 0.0
        """By how much the other clock was set since."""
        self.stale: tuple[str, ...] = ()
        self.unsynced: tuple[str, ...] = ()
        self.late = False
        """Whether what is asked now would be answered too late."""
        self.state = ClusterState(clock=lambda: self.now + self.set_by, steady=lambda: self.now)
        self.context = Context(
            state=self.state,
            policy=policy or Policy(),
            unsynced=lambda: self.unsynced,
            stale=lambda: self.stale,
        )
        self.pods = WaitingPods()
        self.begin(self.context.policy)

    def begin(self, policy: Policy) -> None:
        """Start the parts that wake, as a new process does with its configuration."""
        self.waker = Waker(
            self.state, self.pods, policy, stale=lambda: self.stale, may_tell=lambda _: True
        )
        self.nominations = Nominations(self.state, policy, stale=lambda: self.stale)

    def refuse(
        self, pod: Pod, *asked: str, created: str = "2026-01-01T00:00:00Z", known: bool = True
    ) -> None:
        if known:
            self.state.upsert(pod)
        self.pods.add(
            WaitingPod(
                request=self.context.request(pod),
                asked=asked_nodes(asked, self.state.view().nodes) if asked else None,
                refused={"ModelLoading": len(asked)},
                created=created,
                since=self.now,
                refused_steady=self.now,
            )
        )

    def evict_nobody(self, pod: Pod, on: str, *, again_at: float | None = None) -> None:
        """Tell that an eviction on a node, of nobody in particular, was not worth it for a pod."""
        none = NoEviction(request=self.context.request(pod), victims={on: ()}, again_at=again_at)
        self.pods.refuse_preemption(none, nodes=self.state.view().nodes)

    def preempted(self, pod: Pod, **victims: tuple[str, ...]) -> set[str]:
        """Ask preempt for a pod that filter has refused; return the nodes that it leaves.

        ``victims`` has those that are proposed, by node.
        """
        proposed = {name: Victims(uids=uids, pdb_violations=0) for name, uids in victims.items()}
        args = PreemptArgs(pod=pod, candidates=proposed)
        kept, made = preempt(args, self.context, late=lambda: self.late)
        if kept:
            self.pods.lost.drop_of(pod.metadata.uid)
        else:
            nodes = self.state.view().nodes
            self.pods.refuse_preemption(no_eviction(args, made, self.context), nodes=nodes)
        return set(kept)

    def nominated(self) -> dict[str, str]:
        """Wake whom it is time to wake; return the nodes that they are nominated to."""
        found = {}
        for waiting in list(self.waker.due()):
            found[waiting.request.name] = self.nominations.take(waiting)
            self.pods.touched(waiting.request.uid, self.state)
        return found

    def woken(self) -> list[str]:
        names = []
        for waiting in list(self.waker.due()):
            self.pods.touched(waiting.request.uid, self.state)
            names.append(waiting.request.name)
        return names
