"""Where a command's cluster comes from: ``--snapshot``, ``--kubeconfig`` or the pod's account."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.errors import ExtenderError, UsageError
from extender.snapshot import DUMP_COMMAND, fill, read_documents, taken_at
from extender.verbs.context import Context

path_argument = click.Path(path_type=Path, dir_okay=False)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command takes."""
    for option in (
        click.option("--snapshot", type=path_argument, help="A dump of a cluster (YAML or JSON)."),
        click.option("--context", "kube_context", help="Context of the kubeconfig."),
        click.option("--kubeconfig", type=path_argument, help="Kubeconfig file."),
        click.option("--config", type=path_argument, help="Configuration of the extender."),
    ):
        command = option(command)
    return command


def new_state(
    configuration: ExtenderConfiguration, clock: Callable[[], float] = time.time
) -> ClusterState:
    """Make an empty state as configured."""
    return ClusterState(
        clock=clock,
        counting=configuration.memory.volumes,
        trusted_namespaces=configuration.evidence.trusted_namespaces,
    )


def new_context(
    state: ClusterState,
    configuration: ExtenderConfiguration,
    *,
    unsynced: Callable[[], tuple[str, ...]] = tuple,
    stale: Callable[[], tuple[str, ...]] = tuple,
    fence: Callable[[], str] = str,
) -> Context:
    """Return what the verbs need, as configured."""
    return Context(
        state=state,
        policy=configuration.policy(),
        list_rejected=configuration.filter.list_rejected,
        unsynced=unsynced,
        stale=stale,
        fence=fence,
        hold_seconds=configuration.bind.hold_seconds,
        reservation_seconds=configuration.bind.reservation_seconds,
    )


def state_from_snapshot(
    configuration: ExtenderConfiguration, path: Path
) -> tuple[ClusterState, list[dict[str, Any]]]:
    """Make a state of a dump, and say on stderr what could not be read; return its objects too.

    Its time begins when the dump was made: what was fresh then is not old because the file is.
    Raises UsageError for a file without any object: what a kubectl that failed leaves behind.
    """
    left_out: list[str] = []
    documents = read_documents(path, left_out)
    if not documents and not left_out:
        raise UsageError(f"{path}: holds no object; make a dump with: {DUMP_COMMAND}")
    state = new_state(configuration, _clock_from(taken_at(documents)))
    left_out += fill(state, documents)
    for problem in left_out:
        click.echo(f"warning: {path}: {problem}; left out", err=True)
    for name, problem in state.problems().items():
        click.echo(f"warning: {path}: {name}: {problem}; read without it", err=True)
    return state, documents


def _clock_from(moment: float | None) -> Callable[[], float]:
    begin = time.time()
    return time.time if moment is None else lambda: moment + time.time() - begin


def read_cluster(
    configuration: ExtenderConfiguration,
    *,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> tuple[Context, Callable[[str, str], Any]]:
    """Return a filled context, and a function that finds a pod's manifest by namespace and name.

    Without a snapshot every resource is listed once from the apiserver.
    """
    if snapshot is not None:
        state, documents = state_from_snapshot(configuration, snapshot)
        context = new_context(state, configuration)
        return context, lambda namespace, name: _find_pod(documents, namespace, name)
    from extender.cli.live import list_once, pod_manifest

    state = new_state(configuration)
    context = new_context(state, configuration)
    client = list_once(state, kubeconfig=kubeconfig, kube_context=kube_context)
    return context, lambda namespace, name: pod_manifest(client, namespace, name)


def _find_pod(documents: list[dict[str, Any]], namespace: str, name: str) -> dict[str, Any]:
    for document in documents:
        metadata = document.get("metadata")
        if document.get("kind") != "Pod" or not isinstance(metadata, dict):
            continue
        if (metadata.get("namespace", "default"), metadata.get("name")) == (namespace, name):
            return document
    raise NoSuchPodError(f"pod {namespace}/{name} is not in the snapshot")


class NoSuchPodError(ExtenderError):
    """The pod that was asked for does not exist."""
