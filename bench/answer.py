"""How long filter and prioritize take to answer, beside the Go reference in the same run.

One thing varies at a time around 5,000 names on one connection, as kube-scheduler asks: the number
of names, connections that ask at the same moment, full node objects instead of names, and changes a
second in the watch. The names of each body are in an order of their own, as kube-scheduler's are.
Before any of it is measured both are asked everything once, and have to decide the same. Then they
take turns, and what one was seen to take in all of its turns counts together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from bench.fleet import WORKLOADS, Fleet, question
from bench.latency import Latency, together
from bench.programs import (
    Plan,
    cpu_seconds,
    extender,
    load,
    local_apiserver,
    post,
    reference,
)
from bench.results import Row
from bench.rounds import turns
from tests.controlplane.cluster import Extender

VERBS = ("filter", "prioritize")
_BODIES_PER_WORKLOAD = 4
_PODS = 20_000
_WARM_UP = 0.5

OFFERS_ALL = {
    "apiVersion": "modelcache.dev/v1alpha1",
    "kind": "ExtenderConfiguration",
    "filter": {"offeredPercentage": 100},
}
"""Answers are compared with those of the reference, which offers every node that fits."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent.

    ``names``: how many filter is asked about; prioritize is asked about those of them that passed.
    ``rate``: requests a second over all connections, half for each verb; so few that the slower of
    both servers can follow. ``seconds``: of one turn, of which each server has one in each of the
    ``rounds``.
    """

    names: int = 5_000
    connections: int = 1
    form: str = "names"
    events: int = 0
    rate: float = 200.0
    seconds: float = 2.5
    rounds: int = 2


SMALL = [
    Case(names=100),
    Case(names=1_000),
    Case(seconds=8.0, rounds=4),
    Case(connections=4),
    Case(connections=16),
    Case(events=100),
    Case(events=1_000),
    Case(names=100, form="objects", rate=16),
    Case(names=1_000, form="objects", rate=2, seconds=5.0),
    Case(form="objects", rate=0.5, seconds=8.0),
]
LARGE = [Case(names=15_000, rate=60, seconds=6.0)]
QUICK = [
    Case(names=1_000, rate=100, seconds=1.0),
    Case(rate=50, events=100, seconds=1.0, rounds=1),
]


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each case and verb."""
    if quick:
        yield from _measure(Fleet(nodes=5_000, pods=2_000), QUICK, folder)
        return
    yield from _measure(Fleet(nodes=5_000, pods=_PODS), SMALL, folder)
    yield from _measure(Fleet(nodes=15_000, pods=_PODS), LARGE, folder)


def _measure(fleet: Fleet, cases: Sequence[Case], folder: Path) -> Iterator[Row]:
    with (
        local_apiserver(fleet, folder) as apiserver,
        extender(apiserver, folder, OFFERS_ALL) as ours,
    ):
        table = decisions(ours, fleet)
        with reference(table, folder) as theirs:
            written = []
            for number, case in enumerate(cases):
                its = folder / f"{fleet.nodes}-{number}"
                its.mkdir()
                written.append((case, write_bodies(case, fleet, table, its)))
            for _, bodies in written:
                _check(ours, theirs, bodies)
            for case, bodies in written:
                post(f"{apiserver}/events?rate={case.events}")
                servers = {"ours": ours, "theirs": theirs}
                seen: dict[str, list[_Turn]] = {name: [] for name in servers}
                for group in turns(list(servers), {}, case.rounds):
                    for name in group:
                        seen[name].append(_turn(servers[name], case, bodies, folder))
                post(f"{apiserver}/events?rate=0")
                for verb in VERBS:
                    yield _row(verb, case, seen)


def decisions(ours: Extender, fleet: Fleet) -> dict[str, dict[str, int]]:
    """Ask the extender about every node for each workload: the table of the reference.

    Of a pod without a UID it is told all nodes that fit, and not the best of them alone.
    """
    names = fleet.node_names()
    table = {}
    for workload in WORKLOADS:
        pod = question(workload, 0)
        del pod["metadata"]["uid"]
        passed = ours.post("/filter", _args(pod, names))[1]["NodeNames"]
        ranked = ours.post("/prioritize", _args(pod, passed))[1]
        table[workload] = {entry["Host"]: entry["Score"] for entry in ranked}
    return table


