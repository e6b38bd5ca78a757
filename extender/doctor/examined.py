"""The cluster as the checks see it: whole objects beside the view, pods grouped by their owner."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.cluster.kept import Kept
from extender.cluster.ledger import FINISHED
from extender.cluster.namespaces import is_opted_in
from extender.cluster.templates import template_key
from extender.cluster.view import View
from extender.doctor.owners import Owner, Owners
from extender.errors import ExtenderError
from extender.kube.objects import DaemonSet, Job, Namespace, Node, PersistentVolumeClaim, Pod
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.verbs.context import Context
from extender.workload.stacks.view import PodView


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The pods of one owner that are alike, so that the first speaks for all of them.

    An owner has several while its template changes, or where its pods have claims or variables of
    their own. ``siblings`` counts the pods of all of them, ``view`` has the first one's containers
    as the readers of specs see them.
    """

    owner: Owner
    pods: tuple[Pod, ...]
    siblings: int
    judge: Judge
    view: PodView

    @property
    def pod(self) -> Pod:
        """The first pod."""
        return self.pods[0]

    @property
    def name(self) -> str:
        """What the owner is called: ``Deployment ns/name`` and the like."""
        return str(self.owner)

    @property
    def kind(self) -> str:
        """The kind of what made the pods, ``Pod`` where nobody did."""
        made_by = self.pod.metadata.controller()
        return "Pod" if made_by is None else made_by.kind

    @property
    def request(self) -> PodRequest:
        """What it asks for."""
        return self.judge.request


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known. ``schedulers`` are the names under which pods come to us.

    ``opted_in`` are the namespaces whose pods are sent to them by label.
    """

    view: View
    nodes: tuple[Node, ...]
    namespaces: tuple[Namespace, ...]
    daemon_sets: tuple[DaemonSet, ...]
    jobs: tuple[Job, ...]
    claims: tuple[PersistentVolumeClaim, ...]
    groups: tuple[Group, ...]
    schedulers: frozenset[str]
    opted_in: frozenset[str]
    owners: Owners


def examine(context: Context, kept: Kept, schedulers: frozenset[str]) -> Examined:
    """Prepare a cluster for the checks; pods that have ended are left out."""
    owners = Owners(kept.all(Job))
    namespaces = tuple(kept.all(Namespace))
    return Examined(
        view=context.state.view(),
        nodes=tuple(kept.all(Node)),
        namespaces=namespaces,
        daemon_sets=tuple(kept.all(DaemonSet)),
        jobs=tuple(kept.all(Job)),
        claims=tuple(kept.all(PersistentVolumeClaim)),
        groups=tuple(_groups(context, kept, owners)),
        schedulers=schedulers,
        opted_in=frozenset(one.metadata.name for one in namespaces if is_opted_in(one)),
        owners=owners,
    )


def _groups(context: Context, kept: Kept, owners: Owners) -> Iterator[Group]:
    members: dict[Owner, dict[tuple[bytes, str], list[Pod]]] = {}
    for pod in kept.all(Pod):
        if pod.status.phase not in FINISHED:
            alike = template_key(pod), pod.spec.scheduler_name
            members.setdefault(owners.of(pod), {}).setdefault(alike, []).append(pod)
    for owner, groups in members.items():
        siblings = sum(map(len, groups.values()))
        for pods in groups.values():
            try:
                judge = context.judge(pods[0])
            except ExtenderError:  # a quantity that is none: the state has said so
                continue
            view = PodView(pods[0].metadata, pods[0].spec)
            yield Group(owner=owner, pods=tuple(pods), siblings=siblings, judge=judge, view=view)
