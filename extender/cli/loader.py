"""``loader``: the node cache's own commands."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from extender.cli.loader_fill import fill
from extender.cli.loader_paths import Named
from extender.cli.loader_run import run
from extender.cli.source import path_argument
from extender.errors import InvalidObjectError, UsageError
from extender.explain.table import table
from extender.kube.quantity import format_bytes
from extender.loader.proof.verdict import Level, Problem, ProblemKind, Verdict
from extender.loader.sources import as_text
from extender.serving.logs import configure_logging

if TYPE_CHECKING:
    from extender.kube.objects import KubeObject, Pod
    from extender.loader.evict import Decided, Undone

output_option = click.option(
    "-o", "--output", default="table", type=click.Choice(["table", "json"]), help="How to print it."
)


NOTHING_THERE = Verdict(
    ok=False,
    level=Level.MARKER,
    problems=(Problem("", ProblemKind.EMPTY, "empty: nothing to verify"),),
)


@click.group()
def loader() -> None:
    """Keep models on a node: whole, proven, and within the disk's space."""
    configure_logging(level="WARNING", pretty=True)  # stdout is for the answer alone


for command in (run, fill):
    loader.add_command(command)


@loader.command()
@click.argument("directory", type=Named())
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.HEADERS.value,
    show_default=True,
    help="How much to look at: marker (nothing left half-done), sizes (everything that is named "
    "is there), headers (weight files are as long as they say), content (every byte is read and "
    "compared with a hash where one is known).",
)
@output_option
def verify(*, directory: Path, level: str, output: str) -> None:
    """Tell whether the models in DIRECTORY are whole.

    DIRECTORY is a model, a cache of models, or a cache of the Hugging Face hub, whoever filled it.
    Nothing is changed. Exit code: 0 all are whole, 1 one is damaged, or there is none (empty), 2 it
    cannot be looked at.
    """
    from extender.loader.proof.verify import verify as prove
    from extender.loader.stored import is_empty, model_directories

    try:
        models = model_directories(directory)
        if not models or (models == [directory] and is_empty(directory)):
            verdicts = [(directory, NOTHING_THERE)]
        else:
            verdicts = [(found, prove(found, level=Level(level))) for found in models]
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror or error}") from error
    whole = all(verdict.ok for _, verdict in verdicts)
    if output == "json":
        _print_json({"ok": whole, "models": [_verdict(*each) for each in verdicts]})
    else:
        _print_verdicts(verdicts)
    if not whole:
        sys.exit(1)


@loader.command()
@click.option("--directory", required=True, type=Named(), help="The node cache.")
@click.option("--catalog", required=True, type=Named("file"), help="The ModelCatalog in force.")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why.")
@click.option(
    "--node", envvar="NODE_NAME", help="This node's name, for its pods. Default: $NODE_NAME."
)
@click.option(
    "--host-directory",
    help="The cache's directory on the node, where it is mounted elsewhere here. "
    "Default: --directory.",
)
@click.option(
    "--assume-unused",
    is_flag=True,
    help="Do not ask the API which models pods read: none is in use, you say.",
)
@click.option("--foreign", is_flag=True, help="Let go what other programs put there, too.")
@click.option("--kubeconfig", type=path_argument, help="Kubeconfig file.")
@click.option("--context", "kube_context", help="Context of the kubeconfig.")
@click.option("--snapshot", type=path_argument, help="A dump of a cluster (YAML or JSON).")
@output_option
def gc(
    *,
    directory: Path,
    catalog: Path,
    dry_run: bool,
    node: str | None,
    host_directory: str | None,
    assume_unused: bool,
    foreign: bool,
    kubeconfig: Path | None,
    kube_context: str | None,
    snapshot: Path | None,
    output: str,
) -> None:
    """Remove models that the node has no room or no use for.

    Those that left the catalog go after its grace. Above its high watermark others follow, down to
    the low one: lowest priority first, then the least recently used. Models that a pod on this
    node reads, and pinned ones, always stay; so does what other programs put there.

    Which models are in use is asked of the API; where it cannot answer, nothing is removed. Exit
    code: 0 done, 1 room is still short, or a model is being written or cannot be removed, 2 wrong
    use or not possible.
    """
    from extender.loader.catalog import load_catalog
    from extender.loader.evict import Undone, carry_out, decide
    from extender.loader.layout import CacheDirectory
    from extender.loader.publish import Publisher

    read = load_catalog(catalog)
    if assume_unused:
        pods: list[Pod] = []
    else:
        pods = _pods(node, kubeconfig=kubeconfig, kube_context=kube_context, snapshot=snapshot)
    root = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow links
    cache = CacheDirectory(root)
    try:
        decided = decide(
            cache,
            read,
            pods,
            host_directory=host_directory or str(root),
            now=time.time(),
            foreign=foreign,
            of_node=False,
        )
        undone = Undone() if dry_run else carry_out(Publisher(), cache, decided)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror or error}") from error
    if output == "json":
        _print_json(_decided(decided, undone, dry_run=dry_run))
    else:
        _print_decided(decided, undone, dry_run=dry_run)
    if decided.plan.missing or undone.busy or undone.refused:
        sys.exit(1)


