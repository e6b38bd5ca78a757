"""What keeps a pod from every node before any is asked: nobody will place it, or not yet."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

import msgspec

from extender.cluster.ledger import FINISHED
from extender.cluster.namespaces import DEFAULT_SCHEDULER, LEFT_ALONE, OPT_IN
from extender.cluster.view import PodFacts, View
from extender.explain.chosen import chosen_node, unheard_of
from extender.explain.claims import see_claim
from extender.explain.standing import is_lost
from extender.kube.lives import condition_of, statuses, troubles
from extender.kube.objects import Pod
from extender.kube.times import unix_time
from extender.placement.progress import in_words
from extender.workload.constraints import Constraints

_FAILED = "SchedulerError"
"""The reason that kube-scheduler gives where no node was at fault: an extender that did not answer,
a Binding that was refused (``PodReasonSchedulerError`` in k8s.io/api/core/v1/types.go)."""


ENDED, DELETED = "PodEnded", "PodDeleted"
SILENT = "SchedulerSilent"
"""No scheduler has said anything of the pod for too long; says what was chosen, if anything."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Why no node is asked; ``message`` begins the sentence about the pod."""

    reason: str
    message: str
    remedy: str


def held_back(
    pod: Pod,
    asked: Constraints,
    schedulers: Collection[str],
    pods: Collection[PodFacts],
    view: View,
) -> Held | None:
    """Say why a pod is not placed at all; None where it may be, or runs already.

    ``schedulers`` are those that ask this program.
    """
    status = pod.status
    if status.phase in FINISHED:
        return Held(
            reason=ENDED,
            message=f"has ended ({_how_it_ended(pod)}) and is not placed again",
            remedy=_after_the_end(pod),
        )
    if pod.metadata.deletion_timestamp:
        return _leaving(pod, view)
    if pod.spec.node_name:
        return None
    if asked.scheduling_gates:
        gates = ", ".join(gate.name for gate in asked.scheduling_gates)
        return Held(
            reason="SchedulingGated",
            message=f"waits: spec.schedulingGates holds it back ({gates})",
            remedy="whoever set a gate takes it away; see that this controller runs",
        )
    name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
    looked = condition_of(pod, "PodScheduled")
    if looked is not None:
        return _failed(name, looked.message, schedulers) if looked.reason == _FAILED else None
    known = name in {DEFAULT_SCHEDULER, *schedulers}
    if not known and not any(facts.node and facts.scheduler == name for facts in pods):
        return Held(
            reason="SchedulerUnknown",
            message=f"waits: nobody seems to run its scheduler, {name} (no pod of it has a node)",
            remedy=f"spec.schedulerName: {' or '.join(schedulers)}; a name of your own belongs "
            "into waking.schedulerNames of the extender's configuration",
        )
    own = next((facts for facts in pods if facts.uid == pod.metadata.uid), None)
    waited = unheard_of(own, view) if own is not None else None
    if own is None or waited is None:
        return None
    chosen = chosen_node(own, view)
    if chosen is None:
        return _unseen(pod, asked, waited, schedulers)
    see = [see_claim(own.namespace, chosen.claim)] if chosen.claim else []
    stuck = "that, or " if chosen.claim else ""
    return Held(
        reason=SILENT,
        message=f"waits: {chosen.told(view)}, and it has no node yet {in_words(waited)} after it "
        f"was created: {stuck}{name} may be stuck",
        remedy="; ".join([*see, _see(name, schedulers)]),
    )


def _leaving(pod: Pod, view: View) -> Held:
    """Say how far a pod is that is being deleted: its kubelet ends it, then its finalizers go."""
    metadata, name = pod.metadata, pod.spec.node_name
    space, quoted = shlex.quote(metadata.namespace), shlex.quote(metadata.name)
    remedy = (
        f"see its finalizers where that takes long: kubectl get pod -o yaml -n {space} {quoted}"
    )
    node = view.nodes.get(name)
    where = f" on {name}" if name else ""
    if node is not None and is_lost(node):
        where += ", whose kubelet is not heard of, or not ready,"
        remedy = (
            "it goes once that kubelet has ended it, or the node is deleted: kubectl describe node "
            f"{shlex.quote(name)}"
        )
    elif name and node is None:
        where += ", which is not in the cluster,"
    until = unix_time(metadata.deletion_timestamp)
    time = ""
    if until is not None:
        left = until - view.now
        time = (
            f" ({in_words(left)} left to end)"
            if left > 0
            else f" (overdue for {in_words(abs(left))})"
        )
    return Held(
        reason=DELETED,
        message=f"is being deleted{where}{time} and is not placed any more",
        remedy=remedy,
    )


