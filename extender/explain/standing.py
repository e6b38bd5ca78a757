"""How it stands with a pod that has a node: whether it runs there, and what is in its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extender.explain.answers import NodeAnswer
from extender.kube.lives import is_ready
from extender.kube.objects import ContainerStatus, Pod


def standing(pod: Pod, node: str, answers: Sequence[NodeAnswer]) -> str:
    """Say that a pod runs on its node, or why it does not as yet; empty where it has none.

    What would refuse it that node now is said, too: it was placed before, or by somebody else.
    """
    if not node:
        return ""
    refused = next((one.text for one in answers if one.node == node and not one.fits), "")
    now = f" (where now: {refused})" if refused else ""
    why = "" if is_ready(pod) else ", ".join(_in_the_way(pod))
    if why or pod.status.phase == "Pending":
        return f"is bound to {node}{now} and not ready{f': {why}' if why else ''}"
    unready = any(one.type == "Ready" and one.status != "True" for one in pod.status.conditions)
    return f"runs on {node}{now}{', not ready so far' if unready else ''}"


def _in_the_way(pod: Pod) -> Iterator[str]:
    """Name each container that waits or has ended, with the reason that the kubelet gives."""
    status = pod.status
    for one in (*status.init_container_statuses, *status.container_statuses):
        if one.ready:
            continue
        waits, ended = one.state.waiting, one.state.terminated or one.last_state.terminated
        reasons = [waits.reason] if waits is not None and waits.reason else []
        if ended is not None and (ended.exit_code or waits is not None):
            reasons.append(f"ended with {ended.exit_code}{_by(ended.reason)}")
        if reasons:
            yield f"container {one.name} {', '.join(reasons)}{_times(one)}"


def _by(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _times(one: ContainerStatus) -> str:
    return f", restarted {one.restart_count} times" if one.restart_count > 1 else ""
