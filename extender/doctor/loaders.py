"""Loaders that do not load, and models that nobody is known to load."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator

from extender.cluster.holdings import ModelState
from extender.cluster.inventory import PROVIDES_ANNOTATION
from extender.cluster.witnesses import LoaderPod
from extender.doctor.examined import Examined
from extender.doctor.finding import Finding, Severity
from extender.doctor.owners import daemon_set_owner
from extender.explain.logs import see_why
from extender.explain.naming import some
from extender.kube.lives import ContainerLog, is_probed
from extender.kube.objects import DaemonSet
from extender.workload.model import LoaderTemplate, Need, Source
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import PodView


def check_loaders(examined: Examined) -> Iterator[Finding]:
    """Yield what is wrong with loaders and with what pods expect of them."""
    pods: dict[str, list[LoaderPod]] = defaultdict(list)
    for pod in examined.view.inventory.pods:
        pods[pod.loader].append(pod)
    made = {(one.metadata.namespace, one.metadata.name): one for one in examined.daemon_sets}
    for loader in examined.view.inventory.loaders:
        name = f"{loader.namespace}/{loader.name}"
        daemon_set = made.get((loader.namespace, loader.name))
        if daemon_set is not None:
            yield from _template(loader.template, daemon_set)
        yield from _states(f"DaemonSet {name}", name, pods[name])
    yield from _expected(examined)


def _template(template: LoaderTemplate, daemon_set: DaemonSet) -> Iterator[Finding]:
    """Say once what the manifest leaves open: what is loaded, and when that is done."""
    owner = daemon_set_owner(daemon_set.metadata)
    name = str(owner)
    early = not template.ready_means_done and not template.reports
    below = ", ".join(template.directories)
    annotations = owner.at("metadata.annotations")
    annotate = f"write the paths, one a line, into modelcache.dev/models of {annotations}"
    probes = ", ".join(owner.at(f"spec.{f}.readinessProbe") for f in _unproven(daemon_set))
    probe = f"download in an init container, or test for the finished model in {probes}"
    if early and (template.models or not template.opaque):
        yield Finding(
            severity=Severity.WARNING,
            check="LoaderReadyTooSoon",
            object=name,
            message="a main container without a probe downloads: its pods are Ready while models "
            "are still on their way",
            remedy=f"{probe}; its script cannot be read to its end: {annotate}"
            if template.opaque
            else probe,
        )
    elif early:
        yield Finding(
            severity=Severity.WARNING,
            check="LoaderOpaque",
            object=name,
            message="what it loads cannot be told from its spec, and no probe tells when it is "
            f"done: once its pod is Ready any path below {below} is assumed to be there",
            remedy=f"{annotate}; and {probe}",
        )
    elif template.opaque:
        yield Finding(
            severity=Severity.NOTE,
            check="LoaderOpaque",
            object=name,
            message="what it loads cannot be told from its spec: that its pod is Ready only makes "
            f"any path below {below} assumed",
            remedy=annotate,
        )


def _unproven(daemon_set: DaemonSet) -> Iterator[str]:
    """Yield the main containers that fetch, or may, and have no probe."""
    template = daemon_set.spec.template
    for view in PodView(template.metadata, template.spec).main:
        container, done = view.container, fills(view)
        if (done.fills or done.opaque) and not is_probed(container):
            yield view.field


def _states(name: str, loader: str, pods: list[LoaderPod]) -> Iterator[Finding]:
    if not pods:
        where = " ".join(map(shlex.quote, loader.split("/")))
        yield Finding(
            severity=Severity.WARNING,
            check="LoaderWithoutPods",
            object=name,
            message="has no pod on any node",
            remedy="see its spec.template.spec.nodeSelector, affinity and tolerations, and its "
            f"events: kubectl describe daemonset -n {where}",
        )
        return
    ready = sum(pod.state is ModelState.READY for pod in pods)
    failed = [pod for pod in pods if pod.state is ModelState.FAILED]
    stale = [pod for pod in pods if pod.state is ModelState.STALE]
    loading = [pod for pod in pods if pod.state is ModelState.LOADING]
    mute = [pod for pod in pods if not pod.speaks and pod.state is ModelState.READY]
    if mute:
        yield Finding(
            severity=Severity.ERROR if len(mute) == len(pods) else Severity.WARNING,
            check="LoaderWithoutReport",
            object=name,
            message=f"is Ready and has not reported on {_where(mute, pods)} "
            f"({some(pod.unread or 'no report' for pod in mute)}): its models count as loading",
            remedy=f"{see_why(mute[0].namespace, mute[0].name, ContainerLog())}; it "
            "needs the right to patch its own pod (deploy/loader)",
        )
    if failed:
        yield Finding(
            severity=Severity.WARNING if ready else Severity.ERROR,
            check="LoaderFailed",
            object=name,
            message=f"fails on {_where(failed, pods)} ({some(pod.reason for pod in failed)})",
            remedy=see_why(failed[0].namespace, failed[0].name, failed[0].log),
        )
    if stale:
        yield Finding(
            severity=Severity.WARNING,
            check="LoaderNotReady",
            object=name,
            message=f"was Ready and is no longer on {_where(stale, pods)} "
            f"({some(pod.reason for pod in stale)}): its models pass for "
            "evidence.staleGraceSeconds, then no more",
            remedy=see_why(stale[0].namespace, stale[0].name, None),
        )
    if loading:
        yield Finding(
            severity=Severity.NOTE,
            check="LoaderLoading",
            object=name,
            message=f"is still loading on {_where(loading, pods)}",
            remedy="none: pods that wait are tried again when it is done",
        )


def _where(some_pods: list[LoaderPod], all_pods: list[LoaderPod]) -> str:
    nodes = some(pod.node for pod in some_pods)
    return f"{len(some_pods)} of {len(all_pods)} nodes: {nodes}"


def _expected(examined: Examined) -> Iterator[Finding]:
    """Tell host paths that pods open and that no loader may, or does, vouch for."""
    untrusted: dict[tuple[str, str], set[str]] = defaultdict(set)
    unowned: dict[str, set[str]] = defaultdict(set)
    for group in examined.groups:
        for reference, answer in group.judge.answers.items():
            if reference.need is Need.IGNORE:
                continue
            namespace = group.pod.metadata.namespace
            for loader in answer.untrusted:
                if not answer.loaders:
                    untrusted[loader, namespace].add(group.name)
            if answer.is_unowned and reference.source is Source.HOST_PATH:
                unowned[reference.host_path or ""].add(group.name)
    for (loader, namespace), owners in sorted(untrusted.items()):
        yield Finding(
            severity=Severity.WARNING,
            check="UntrustedLoader",
            object=f"DaemonSet {loader}",
            message=f"fills what pods of namespace {namespace} read ({some(owners)}), and may not "
            "vouch for them: nothing is known of their model",
            remedy=f"if it may: kubectl label namespace {shlex.quote(loader.split('/')[0])} "
            "modelcache.dev/loaders=trusted",
        )
    for path, owners in sorted(unowned.items()):
        yield Finding(
            severity=Severity.NOTE,
            check="PathWithoutLoader",
            object=some(owners),
            message=f"reads {path}, which no known loader fills on any node: no node is refused "
            "for it, or preferred",
            remedy="where it is baked in: kubectl annotate node NODE "
            f"{shlex.quote(f'{PROVIDES_ANNOTATION}={path}')}; where a DaemonSet fills it: "
            'modelcache.dev/loader: "true" among its spec.template.metadata.labels',
        )
