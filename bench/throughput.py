"""What an extender costs the whole kube-scheduler: pods bound a second, on a real control plane.

The pods are there before kube-scheduler starts; it is measured from the first bind to the last.
Beside no extender and this one there is the Go reference twice: answering as briefly as this one,
and naming every refused node with its reason, as most extenders do. All of them take turns, in
rounds, each with its share of the pods, and are compared within a round (``bench.rounds``); the
reference, which takes several times as long for a pod, gets half a share. Where
pods without a model are routed past, as deploy/opt-in-models does it, the default scheduler runs as
well, as it comes: it looks at a tenth of the nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from bench.answer import decisions
from bench.fleet import NAMESPACE, WORKLOADS, Fleet, question
from bench.programs import cpu_seconds, reference
from bench.results import Row
from bench.rounds import parts, summed_up, turns
from controlplane.build import DEFAULT_VERSION, binaries
from extender.cluster.namespaces import DEFAULT_SCHEDULER
from extender.watch.client import Transport, connect
from extender.watch.framing import split_lines
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.processes import Process
from tests.controlplane.shipped import SCHEDULER, kustomized, scheduler_config

NONE, OURS = "none", "this one"
ROUTED = "this one, models only"
REFERENCE, REFERENCE_LISTING = "Go reference, brief", "Go reference, lists all"
ALL = (NONE, OURS, ROUTED, REFERENCE, REFERENCE_LISTING)
_SERVED_BY = {ROUTED: OURS}
"""Which are served by another one's process; it takes seconds to start."""

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_PARTS = {REFERENCE: 2, REFERENCE_LISTING: 2}
"""Into how many parts the pods of a round are divided, of which one is measured."""

_ROUNDS = 2
_ROUNDS_ALONE = {"required": 3}
"""Where the bound is nearest; a round of each takes a minute."""

_QUIET_SECONDS = 60.0
_CREATORS = 8

Figures = dict[str, float]


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each workload and extender."""
    fleet = Fleet(nodes=500 if quick else 5_000, pods=0)
    pods, alone = (60, 30) if quick else (2_000, 500)
    mixes: dict[str, Sequence[str]] = {"mixed": WORKLOADS}
    if not quick:
        mixes |= {one: (one,) for one in ("required", "preferred", "none")}
    with control_plane(fleet, folder) as cluster:
        route_models(cluster)
        ours = cluster.start_extender()
        table = decisions(ours, fleet)
        cluster.stop_process(ours)
        for name, mix in mixes.items():
            number = pods if name == "mixed" else alone
            rounds = 1 if quick else _ROUNDS_ALONE.get(name, _ROUNDS)
            seen: dict[str, list[Figures]] = {extender: [] for extender in _extenders(name, mix)}
            shares = parts(number, rounds)
            for group in turns(list(seen), _SERVED_BY, rounds):
                with _running(group[0], cluster, table, folder) as server:
                    for extender in group:
                        share = shares[len(seen[extender])] // _PARTS.get(extender, 1)
                        seen[extender].append(throughput(cluster, server, extender, mix, share))
            case: dict[str, str | int] = {"workload": name, "pods": number, "nodes": fleet.nodes}
            summed = summed_up(seen, figure="pods/s", base=NONE, ratio="x none")
            for extender, figures in summed.items():
                yield Row(
                    benchmark="scheduler throughput",
                    case=case | {"extender": extender},
                    figures=figures,
                )


def _extenders(name: str, mix: Sequence[str]) -> Iterator[str]:
    """Yield what is measured of a workload: where it has something to show, for it takes minutes.

    Naming every refused node costs where most are refused; routing past needs pods to route; to the
    reference a pod without a model is what one that prefers a model is.
    """
    only_with = {
        ROUTED: "none" in mix,
        REFERENCE: name != "none",
        REFERENCE_LISTING: name == "required",
    }
    yield from (extender for extender in ALL if only_with.get(extender, True))


@contextmanager
def control_plane(fleet: Fleet, folder: Path) -> Iterator[ControlPlane]:
    """Start a control plane with the fleet's nodes, which no kubelet plays."""
    cluster = ControlPlane(binaries(DEFAULT_VERSION), folder / "control-plane")
    cluster.workdir.mkdir()
    cluster.start()
    try:
        cluster.create_namespace(NAMESPACE)
        nodes = (fleet.node(index, provides=True) for index in range(fleet.nodes))
        create(cluster, "/api/v1/nodes", nodes)
        yield cluster
    finally:
        cluster.stop()


def route_models(cluster: ControlPlane) -> None:
    """Have pods that name no scheduler go to ours where they may have a model, as shipped."""
    cluster.apply(kustomized(cluster, "deploy/opt-in-models"))
    label = "modelcache.dev/scheduling=enabled"
    cluster.kubectl("label", "namespace", NAMESPACE, label)
    pod = json.dumps(question("required", 0))
    options = ("--dry-run=server", "-o", "jsonpath={.spec.schedulerName}", "-f", "-")
    cluster.wait_for(
        lambda: cluster.kubectl("create", *options, input=pod) == SCHEDULER,
        _QUIET_SECONDS,
        "the policy to be heeded",
    )