def _pods(
    node: str | None,
    *,
    kubeconfig: Path | None,
    kube_context: str | None,
    snapshot: Path | None,
) -> list[Pod]:
    if not node:
        raise UsageError(
            "which models are in use cannot be known without the node's name: give --node, or "
            "--assume-unused where no pod of this node reads a model"
        )
    if snapshot is not None:
        return _pods_of_snapshot(snapshot, node)
    from extender.loader.node_pods import NodePods
    from extender.watch.client import connect

    pods = NodePods(connect(str(kubeconfig) if kubeconfig else None, kube_context), node)
    pods.expect_node()
    return pods()


def _pods_of_snapshot(path: Path, node: str) -> list[Pod]:
    from extender.kube.objects import Node, PersistentVolume, PersistentVolumeClaim, Pod
    from extender.loader.node_pods import followed

    def volume_of(pod: Pod, claim: str) -> PersistentVolume | None:
        bound = claims.get((pod.metadata.namespace, claim))
        return volumes.get(bound.spec.volume_name) if bound is not None else None

    found = _objects(path, Node, Pod, PersistentVolumeClaim, PersistentVolume)
    kept = [one for one in found if isinstance(one, PersistentVolumeClaim)]
    claims = {(one.metadata.namespace, one.metadata.name): one for one in kept}
    volumes = {one.metadata.name: one for one in found if isinstance(one, PersistentVolume)}
    pods = [one for one in found if isinstance(one, Pod) and one.spec.node_name == node]
    if not pods and not any(isinstance(one, Node) and one.metadata.name == node for one in found):
        raise UsageError(
            f"{path}: has no node {node} and no pod on it, so that it cannot be known what is in "
            "use; correct --node, or give --assume-unused"
        )
    running = [pod for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]
    return [followed(pod, volume_of, time.time()) for pod in running]


def _objects(path: Path, *kinds: type[KubeObject]) -> list[KubeObject]:
    """Read the objects of these kinds in a dump."""
    from extender.kube.decode import convert
    from extender.snapshot import read_documents

    known = {kind.__name__: kind for kind in kinds}
    documents = [d for d in read_documents(path) if d.get("kind") in known]
    try:
        return [convert(document, known[document["kind"]]) for document in documents]
    except InvalidObjectError as error:
        raise UsageError(f"{path}: {error}; what is in use cannot be known") from error


def _print_json(document: dict[str, Any]) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def _verdict(path: Path, verdict: Verdict) -> dict[str, Any]:
    return {
        "path": as_text(str(path)),
        "ok": verdict.ok,
        "level": verdict.level,
        "kind": verdict.kind,
        "layout": verdict.layout,
        "files": verdict.files,
        "bytes": verdict.bytes,
        "tensors": verdict.tensors,
        "problems": [
            {"file": problem.file, "kind": problem.kind, "message": problem.message}
            for problem in verdict.problems
        ],
        "unchecked": list(verdict.unchecked),
    }


def _print_verdicts(verdicts: list[tuple[Path, Verdict]]) -> None:
    header = ("PATH", "WHOLE", "LEVEL", "KIND", "FILES", "SIZE")
    rows = [
        (
            as_text(str(path)),
            "yes" if verdict.ok else "no",
            verdict.level.value,
            verdict.kind,
            str(verdict.files),
            format_bytes(verdict.bytes),
        )
        for path, verdict in verdicts
    ]
    click.echo(table(header, rows))
    for path, verdict in verdicts:
        notes = [
            *(
                f"  {problem}" if verdict is NOTHING_THERE else f"  damaged: {problem}"
                for problem in verdict.problems
            ),
            *(f"  not checked: {note}" for note in verdict.unchecked),
        ]
        if notes:
            click.echo("\n".join(["", f"{as_text(str(path))}:", *notes]))


def _decided(decided: Decided, undone: Undone, *, dry_run: bool) -> dict[str, Any]:
    plan = decided.plan
    return {
        "dryRun": dry_run,
        "totalBytes": decided.file_system.total,
        "freeBytes": decided.file_system.free,
        "missingBytes": plan.missing,
        "evictions": [msgspec.to_builtins(each) for each in plan.evictions],
        "stays": [msgspec.to_builtins(each) for each in plan.stays],
        "busy": undone.busy,
        "refused": undone.refused,
    }


def _print_decided(decided: Decided, undone: Undone, *, dry_run: bool) -> None:
    plan = decided.plan
    what = dict.fromkeys(undone.busy, "is being written") | dict.fromkeys(undone.refused, "refused")
    goes = "would go" if dry_run else "gone"
    rows = [
        (
            each.path,
            what.get(each.path, goes),
            each.reason.value,
            format_bytes(each.bytes),
            undone.refused.get(each.path, each.message),
        )
        for each in plan.evictions
    ]
    rows += [
        (each.path, "stays", each.reason.value, format_bytes(each.bytes), each.message)
        for each in plan.stays
    ]
    click.echo(table(("PATH", "WHAT", "REASON", "SIZE", "WHY"), rows))
    free, total = decided.file_system.free, decided.file_system.total
    click.echo(f"\nbefore: {format_bytes(free)} free of {format_bytes(total)}")
    if plan.missing:
        click.echo(
            f"{format_bytes(plan.missing)} more should be free: unpin models, end pods that read "
            "them, let go of foreign ones (--foreign), or enlarge the disk"
        )
