"""Who vouches for what: loader DaemonSets, their pods, what they left, and whom to trust.

Not safe to use from threads: the cluster state guards it. Of the inventory only the nodes are
renewed on which something changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from cachetools import FIFOCache

from extender.cluster.holdings import ModelState
from extender.cluster.inventory import (
    PROVIDES_ANNOTATION,
    Inventory,
    Loader,
    NodeWitnesses,
    provided_paths,
)
from extender.cluster.nested import Nested
from extender.cluster.reports import Reported, read_report, since_before
from extender.cluster.view import Key
from extender.cluster.witnesses import (
    LoaderPod,
    Silence,
    Witness,
    loader_pod_state,
)
from extender.errors import InvalidReportError
from extender.kube.lives import is_ready
from extender.kube.objects import Namespace, Node, Pod
from extender.kube.times import unix_time
from extender.report import REPORT_ANNOTATION
from extender.workload.model import LOADER_LABEL, LoaderTemplate

TRUSTED_LABEL = "modelcache.dev/loaders"
"""On namespaces, by you: ``trusted`` lets its loaders vouch for pods of every namespace."""


AHEAD = 1_024
"""Nodes that are not known of which what loaders left is kept, the latest first. The watch of nodes
may be behind that of pods: a loader can come and go before its node is told of."""


class LoaderNews(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A loader's pod, what it loads (None where it only speaks as a loader), and what it reports.

    ``unread`` says what of its report does not count, empty where all does.
    """

    pod: Pod
    template: LoaderTemplate | None
    reported: Reported | None = None
    unread: str = ""


