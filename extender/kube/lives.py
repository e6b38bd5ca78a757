"""How far a pod has come, by what its kubelet says of it."""

from __future__ import annotations

from extender.kube.objects import ContainerStatus, Pod


def is_ready(pod: Pod) -> bool:
    """Tell whether a pod's Ready condition is true."""
    return _is_true(pod, "Ready")


def tells_when_it_serves(pod: Pod) -> bool:
    """Tell whether a probe has to pass before a pod is Ready; without one, its process runs."""
    return any(
        container.readiness_probe is not None or container.startup_probe is not None
        for container in pod.spec.containers
    )


def is_initialized(pod: Pod) -> bool:
    """Tell whether a pod's init containers have ended well, or it has none."""
    return _is_true(pod, "Initialized") or not pod.spec.init_containers


def has_run(status: ContainerStatus) -> bool:
    """Tell whether a container runs, or ever has."""
    return (
        status.state.running is not None
        or status.state.terminated is not None
        or status.last_state.terminated is not None
        or status.restart_count > 0
    )


def _is_true(pod: Pod, condition: str) -> bool:
    return any(one.type == condition and one.status == "True" for one in pod.status.conditions)
