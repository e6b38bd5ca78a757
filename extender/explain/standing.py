"""How it stands with a pod that has a node: whether it runs there, and what is in its way.

What the kubelet says of its containers comes first: it knows. Where it has started none, what the
node lacks of what the pod opens says why: the kubelet tells that in events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from shlex import quote

import msgspec

from extender.cluster.view import NodeView
from extender.explain.answers import NodeAnswer
from extender.explain.causes import all_that_refuses
from extender.explain.logs import follow, see_why
from extender.kube.lives import condition_of, has_run, is_ready, running, statuses, troubles
from extender.kube.objects import Container, ContainerStatus, Pod
from extender.kube.times import unix_time
from extender.placement.objections import SHORTAGES, InTree
from extender.placement.progress import in_words
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge

_NO_START = frozenset(
    {
        Reason.MODEL_ABSENT,
        Reason.MODEL_FAILED,
        Reason.CLAIM_MISSING,
        Reason.CLAIM_NOT_BOUND,
        Reason.CLAIM_UNREACHABLE,
    }
)
"""What a node lacks that the kubelet, or the first read of the model, needs to be there."""
_OF_THE_KUBELET = SHORTAGES | {InTree.NODE_NAMED, InTree.AFFINITY, InTree.TAINT}
"""What the kubelet refuses a pod for when it comes, which then has failed."""
_LOST = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
_CLOCK_STEP = 1.0
"""Seconds that times of the same moment may differ by: the API has whole ones."""


def is_lost(node: NodeView) -> bool:
    """Tell whether a node's kubelet is not heard of, or says that it is not ready."""
    return any(taint.key in _LOST for taint in node.taints)


class State(StrEnum):
    """How far a pod on a node is."""

    READY = "ready"
    STARTING = "starting"
    UNREADY = "unready"
    """Its containers run, and it was Ready before."""
    STUCK = "stuck"
    """It does not run, and waiting alone does not change that."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a pod on ``node``, or will; ``message`` begins the sentence about it.

    ``remedy`` is a command that shows more; None where all is well.
    """

    node: str
    state: State
    message: str
    remedy: str | None = None


class _Seen(msgspec.Struct, frozen=True):
    """A pod on a node, and what that node answers; None where it is not in the cluster."""

    pod: Pod
    judge: Judge
    answer: NodeAnswer | None

    @property
    def node(self) -> str:
        return self.judge.request.node

    @property
    def named(self) -> tuple[str, str]:
        return self.pod.metadata.namespace, self.pod.metadata.name

    @property
    def now(self) -> str:
        """Say what would refuse it its node now: it was placed before, or by somebody else."""
        if self.answer is None or self.answer.fits:
            return ""
        return f" (where now: {self.answer.text})"

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        return statuses(self.pod)

    def ago(self, moment: float | None) -> str:
        """Say how long ago a moment is; empty where it is not known, or is none that has been."""
        seconds = -1.0 if moment is None else self.judge.view.now - moment
        return in_words(seconds) if seconds >= 0 else ""

    def stuck(self, why: str, remedy: str) -> Standing:
        runs = any(one.state.running is not None for one in self.pod.status.container_statuses)
        how = "not all of it runs there" if runs and self.answer else "does not run there"
        message = f"is bound to {self.node}{self.now} and {how}: {why}"
        return Standing(node=self.node, state=State.STUCK, message=message, remedy=remedy)


def standing(pod: Pod, judge: Judge, answers: Sequence[NodeAnswer]) -> Standing | None:
    """Say how it stands with a pod; None where it has no node."""
    node = judge.request.node
    if not node:
        return None
    seen = _Seen(pod, judge, next((one for one in answers if one.node == node), None))
    for told in (
        _on_a_node_that_is_gone,
        _ready,
        _on_a_lost_node,
        _in_trouble,
        _without_what_it_opens,
        _not_any_more,
    ):
        found = told(seen)
        if found is not None:
            return found
    return _on_its_way(seen)


def named(node: str, judge: Judge, answers: Sequence[NodeAnswer]) -> Standing:
    """Say how it will stand with a pod that names its own node, which no scheduler is asked about.

    The kubelet there judges requests, selectors and affinity as kube-scheduler does, and takes all
    else as it comes.
    """
    answer = next((one for one in answers if one.node == node), None)
    if answer is None:
        told = "no such node is in the cluster"
    elif answer.elsewhere and answer.fits:
        told = f"its kubelet takes it, and cannot start it: {answer.elsewhere}"
    elif answer.fits:
        start = f", about {answer.start.seconds:.0f} s to start" if answer.start else ""
        told = f"it fits there{start}"
    else:
        objection = answer.objection
        refuses = objection is not None and objection.reason in _OF_THE_KUBELET
        why = all_that_refuses(answer, judge)
        told = f"its kubelet {'refuses it' if refuses else 'takes it all the same'}: {why}"
    fits = answer is not None and answer.fits and not answer.elsewhere
    return Standing(
        node=node,
        state=State.STARTING if fits else State.STUCK,
        message=f"spec.nodeName puts it on {node} by itself, no scheduler is asked: {told}; to "
        "have it scheduled, leave that out, or use spec.nodeSelector",
    )


def _on_a_node_that_is_gone(seen: _Seen) -> Standing | None:
    """Tell of a pod whose node was deleted: nobody is left who could say that it is not Ready."""
    if seen.node in seen.judge.view.nodes:
        return None
    return seen.stuck("the node is not in the cluster", f"kubectl get node {quote(seen.node)}")


