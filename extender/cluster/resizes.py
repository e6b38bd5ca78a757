"""What the containers of a pod have while they are resized in place.

Until the kubelet has carried a resize out, what it has given is in force and not what is wanted: a
memory limit below what a pod uses is never carried out (kubernetes/pkg/kubelet/kuberuntime,
validateMemoryResizeAction). So the larger of both counts, for requests as for limits; what was
given alone, where the kubelet has found the resize infeasible. It says so of one generation of the
pod: the next one may ask for less, and get it before the kubelet takes that word back.
"""

from __future__ import annotations

from collections.abc import Callable

from extender.kube.objects import Container, Pod, Resources

Amount = Callable[[Resources], int | None]
"""Reads one resource out of requests or limits; None where it is not among them."""


class Resizes:
    """One resource of one pod, as its spec wants it and its status has it given."""

    def __init__(self, pod: Pod, amount: Amount) -> None:
        self._pod = pod
        self._amount = amount
        self._infeasible = _infeasible(pod)
        status = pod.status
        self._given = {
            one.name: one for one in (*status.init_container_statuses, *status.container_statuses)
        }

    def request(self, container: Container) -> int:
        """Return one container's request; one that is left out is its limit."""
        resources = container.resources
        wanted = self._amount(resources.requests)
        if wanted is None:
            wanted = self._amount(resources.limits) or 0
        status = self._given.get(container.name)
        if status is None:
            return wanted
        actual = status.resources.requests if status.resources is not None else {}
        return self._larger(wanted, status.allocated_resources, actual)

    def limit(self, container: Container) -> int | None:
        """Return one container's limit; None or 0 where the kernel is given none."""
        wanted = self._amount(container.resources.limits)
        status = self._given.get(container.name)
        if not wanted or status is None or status.resources is None:
            return wanted
        given = self._amount(status.resources.limits)
        if not given:  # the limit is new, and not in force yet
            return None
        return given if self._infeasible else max(wanted, given)

    def pod_request(self, containers: int) -> int:
        """Return the pod's request, of which its containers have so much."""
        level = self._pod.spec.resources
        if level is None:
            return containers
        # As the apiserver fills in a missing request (pkg/apis/core/v1/defaults.go).
        wanted = self._amount(level.requests)
        if wanted is None and not containers:
            wanted = self._amount(level.limits)
        if wanted is None:
            return containers
        status = self._pod.status
        actual = status.resources.requests if status.resources is not None else {}
        return self._larger(wanted, status.allocated_resources, actual)

    def pod_limit(self, containers: int | None) -> int | None:
        """Return the pod's limit, without overhead; ``containers`` is what its containers make.

        What the kubelet tells of a pod is its cgroup's, with the overhead
        (kubernetes/pkg/kubelet/cm, ResourceConfigForPod), and lowered after the containers' own.
        """
        spec, actual = self._pod.spec, self._pod.status.resources
        level = self._amount(spec.resources.limits) if spec.resources is not None else None
        wanted = containers if level is None else level
        if wanted is None or actual is None:
            return wanted
        given = self._amount(actual.limits)
        if not given:
            return containers
        given = max(0, given - (self._amount(spec.overhead) or 0))
        return given if self._infeasible else max(wanted, given)

    def _larger(self, wanted: int, *given: Resources) -> int:
        had = max(self._amount(one) or 0 for one in given)
        return had if self._infeasible and had else max(wanted, had)


def _infeasible(pod: Pod) -> bool:
    """Tell whether the kubelet has found what is wanted now infeasible, not what was before."""
    if pod.status.resize == "Infeasible":
        return True
    return any(
        condition.type == "PodResizePending"
        and condition.reason == "Infeasible"
        and condition.observed_generation in {0, pod.metadata.generation}
        for condition in pod.status.conditions
    )
