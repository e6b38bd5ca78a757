"""``simulate``: where so many pods of one manifest would go."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from extender.cli.manifests import pods_of_file
from extender.cli.source import DUMP_EPILOG, cluster_options, path_argument, read_cluster
from extender.cli.terminal import show_table
from extender.config import load_configuration
from extender.errors import UsageError
from extender.kube.quantity import format_bytes
from extender.simulate.placing import Outcome, Placement, document
from extender.simulate.placing import simulate as place_all

SOME_WAIT = 1
MOST_REPLICAS = 10_000


@click.command(epilog=DUMP_EPILOG)
@click.option(
    "-f", "--filename", type=path_argument, required=True, help="A manifest; - is standard input."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_REPLICAS),
    help="How many (default: as many as the manifest says, else 1).",
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
    cordons, taints, node selectors, required node affinity and requests are judged, and what is not
    is named. Exit code 0 where all are placed, 1 where some wait, 2 for wrong use.
    """
    found = pods_of_file(filename, namespace)
    if len(found) > 1:
        raise UsageError(f"{filename}: holds {len(found)} pods; simulate places those of one")
    manifest, parts = found[0]
    pod, constraints = parts[0].pod, parts[0].asked
    cluster = read_cluster(
        load_configuration(config),
        snapshot=snapshot,
        kubeconfig=kubeconfig,
        kube_context=kube_context,
    )
    count = replicas if replicas is not None else _replicas(manifest)
    outcome = place_all(pod, constraints, count, cluster.context, cluster.kept)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(document(outcome)), indent=2))
    else:
        _show(outcome)
    sys.exit(SOME_WAIT if outcome.waiting else 0)


def _replicas(manifest: dict[str, object]) -> int:
    spec = manifest.get("spec")
    said = spec.get("replicas") if isinstance(spec, dict) else None
    return said if isinstance(said, int) and 1 <= said <= MOST_REPLICAS else 1


def _show(outcome: Outcome) -> None:
    name = f"{outcome.namespace or 'default'}/{outcome.pod}"
    click.echo(f"{name}: {outcome.placed} of {outcome.replicas} would be placed\n")
    if outcome.placements:
        header = ("REPLICA", "PLACED ON", "SCORE", "MODEL", "START", "MEMORY LEFT", "LEFT", "HOLDS")
        show_table(header, [_row(one) for one in outcome.placements])
        click.echo("")
    if outcome.waits is not None:
        click.echo(f"{outcome.waits.summary}\n")
        refused = [
            (one.name, one.by, one.reason or "-", one.message) for one in outcome.waits.nodes
        ]
        show_table(("NODE", "REFUSED BY", "REASON", "WHY"), refused)
        click.echo("")
    if outcome.not_judged:
        click.echo(f"not judged, though the manifest says it: {', '.join(outcome.not_judged)}")
    click.echo(f"not modelled: {outcome.not_modelled}")


def _row(one: Placement) -> tuple[str, ...]:
    start = one.estimated_start_seconds
    left = ", ".join(f"{_amount(name, amount)} {name}" for name, amount in one.free.items())
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


def _amount(name: str, amount: int) -> str:
    return f"{amount / 1000:g}" if name == "cpu" else str(amount)
