"""What a world is made of: its nodes, its loaders, the pods that come, and how long things take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from extender.kube.objects import DaemonSet, LeaseSpec, Pod
from extender.placement.policy import Policy
from simulation.choices import Choices

Seconds = tuple[float, float]
"""Least and most."""

Clock = Callable[[], float]


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


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that comes, and what is true of it whatever the core may think.

    ``request`` is what kube-scheduler counts, ``demand`` what the pod can take; both bytes of
    memory. ``needs_model``: it cannot run where no loader has put its model.
    """

    pod: Pod
    request: int
    demand: int
    needs_model: bool


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


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``ask`` makes the pod with a number. Loaders run on every node.

    ``reported`` is the host path of the model that they report; where it is empty, they report
    nothing, and are done when they are Ready. ``on_demand``: those that report fetch it where a pod
    waits for it, and nowhere else. ``fence`` makes the fence of an extender from its
    host's name, a monotonic clock and a UNIX one; with one there are two replicas, of which one
    leads, and the lead is lost now and then.
    ``stale_seconds``: a kind that was not heard of for longer is old knowledge.
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
    delays: Delays = Delays()
