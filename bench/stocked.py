"""A kube-apiserver with a whole fleet in it, written into its etcd before it starts.

Through the apiserver 25,000 objects would take two minutes. It reads from its storage what was
stored as JSON like what it stored itself, and serves it page by page. Nothing else runs: no
controller looks for the owners of these pods.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bench.fleet import Fleet
from controlplane.build import DEFAULT_VERSION, binaries
from tests.controlplane.cluster import ControlPlane

_AT_ONCE = 100
"""Objects in one transaction: etcd takes 128 operations and 1.5 MiB."""


class Stocked(ControlPlane):
    """etcd and a kube-apiserver alone, with a fleet."""

    def __init__(self, workdir: Path, fleet: Fleet) -> None:
        super().__init__(binaries(DEFAULT_VERSION), workdir)
        self._fleet = fleet

    def start(self) -> None:
        """Start etcd, fill it, and start the apiserver."""
        try:
            etcd = self._start_etcd()
            entries = _entries(self._fleet)
            while some := list(islice(entries, _AT_ONCE)):
                _put(etcd, some)
            self._start_api_server(etcd)
        except BaseException:
            self.stop()
            raise


@contextmanager
def stocked(fleet: Fleet, folder: Path) -> Iterator[Stocked]:
    """Serve a fleet from a kube-apiserver."""
    cluster = Stocked(folder / "stocked", fleet)
    cluster.workdir.mkdir()
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def _entries(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """Yield the keys of all objects in the storage, with the objects."""
    for index in range(fleet.nodes):
        yield f"minions/{fleet.node_name(index)}", json.dumps(fleet.node(index))
    for daemonset in fleet.daemonsets():
        yield f"daemonsets/{_name(daemonset)}", json.dumps(daemonset)
    for loader in fleet.loader_pods():
        yield f"pods/{_name(loader)}", json.dumps(loader)
    for index in range(fleet.pods):
        text = fleet.pod(index, ready=True, version=1)
        yield f"pods/{_name(json.loads(text))}", text


def _name(document: Any) -> str:
    return f"{document['metadata']['namespace']}/{document['metadata']['name']}"


def _put(etcd: str, entries: Sequence[tuple[str, str]]) -> None:
    """Write some objects in one transaction."""
    puts = [
        {"requestPut": {"key": _base64(f"/registry/{k}"), "value": _base64(v)}} for k, v in entries
    ]
    body = json.dumps({"success": puts}).encode()
    request = urllib.request.Request(f"{etcd}/v3/kv/txn", data=body)  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        if not json.loads(answer.read()).get("succeeded"):
            raise RuntimeError("etcd did not store the fleet")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