def _args(pod: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {"Pod": pod, "Nodes": None, "NodeNames": list(names)}


def write_bodies(
    case: Case, fleet: Fleet, table: Mapping[str, Mapping[str, int]], folder: Path
) -> dict[str, list[str]]:
    """Write what is sent: prioritize is asked about what filter passed."""
    chance = random.Random(case.names)
    index = {fleet.node_name(number): number for number in range(fleet.nodes)}
    large = case.form == "objects"
    workloads = WORKLOADS if not large else ("preferred",)
    paths: dict[str, list[str]] = {verb: [] for verb in VERBS}
    for number in range(1 if large else _BODIES_PER_WORKLOAD):
        for workload in workloads:
            names = chance.sample(fleet.node_names(), case.names)
            asked = {"filter": names, "prioritize": [n for n in names if n in table[workload]]}
            for verb in VERBS:
                args = _args(question(workload, number), asked[verb])
                if large:
                    items = [fleet.node(index[name]) for name in asked[verb]]
                    args |= {"Nodes": {"metadata": {}, "items": items}, "NodeNames": None}
                path = folder / f"{verb}-{workload}-{number}.json"
                path.write_bytes(msgspec.json.encode(args))
                paths[verb].append(str(path))
    return paths


def _check(ours: Extender, theirs: Extender, bodies: Mapping[str, Sequence[str]]) -> None:
    """Make sure that both decide the same about every body.

    The pods have no UID here, so that nothing is remembered or held for them: what is asked first
    changes no later answer. To be called before a load does leave something behind.
    """
    for verb, paths in bodies.items():
        for path in paths:
            args = msgspec.json.decode(Path(path).read_bytes())
            del args["Pod"]["metadata"]["uid"]
            answers = [one.post(f"/{verb}", args)[1] for one in (ours, theirs)]
            different = difference(verb, *answers)
            if different:
                raise RuntimeError(f"{verb}: the two servers differ about {path}: {different}")


def difference(verb: str, ours: Any, theirs: Any) -> str:
    """Say where two answers decide differently; empty where they do not.

    The order of the nodes in an answer decides nothing: kube-scheduler looks each one up by name.
    """
    read = _passed if verb == "filter" else _scored
    left, right = read(ours), read(theirs)
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            return f"{name} is {_said(left, name)} here and {_said(right, name)} in the reference"
    return ""


def _passed(answer: Mapping[str, Any]) -> dict[str, str]:
    names = answer["NodeNames"]
    if names is None:
        nodes = answer["Nodes"] or {"items": ()}
        names = [node["metadata"]["name"] for node in nodes["items"]]
    return dict.fromkeys(names, "passed")


def _scored(answer: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {entry["Host"]: f"scored {entry['Score']}" for entry in answer}


def _said(answer: Mapping[str, str], name: str) -> str:
    return answer.get(name, "left out")


class _Turn(msgspec.Struct, frozen=True):
    latency: Mapping[str, Latency]
    cpu_ms: float


def _turn(server: Extender, case: Case, bodies: Mapping[str, Sequence[str]], folder: Path) -> _Turn:
    plan = Plan(
        url=server.url,
        connections=case.connections,
        rate=case.rate,
        seconds=case.seconds,
        warm_up=_WARM_UP,
        bodies=bodies,
    )
    before = cpu_seconds(server)
    latency = load(plan, folder)
    sent = case.rate * (plan.seconds + plan.warm_up)
    return _Turn(latency, (cpu_seconds(server) - before) * 1000 / sent)


def _row(verb: str, case: Case, seen: Mapping[str, Sequence[_Turn]]) -> Row:
    latency = {
        name: together(turn.latency[verb] for turn in its_turns) for name, its_turns in seen.items()
    }
    ours, theirs = (latency[name].figures() for name in ("ours", "theirs"))
    return Row(
        benchmark="answer time",
        case={
            "verb": verb,
            "names": case.names,
            "form": case.form,
            "connections": case.connections,
            "events/s": case.events,
            "requests/s": case.rate,
        },
        figures={
            "requests": len(latency["ours"].milliseconds),
            **{f"{name} ms": value for name, value in ours.items()},
            **{f"Go {name} ms": value for name, value in theirs.items()},
            **{
                f"{name} ratio": ours[name] / theirs[name]
                for name in ("p50", "p99")
                if name in ours and name in theirs
            },
            "CPU ms": fmean(turn.cpu_ms for turn in seen["ours"]),
            "Go CPU ms": fmean(turn.cpu_ms for turn in seen["theirs"]),
        },
    )