def _ready(seen: _Seen) -> Standing | None:
    """Tell of a pod that is Ready, or runs and says nothing of that."""
    status = seen.pod.status
    untold = condition_of(seen.pod, "Ready") is None
    if not is_ready(seen.pod) and not (
        status.phase == "Running" and untold and not seen.containers
    ):
        return None
    return Standing(node=seen.node, state=State.READY, message=f"runs on {seen.node}{seen.now}")


def _on_a_lost_node(seen: _Seen) -> Standing | None:
    if seen.pod.status.phase != "Unknown" and not is_lost(seen.judge.view.nodes[seen.node]):
        return None
    return seen.stuck(
        "the kubelet there is not heard of, or says that it is not ready",
        f"kubectl describe node {quote(seen.node)}",
    )


def _in_trouble(seen: _Seen) -> Standing | None:
    wrong = list(troubles(seen.containers))
    if not wrong:
        return None
    times = {one.name: one.restart_count for one in seen.containers if one.restart_count > 1}
    told = ", ".join(
        f"container {one.container} {one.reason}"
        + (f", restarted {times[one.container]} times" if one.container in times else "")
        for one in wrong
    )
    return seen.stuck(told, see_why(*seen.named, wrong[0].log))


def _without_what_it_opens(seen: _Seen) -> Standing | None:
    """Tell of a pod of which nothing has been started what its node lacks."""
    answer, status = seen.answer, seen.pod.status
    if status.phase == "Running" or any(map(has_run, seen.containers)):
        return None
    if answer is None or not (answer.elsewhere or answer.verdict.reason in _NO_START):
        return None
    why = answer.elsewhere or answer.text
    message = f"is bound to {seen.node} and cannot start there: {why}"
    remedy = see_why(*seen.named, None)
    return Standing(node=seen.node, state=State.STUCK, message=message, remedy=remedy)


def _not_any_more(seen: _Seen) -> Standing | None:
    """Tell of a pod that was Ready: that condition has turned since its kubelet took the pod."""
    ready = condition_of(seen.pod, "Ready")
    turned = unix_time(ready.last_transition_time) if ready is not None else None
    taken = unix_time(seen.pod.status.start_time)
    if turned is None or taken is None or turned - taken <= _CLOCK_STEP:
        return None
    ago = seen.ago(turned)
    message = f"runs on {seen.node}{seen.now} and is not Ready any more{f', for {ago}' * bool(ago)}"
    return Standing(
        node=seen.node,
        state=State.UNREADY,
        message=_with(message, _not_ready(seen)),
        remedy=see_why(*seen.named, None),
    )


def _on_its_way(seen: _Seen) -> Standing:
    status = seen.pod.status
    if not (status.start_time or seen.containers or status.phase == "Running"):
        return _not_taken(seen)
    verb = "runs" if status.phase == "Running" else "starts"
    ago = seen.ago(unix_time(status.start_time))
    message = f"{verb} on {seen.node}{seen.now} and is not Ready yet{f', after {ago}' * bool(ago)}"
    return Standing(
        node=seen.node,
        state=State.STARTING,
        message=_with(message, _not_ready(seen)),
        remedy=follow(*seen.named, running(seen.containers)),
    )


def _not_taken(seen: _Seen) -> Standing:
    """Tell of a pod of which its kubelet has said nothing: the first thing is ``startTime``."""
    bound = condition_of(seen.pod, "PodScheduled")
    ago = seen.ago(unix_time(bound.last_transition_time) if bound is not None else None)
    return Standing(
        node=seen.node,
        state=State.STARTING,
        message=f"is bound to {seen.node}{seen.now} and its kubelet has not taken it yet"
        + f", after {ago}" * bool(ago),
        remedy=f"kubectl describe node {quote(seen.node)}",
    )


def _with(message: str, told: Iterable[str]) -> str:
    return ": ".join(filter(None, (message, ", ".join(told))))


def _not_ready(seen: _Seen) -> Iterator[str]:
    """Say of each container that is not ready how far it is, and what else is waited for."""
    spec = seen.pod.spec
    probed = {one.name: one for one in (*spec.init_containers, *spec.containers)}
    for one in seen.containers:
        if one.ready:
            continue
        if one.state.waiting is not None and one.state.waiting.reason:
            yield f"container {one.name} {one.state.waiting.reason}"
        elif one.state.running is not None:
            yield f"container {one.name} {_runs(one, probed.get(one.name, Container()), seen)}"
    gated = (one for one in seen.pod.status.conditions if one.reason == "ReadinessGatesNotReady")
    yield from dict.fromkeys(one.message for one in gated if one.message)


def _runs(one: ContainerStatus, spec: Container, seen: _Seen) -> str:
    """Say for how long a container runs, after what, and which probe it has not passed."""
    ago = seen.ago(unix_time((one.state.running or {}).get("startedAt", "")))
    said = f"has run for {ago}" if ago else "runs"
    before = one.last_state.terminated
    if before is not None and before.exit_code:
        said += f" after {before.reason or 'Error'} exit {before.exit_code}"
    if spec.startup_probe is not None and not one.started:
        return f"{said} and has not passed its startup probe"
    return f"{said} and does not pass its readiness probe" if spec.readiness_probe else said
