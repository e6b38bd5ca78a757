"""The cluster as the checks see it: whole objects beside the view, pods grouped by their owner."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.cluster.kept import Kept
from extender.cluster.view import View
from extender.errors import ExtenderError
from extender.kube.objects import DaemonSet, Job, Namespace, Node, Pod
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.verbs.context import Context
from extender.workload.stacks.view import ContainerView

_TEMPLATE_HASH = "pod-template-hash"
OWN_LABEL = "app.kubernetes.io/part-of"
OWN_NAME = "model-cache-extender"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The pods of one owner; they share a template, so the first speaks for all of them.

    ``owner`` is ``Deployment ns/name`` and the like, or ``Pod ns/name`` for one without an owner.
    """

    owner: str
    kind: str
    pods: tuple[Pod, ...]
    judge: Judge

    @property
    def pod(self) -> Pod:
        """The first pod."""
        return self.pods[0]

    @property
    def request(self) -> PodRequest:
        """What it asks for."""
        return self.judge.request


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known. ``schedulers`` are the names under which pods come to us."""

    view: View
    nodes: tuple[Node, ...]
    namespaces: tuple[Namespace, ...]
    daemon_sets: tuple[DaemonSet, ...]
    jobs: tuple[Job, ...]
    groups: tuple[Group, ...]
    schedulers: frozenset[str]


def examine(context: Context, kept: Kept, schedulers: frozenset[str]) -> Examined:
    """Prepare a cluster for the checks; pods that have ended are left out."""
    return Examined(
        view=context.state.view(),
        nodes=tuple(kept.all(Node)),
        namespaces=tuple(kept.all(Namespace)),
        daemon_sets=tuple(kept.all(DaemonSet)),
        jobs=tuple(kept.all(Job)),
        groups=tuple(_groups(context, kept)),
        schedulers=schedulers,
    )


def _groups(context: Context, kept: Kept) -> Iterator[Group]:
    members: dict[tuple[str, str], list[Pod]] = {}
    for pod in kept.all(Pod):
        if pod.status.phase not in {"Succeeded", "Failed"}:
            members.setdefault(_owner(pod), []).append(pod)
    for (kind, owner), pods in members.items():
        try:
            judge = context.judge(pods[0])
        except ExtenderError:  # a quantity that is none: the state has said so
            continue
        yield Group(owner=f"{kind} {owner}", kind=kind, pods=tuple(pods), judge=judge)


def _owner(pod: Pod) -> tuple[str, str]:
    """Return the kind and the name of what made a pod; a Deployment's ReplicaSets are one."""
    metadata, owner = pod.metadata, pod.metadata.controller()
    if owner is None:
        return "Pod", f"{metadata.namespace}/{metadata.name}"
    kind, name = owner.kind, owner.name
    template = metadata.labels.get(_TEMPLATE_HASH, "")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        kind, name = "Deployment", name.removesuffix(f"-{template}")
    return kind, f"{metadata.namespace}/{name}"


def containers_of(pod: Pod, *, init: bool) -> list[ContainerView]:
    """Return a pod's containers as the readers of specs see them."""
    field = "initContainers" if init else "containers"
    listed = pod.spec.init_containers if init else pod.spec.containers
    return [
        ContainerView(container, f"{field}[{index}]", pod.metadata, pod.spec)
        for index, container in enumerate(listed)
    ]
