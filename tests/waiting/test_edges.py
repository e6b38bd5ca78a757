"""Every input of filter has a wake edge: what it looks at, changed, wakes who waits for it.

Each row names the input, as a field of the view, of a node in it, or of the judge. A field that is
added to one of them makes the last test fail until it has a row here, or a reason to need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from extender.cluster.reservations import Reservation
from extender.cluster.view import NodeView, View
from extender.kube.objects import KubeObject, Pod
from extender.placement.policy import Policy
from extender.report import ReportedState
from tests.builders import (
    CRASHING,
    LOADING,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_pod,
    namespace,
    node,
    our_loader,
    pod,
    reported,
    reporting_pod,
    requesting,
    storage_class,
    tmpfs,
    vllm,
    volume,
)
from tests.waiting.room import Room

GIB = 2**30
ZONE = {"topology.kubernetes.io/zone": "near"}
TAKER = tmpfs("taker", size="60Gi", on="a")
MINE = Reservation(uid="x", node="a", bytes=60 * GIB, expires=1_010.0, claim=1)


def from_claim(name: str = "reads", on: str = "") -> Pod:
    return vllm(name, volume={"persistentVolumeClaim": {"claimName": "model-store"}}, on=on)


def apply(*objects: KubeObject) -> Callable[[Room], None]:
    def change(room: Room) -> None:
        for each in objects:
            room.state.upsert(each)

    return change


def delete(*objects: KubeObject) -> Callable[[Room], None]:
    def change(room: Room) -> None:
        for each in objects:
            room.state.delete(each)

    return change


def later(seconds: float) -> Callable[[Room], None]:
    def change(room: Room) -> None:
        room.now += seconds

    return change


def fresh_again(room: Room) -> None:
    room.stale = ()


def restarted(policy: Policy) -> Callable[[Room], None]:
    def change(room: Room) -> None:
        pods = room.pods.all()
        room.begin(policy)
        for waiting in pods:
            room.pods.drop(waiting.request.uid)
            room.pods.add(msgspec.structs.replace(waiting, asked=None, refused={}))

    return change


def nominated(name: str, to: str) -> Pod:
    wanted = tmpfs(name, size="60Gi")
    status = msgspec.structs.replace(wanted.status, nominated_node_name=to)
    return Pod(metadata=wanted.metadata, spec=wanted.spec, status=status)


def fetching(name: str) -> Pod:
    """Return a pod that requires a model which it could download."""
    server = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "meta-llama/Llama-3.1-8B-Instruct"],
        "env": [{"name": "HF_HOME", "value": "/cache"}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    cache = {"name": "cache", "hostPath": {"path": "/var/lib/models"}}
    return pod(
        name,
        metadata={
            "annotations": {"modelcache.dev/need": "required"},
            "creationTimestamp": "1970-01-01T00:16:00Z",  # 960 s of the clock
        },
        spec={"containers": [server], "volumes": [cache]},
    )


@dataclass(frozen=True)
class Edge:
    """Something that filter looks at, who waits for it, and how it comes true."""

    reads: str
    what: str
    before: Iterable[KubeObject]
    waits: Pod
    change: Callable[[Room], None]
    more: dict[str, Any] = field(default_factory=dict)


def loading(*more: KubeObject) -> tuple[KubeObject, ...]:
    return (node("a"), loader(), loader_pod("a", LOADING), *more)


GEMMA = vllm("gemma", model="/models/gemma")
EDGES = [
    Edge("inventory", "the model became ready", loading(), vllm(), apply(loader_pod("a", READY))),
    Edge(
        "inventory",
        "a loader that failed came through",
        (node("a"), loader(), loader_pod("a", CRASHING)),
        vllm(),
        apply(loader_pod("a", READY)),
    ),
    Edge(
        "inventory",
        "files that outlived their grace are vouched for again",
        (node("a"), loader(), loader_pod("a", STOPPED)),
        vllm(),
        apply(loader_pod("a", READY)),
        {"now": 1_800_000_000.0},
    ),
    Edge(
        "inventory",
        "the loader was deleted: nobody says no",
        loading(),
        vllm(),
        delete(loader(), loader_pod("a", LOADING)),
    ),
    Edge(
        "inventory",
        "the node says that the model is baked in",
        loading(),
        GEMMA,
        apply(node("a", annotations={"modelcache.dev/provides": "/var/lib/models/gemma"})),
    ),
    Edge(
        "inventory",
        "the loader's namespace is trusted now",
        (
            node("a"),
            loader(),
            loader_pod("a", LOADING),
            loader("other", "shared"),
            loader_pod("a", READY, name="other", namespace="shared"),
        ),
        vllm(),
        apply(namespace("shared", trusted=True)),
    ),
    Edge("nodes.promised", "a pod is gone", (node("a"), TAKER), tmpfs(), delete(TAKER)),
    Edge(
        "nodes.promised",
        "a pod has finished",
        (node("a"), TAKER),
        tmpfs(),
        apply(tmpfs("taker", size="60Gi", on="a", phase="Succeeded")),
    ),
    Edge(
        "nodes.allocatable",
        "the node has more memory",
        (node("a", memory="8Gi"),),
        tmpfs(),
        apply(node("a", memory="64Gi")),
    ),
    Edge("nodes.reserved", "a reservation ran out", (node("a"),), tmpfs(), later(10), {"r": MINE}),
    Edge(
        "nodes.reserved",
        "a binding failed",
        (node("a"),),
        tmpfs(),
        lambda room: room.state.release("x", "a", 1),
        {"r": MINE},
    ),
    Edge(
        "nodes.nominated",
        "another pod is not meant for the node any more",
        (node("a"), nominated("first", "a")),
        tmpfs(),
        apply(tmpfs("first", size="60Gi")),
    ),
    Edge("nodes.name", "the node is known now", (), tmpfs(), apply(node("a"))),
    Edge("claims", "the claim exists", (node("a"),), from_claim(), apply(claim())),
    Edge(
        "claims",
        "the claim is bound",
        (node("a"), claim(phase="Pending")),
        from_claim(),
        apply(claim()),
    ),
    Edge(
        "volumes",
        "the volume can be mounted everywhere now",
        (node("a"), claim(), volume("pv-model-store", zone="near")),
        from_claim(),
        apply(volume("pv-model-store")),
    ),
    Edge(
        "nodes.labels",
        "the node is in the volume's zone now",
        (node("a"), claim(), volume("pv-model-store", zone="near")),
        from_claim(),
        apply(node("a", labels=ZONE)),
    ),
    Edge(
        "classes",
        "the class binds with the first consumer",
        (node("a"), claim(phase="Pending", storageClassName="late", volumeName="")),
        from_claim(),
        apply(storage_class("late")),
    ),
    Edge(
        "jobs",
        "the job that writes the model is gone",
        (node("a"), claim(), job("download")),
        from_claim(),
        delete(job("download")),
    ),
    Edge(
        "completed_writes",
        "the job that writes the model has completed",
        (node("a"), claim(), job("download")),
        from_claim(),
        apply(job("download", ("Complete",))),
    ),
    Edge(
        "nodes.warm",
        "a pod that reads the model from the claim serves elsewhere",
        (node("a"), node("b"), claim(), job("download", ("Failed",))),
        from_claim(),
        apply(from_claim("serves", on="b")),
    ),
    Edge(
        "now",
        "the pod's patience is over",
        loading(),
        fetching("impatient"),
        later(60),
        {"policy": Policy(required_timeout=100.0)},
    ),
    Edge(
        "gone",
        "a node that was deleted is back",
        (node("a"),),
        pod("needs-nothing"),
        apply(node("a")),
        {"deleted": (node("a"),)},
    ),
    Edge("stale", "pods are in sight again", (node("a"),), tmpfs(), fresh_again, {"stale": "Pod"}),
    Edge(
        "nodes.promised",
        "memory is given back while loaders' Leases are old",
        (node("a"), tmpfs("leaves", size="60Gi", on="a")),
        requesting("ordinary", "20Gi"),
        delete(tmpfs("leaves", size="60Gi", on="a")),
        {"stale": "Lease"},
    ),
    Edge(
        "inventory",
        "a loader takes back that its model failed",
        [node("a"), our_loader(), reporting_pod("a", READY, reported(ReportedState.FAILED))],
        vllm("reads"),
        apply(reporting_pod("a", READY, reported())),
    ),
    Edge(
        "policy",
        "the configuration lets it go, after a restart",
        loading(),
        fetching("lenient"),
        restarted(Policy(required_timeout=1.0)),
    ),
]


@pytest.mark.parametrize("edge", EDGES, ids=[f"{edge.reads}: {edge.what}" for edge in EDGES])
def test_what_filter_looks_at_wakes_when_it_changes(edge: Edge) -> None:
    room = Room(edge.more.get("policy"))
    room.now = edge.more.get("now", room.now)
    room.stale = (edge.more["stale"],) if "stale" in edge.more else ()
    for obj in edge.before:
        room.state.upsert(obj)
    for obj in edge.more.get("deleted", ()):
        room.state.delete(obj)
    if "r" in edge.more:
        room.state.hold(edge.more["r"])
    room.refuse(edge.waits, "a")
    assert room.woken() == [], "it is refused"
    assert room.woken() == [], "and stays so while nothing changes"
    edge.change(room)
    assert room.woken() == [edge.waits.metadata.name]


ELSEWHERE = {
    "corrections": "only the estimated start does",
    "changes": "a count of what the other inputs tell",
    "own": "a list of where nodes.reserved and nodes.nominated name a pod",
    "leases": "only the estimated start does; a loader that falls silent changes the inventory",
    "nodes.requested": "the part of what is promised that listings show",
    "nodes.opening": "only the estimated start looks at it",
    "nodes.lately": "only the estimated start looks at it",
    "nodes.images": "only the estimated start looks at it",
    "nodes.number": "it only tells which nodes filter was asked about",
    "nodes.room": "kube-scheduler's own filter, which wakes when a node grows",
    "nodes.taints": "kube-scheduler's own filter, which wakes when one is taken away",
    "nodes.zone": "only narrowing looks at it, among nodes that fit; it is one of nodes.labels",
    "zones": "only narrowing looks at it, among nodes that fit; each is one of nodes.labels",
    "nodes.schedulable": "kube-scheduler's own filter, which wakes when it is uncordoned",
}


def test_no_input_is_left_out() -> None:
    inputs = {*View.__struct_fields__, "stale", "policy"} - {"nodes"}
    inputs |= {f"nodes.{name}" for name in NodeView.__struct_fields__}
    assert {edge.reads for edge in EDGES} | set(ELSEWHERE) == inputs
