"""``explain``: why a pod goes where it goes, or waits."""

from __future__ import annotations

import re
import shlex
import sys
from functools import partial
from pathlib import Path

import click

from extender.cli.manifests import pods_of_file
from extender.cli.source import DUMP_EPILOG, cluster_options, path_argument, read_cluster
from extender.cli.terminal import is_piped, say, show_json, show_nodes
from extender.config import load_configuration
from extender.errors import UsageError
from extender.explain.document import Document, is_well
from extender.explain.table import NODE_HEADER, node_rows
from extender.explain.workloads import explain_all
from extender.kube.decode import NO_NAME
from extender.workload.manifest import POD_SPEC, parts_of

DOES_NOT_FIT = 1

_PODS = frozenset({"pod", "pods", "po"})
"""What kubectl calls pods."""

_OF_THE_POD = re.compile(rf"(?<!--field-selector ){POD_SPEC}\.")
"""A field of the pod, but for what a command selects by."""


@click.command(epilog=DUMP_EPILOG)
@click.argument("pod", required=False)
@click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    help="Of POD, or of what the manifest puts into no namespace.",
)
@click.option(
    "-f", "--filename", type=path_argument, help="A manifest, in place of POD; - is standard input."
)
@click.option("--node", "only", help="List this node alone; the exit code is its own.")
@click.option("-o", "--output", default="table", type=click.Choice(["table", "json"]))
@cluster_options
def explain(
    *,
    pod: str | None,
    namespace: str,
    filename: Path | None,
    only: str | None,
    output: str,
    config: Path | None,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> None:
    """Say what a pod asks for and what every node answers.

    Cordons, taints, node selectors, required node affinity, claims and requests are judged as
    kube-scheduler does; what is not looked at is named. Exit code 0 where some node fits or the pod
    runs or starts on its own, 1 where no node fits, nobody places the pod (its scheduler does not
    run, has not looked at it for a minute, or failed at it) or it cannot run where it is, 2 for
    wrong use.
    """
    if (pod is None) == (filename is None):
        raise UsageError("name a pod, or give a manifest with -f; one of the two")
    pod = None if pod is None else _pod_name(pod, namespace)
    configuration = load_configuration(config)
    found = pods_of_file(filename, namespace) if filename is not None else []
    cluster = read_cluster(
        configuration,
        snapshot=snapshot,
        kubeconfig=kubeconfig,
        kube_context=kube_context,
        asked=[part.pod for _, parts in found for part in parts],
    )
    context = cluster.context
    if filename is None:
        manifest = cluster.pod(namespace, pod or "")
        found = [(manifest, parts_of(manifest))]
    if only is not None and only not in context.state.view().nodes:
        raise UsageError(f"node {only} is not in the cluster")
    try:
        documents = [one for each, of in found for one in explain_all(each, of, context, only)]
    except UsageError as error:
        raise UsageError(f"{filename}: {error}") from error
    if output == "json":
        answer = documents[0] if len(documents) == 1 else documents
        show_json(answer)
    else:
        for number, document in enumerate(documents):
            for line in [""] * bool(number) + _readable(document):
                say(line)
            rows_of = partial(node_rows, remedies=is_piped())
            show_nodes(NODE_HEADER, document["nodes"], rows_of)
    sys.exit(0 if all(is_well(document, only) for document in documents) else DOES_NOT_FIT)


def _pod_name(said: str, namespace: str) -> str:
    """Return the name of a pod, which may come as ``pod/NAME``. Raises UsageError for others."""
    kind, slash, name = said.partition("/")
    if not slash:
        return said
    if kind.lower() in _PODS and name:
        return name
    raise UsageError(
        f"{said}: is no pod's name; of a workload give the manifest: kubectl get -n "
        f"{shlex.quote(namespace)} {shlex.quote(said)} -o yaml | model-cache-extender explain -f "
        "-; of a pod the name, and its namespace with -n"
    )


def _readable(document: Document) -> list[str]:
    """Return what is said of a pod before its nodes, one line each."""
    part = f" ({document['part']})" if document["part"] else ""
    name = f"{document['namespace'] or 'default'}/{document['pod'] or NO_NAME}{part}"
    lines = [f"pod {name}: {document['summary']}"]
    lines += [
        f"  {reference['model'] or reference['role']}: read from {', '.join(reference['readFrom'])}"
        for reference in document["references"]
        if reference["readFrom"]
    ]
    lines += [f"warning: {w['message']}" for w in document["warnings"]]
    told = (*lines, *(node["remedy"] or "" for node in document["nodes"]))
    if document["template"] and any(map(_OF_THE_POD.search, told)):
        lines.append(f"fields of {POD_SPEC} are those of the pod: {document['template']}")
    return [*lines, ""]