def create(cluster: ControlPlane, path: str, objects: Iterator[Mapping[str, Any]]) -> None:
    """Create many objects, several at a time."""
    transport = connect(str(cluster.kubeconfig()))

    def post(document: Mapping[str, Any]) -> None:
        metadata = {k: v for k, v in document["metadata"].items() if k not in _GIVEN}
        body = msgspec.json.encode({**document, "metadata": metadata})
        answer = transport.request("POST", path, body=body, headers=_JSON)
        if not answer.ok:
            raise RuntimeError(f"{path}: {answer.problem().message}")

    with ThreadPoolExecutor(_CREATORS) as pool:
        list(pool.map(post, objects))


_GIVEN = {"resourceVersion", "uid", "creationTimestamp", "managedFields"}
"""What the apiserver gives an object itself."""

_JSON = {"Content-Type": "application/json"}


@contextmanager
def _running(
    extender: str, cluster: ControlPlane, table: Mapping[str, Mapping[str, int]], folder: Path
) -> Iterator[Extender | None]:
    if extender in {OURS, ROUTED}:
        process = cluster.start_extender()
        yield process
        cluster.stop_process(process)
    elif extender == NONE:
        with nullcontext() as nothing:
            yield nothing
    else:
        listing = extender == REFERENCE_LISTING
        with reference(table, folder, list_rejected=listing) as process:
            yield process


def throughput(
    cluster: ControlPlane, server: Extender | None, extender: str, mix: Sequence[str], number: int
) -> Figures:
    """Have pods scheduled, and return how fast that was, and what each one took after the first.

    What goes before the first bind is the start of a scheduler, which lists the whole cluster.
    """
    transport = connect(str(cluster.kubeconfig()))
    named = DEFAULT_SCHEDULER if extender == ROUTED else SCHEDULER
    pods = (question(mix[n % len(mix)], n, scheduler=named) for n in range(number))
    create(cluster, PODS, pods)
    schedulers = [cluster.start_scheduler(_configuration(server, extender), "bench-scheduler")]
    if extender == ROUTED:
        schedulers.append(cluster.start_scheduler(name=DEFAULT_SCHEDULER))
    processes: dict[str, Sequence[Process]] = {"scheduler": schedulers}
    if server is not None:
        processes["extender"] = [server]
    begun = ended = 0.0
    cpu: dict[str, float] = {}
    bound = 0
    for bound, ended in enumerate(_binds(transport.sibling(), number), start=1):  # noqa: B007
        if not cpu:
            begun, cpu = ended, _cpu(processes)
    used = {who: seconds - cpu[who] for who, seconds in _cpu(processes).items()}
    for scheduler in schedulers:
        cluster.stop_process(scheduler)
    delete_pods(transport)
    after = bound - 1
    figures: Figures = {"bound": bound, "pods/s": after / (ended - begun)}
    return figures | {f"{who} CPU ms/pod": its * 1000 / after for who, its in used.items()}


def _cpu(processes: Mapping[str, Sequence[Process]]) -> dict[str, float]:
    """Return the processor seconds that processes have used, by what they are."""
    return {who: sum(map(cpu_seconds, those)) for who, those in processes.items()}


def _configuration(server: Extender | None, extender: str) -> dict[str, Any]:
    """Return the shipped configuration with the extender that is measured."""
    document = scheduler_config(server.url if server else "")
    (section,) = document["extenders"]
    if extender == NONE:
        del document["extenders"]
    elif extender not in {OURS, ROUTED}:
        del section["bindVerb"], section["preemptVerb"]
    return document


def _binds(transport: Transport, number: int) -> Iterator[float]:
    """Watch so many pods being bound; yields when each one was, in seconds of some clock."""
    query: dict[str, str | int] = {"watch": "true", "fieldSelector": "spec.nodeName!="}
    seen: set[str] = set()
    with transport.stream("GET", PODS, query=query, read_timeout=_QUIET_SECONDS) as stream:
        for line in split_lines(stream.chunks()):
            name = msgspec.json.decode(line)["object"]["metadata"]["name"]
            if name not in seen:
                seen.add(name)
                yield monotonic()
            if len(seen) == number:
                break


def delete_pods(transport: Transport, labels: str = "") -> None:
    """Delete the pods of the benchmark's namespace that have these labels, at once."""
    body = msgspec.json.encode({"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
    query: dict[str, str | int] = {"labelSelector": labels}
    answer = transport.request(
        "DELETE", PODS, query=query, body=body, headers=_JSON, read_timeout=300.0
    )
    if not answer.ok:
        raise RuntimeError(f"{PODS}: {answer.problem().message}")
