"""Whom kube-scheduler would evict, who waits in vain for it, and evictions that are in vain."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.truth.bindings import Bindings, BrokenLawError, World
from tests.truth.evictions import left_by_evictions, may_evict
from tests.truth.memory import Object
from tests.truth.test_bindings import (
    BEGIN,
    GIB,
    GRACE,
    READER,
    SLACK,
    at,
    bindings,
    bound,
    look,
    world,
)
from tests.truth.waiting import InVain, Lists, in_vain

__all__ = ["bindings", "world"]  # fixtures


def node(name: str = "n", cpu: int = 8) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": str(cpu), "memory": "32Gi", "pods": "10"},
        },
    }


def pod(name: str, cpu: int, gib: int = 0, *, rank: int = 0, started: int | None = None) -> Object:
    """Return a pod that requests processors, and keeps gibibytes in tmpfs; on ``n`` if started."""
    memory = {"medium": "Memory", "sizeLimit": f"{gib}Gi"}
    container = {"name": "main", "resources": {"requests": {"cpu": str(cpu)}}}
    spec = {
        "containers": [container],
        "priority": rank,
        "volumes": [{"name": "ram", "emptyDir": memory}],
    }
    status = {}
    if started is not None:
        spec["nodeName"] = "n"
        status = {"startTime": f"2026-01-01T00:00:{started:02}Z"}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec, "status": status}


def left(*others: Object, cpu: int = 4) -> list[list[str]] | None:
    """Return who is left on a node of 8 processors, by name, for each way of evicting others."""
    ways = left_by_evictions(node(), pod("high", cpu, rank=1), others)
    return (
        None if ways is None else [sorted(one["metadata"]["name"] for one in way) for way in ways]
    )


def test_pods_of_lower_priority_go_as_far_as_they_have_to() -> None:
    assert left(pod("a", 4, started=1), pod("b", 3, started=2)) == [["a"]]
    assert left(pod("a", 4, rank=-1, started=1), pod("b", 3, started=2)) == [["b"]]


def test_the_one_that_was_started_first_stays() -> None:
    assert left(pod("a", 4, started=2), pod("b", 4, started=1)) == [["b"]]
    late = pod("a", 4, started=2)
    del late["status"]["startTime"]
    assert left(late, pod("b", 4, started=1)) == [["b"]]


def test_of_pods_of_one_second_either_may_stay() -> None:
    ways = left(pod("a", 4, started=1), pod("b", 3, started=1))
    assert ways == [["a"], ["b"]]
    alike = [pod(str(number), 4, started=1) for number in range(2)]
    assert len(left(*alike) or []) == 1, "they are one another's equal"


@pytest.mark.parametrize(
    "others",
    [
        (),
        (pod("a", 4, started=1),),
        (pod("a", 8, rank=1, started=1),),
        (pod("a", 1, started=1), pod("b", 7, rank=1, started=1)),
        (pod("a", 4, started=1), pod("meant", 5, rank=1)),
    ],
    ids=["nobody there", "it fits", "nobody lower", "too few lower", "kept for another one"],
)
def test_nobody_is_evicted_where_that_does_not_help(others: tuple[Object, ...]) -> None:
    assert left(*others) == []


def test_nothing_is_said_where_there_are_too_many_ways() -> None:
    assert left(*(pod(f"{n}", 1, gib=n, started=1) for n in range(6)), cpu=6) is None


def _polite(high: Object, _other: Object) -> None:
    high["spec"]["preemptionPolicy"] = "Never"


def _victims_go(high: Object, other: Object) -> None:
    high["status"]["nominatedNodeName"] = "n"
    other["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"


@pytest.mark.parametrize("obstacle", [_polite, _victims_go])
def test_a_pod_that_evicts_nobody(obstacle: Callable[[Object, Object], None]) -> None:
    high, other = pod("high", 4, rank=1), pod("a", 8, started=1)
    assert may_evict(high, [high, other])
    obstacle(high, other)
    assert not may_evict(high, [high, other])


# -- who waits for it ----------------------------------------------------------------------------


def waiting(high: Object, *others: Object, aside: bool = True) -> list[InVain]:
    """Return who waits in vain where ``n`` is there, and perhaps a node that lacks memory."""
    nodes = [node()]
    if aside:
        nodes.append(node("aside", cpu=100))
        nodes[1]["status"]["allocatable"]["memory"] = "1Gi"
    lists = Lists(nodes=nodes, pods=[high, *others], claims=[], jobs=[])
    return in_vain([high], lists, World(GRACE), reads_cache=READER)


def test_a_pod_for_which_others_could_be_evicted_waits_in_vain() -> None:
    (found,) = waiting(pod("high", 4, gib=20, rank=1), pod("low", 8, gib=20, started=1))
    assert str(found) == "high with evictions on n"


@pytest.mark.parametrize(
    ("high", "others"),
    [
        (pod("high", 4, gib=20), (pod("low", 8, gib=20, started=1),)),
        (
            pod("high", 4, gib=20, rank=1),
            (pod("low", 8, gib=4, started=1), pod("same", 0, gib=20, rank=1, started=1)),
        ),
        (
            pod("high", 4, gib=20, rank=1),
            (pod("a", 4, gib=8, started=1), pod("b", 4, gib=20, started=1)),
        ),
    ],
    ids=["no priority", "too little comes back", "too little comes back in one of two ways"],
)
def test_a_pod_that_no_eviction_helps_does_not(high: Object, others: tuple[Object, ...]) -> None:
    assert not waiting(high, *others)


def test_a_pod_of_which_filter_is_not_asked_does_not() -> None:
    """docs/explanation/limits.md."""
    high, low = pod("high", 4, gib=20, rank=1), pod("low", 8, gib=20, started=1)
    assert waiting(high, low)
    assert not waiting(high, low, aside=False)


def test_a_pod_waits_behind_those_that_a_node_is_kept_for() -> None:
    meant = pod("meant", 2, gib=20, rank=1)
    meant["status"]["nominatedNodeName"] = "n"
    waits = pod("waits", 2, gib=20)
    assert waiting(waits)
    assert not waiting(waits, meant)
    assert waiting(pod("urgent", 2, gib=20, rank=2), meant)


# -- evictions in vain ---------------------------------------------------------------------------


def evict(bindings: Bindings, pod: Object, *victims: str, second: float = 10.0) -> None:
    bindings.evicted(pod, "n", {f"uid-{name}" for name in victims}, BEGIN + second)


def test_an_eviction_that_leaves_too_little_memory_is_seen(bindings: Bindings) -> None:
    look(bindings, bound("stays", 1, 20), bound("goes", 2, 4))
    evict(bindings, bound("high", 9, 12), "goes")
    with pytest.raises(BrokenLawError, match=r"when high was let evict there, and 33\.00 GiB may"):
        evict(bindings, bound("high", 9, 13), "goes")


def test_an_eviction_where_the_model_is_not_is_seen(bindings: Bindings, world: World) -> None:
    reader = bound("reader", 9, container=READER)
    with pytest.raises(BrokenLawError, match="reader was let evict on n, which had no model"):
        evict(bindings, reader)
    world.loaded["n"].became(at(5), to=True)
    evict(bindings, reader)
    world.loaded["n"].became(at(12), to=False)
    evict(bindings, reader, second=12 + GRACE + SLACK)
    with pytest.raises(BrokenLawError):
        evict(bindings, reader, second=13 + GRACE + SLACK)


def test_who_came_at_the_time_of_an_eviction_may_not_have_been_known(bindings: Bindings) -> None:
    look(bindings, bound("just", 10, 30), bound("theirs", 5, 30, ours=False))
    evict(bindings, bound("high", 9, 20), second=10.5)
    with pytest.raises(BrokenLawError):
        evict(bindings, bound("high", 9, 20), second=11.5)


def test_memory_that_the_node_had_lately_is_not_held_against_an_eviction(
    bindings: Bindings, world: World
) -> None:
    world.allocatable["n"].became(at(8), to=Decimal(8 * GIB))
    evict(bindings, bound("high", 9, 20))
    with pytest.raises(BrokenLawError):
        evict(bindings, bound("high", 9, 20), second=9 + SLACK)
