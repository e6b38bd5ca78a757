"""What a world is made of: its nodes, its loaders, the pods that come, and how long things take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from extender.kube.objects import DaemonSet, LeaseSpec, Pod, ResourceRequirements
from extender.placement.policy import Policy
from simulation.choices import Choices

Seconds = tuple[float, float]
"""Least and most."""

Clock = Callable[[], float]

INFEASIBLE = "Infeasible"
"""The reason of ``PodResizePending`` where a resize cannot ever be carried out."""


class Fence(Protocol):
    """What says whether a replica may bind."""

    @property
    def term(self) -> str:
        """Return what tells the present leader's time from that of any other."""

    @property
    def own(self) -> bool:
        """Tell whether this replica leads, or did last, as far as was seen."""

    def observe(self, spec: LeaseSpec, *, asked_at: float) -> None:
        """Take the Lease as it was when it was asked for."""

    def closed(self) -> str:
        """Return why nothing may be bound now; empty where it may."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod has as long as its container has these ``resources``; see ``Ask``."""

    resources: ResourceRequirements
    request: int
    demand: int


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that comes, and what is true of it whatever the core may think.

    ``request`` is what kube-scheduler counts, ``demand`` what the pod can take; both bytes of
    memory. ``needs_model``: it cannot run where no loader has put its model. ``sizes`` are those
    that its only container can be resized to in place, each larger than the one before, one of
    them what it comes with; there are none where it stays as it is.
    """

    pod: Pod
    request: int
    demand: int
    needs_model: bool
    sizes: tuple[Size, ...] = ()

    @property
    def needs_certainty(self) -> bool:
        """Tell whether a wrong yes would hurt: a model, or memory that only this program counts."""
        return self.needs_model or self.demand > self.request

    def request_of(self, pod: Pod) -> int:
        """Return what kube-scheduler counts for the pod as it is now."""
        return self.sizes[self._counted(pod)].request if self.sizes else self.request

    def demand_of(self, pod: Pod) -> int:
        """Return what the pod can take as it is now."""
        return self.sizes[self._counted(pod)].demand if self.sizes else self.demand

    def wanted(self, pod: Pod) -> int:
        """Return the number of the size that a pod's spec asks for."""
        return self._number(pod.spec.containers[0].resources)

    def given(self, pod: Pod) -> int:
        """Return the number of the size that its kubelet says it has; before it says, of its spec.

        So one that is finished has, whose kubelet keeps no account of it.
        """
        told = pod.status.container_statuses
        resources = told[0].resources if told else None
        return self.wanted(pod) if resources is None else self._number(resources)

    def _counted(self, pod: Pod) -> int:
        """Return the larger of what is asked for and given; where that cannot be, what is given.

        What could not be of a size that was asked for before says nothing of the present one.
        """
        given, generation = self.given(pod), pod.metadata.generation
        never = any(
            (one.reason, one.observed_generation) == (INFEASIBLE, generation)
            for one in pod.status.conditions
        )
        return given if never else max(self.wanted(pod), given)

    def _number(self, resources: ResourceRequirements) -> int:
        return next(n for n, size in enumerate(self.sizes) if size.resources == resources)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A node's name and its allocatable memory in bytes."""

    name: str
    allocatable: int


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, in seconds, while nothing is wrong."""

    watch: Seconds = (0.001, 0.2)
    cycle: Seconds = (0.001, 0.02)
    bind: Seconds = (0.002, 0.2)
    """From the end of a scheduling cycle to its call of bind."""
    start: Seconds = (0.5, 5.0)
    """From bound to Ready."""
    load: Seconds = (1.0, 20.0)
    """From a loader pod's creation to Ready."""
    late: Seconds = (0.1, 20.0)
    """Until a Binding takes effect whose answer was lost."""
    end: Seconds = (0.1, 10.0)
    """From a pod's deletion until it is gone."""
    finalize: Seconds = (1.0, 60.0)
    """The same of one on no node that a finalizer keeps."""
    resize: Seconds = (0.1, 40.0)
    """Between two tries of a kubelet to carry a resize out."""
    write: Seconds = (0.0, 0.0)
    """Until a write to a pod is answered."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``ask`` makes the pod with a number. Loaders run on every node.

    ``reported`` is the host path of the model that they report; where it is empty, they report
    nothing, and are done when they are Ready. ``on_demand``: those that report fetch it where a pod
    waits for it, and nowhere else. ``fence`` makes the fence of an extender from its
    host's name, a monotonic clock and a UNIX one; with one there are two replicas, of which one
    leads, and the lead is lost now and then.
    ``stale_seconds``: a kind that was not heard of for longer is old knowledge. Of a hundred
    writes to pods, ``failed_writes`` are refused or not answered; in calm times, too, where
    nobody waits for them: where nominations are taken back. In the namespace ``hangs`` none is
    ever answered.
    ``overloads``: how often, beside other moves, answers of the extender begin to come late. In
    calm times they do so now and then, too.
    Pods come up to so many ``at_once``, and none while there are ``max_pods``.
    A world begins with the first few ``machines``: at least ``fewest``, all where that is 0.
    """

    machines: tuple[Machine, ...]
    fewest: int = 0
    loaders: tuple[DaemonSet, ...]
    reported: str = ""
    on_demand: bool = False
    fence: Callable[[str, Clock, Clock], Fence] | None = None
    ask: Callable[[int, Choices], Ask]
    max_pods: int = 24
    at_once: int = 1
    policy: Policy = Policy()
    stale_seconds: float = 120.0
    failed_writes: int = 10
    hangs: str = ""
    overloads: int = 0
    delays: Delays = Delays()
