"""The four ways to give a server its model, with the same real model, side by side in one run.

Seconds are from a pod's creation until its server answers HTTP, everything that has to happen for
it included. ``make e2e`` prints them beside the estimate (docs/real-node.md keeps one run).

Of a model of 91 MB nothing takes long on one machine: the file server and the hub are as slow
beside the node's disk as they are for a large model, so that the order can be told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster import NODE, RealCluster
from e2e.explained import explained
from e2e.images import BAKED, BAKED_MODEL, WEIGHTS
from e2e.objects import Object, phase
from e2e.shipped import (
    MODEL,
    STORES,
    USER,
    bring,
    filling,
    from_node_cache,
    has_model,
    in_memory,
    server,
)
from e2e.slow import downloads, exported
from tests.controlplane.cluster import is_ready
from tests.loader.hub import Hub

FILES, STORE = STORES / "files", STORES / "shared"
CLAIM_RATE = 12 << 20
"""Bytes a second at which the claim can be read: 7 s for the model, where a disk takes tenths."""
HUB_RATE = CLAIM_RATE // 2
"""As the article has 30 s for its claim, and 60 s with the download."""
CONNECTIONS = 8
"""Of ``loader fill`` by itself."""
BROUGHT = {BAKED: "image with the weights", WEIGHTS: "image volume"}
ROUNDS = 3
NOISE_SECONDS = 3.0
"""Between starts from the node's own disk: a kubelet and a probe each look once a second, and other
work on the machine comes between.
"""
ESTIMATE_NOISE_SECONDS = 0.5
"""Between estimates of such starts: an image's bytes are not exactly those of its model."""
ROWS: list[tuple[str, ...]] = []


@dataclass(frozen=True)
class Start:
    """Seconds from a pod's creation until it serves, and what was expected of it before."""

    seconds: float
    estimate: float


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print the table at the end."""
    yield
    heads = ("strategy", "seconds", "estimate")
    print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in (heads, *ROWS)))


def started(cluster: RealCluster, namespace: str, manifests: list[Object], folder: Path) -> Start:
    """Create objects, the server's pod last, and measure until it serves."""
    pod = manifests[-1]
    del pod["spec"]["tolerations"]  # to be measured, it has to be really run
    told = estimate(cluster, namespace, pod, folder)
    begin = time.monotonic()
    cluster.apply(manifests, namespace)
    label = pod["metadata"]["name"]
    cluster.wait_for(lambda: is_ready(cluster.pod(namespace, label)), 120, f"{label} to serve")
    took = time.monotonic() - begin
    assert cluster.pod(namespace, label)["spec"]["nodeName"] == NODE
    return Start(took, told)


def noted(
    cluster: RealCluster, namespace: str, name: str, manifests: list[Object], folder: Path
) -> Start:
    """Measure a start, and note it for the table."""
    start = started(cluster, namespace, manifests, folder)
    ROWS.append((name, f"{start.seconds:.1f} s", f"{start.estimate:.0f} s"))
    return start


def estimate(cluster: RealCluster, namespace: str, pod: Object, folder: Path) -> float:
    """Return what ``explain`` says how long a pod would take to start on the real node."""
    found = explained(cluster, namespace, pod, folder)["nodes"][0]["estimatedStartSeconds"]
    return float(found)


def brought(
    cluster: RealCluster, namespace: str, image: str, pod: Object, folder: Path
) -> tuple[float, Start]:
    """Measure a pod whose image, or volume, is brought to the node and unpacked first.

    Returns the seconds that this takes, and the start after it. The estimate in the table's row of
    both is from before, that of the start from when the kubelet lists the image.
    """
    node, what = cluster.real[NODE], BROUGHT[image]
    if image in node.ctr("images", "list", "--quiet").split():
        node.ctr("images", "remove", "--sync", image)
        cluster.wait_for(lambda: not lists(cluster, image), 60, f"the kubelet to miss {image}")
    told = estimate(cluster, namespace, pod, folder)
    begin = time.monotonic()
    bring(cluster, image)
    moved = time.monotonic() - begin
    cluster.wait_for(lambda: lists(cluster, image), 60, f"the kubelet to list {image}")
    there = noted(cluster, namespace, f"{what}, on the node already", [pod], folder)
    whole = moved + there.seconds
    ROWS.append((f"{what}, to be brought and unpacked first", f"{whole:.1f} s", f"{told:.0f} s"))
    return moved, there


def lists(cluster: RealCluster, image: str) -> bool:
    """Say whether the node's status has an image; a kubelet brings it there within ten seconds."""
    found = cluster.read(f"/api/v1/nodes/{NODE}")["status"]["images"]
    return any(image in (one.get("names") or ()) for one in found)


