"""The scenario of the tests: few nodes, little room, pods of every kind."""

from __future__ import annotations

import msgspec

from extender.serving.leadership import Fence
from simulation.choices import Choices
from simulation.scenario import Ask, Delays, Machine, Scenario
from tests.builders import HOST_MODEL, loader, our_loader, tmpfs, vllm

GIB = 2**30
NODE_GIB = 64
VOLUME_GIB = (40, 20, 16, 8, 4)
"""The biggest first: what takes few pods makes a short history."""


def ask(number: int, choices: Choices) -> Ask:
    """Half the pods bring memory-backed volumes, half need the model on a node's disk."""
    name = f"pod-{number}"
    priority = 1000 if choices.chance(15) else 0
    if choices.chance(50):
        request = choices.one((8, 24, 1))
        pod, demand = vllm(name, memory=f"{request}Gi"), request
        needs_model = True
    else:
        request, volume = 1, choices.one(VOLUME_GIB)
        pod, demand = tmpfs(name, size=f"{volume}Gi", memory="1Gi"), request + volume
        needs_model = False
    spec = msgspec.structs.replace(pod.spec, priority=priority)
    return Ask(
        pod=msgspec.structs.replace(pod, spec=spec),
        request=request * GIB,
        demand=demand * GIB,
        needs_model=needs_model,
    )


CROWDED = Scenario(
    machines=tuple(Machine(name=f"node-{n}", allocatable=NODE_GIB * GIB) for n in range(4)),
    fewest=1,
    loaders=(loader(),),
    ask=ask,
)

REPORTING = msgspec.structs.replace(CROWDED, loaders=(our_loader(),), reported=HOST_MODEL)
"""The same with loaders of ours, which report what they hold and keep Leases."""

PAIR = msgspec.structs.replace(
    CROWDED,
    delays=Delays(late=(0.1, 2.4)),  # less than a client waits
    fence=lambda host, monotonic, now: Fence(host, monotonic=monotonic, now=now),
)
"""Two replicas with the real fence; the lead is lost with Bindings in flight."""


def contending(number: int, choices: Choices) -> Ask:
    """Half the pods are large by requests, half by their volume, and half may evict others."""
    name = f"pod-{number}"
    priority = 1000 if choices.chance(50) else 0
    if choices.chance(50):
        pod, request, demand = vllm(name, memory="30Gi"), 30, 30
        needs_model = True
    else:
        pod, request, demand = tmpfs(name, size="12Gi", memory="8Gi"), 8, 20
        needs_model = False
    spec = msgspec.structs.replace(pod.spec, priority=priority)
    return Ask(
        pod=msgspec.structs.replace(pod, spec=spec),
        request=request * GIB,
        demand=demand * GIB,
        needs_model=needs_model,
    )


EVICTING = msgspec.structs.replace(
    CROWDED,
    machines=CROWDED.machines[:2],
    ask=contending,
    max_pods=12,
    stale_seconds=6.0,
    delays=Delays(watch=(0.001, 2.0)),
)
"""Two nodes at most that are full by requests as often as by what pods may take, a watch that often
tells of it later than kube-scheduler's own, and knowledge that is soon old."""

SCENARIOS = (CROWDED, REPORTING, PAIR, EVICTING)
"""In turns, by seed."""
