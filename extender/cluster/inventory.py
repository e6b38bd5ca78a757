"""What each node holds: from loader DaemonSets, their pods, and what nodes say of themselves.

A loader vouches for the host directories that it fills. Its pod on a node tells how far it is:
init containers running are ``loading``, a crash is ``failed`` with the kubelet's reason, a pod that
was Ready and no longer is leaves its files behind as ``stale``. Absence needs a witness: where no
loader owns a path and no node declares it, nothing is known and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from extender.kube.objects import ContainerStatus, Pod
from extender.workload.model import DeclaredModel, LoaderTemplate
from extender.workload.volumes import is_within, normal

PROVIDES_ANNOTATION = "modelcache.dev/provides"


_MAX_ANSWERS = 10_000


class ModelState(StrEnum):
    """State of a model on a node, best first."""

    READY = "ready"
    STALE = "stale"
    LOADING = "loading"
    FAILED = "failed"
    ABSENT = "absent"


class Evidence(StrEnum):
    """How sure "the model is there" is, surest first."""

    VERIFIED = "verified"
    DECLARED = "declared"
    ASSUMED = "assumed"


_STATE_RANK = {state: rank for rank, state in enumerate(ModelState)}
_EVIDENCE_RANK = {evidence: rank for rank, evidence in enumerate(Evidence)}


class Holding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one witness says of one path on one node.

    ``path`` is the model's directory, or the loader's whole directory where what it loads cannot be
    told (evidence ``assumed``). ``since`` is the UNIX time in seconds of the last state change as
    far as it is known. ``reason`` is the kubelet's word for a failure. ``witness`` names the loader
    pod (``namespace/name``) or the node's annotation.
    """

    path: str
    state: ModelState
    evidence: Evidence
    witness: str
    model: str | None = None
    reason: str = ""
    since: float | None = None
    bytes: int | None = None

    def rank(self) -> tuple[int, int]:
        """Return a sort key: what is surer comes first, and of two that are as sure, the better.

        A loader that declares a model knows more of it than one that merely owns the directory.
        """
        return _EVIDENCE_RANK[self.evidence], _STATE_RANK[self.state]


class LoaderPod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One loader's pod on one node, reduced to what it vouches for."""

    uid: str
    namespace: str
    name: str
    loader: str
    node: str
    template: LoaderTemplate
    state: ModelState
    reason: str = ""
    since: float | None = None
    created: str = ""

    def holdings(self) -> tuple[Holding, ...]:
        """Return what this pod says of its node: declared models, then assumed directories."""
        declared = tuple(
            self._holding(model.path, Evidence.DECLARED, model) for model in self.template.models
        )
        if not self.template.opaque:
            return declared
        return declared + tuple(
            self._holding(directory, Evidence.ASSUMED, None)
            for directory in self.template.directories
        )

    def _holding(self, path: str, evidence: Evidence, model: DeclaredModel | None) -> Holding:
        sure = evidence if self.template.ready_means_done else Evidence.ASSUMED
        return Holding(
            path=path,
            state=self.state,
            evidence=sure,
            witness=f"{self.namespace}/{self.name}",
            model=model.model if model else None,
            reason=self.reason,
            since=self.since,
        )


class Loader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A loader DaemonSet, known also where it has no pod."""

    uid: str
    namespace: str
    name: str
    template: LoaderTemplate


def provided_paths(annotation: str | None) -> tuple[str, ...]:
    """Read a node's ``provides`` annotation: absolute paths, one a line; others are skipped."""
    lines = (line.strip() for line in (annotation or "").splitlines())
    return tuple(normal(line) for line in lines if line.startswith("/"))


def loader_pod_state(pod: Pod, template: LoaderTemplate) -> tuple[ModelState, str]:
    """Tell how far a loader pod is, and the kubelet's reason where it failed.

    ``ready``: the Ready condition is true and the pod is not being deleted. ``stale``: it is being
    deleted and was Ready, or everything was fetched before its main container stopped being well.
    ``failed``: a container waits in an error or ended with one. ``loading``: anything earlier.
    """
    status = pod.status
    if is_ready(pod):
        if pod.metadata.deletion_timestamp:
            return ModelState.STALE, "its loader pod is being deleted"
        return ModelState.READY, ""
    ran = any(_has_run(container) for container in status.container_statuses)
    if template.init_means_done and _initialized(pod) and ran:
        return ModelState.STALE, _failure(status.container_statuses) or "its loader is not Ready"
    failure = _failure((*status.init_container_statuses, *status.container_statuses))
    if failure or status.phase == "Failed":
        return ModelState.FAILED, failure or status.reason or "Failed"
    return ModelState.LOADING, ""


def is_ready(pod: Pod) -> bool:
    """Tell whether a pod's Ready condition is true."""
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def better(left: Holding | None, right: Holding) -> Holding:
    """Return the better of two holdings of the same node."""
    return right if left is None or right.rank() < left.rank() else left


