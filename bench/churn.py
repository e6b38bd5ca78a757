"""Memory while a cluster changes for long: generations of nodes, loaders, claims and pods.

The real process follows an apiserver through which one generation after the other comes and goes,
no name twice (``tests/growth``), as fast as it answers; so minutes stand for hours of a cluster.
Its memory has to become flat once its caches, which are bounded, are full.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.programs import cpu_seconds, extender, resident_bytes
from bench.results import Row
from tests.controlplane.cluster import Extender
from tests.controlplane.processes import wait_for
from tests.growth.churn import PODS, Churn
from tests.watch.fake_apiserver import FakeApiserver

_PARTS = 10
_NODES = re.compile(r"^model_cache_extender_nodes (\S+)", re.MULTILINE)
_CONFIGURATION = {
    "apiVersion": "modelcache.dev/v1alpha1",
    "kind": "ExtenderConfiguration",
    "freshness": {"boundSeconds": 60},
    "bind": {"reservationSeconds": 136},
}
"""Reservations of pods that never show last five minutes else: hours of this cluster."""


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each tenth of the generations."""
    part = 1 if quick else 60
    with FakeApiserver() as api, extender(api.url, folder, _CONFIGURATION) as ours:
        churn = Churn(api, _Asking(ours), time.time)
        for number in range(1, _PARTS + 1):
            cpu, begun = cpu_seconds(ours), time.monotonic()
            for _ in range(part):
                churn.live(lambda nodes: _await_nodes(ours, nodes))
                api.requests.clear()
            lasted = time.monotonic() - begun
            yield Row(
                benchmark="memory under churn",
                case={"pods": number * part * PODS},
                figures={
                    "resident MB": resident_bytes(ours) / 1e6,
                    "pods/s": part * PODS / lasted,
                    "extender CPU %": (cpu_seconds(ours) - cpu) / lasted * 100,
                },
            )


class _Asking:
    """Asks verbs over one connection."""

    def __init__(self, server: Extender) -> None:
        self._connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)

    def __call__(self, verb: str, document: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/{verb}", msgspec.json.encode(document), headers)
        answer = self._connection.getresponse().read()
        return msgspec.json.decode(answer)


def _await_nodes(ours: Extender, number: int) -> None:
    def known() -> bool:
        found = _NODES.search(ours.get("/metrics")[1])
        return found is not None and float(found[1]) == number

    wait_for(known, 30, f"{number} nodes to be known")
