"""Where a command's cluster comes from: ``--snapshot``, ``--kubeconfig`` or the pod's account."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import click

from extender.cli.gaps import gaps
from extender.cli.terminal import complain
from extender.cluster.kept import Kept
from extender.cluster.state import ClusterState
from extender.cluster.view import PodFacts
from extender.config import ExtenderConfiguration
from extender.errors import ExtenderError, UsageError
from extender.explain.naming import some
from extender.kube.objects import Pod
from extender.snapshot import DUMP_COMMAND, fill, read_documents, taken_at
from extender.verbs.context import Context

DUMP_EPILOG = f"\b\nA dump for --snapshot:\n{DUMP_COMMAND} > cluster.yaml"
"""Ends the help of a command: one line to paste, which click does not wrap."""

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
    configuration: ExtenderConfiguration,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
    name_problem: Callable[[str, str], None] = lambda _object, _problem: None,
) -> ClusterState:
    """Make an empty state as configured. For its clocks and problems see ``ClusterState``."""
    return ClusterState(
        clock=clock,
        steady=steady,
        counting=configuration.memory.volumes,
        trusted_namespaces=configuration.evidence.trusted_namespaces,
        learn=configuration.estimate.learn,
        name_problem=name_problem,
    )


def new_context(
    state: ClusterState,
    configuration: ExtenderConfiguration,
    *,
    unsynced: Callable[[], tuple[str, ...]] = tuple,
    stale: Callable[[], tuple[str, ...]] = tuple,
    fence: Callable[[], str] = str,
    term: Callable[[], str | None] = str,
    pause: Callable[[float], None] | None = None,
) -> Context:
    """Return what the verbs need, as configured; while it is ``stale``, no reservation ends."""
    state.keep_reserved_while(lambda: Pod.__name__ in stale())
    return Context(
        state=state,
        policy=configuration.policy(),
        list_rejected=configuration.filter.list_rejected,
        offered_percentage=configuration.filter.offered_percentage,
        draw=Random().randrange,  # noqa: S311 - spreads pods, guards nothing
        schedulers=configuration.waking.scheduler_names,
        unsynced=unsynced,
        stale=stale,
        fence=fence,
        term=term,
        pause=pause,
        hold_seconds=configuration.bind.hold_seconds,
        reservation_seconds=configuration.bind.reservation_seconds,
    )


class Snapshot(NamedTuple):
    """A dump: the state that it makes, its objects, and what could not be read, in words.

    ``gaps`` are the kinds that it lacks.
    """

    state: ClusterState
    kept: Kept
    documents: list[dict[str, Any]]
    problems: list[str]
    gaps: dict[str, str]


def state_from_snapshot(
    configuration: ExtenderConfiguration, path: Path, asked: Iterable[Pod] = ()
) -> Snapshot:
    """Make a state of a dump; ``asked`` are pods that are judged and are no part of it.

    Its time begins when the dump was made: what was fresh then is not old because the file is.
    Raises UsageError for a file without any object: what a kubectl that failed leaves behind.
    """
    left_out: list[str] = []
    documents = read_documents(path, left_out)
    if not any(isinstance(one.get("kind"), str) for one in documents):
        why = f" ({left_out[0]})" if left_out else ""
        raise UsageError(f"{path}: holds no object{why}; make a dump with: {DUMP_COMMAND}")
    state = new_state(configuration, _clock_from(taken_at(documents, time.time())))
    kept = Kept(state)
    left_out += fill(kept, documents)
    problems = [f"{problem}; left out" for problem in left_out]
    problems += [f"{name}: {why}; read without it" for name, why in state.problems().items()]
    return Snapshot(state, kept, documents, problems, gaps(path, documents, asked))


def warn_of(path: Path, problems: list[str]) -> None:
    """Say on stderr what could not be read of a file."""
    for problem in problems:
        complain(f"warning: {path}: {problem}")


def _clock_from(moment: float | None) -> Callable[[], float]:
    begin = time.time()
    return time.time if moment is None else lambda: moment + time.time() - begin


class Cluster(NamedTuple):
    """A cluster that was read once: what the verbs need, the objects, and how to find one pod.

    ``find`` finds a pod's manifest by namespace and name, or raises NoSuchPodError.
    """

    context: Context
    kept: Kept
    find: Callable[[str, str], dict[str, Any]]

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a pod's manifest. Raises NoSuchPodError that names pods which could be meant."""
        try:
            return self.find(namespace, name)
        except NoSuchPodError as error:
            meant = _could_be_meant(self.context.state.pods(), namespace, name)
            raise NoSuchPodError(f"{error}{meant}") from error


def read_cluster(
    configuration: ExtenderConfiguration,
    *,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
    asked: Iterable[Pod] = (),
) -> Cluster:
    """Read a cluster from a dump; without one, list every resource once from the apiserver.

    ``asked`` are pods of a manifest that are judged by it.
    """
    if snapshot is not None:
        read = state_from_snapshot(configuration, snapshot, asked)
        warn_of(snapshot, [*read.problems, *read.gaps.values()])
        context = new_context(read.state, configuration)
        documents = read.documents
        return Cluster(context, read.kept, lambda space, name: _find_pod(documents, space, name))
    from extender.cli.live import list_once, pod_manifest

    state = new_state(configuration)
    kept = Kept(state)
    client = list_once(kept, kubeconfig=kubeconfig, kube_context=kube_context)
    context = new_context(state, configuration)
    return Cluster(context, kept, lambda space, name: pod_manifest(client, space, name))


def _find_pod(documents: list[dict[str, Any]], namespace: str, name: str) -> dict[str, Any]:
    for document in documents[::-1]:  # of what was added to a dump later, as the state has it
        metadata = document.get("metadata")
        if (
            document.get("kind") == "Pod"
            and isinstance(metadata, dict)
            and (metadata.get("namespace", "default"), metadata.get("name")) == (namespace, name)
        ):
            return document
    raise NoSuchPodError(f"pod {namespace}/{name} is not in the snapshot")


def _could_be_meant(pods: Iterable[PodFacts], namespace: str, name: str) -> str:
    """Name pods for one that is not there: of another namespace, or those of a workload."""
    pods = list(pods)
    elsewhere = sorted(one.namespace for one in pods if one.name == name)
    if elsewhere:
        return f"; one of that name is in another namespace: -n {elsewhere[0]}"
    like = [p.name for p in pods if p.namespace == namespace and p.name.startswith(f"{name}-")]
    return f"; there are: {some(like)}" if like else ""


class NoSuchPodError(ExtenderError):
    """The pod that was asked for does not exist."""
