"""Five thousand Nodes in the real apiserver, made side by side.

No kubelet keeps them, not even kwok's: what is looked at is what a large cluster looks like. A few
have loaders; on the others models are baked into the machine, as an annotation of each says.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from extender.watch.client import Transport, connect
from tests.browser.fleet import HOSTILE, MODELS, node_name
from tests.controlplane.cluster import ALLOCATABLE, ControlPlane, fake_node

NODES = 5_000
ZONE = "topology.kubernetes.io/zone"
LOADED = {"test.modelcache.dev/loaded": "true"}
"""On the nodes that loaders are for: the first few."""
LOADERS = 4
HOSTILE_PATH = f"/var/lib/baked/{HOSTILE.replace('/', '|')}"
"""What is baked into the first machine; in the browser a name and nothing else."""
_ABREAST = 16


def add_fleet(control_plane: ControlPlane) -> None:
    """Create the nodes; the apiserver takes several at once."""
    transport = connect(str(control_plane.kubeconfig()))
    with ThreadPoolExecutor(_ABREAST) as pool:
        for _ in pool.map(lambda index: _create(transport, _node(index)), range(NODES)):
            pass


def _create(transport: Transport, node: dict[str, Any]) -> None:
    answer = transport.request(
        "POST",
        "/api/v1/nodes",
        body=json.dumps(node).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.ok, answer.problem()


def _node(index: int) -> dict[str, Any]:
    loaded = LOADED if index < LOADERS else {}
    labels = {ZONE: f"zone-{'abc'[index % 3]}", **loaded}
    node = fake_node(node_name(index), ALLOCATABLE, labels)
    node["metadata"]["annotations"] = {"modelcache.dev/provides": "\n".join(_baked(index))}
    return node


def _baked(index: int) -> list[str]:
    """Return the paths that a machine's image holds, another choice on each."""
    paths = [
        f"/var/lib/baked/{name}"
        for place, name in enumerate(MODELS[:12])
        if (index * 7 + place * 5) % 11 < 4
    ]
    return [*paths, HOSTILE_PATH] if index == 0 else paths
