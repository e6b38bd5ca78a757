"""Which nodes have a loader that can hold a model: those whose Lease was renewed lately.

A node may match a model's selector and run no loader: a taint keeps it away, the node is down, its
image cannot be pulled. It must not count as one of the model's copies. A loader that starts again
is silent for a while, and that must move no model: so a Lease counts for longer than any start
takes, and a loader that has not spoken yet counts for as long while its pod is young.

How long a Lease has been silent is told by the clock here, from look to look; another node's clock
counts at the first look alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlencode

from extender.kube.decode import decode
from extender.kube.objects import KubeObject, KubeStruct, Lease
from extender.kube.times import unix_time
from extender.report import LEASE_LABEL, lease_name
from extender.watch.paths import leases_path, pods_path
from extender.workload.model import LOADER_LABEL

SILENT_SECONDS = 1800.0
"""Longer than the time between two looks (``surroundings``), and than a start or a reboot."""

Ask = Callable[[str], bytes]
"""Gets a path of the API. Raises ExtenderError."""


class _Leases(KubeStruct, frozen=True):
    items: tuple[Lease, ...] = ()


class _Where(KubeStruct, frozen=True):
    node_name: str = ""


class _Placed(KubeObject, frozen=True):
    spec: _Where = _Where()


class _Pods(KubeStruct, frozen=True):
    items: tuple[_Placed, ...] = ()


class Peers:
    """The loaders of one namespace. ``clock`` is monotonic seconds, ``wall`` UNIX seconds."""

    def __init__(
        self,
        ask: Ask,
        namespace: str,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._namespace = namespace
        self._clock = clock
        self._wall = wall
        self._renewed: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._without: set[str] = set()

    def of(self, nodes: Iterable[str]) -> set[str]:
        """Return which of these nodes have a loader. Raises ExtenderError."""
        there = set(nodes)
        self._look_at_leases()
        now = self._clock()
        speaking = {node for node, at in self._heard.items() if now - at < SILENT_SECONDS}
        # Pods carry their reports: they are asked for where a node is silent that was not before.
        silent = there - speaking
        self._without &= silent
        starting = self._starting() if silent - self._without else set()
        self._without = silent - starting
        return there & (speaking | starting)

    def _look_at_leases(self) -> None:
        query = urlencode({"labelSelector": f"{LEASE_LABEL}=true", "resourceVersion": "0"})
        found = decode(self._ask(f"{leases_path(self._namespace)}?{query}"), _Leases).items
        now, wall, heard = self._clock(), self._wall(), {}
        renewed = {
            lease.metadata.name.removeprefix(lease_name("")): lease.spec.renew_time
            for lease in found
        }
        for node, time in renewed.items():
            if node not in self._renewed:
                heard[node] = now - _age(time, wall)
            else:
                heard[node] = self._heard[node] if self._renewed[node] == time else now
        self._renewed, self._heard = renewed, heard

    def _starting(self) -> set[str]:
        """Return the nodes on which a loader's pod is young."""
        query = urlencode({"labelSelector": f"{LOADER_LABEL}=true", "resourceVersion": "0"})
        pods = decode(self._ask(f"{pods_path(self._namespace)}?{query}"), _Pods).items
        wall = self._wall()
        return {
            pod.spec.node_name
            for pod in pods
            if _age(pod.metadata.creation_timestamp, wall) < SILENT_SECONDS
        }


def _age(time: str, wall: float) -> float:
    """Return how many seconds before ``wall`` a text's time is; one that is none is now."""
    at = unix_time(time)
    return max(0.0, wall - at) if at is not None else 0.0
