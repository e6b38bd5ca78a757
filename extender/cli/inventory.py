"""``inventory``: models by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from extender.cli.source import DUMP_EPILOG, cluster_options, read_cluster
from extender.cli.terminal import show_json, show_table
from extender.config import load_configuration
from extender.explain.inventory import inventory as list_inventory
from extender.kube.quantity import format_bytes
from extender.placement.progress import describe
from extender.report import Transfer


@click.command(epilog=DUMP_EPILOG)
@click.option("-o", "--output", default="table", type=click.Choice(["table", "json"]))
@cluster_options
def inventory(
    *,
    output: str,
    config: Path | None,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> None:
    """List what each node holds, with state, evidence and size; -o json has the witness, too."""
    cluster = read_cluster(
        load_configuration(config),
        snapshot=snapshot,
        kubeconfig=kubeconfig,
        kube_context=kube_context,
    )
    document = list_inventory(cluster.context.state.view())
    if output == "json":
        show_json(document)
        return
    rows = [
        (
            node["name"],
            model["path"],
            model["model"] or "-",
            model["state"].value,
            model["evidence"].value,
            format_bytes(model["bytes"]) if model["bytes"] else "-",
            model["provenAt"] or "-",
            model["since"] or "-",
            _how_far(model["progress"]) or model["reason"] or "",
        )
        for node in document["nodes"]
        for model in node["models"]
    ]
    show_table(
        ("NODE", "PATH", "MODEL", "STATE", "EVIDENCE", "SIZE", "PROVEN", "SINCE", "REASON"), rows
    )


def _how_far(progress: dict[str, Any] | None) -> str:
    if progress is None:
        return ""
    return describe(msgspec.convert({"path": "", **progress}, Transfer))
