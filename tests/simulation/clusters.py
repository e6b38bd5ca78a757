"""The scenario of the tests: few nodes, little room, pods of every kind.

What a pod requests and may take is counted from its JSON by ``tests/truth``, not by the core.
"""

from __future__ import annotations

from typing import Any

import msgspec

from extender.placement.policy import OnStale, Policy
from extender.serving.leadership import Fence
from simulation.choices import Choices
from simulation.scenario import Ask, Delays, Machine, Scenario, Size
from tests.builders import HOST_MODEL, MODEL, loader, our_loader, pod
from tests.truth.memory import demand, requested

GIB = 2**30
NODE_GIB = 64
VOLUME_GIB = (40, 20, 16, 8, 4)
"""The biggest first: what takes few pods makes a short history."""

Spec = dict[str, Any]


def reading(gib: int) -> Spec:
    """Return a pod that opens a model which has to be on the node's disk."""
    source = {"hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    return {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm/vllm-openai:v0.11.0",
                "args": ["--model", MODEL],
                "resources": {"requests": {"memory": f"{gib}Gi"}},
                "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "models", **source}],
    }


def filling(size: int, *, gib: int, at: str = "/ram", limited: bool = False) -> Spec:
    """Return a pod with a memory-backed volume, which its request covers where it is its limit."""
    spec = plain(gib)
    (container,) = spec["containers"]
    container["volumeMounts"] = [{"name": "ram", "mountPath": at}]
    if limited:
        container["resources"]["limits"] = container["resources"]["requests"]
    volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": f"{size}Gi"}}
    return {**spec, "volumes": [volume]}


def plain(gib: int) -> Spec:
    """Return a pod with no volume at all, of which kube-scheduler counts everything."""
    resources = {"requests": {"memory": f"{gib}Gi"}}
    return {"containers": [{"name": "main", "image": "busybox:1.37", "resources": resources}]}


def resizable(number: int, begin: int, *, priority: int) -> Ask:
    """Return a pod whose requests and limit can be changed in place, with a volume beside them."""
    sizes = tuple(_size(*one) for one in _SIZES)
    first = _resizable(*_SIZES[begin])
    return msgspec.structs.replace(asked(number, first, priority=priority), sizes=sizes)


_SIZES = ((4, 12), (4, 24), (8, 28))
"""GiB of requests and limits, each at least as large as the one before."""


def _resizable(request: int, limit: int) -> Spec:
    spec = filling(20, gib=request)
    (container,) = spec["containers"]
    container["resources"]["limits"] = {"memory": f"{limit}Gi"}
    return spec


def _size(request: int, limit: int) -> Size:
    one = asked(0, _resizable(request, limit), priority=0)
    resources = one.pod.spec.containers[0].resources
    return Size(resources=resources, request=one.request, demand=one.demand)


PLAIN = (plain(24), plain(8), filling(12, gib=16, limited=True), filling(16, gib=4, at="/dev/shm"))
"""Pods that ask for nothing but what kube-scheduler counts, too."""


def asked(
    number: int,
    spec: Spec,
    *,
    priority: int,
    needs_model: bool = False,
    namespace: str = "inference",
) -> Ask:
    """Return a pod that comes, with its memory as the words of the documentation count it."""
    manifest = {"spec": {**spec, "priority": priority}}
    return Ask(
        pod=pod(f"pod-{number}", namespace, spec=manifest["spec"], status={"phase": "Pending"}),
        request=int(requested(manifest)),
        demand=int(demand(manifest)),
        needs_model=needs_model,
    )


def ask(number: int, choices: Choices) -> Ask:
    """Of twelve pods four bring volumes in memory, four need a model, two can be resized."""
    priority = 1000 if choices.chance(15) else 0
    kind = choices.below(12)
    if kind < 4:
        return asked(number, filling(choices.one(VOLUME_GIB), gib=1), priority=priority)
    if kind < 8:
        spec = reading(choices.one((8, 24, 1)))
        return asked(number, spec, priority=priority, needs_model=True)
    if kind < 10:
        return asked(number, choices.one(PLAIN), priority=priority)
    return resizable(number, choices.below(len(_SIZES)), priority=priority)


CROWDED = Scenario(
    machines=tuple(Machine(name=f"node-{n}", allocatable=NODE_GIB * GIB) for n in range(4)),
    fewest=1,
    loaders=(loader(),),
    ask=ask,
)

REPORTING = msgspec.structs.replace(CROWDED, loaders=(our_loader(),), reported=HOST_MODEL)
"""The same with loaders of ours, which report what they hold and keep Leases."""

FETCHING = msgspec.structs.replace(REPORTING, on_demand=True)
"""The same with loaders that fetch their model where it is asked for."""

PAIR = msgspec.structs.replace(
    CROWDED,
    delays=Delays(late=(0.1, 2.4)),  # less than a client waits
    fence=lambda host, monotonic, now: Fence(host, monotonic=monotonic, now=now),
)
"""Two replicas with the real fence; the lead is lost with Bindings in flight."""


