"""Who vouches for what: loader DaemonSets, their pods, what they left, and whom to trust.

Not safe to use from threads: the cluster state guards it. The inventory is built anew only when
something in here changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from extender.cluster.inventory import (
    PROVIDES_ANNOTATION,
    Inventory,
    Loader,
    LoaderPod,
    ModelState,
    is_ready,
    loader_pod_state,
    provided_paths,
)
from extender.cluster.templates import Templates
from extender.kube.objects import DaemonSet, Namespace, Node, Pod
from extender.kube.times import unix_time
from extender.workload.loaders import read_loader

TRUSTED_LABEL = "modelcache.dev/loaders"


class Loaders:
    """Everything that the inventory is made of. ``clock`` gives UNIX time in seconds."""

    def __init__(
        self, *, clock: Callable[[], float], templates: Templates, trusted: Iterable[str]
    ) -> None:
        self.daemonsets: dict[str, Loader] = {}
        self.labelled_trust: set[str] = set()
        self._clock = clock
        self._templates = templates
        self._configured_trust = frozenset(trusted)
        self._pods: dict[str, LoaderPod] = {}
        self._remembered: dict[tuple[str, str], LoaderPod] = {}
        self._node_created: dict[str, str] = {}
        self._provides: dict[str, tuple[str, ...]] = {}
        self._inventory: Inventory | None = None

    def inventory(self) -> Inventory:
        """Return what is held where; the same object for as long as nothing changed."""
        if self._inventory is None:
            self._inventory = Inventory(
                loaders=self.daemonsets.values(),
                pods=[p for p in self._pods.values() if self._is_of_this_machine(p)],
                remembered=self._remembered,
                provides=self._provides,
                trusted=self._configured_trust | self.labelled_trust,
            )
        return self._inventory

    # -- daemonsets ------------------------------------------------------------------------------

    def put_daemonset(self, uid: str, daemonset: DaemonSet) -> None:
        """Keep a DaemonSet that was added or modified, if it is a loader."""
        template = read_loader(daemonset)
        if template is None:
            self.forget_daemonset(uid)
            return
        now = Loader(
            uid=uid,
            namespace=daemonset.metadata.namespace,
            name=daemonset.metadata.name,
            template=template,
        )
        if now != self.daemonsets.get(uid):
            self.daemonsets[uid] = now
            self._inventory = None

    def forget_daemonset(self, uid: str) -> None:
        """Forget a loader and what it left: nobody vouches for those files any more."""
        loader = self.daemonsets.pop(uid, None)
        if loader is None:
            return
        name = f"{loader.namespace}/{loader.name}"
        for key in [key for key in self._remembered if key[0] == name]:
            del self._remembered[key]
        self._inventory = None

    # -- their pods ------------------------------------------------------------------------------

    def put_pod(self, uid: str, pod: Pod) -> None:
        """Keep a pod that was added or modified, if it is a loader's and on a node."""
        owner = pod.metadata.controller()
        if owner is None or owner.kind != "DaemonSet" or not pod.spec.node_name:
            return
        before = self._pods.get(uid)
        template = self._templates.loader(pod)
        if template is None or pod.status.phase == "Succeeded":
            self.forget_pod(uid)
            return
        state, reason = loader_pod_state(pod, template)
        since = _ready_changed(pod)
        if state is ModelState.STALE and is_ready(pod):
            # Ready until it was deleted, which no condition tells the time of.
            known = before is not None and before.state is ModelState.STALE
            since = before.since if known and before is not None else self._clock()
        now = LoaderPod(
            uid=uid,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            loader=f"{pod.metadata.namespace}/{owner.name}",
            node=pod.spec.node_name,
            template=template,
            state=state,
            reason=reason,
            since=since,
            created=pod.metadata.creation_timestamp,
        )
        if now == before:
            return
        self._pods[uid] = now
        self._inventory = None
        if state is ModelState.READY:
            self._remembered.pop((now.loader, now.node), None)
        elif before is not None:
            self._remember(before)

    def forget_pod(self, uid: str) -> None:
        """Forget a pod; what it left on its node is remembered."""
        before = self._pods.pop(uid, None)
        if before is not None:
            self._remember(before)
            self._inventory = None

    def _remember(self, before: LoaderPod) -> None:
        """Keep what a Ready loader pod left on its node; from now on it is stale.

        Not where its loader was deleted (first, as kubectl does by default), or the node.
        """
        alive = any(before.loader == f"{x.namespace}/{x.name}" for x in self.daemonsets.values())
        if before.state is ModelState.READY and alive and self._is_of_this_machine(before):
            self._remembered[before.loader, before.node] = msgspec.structs.replace(
                before, since=self._clock()
            )

    def _is_of_this_machine(self, pod: LoaderPod) -> bool:
        """Tell a loader pod of the node from one of a machine that had its name before."""
        created = self._node_created.get(pod.node)
        return created is not None and not (pod.created and pod.created < created)

    # -- nodes and namespaces --------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """Note what a node says it provides, and whether it is another machine now."""
        name, created = node.metadata.name, node.metadata.creation_timestamp
        if self._node_created.get(name) != created:
            self._forget_remembered(name)
            self._node_created[name] = created
            self._inventory = None
        provides = provided_paths(node.metadata.annotations.get(PROVIDES_ANNOTATION))
        if provides != self._provides.get(name, ()):
            self._provides[name] = provides
            self._inventory = None

    def forget_node(self, name: str) -> None:
        """Forget a node and all that was on it."""
        if self._provides.pop(name, None):
            self._inventory = None
        if self._node_created.pop(name, None) is not None:
            self._inventory = None
        self._forget_remembered(name)

    def _forget_remembered(self, name: str) -> None:
        for key in [key for key in self._remembered if key[1] == name]:
            del self._remembered[key]
            self._inventory = None

    def put_namespace(self, namespace: Namespace) -> None:
        """Note whether a namespace's loaders may vouch for pods of every namespace."""
        name = namespace.metadata.name
        if is_trusted(namespace) == (name in self.labelled_trust):
            return
        self.labelled_trust ^= {name}
        self._inventory = None

    def forget_namespace(self, name: str) -> None:
        """Forget a namespace."""
        if name in self.labelled_trust:
            self.labelled_trust.discard(name)
            self._inventory = None


def is_trusted(namespace: Namespace) -> bool:
    """Tell whether a namespace's label trusts its loaders."""
    return namespace.metadata.labels.get(TRUSTED_LABEL) == "trusted"


def _ready_changed(pod: Pod) -> float | None:
    """Return when the Ready condition last changed, as UNIX time in seconds."""
    for condition in pod.status.conditions:
        if condition.type == "Ready" and condition.last_transition_time:
            return unix_time(condition.last_transition_time)
    return None