class Loaders:
    """Everything that the inventory is made of. ``clock`` gives UNIX time in seconds."""

    def __init__(self, *, clock: Callable[[], float], trusted: Iterable[str]) -> None:
        self.daemonsets: dict[str, Loader] = {}
        self.labelled_trust: set[str] = set()
        self._clock = clock
        self._configured_trust = frozenset(trusted)
        self._pods: dict[str, LoaderPod] = {}
        self._on_node: Nested[LoaderPod] = Nested()
        self._remembered: Nested[LoaderPod] = Nested()
        self._ahead: FIFOCache[str, dict[str, LoaderPod]] = FIFOCache(maxsize=AHEAD)
        """What was left on nodes that are not known: those yet to be told of, and those gone."""
        self._silent: dict[Key, float] = {}
        self._node_created: dict[str, str] = {}
        self._provides: dict[str, tuple[str, ...]] = {}
        self._witnesses: dict[str, NodeWitnesses] = {}
        self._changed: set[str] = set()
        self._inventory: Inventory | None = None

    def inventory(self) -> Inventory:
        """Return what is held where; the same object for as long as nothing changed."""
        changed = {name: self._said_of(name) for name in self._changed}
        self._changed.clear()
        for name, said in changed.items():
            if said is None:
                self._witnesses.pop(name, None)
            else:
                self._witnesses[name] = said
        if self._inventory is None:
            self._inventory = Inventory(
                loaders=self.daemonsets.values(),
                nodes=self._witnesses,
                trusted=self._configured_trust | self.labelled_trust,
            )
        elif changed:
            self._inventory = self._inventory.changed(changed)
        return self._inventory

    def _said_of(self, node: str) -> NodeWitnesses | None:
        """Return who speaks of a node; before a loader speaks again, what it said last stands."""
        pods = [p for p in self._on_node.of(node).values() if self._is_of_this_machine(p)]
        successors = {pod.loader: pod for pod in pods}
        speaking = {pod.loader for pod in pods if pod.speaks}
        left = tuple(
            Witness(before, Silence(_why_gone(successors.get(loader)), before.since))
            for loader, before in self._remembered.of(node).items()
            if loader not in speaking
        )
        silences = {pod.uid: self._silence(pod) for pod in pods}
        alive = [p for p in pods if p.state is ModelState.READY and silences[p.uid] is None]
        present = tuple(
            Witness(pod, silences[pod.uid], [p for p in alive if p.loader == pod.loader])
            for pod in pods
        )
        provides = self._provides.get(node, ())
        if not left and not present and not provides:
            return None
        return NodeWitnesses(left=left, present=present, provides=provides)

    def hear(self, loader: Key, silent_since: float | None) -> None:
        """Note that a namespace's loader fell silent on a node, or (None) speaks again."""
        if silent_since is None:
            self._silent.pop(loader, None)
        else:
            self._silent[loader] = silent_since
        self._changed.add(loader[1])

    def _silence(self, pod: LoaderPod) -> Silence | None:
        """Return why a reporting pod's word is old though it is Ready."""
        since = self._silent.get((pod.namespace, pod.node))
        if since is None or pod.reported is None or pod.state is not ModelState.READY:
            return None
        return Silence("its loader gives no sign of life", since)

    # -- daemonsets ------------------------------------------------------------------------------

    def put_daemonset(self, uid: str, loader: Loader | None) -> None:
        """Keep a DaemonSet that was added or modified, if it is a loader."""
        if loader is None:
            self.forget_daemonset(uid)
        elif loader != self.daemonsets.get(uid):
            self.daemonsets[uid] = loader
            self._inventory = None

    def forget_daemonset(self, uid: str) -> None:
        """Forget a loader and what it left: nobody vouches for those files any more."""
        loader = self.daemonsets.pop(uid, None)
        if loader is None:
            return
        name = f"{loader.namespace}/{loader.name}"
        for node in list(self._remembered):
            if self._remembered.pop(node, name) is not None:
                self._changed.add(node)
        for left in self._ahead.values():
            left.pop(name, None)
        self._inventory = None

    # -- their pods ------------------------------------------------------------------------------

    def concerns(self, uid: str, pod: Pod, template: LoaderTemplate | None) -> bool:
        """Tell whether a pod is a loader's, was taken for one, or speaks as one.

        ``template`` is what it loads.
        """
        if not is_daemon(pod) or not pod.spec.node_name:
            return False
        reports = REPORT_ANNOTATION in pod.metadata.annotations
        return uid in self._pods or reports or template is not None

    def put_pod(self, uid: str, news: LoaderNews) -> str:
        """Keep a pod that was added or modified, if it is a loader's and on a node.

        Returns what is wrong with its report, empty where nothing is.
        """
        pod, template = news.pod, news.template
        owner = pod.metadata.controller()
        if owner is None or not is_daemon(pod) or not pod.spec.node_name:
            return ""
        before = self._pods.get(uid)
        if template is None or pod.status.phase == "Succeeded":
            self.forget_pod(uid)
            return _NO_LOADER if REPORT_ANNOTATION in pod.metadata.annotations else ""
        state, reason, log = loader_pod_state(pod, template)
        since = _ready_changed(pod)
        if state is ModelState.STALE and is_ready(pod):
            # Ready until it was deleted, which no condition tells the time of.
            known = before is not None and before.state is ModelState.STALE
            since = before.since if known and before is not None else self._clock()
        reported = news.reported and since_before(
            news.reported, before.reported if before is not None else None
        )
        now = LoaderPod(
            uid=uid,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            loader=f"{pod.metadata.namespace}/{owner.name}",
            node=pod.spec.node_name,
            template=template,
            state=state,
            reason=reason,
            log=log,
            since=since,
            created=pod.metadata.creation_timestamp,
            reported=reported,
            unread=news.unread,
        )
        if now == before:
            return news.unread
        self._pods[uid] = now
        self._on_node.put(now.node, uid, now)
        self._changed.add(now.node)
        if now.leaves:
            self._remembered.pop(now.node, now.loader)
            self._ahead.get(now.node, {}).pop(now.loader, None)
        elif before is not None:
            self._remember(before)
        return news.unread

    def read(self, uid: str, pod: Pod, template: LoaderTemplate | None) -> LoaderNews:
        """Read what a pod reports, which takes milliseconds: the lock is not needed for that."""
        text = pod.metadata.annotations.get(REPORT_ANNOTATION)
        if text is None or template is None:
            return LoaderNews(pod=pod, template=template)
        # A report that is there at the first sight is as old as its pod at most.
        told = None if uid in self._pods else unix_time(pod.metadata.creation_timestamp)
        try:
            reported = read_report(
                text,
                template.directories,
                witness=f"{pod.metadata.namespace}/{pod.metadata.name}",
                namespace=pod.metadata.namespace,
                told=self._clock() if told is None else told,
            )
        except InvalidReportError as error:
            unread = f"its report does not count: {error}"
            return LoaderNews(pod=pod, template=template, unread=unread)
        return LoaderNews(pod=pod, template=template, reported=reported, unread=reported.spoilt)

    def misread(self, uid: str, pod: Pod) -> bool:
        """Tell whether a known loader pod's report is not what is known of it.

        The lock is not needed for that.
        """
        known = self._pods.get(uid)
        if known is None:
            return False
        now = self.read(uid, pod, known.template).reported
        return (now and since_before(now, known.reported)) != known.reported

    def forget_pod(self, uid: str) -> None:
        """Forget a pod; what it left on its node is remembered."""
        before = self._pods.pop(uid, None)
        if before is not None:
            self._on_node.pop(before.node, uid)
            self._remember(before)
            self._changed.add(before.node)

    def _remember(self, before: LoaderPod) -> None:
        """Keep what a loader pod left on its node; from now on it is stale.

        Not where its loader was deleted (first, as kubectl does by default), or where it was of an
        older machine than the node. What was stale before does not become fresher by that.
        """
        alive = any(before.loader == f"{x.namespace}/{x.name}" for x in self.daemonsets.values())
        if not before.leaves or not alive:
            return
        silent = self._silence(before)
        since = before.since if silent is None else silent.since
        if since is None or (silent is None and before.state is ModelState.READY):
            since = self._clock()
        left = msgspec.structs.replace(before, since=since)
        if before.node not in self._node_created:
            self._ahead.setdefault(before.node, {})[before.loader] = left
        elif self._is_of_this_machine(before):
            self._remembered.put(before.node, before.loader, left)

    def _is_of_this_machine(self, pod: LoaderPod) -> bool:
        """Tell a loader pod of the node from one of a machine that had its name before."""
        created = self._node_created.get(pod.node)
        return created is not None and not (pod.created and pod.created < created)

    # -- nodes and namespaces --------------------------------------------------------------------

    def put_node(self, node: Node) -> bool:
        """Note what a node says it provides, and whether it is another machine now.

        Returns whether either has changed.
        """
        name, created = node.metadata.name, node.metadata.creation_timestamp
        provides = provided_paths(node.metadata.annotations.get(PROVIDES_ANNOTATION))
        another = self._node_created.get(name) != created
        if not another and provides == self._provides.get(name, ()):
            return False
        if another:
            left = {**self._ahead.pop(name, {}), **self._remembered.of(name)}
            self._remembered.drop(name)
            self._node_created[name] = created
            for loader, before in left.items():
                if self._is_of_this_machine(before):
                    self._remembered.put(name, loader, before)
        self._provides[name] = provides
        self._changed.add(name)
        return True

    def differs(self, node: Node) -> bool:
        """Tell whether what is known of a node is not what it says."""
        name, metadata = node.metadata.name, node.metadata
        known = (self._node_created.get(name), self._provides.get(name, ()))
        provides = provided_paths(metadata.annotations.get(PROVIDES_ANNOTATION))
        return known != (metadata.creation_timestamp, provides)

    def forget_node(self, name: str) -> None:
        """Forget a node and all that was on it."""
        self._provides.pop(name, None)
        self._node_created.pop(name, None)
        self._remembered.drop(name)
        self._changed.add(name)

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


_NO_LOADER = (
    f"its {REPORT_ANNOTATION} does not count: it is no loader's; if it is meant to be one, let its "
    f"template mount the models' directory as a writable hostPath and carry the label "
    f"{LOADER_LABEL}=true"
)


def _why_gone(now: LoaderPod | None) -> str:
    """Say why what was known of a node is old: its loader's present pod does not speak."""
    if now is None:
        return "its loader pod is gone"
    if now.template.reports:
        return now.unread or "its loader has not reported yet"
    return f"its loader is {now.state}"


def is_daemon(pod: Pod) -> bool:
    """Tell whether a pod is a DaemonSet's, and so perhaps a loader's."""
    owner = pod.metadata.controller()
    return owner is not None and owner.kind == "DaemonSet"


def is_trusted(namespace: Namespace) -> bool:
    """Tell whether a namespace's label trusts its loaders."""
    return namespace.metadata.labels.get(TRUSTED_LABEL) == "trusted"


def _ready_changed(pod: Pod) -> float | None:
    """Return when the Ready condition last changed, as UNIX time in seconds."""
    for condition in pod.status.conditions:
        if condition.type == "Ready" and condition.last_transition_time:
            return unix_time(condition.last_transition_time)
    return None