def contending(number: int, choices: Choices) -> Ask:
    """Most pods are large by requests or by their volume, some plain; half may evict others."""
    priority = 1000 if choices.chance(50) else 0
    kind = choices.below(5)
    if kind < 2:
        return asked(number, filling(12, gib=8), priority=priority)
    if kind < 4:
        return asked(number, reading(30), priority=priority, needs_model=True)
    return asked(number, plain(12), priority=priority)


EVICTING = msgspec.structs.replace(
    CROWDED,
    machines=CROWDED.machines[:2],
    ask=contending,
    max_pods=14,
    at_once=4,
    stale_seconds=6.0,
    delays=Delays(watch=(0.001, 2.0)),
)
"""Two nodes at most that are full by requests as often as by what pods may take, a watch that often
tells of it later than kube-scheduler's own, and knowledge that is soon old."""


def hoarding(number: int, choices: Choices) -> Ask:
    """Pods that may take far more than they request, small ones to evict, and who would evict."""
    kind = choices.below(10)
    if kind < 3:
        return asked(number, filling(30, gib=1), priority=1000)
    if kind < 7:
        return asked(number, plain(40), priority=1000)
    return asked(number, plain(33), priority=0)


HOARDING = msgspec.structs.replace(EVICTING, machines=CROWDED.machines, fewest=4, ask=hoarding)
"""Nodes that are full by what pods may take long before they are full by requests: an eviction
there is in vain until something else has gone."""


def stranding(number: int, choices: Choices) -> Ask:
    """Small ones to evict, who evict them, and who take their room by what they may take."""
    kind = choices.below(10)
    if kind < 3:
        return asked(number, filling(30, gib=1), priority=1000)
    if kind < 6:
        return asked(number, plain(40), priority=500)
    return asked(number, plain(33), priority=0)


STRANDING = msgspec.structs.replace(
    HOARDING,
    ask=stranding,
    max_pods=24,
    failed_writes=60,
    delays=Delays(watch=(0.001, 0.5), end=(0.1, 25.0)),
)
"""Who is nominated finds its room gone when its victims are, and has nobody else worth evicting.
What is written to pods is often refused or lost."""

NEUTRAL = msgspec.structs.replace(
    EVICTING, policy=Policy(on_stale=OnStale.NEUTRAL), delays=Delays(watch=(0.001, 0.5))
)
"""Old knowledge is held against nobody, and yet evicts nobody."""


def hanging(number: int, choices: Choices) -> Ask:
    """Most pods go before all others and cannot be told of anything."""
    spec = filling(choices.one((20, 12)), gib=1)
    if choices.below(4) < 3:
        return asked(number, spec, priority=1000, namespace="hung")
    return asked(number, spec, priority=0)


HANGING = msgspec.structs.replace(
    CROWDED,
    machines=CROWDED.machines[:2],
    ask=hanging,
    hangs="hung",
    max_pods=40,
    at_once=6,
    delays=Delays(watch=(0.5, 4.0)),
)
"""In one namespace an admission webhook does not answer."""


def outranking(number: int, choices: Choices) -> Ask:
    """Pods of one size, of which two fill a node, that differ in whom they go before."""
    spec = filling(30, gib=1) if choices.below(8) == 7 else plain(30)
    return asked(number, spec, priority=choices.one((0, 0, 500, 1000)))


OUTRANKING = msgspec.structs.replace(
    EVICTING,
    machines=CROWDED.machines[:3],
    fewest=2,
    ask=outranking,
    delays=Delays(watch=(0.001, 2.0), end=(0.1, 12.0)),
)
"""Whoever comes finds somebody to evict on each node, and room where they are gone."""

OVERLOADED = msgspec.structs.replace(
    STRANDING,
    failed_writes=10,
    overloads=12,
    delays=Delays(watch=(0.001, 1.0), end=(0.1, 60.0), write=(0.005, 0.1)),
)
"""Answers often come late, writes take their time, and victims take long to go."""


def misfitting(number: int, choices: Choices) -> Ask:
    """Pods that fill a node which seems empty, some that fit only there, and some to evict."""
    kind = choices.below(10)
    if kind < 5:
        return asked(number, filling(30, gib=1), priority=1000)
    if kind < 7:
        return asked(number, plain(33), priority=0)
    return asked(number, plain(40), priority=1000)


ANSWERED_LATE = msgspec.structs.replace(
    OVERLOADED,
    machines=CROWDED.machines[:3],
    fewest=3,
    ask=misfitting,
    max_pods=12,
    at_once=2,
)
"""Who is refused by memory here has somebody to evict there; little else has him tried again."""

SCENARIOS = (
    CROWDED,
    REPORTING,
    PAIR,
    EVICTING,
    FETCHING,
    HOARDING,
    STRANDING,
    NEUTRAL,
    HANGING,
    OUTRANKING,
    OVERLOADED,
    ANSWERED_LATE,
)
"""In turns, by seed."""
