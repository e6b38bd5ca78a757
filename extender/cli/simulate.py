"""``simulate``: where so many pods of one manifest would go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from extender.cli.manifests import pods_of_file
from extender.cli.source import DUMP_EPILOG, cluster_options, path_argument, read_cluster
from extender.cli.terminal import is_piped, say, show_json, show_nodes, show_table
from extender.cluster.requests import in_words
from extender.config import load_configuration
from extender.errors import UsageError
from extender.explain.table import Node, why
from extender.kube.decode import NO_NAME
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes
from extender.simulate.counting import MOST_PODS, replicas_of
from extender.simulate.placing import Outcome, Placement, document
from extender.simulate.placing import simulate as place_all

SOME_WAIT = 1
_HEADER: tuple[str, ...] = (
    "REPLICA", "PLACED ON", "SCORE", "MODEL", "START", "MEMORY LEFT", "LEFT", "HOLDS",
)  # fmt: skip
_REFUSED_HEADER = ("NODE", "REFUSED BY", "REASON", "WHY")


@click.command(epilog=DUMP_EPILOG)
@click.option(
    "-f", "--filename", type=path_argument, required=True, help="A manifest; - is standard input."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_PODS),
    help="How many pods, or groups of them (default: as many as the manifest asks for).",
)
@click.option(
    "-n", "--namespace", default="default", show_default=True, help="Where it names none."
)
@click.option("-o", "--output", default="table", type=click.Choice(["table", "json"]))
@cluster_options
def simulate(
    *,
    filename: Path,
    replicas: int | None,
    namespace: str,
    output: str,
    config: Path | None,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> None:
    """Place pods one after another in thought, and say what each placement leaves.

    filter, prioritize and bind decide, over a copy of the cluster; of kube-scheduler's own rules
    cordons, taints, node selectors, required node affinity, claims and requests are judged, and
    what is not is named. A workload with several templates has all its pods placed, a leader and
    then its workers, group by group; a DaemonSet one on each node that matches, in place of those
    that it has. Exit code 0 where all are placed, 1 where some wait, 2 for wrong use.
    """
    found = pods_of_file(filename, namespace)
    if len(found) > 1:
        raise UsageError(f"{filename}: holds {len(found)} pods; simulate places those of one")
    manifest, parts = found[0]
    cluster = read_cluster(
        load_configuration(config),
        snapshot=snapshot,
        kubeconfig=kubeconfig,
        kube_context=kube_context,
        asked=[part.pod for part in parts],
    )
    nodes = cluster.context.state.view().nodes
    try:
        asked, said = replicas_of(manifest, parts, nodes, replicas)
    except UsageError as error:
        raise UsageError(f"{filename}: {error}") from error
    outcome = place_all(asked, cluster.context, cluster.kept)
    if output == "json":
        answer = document(outcome, parts[0].pod)
        show_json(answer)
    else:
        _show(outcome, parts[0].pod, said)
    sys.exit(SOME_WAIT if outcome.waiting else 0)


def _show(outcome: Outcome, pod: Pod, said: str) -> None:
    metadata = pod.metadata
    name = f"{metadata.namespace or 'default'}/{metadata.name or metadata.generate_name or NO_NAME}"
    say(f"{name}: {outcome.placed} of {outcome.replicas} would be placed")
    say()
    if not outcome.replicas:
        say(f"it asks for no pod now ({said}); place some all the same with --replicas")
        say()
    if outcome.placements:
        parts = [("PART",), *((one.part or "-",) for one in outcome.placements)]
        table = [_HEADER, *map(_row, outcome.placements)]
        if any(one.part for one in outcome.placements):
            table = [(*row[:1], *part, *row[1:]) for row, part in zip(table, parts, strict=True)]
        show_table(table[0], table[1:])
        say()
    first = [outcome.waits] if outcome.waits is not None else []
    for waits in (*first, *outcome.others_wait):
        part = f"{waits.part}: " if waits.part else ""
        say(f"{part}{waits.summary}")
        say()
        nodes = [{**msgspec.to_builtins(one), "refusedBy": one.by} for one in waits.nodes]
        show_nodes(_REFUSED_HEADER, nodes, _refused_rows)
        say()
    if outcome.not_judged:
        say(f"not judged: {', '.join(outcome.not_judged)}")
    say(f"not modelled: {outcome.not_modelled}")


def _refused_rows(nodes: Sequence[Node]) -> list[tuple[str, ...]]:
    piped = is_piped()
    return [
        (one["name"], one["by"], one["reason"] or "-", why(one, remedies=piped)) for one in nodes
    ]


def _row(one: Placement) -> tuple[str, ...]:
    start = one.estimated_start_seconds
    left = ", ".join(in_words(name, amount) for name, amount in one.free.items())
    return (
        str(one.replica),
        one.node,
        "only node" if one.score is None else str(one.score),
        one.state or "-",
        "-" if start is None else f"{start:.0f} s",
        format_bytes(one.memory_free_bytes),
        left or "-",
        ", ".join(one.models) or "-",
    )