def _unseen(pod: Pod, asked: Constraints, waited: float, schedulers: Collection[str]) -> Held:
    """Say why no scheduler may have looked at a pod: it does not run, or keeps it out of its queue.

    Without a word on the pod where a gang lacks members, or a resource claim (``PreEnqueue`` of
    gangscheduling and dynamicresources in kubernetes/pkg/scheduler/framework/plugins).
    """
    name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
    unseen, see = f"no scheduler has looked at it in {in_words(waited)}", _see(name, schedulers)
    space = f"-n {shlex.quote(pod.metadata.namespace)}"
    kept_out = [
        (
            pod.spec.scheduling_group is not None,
            "the gang of spec.schedulingGroup is complete",
            f"kubectl get podgroups.scheduling.k8s.io,pods {space}",
        ),
        (
            bool(asked.resource_claims),
            "the claims of spec.resourceClaims are there",
            f"kubectl get resourceclaims {space}",
        ),
    ]
    before = [(until, look) for holds, until, look in kept_out if holds]
    if not before:
        message = f"waits: {unseen}, {name} does not run or is stuck"
        return Held(reason=SILENT, message=message, remedy=see)
    untils, looks = zip(*before, strict=True)
    return Held(
        reason=SILENT,
        message=f"waits: {unseen}; {name} does so once {' and '.join(untils)}, or does not run",
        remedy="; ".join((f"see {' and '.join(looks)}", see)),
    )


def _failed(name: str, message: str, schedulers: Collection[str]) -> Held:
    return Held(
        reason=_FAILED,
        message=f"waits: {name} failed at it when it last tried: "
        + (message.rstrip(". ") or "no reason given"),
        remedy=f"it is tried again by itself; {_see(name, schedulers)}",
    )


def _see(name: str, schedulers: Collection[str]) -> str:
    """Say how to see whether a scheduler runs, by the labels that it is deployed with.

    For the cluster's own one those of kubeadm (``staticpod.ComponentPod`` in
    kubernetes/cmd/kubeadm/app/util/staticpod/utils.go).
    """
    if name in schedulers:
        return (
            "see that it runs: kubectl get pods --all-namespaces -l "
            "app.kubernetes.io/part-of=model-cache-extender; and what is wrong with it: "
            "model-cache-extender doctor"
        )
    if name == DEFAULT_SCHEDULER:
        return "see that it runs: kubectl get pods -n kube-system -l component=kube-scheduler"
    return f"see that whoever runs {name} is there"


def _how_it_ended(pod: Pod) -> str:
    status = pod.status
    wrong = (f"container {one.container} {one.reason}" for one in troubles(statuses(pod)))
    why = ", ".join(filter(None, (status.reason, status.message.rstrip(". "), *wrong)))
    return f"{status.phase}: {why}" if why else status.phase


def _after_the_end(pod: Pod) -> str:
    owner = pod.metadata.controller()
    if owner is None:
        return "nobody makes a new one: create it anew"
    if owner.kind == "Node":
        return f"it is one of the kubelet of {owner.name}, which has its manifest"
    if pod.status.phase == "Succeeded":
        return f"{owner.kind} {owner.name} makes a new one if there is more to do"
    return f"{owner.kind} {owner.name} makes a new one, unless that has given up"


def not_asked(pod: Pod, schedulers: Iterable[str], *, opted_in: bool = False) -> str:
    """Say that what is said here holds nobody back, where this program is not asked about a pod.

    ``opted_in``: new pods of its namespace are sent to us.
    """
    name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
    if pod.spec.node_name or pod.metadata.deletion_timestamp or name in set(schedulers):
        return ""
    if opted_in and not pod.metadata.creation_timestamp and _takes_the_label(pod):
        return ""
    how = how_to_be_asked(pod, schedulers)
    if opted_in and _takes_the_label(pod):
        how = "its namespace sends new pods here: have it made anew"
    return (
        f"its scheduler, {name}, does not ask this program, and may place it on nodes that are "
        f"refused here: {how}"
    )


def how_to_be_asked(pod: Pod, schedulers: Iterable[str], field: str = "spec.schedulerName") -> str:
    """Say what sends pods such as this one here; ``field`` is where its scheduler is named."""
    opt_in = (
        f", or label the namespace before the pod is created: kubectl label namespace "
        f"{shlex.quote(pod.metadata.namespace or 'default')} {OPT_IN}"
    )
    named = f"set {field}: {' or '.join(schedulers)}"
    return named + (opt_in if _takes_the_label(pod) else "")


def _takes_the_label(pod: Pod) -> bool:
    """Tell whether a label on its namespace sends new pods such as this one here."""
    owner = pod.metadata.controller()
    name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
    return name == DEFAULT_SCHEDULER and (owner is None or owner.kind not in LEFT_ALONE)