def relates(held: str, wanted: str) -> bool:
    """Tell whether a held path answers for a wanted one: the same, above it, or below it.

    Above: the loader put the whole directory there. Below: the pod opens a repository (a Triton
    model repository, a Hugging Face cache) of which the loader fills a part.
    """
    return is_within(wanted, held) or is_within(held, wanted)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the inventory says of one path for pods of one namespace.

    ``known`` is false where nobody could say where the path is absent: no trusted loader owns it
    and no node provides it. ``nodes`` maps node names to their best holding; a node that is not in
    it is ``absent`` when ``known``. ``loaders`` names the loaders that own the path, ``untrusted``
    those whose namespace is not trusted by the asker's.
    """

    known: bool
    nodes: Mapping[str, Holding]
    loaders: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()


class Inventory:
    """An immutable index of loaders, loader pods, remembered holdings and provided paths."""

    def __init__(
        self,
        *,
        loaders: Iterable[Loader] = (),
        pods: Iterable[LoaderPod] = (),
        remembered: Mapping[tuple[str, str], LoaderPod] | None = None,
        provides: Mapping[str, tuple[str, ...]] | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        """Build the index.

        ``remembered`` maps (loader, node) to the last Ready pod of that loader there; ``provides``
        maps node names to provided paths; ``trusted`` are the namespaces whose loaders may vouch
        for pods of every namespace.
        """
        self.loaders = tuple(loaders)
        self.pods = tuple(pods)
        self._remembered = dict(remembered or {})
        self._provides = dict(provides or {})
        self._trusted = trusted
        self._answers: dict[tuple[str, str], Answer] = {}

    def lookup(self, path: str, namespace: str) -> Answer:
        """Return what is known of a host path, for a pod of this namespace."""
        key = (path, namespace)
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            answer = self._answers[key] = self._build(path, namespace)
        return answer

    def holdings(self) -> dict[str, list[Holding]]:
        """Return everything that is held, by node, for listings; sorted by path."""
        table: dict[str, dict[str, Holding]] = {}
        for pod in self._every_pod():
            for holding in pod.holdings():
                row = table.setdefault(pod.node, {})
                row[holding.path] = better(row.get(holding.path), holding)
        for node, paths in self._provides.items():
            for path in paths:
                row = table.setdefault(node, {})
                row[path] = better(row.get(path), _provided(node, path))
        return {node: [row[path] for path in sorted(row)] for node, row in sorted(table.items())}

    def _vouches(self, loader_namespace: str, namespace: str) -> bool:
        return loader_namespace == namespace or loader_namespace in self._trusted

    def _owners(self, path: str) -> list[Loader]:
        return [loader for loader in self.loaders if _owns(loader.template, path)]

    def _every_pod(self) -> Iterable[LoaderPod]:
        """Yield pods, and for a loader that was Ready before on a node, what it left there."""
        current = {(pod.loader, pod.node): pod for pod in self.pods}
        for key, before in self._remembered.items():
            now = current.get(key)
            if now is None or now.state not in {ModelState.READY, ModelState.STALE}:
                reason = "its loader pod is gone" if now is None else f"its loader is {now.state}"
                yield msgspec.structs.replace(before, state=ModelState.STALE, reason=reason)
        yield from self.pods

    def _build(self, path: str, namespace: str) -> Answer:
        nodes: dict[str, Holding] = {}
        below: dict[str, Holding] = {}
        for pod in self._every_pod():
            if not self._vouches(pod.namespace, namespace) or not _owns(pod.template, path):
                continue
            for holding in pod.holdings():
                if is_within(path, holding.path):
                    nodes[pod.node] = better(nodes.get(pod.node), holding)
                elif is_within(holding.path, path):
                    below[pod.node] = better(below.get(pod.node), holding)
        provided = False
        for node, paths in self._provides.items():
            if any(is_within(path, held) for held in paths):
                provided = True
                nodes[node] = better(nodes.get(node), _provided(node, path))
        owners = self._owners(path)
        trusted = [loader for loader in owners if self._vouches(loader.namespace, namespace)]
        if not any(_declares(loader.template, path) for loader in trusted):
            # What is opened is a repository, of which a loader fills a part.
            nodes = {**below, **nodes}
        return Answer(
            known=bool(trusted or nodes or provided),
            nodes=nodes,
            loaders=tuple(f"{loader.namespace}/{loader.name}" for loader in trusted),
            untrusted=tuple(
                f"{loader.namespace}/{loader.name}" for loader in owners if loader not in trusted
            ),
        )


def _provided(node: str, path: str) -> Holding:
    return Holding(
        path=path,
        state=ModelState.READY,
        evidence=Evidence.DECLARED,
        witness=f"annotation {PROVIDES_ANNOTATION} of node {node}",
    )


def _owns(template: LoaderTemplate, path: str) -> bool:
    """Tell whether a loader is the one to ask about a path."""
    if any(is_within(path, directory) for directory in template.directories):
        return True
    return any(relates(model.path, path) for model in template.models)


def _declares(template: LoaderTemplate, path: str) -> bool:
    """Tell whether a loader puts a model at a path, or above it."""
    return any(is_within(path, model.path) for model in template.models)


def _initialized(pod: Pod) -> bool:
    return any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions) or (
        not pod.spec.init_containers
    )


def _has_run(status: ContainerStatus) -> bool:
    return (
        status.state.running is not None
        or status.state.terminated is not None
        or status.last_state.terminated is not None
        or status.restart_count > 0
    )


_WAITING_WELL = {"", "ContainerCreating", "PodInitializing"}


def _failure(statuses: Iterable[ContainerStatus]) -> str:
    """Return the kubelet's reason of the first container that is in trouble, else an empty text."""
    for status in statuses:
        waiting, ended = status.state.waiting, status.state.terminated
        before = status.last_state.terminated
        if waiting is not None and waiting.reason not in _WAITING_WELL:
            detail = f", {before.reason} exit {before.exit_code}" if before else ""
            return f"{waiting.reason}{detail}"
        if ended is not None and ended.exit_code != 0:
            return f"{ended.reason or 'Error'} exit {ended.exit_code}"
    return ""