def shared_volume(namespace: str, hub: Hub) -> list[Object]:
    """Return volume, claim, the Job that fills it, and a server that reads it."""
    modes = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {**modes, "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(STORE)}},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store"},
        "spec": {
            **modes,
            "volumeName": namespace,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    volumes = [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}]
    mounts: list[Object] = [{"name": "store", "mountPath": "/models"}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "download"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "OnFailure",
                    "securityContext": USER,
                    "containers": [filling(hub, f"/models/{MODEL}", mounts)],
                    "volumes": volumes,
                }
            }
        },
    }
    return [volume, claim, job, server("shared", f"/models/{MODEL}", volumes, mounts)]


def claimed(name: str) -> Object:
    """Return a server that reads the claim."""
    return server(
        name,
        f"/models/{MODEL}",
        [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}],
        [{"name": "store", "mountPath": "/models"}],
    )


def baked(name: str) -> Object:
    """Return a server whose image has the weights."""
    pod = server(name, BAKED_MODEL, [], [])
    pod["spec"]["containers"][0]["image"] = BAKED
    return pod


def soonest(
    cluster: RealCluster,
    namespace: str,
    first: Start,
    make: Callable[[str], Object],
    folder: Path,
) -> float:
    """Return the least of some starts: other work on the machine makes them longer, and no less."""
    found = [first.seconds]
    while len(found) < ROUNDS:
        pod = make(f"again-{len(found)}")
        found.append(started(cluster, namespace, [pod], folder).seconds)
        cluster.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace)
    return min(found)


@pytest.fixture
def slow(deployed: RealCluster, hub: Hub) -> Iterator[RealCluster]:
    """Return the cluster, with a file server and a hub that are slower than the node's disk."""
    deployed.wait_for(lambda: has_model(deployed), 60, "the loader to have the model")
    machine = deployed.real[NODE].machine
    with exported(machine, FILES, STORE, CLAIM_RATE), downloads(hub, HUB_RATE, CONNECTIONS):
        yield deployed


def test_what_has_nothing_to_move_serves_first_and_the_order_is_the_articles(
    slow: RealCluster, hub: Hub, namespace: str, tmp_path: Path
) -> None:
    def measured(name: str, *manifests: Object) -> Start:
        return noted(slow, namespace, name, list(manifests), tmp_path)

    sent = hub.bytes_sent()
    cached = measured("node cache", from_node_cache("cached"))
    assert hub.bytes_sent() == sent
    filling_it = measured(
        "shared volume, the Job that fills it included", *shared_volume(namespace, hub)
    )
    sent = hub.bytes_sent()
    claim = measured("shared volume, filled before", claimed("shared-again"))
    from_cache = measured("memory, from the node cache", in_memory(hub, cached=True))
    assert hub.bytes_sent() == sent
    from_hub = measured("memory, from the hub", in_memory(hub, cached=False))
    baking, image = brought(slow, namespace, BAKED, baked("baked"), tmp_path)
    weights = {"reference": WEIGHTS, "pullPolicy": "IfNotPresent"}
    volume = server(
        "image-volume",
        f"/models/{MODEL}",
        [{"name": "model", "image": weights}],
        [{"name": "model", "mountPath": f"/models/{MODEL}", "readOnly": True}],
    )
    moving, there = brought(slow, namespace, WEIGHTS, volume, tmp_path)
    later = (filling_it, claim, from_hub, from_cache)
    fetched = (baking + image.seconds, moving + there.seconds)
    assert cached.seconds < min(*(start.seconds for start in later), *fetched)
    assert claim.seconds < filling_it.seconds
    assert phase(slow, namespace, "cached") == "Running"
    # The article's table: an image 0 s (without its pull), the node cache 5 s, a claim 30 s, and
    # memory 60 s (with the download).
    ways: list[tuple[Start, Callable[[str], Object]]] = [
        (image, baked),
        (cached, from_node_cache),
        (claim, claimed),
        (from_hub, lambda name: in_memory(hub, cached=False, name=name)),
    ]
    order = [soonest(slow, namespace, first, make, tmp_path) for first, make in ways]
    told = [start.estimate for start, _ in ways]
    print("\nin the article's order:", ", ".join(f"{found:.1f} s" for found in order))
    print("the estimates:", ", ".join(f"{found:.1f} s" for found in told))
    for found, noise in ((order, NOISE_SECONDS), (told, ESTIMATE_NOISE_SECONDS)):
        in_image, on_disk, on_server, downloaded = found
        assert in_image <= on_disk + noise
        assert max(in_image, on_disk) < on_server < downloaded
    slow.kubectl("delete", "pv", namespace, "--wait=false")
