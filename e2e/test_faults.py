"""What breaks on a real node, and what the scheduler believes meanwhile, moment by moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.cluster import NODE, RealCluster
from e2e.shipped import CACHE, LOADERS, MODEL, from_node_cache, has_model, serving
from tests.controlplane.cluster import http_get, is_ready
from tests.controlplane.shipped import SYSTEM
from tests.loader.hub import Hub


class Believed(threading.Thread):
    """Asks a replica of the extender again and again what the real node holds."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.begin = time.monotonic()
        self.changes: list[tuple[float, str]] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            status, body = http_get(self.url)
            state = self.state(body) if status == 200 else "silent"
            if not self.changes or self.changes[-1][1] != state:
                self.changes.append((round(time.monotonic() - self.begin, 1), state))

    @staticmethod
    def state(body: str) -> str:
        for node in json.loads(body)["nodes"]:
            for model in node["models"]:
                if node["name"] == NODE and model["path"].endswith(MODEL):
                    return str(model["state"])
        return "absent"

    def states(self) -> list[str]:
        return [state for _, state in self.changes]


@contextmanager
def believed(cluster: RealCluster) -> Iterator[Believed]:
    """Watch what the scheduler believes while a block runs; print it afterwards."""
    replica = next(pod for pod in cluster.get_json("pods", "-n", SYSTEM)["items"] if is_ready(pod))
    found = Believed(f"http://{replica['status']['podIP']}:8889/api/v1/models")
    found.start()
    try:
        yield found
    finally:
        found.over.set()
        found.join(5)
        print("believed:", ", ".join(f"{state} at {second} s" for second, state in found.changes))


def loader_process() -> int:
    """Return the loader container's process as this PID namespace numbers it."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if b"loader" in words and b"--catalog" in words:
                return int(folder.name)
    raise AssertionError("no loader runs")


def test_a_model_removed_under_the_loader_is_not_believed_in_and_survives_a_kill_in_mid_download(
    deployed: RealCluster, hub: Hub, namespace: str
) -> None:
    deployed.wait_for(lambda: has_model(deployed), 60, "the loader to have the model")
    size = (CACHE / MODEL / "model.safetensors").stat().st_size
    sent = hub.bytes_sent("model.safetensors")
    hub.delay = 1.0  # 8 MB a second over 8 connections
    try:
        with believed(deployed) as beliefs:
            shutil.rmtree(CACHE / MODEL)
            deployed.wait_for(
                # By then each of the 8 connections has synced a part of 8 MiB.
                lambda: hub.bytes_sent("model.safetensors") - sent > size * 0.85,
                120,
                "most of it",
            )
            assert not has_model(deployed)
            os.kill(loader_process(), signal.SIGKILL)
            deployed.wait_for(
                (CACHE / MODEL / "model.safetensors").is_file, 120, "the model to be back"
            )
            deployed.wait_for(lambda: beliefs.states()[-1] == "ready", 60, "it to be believed in")
    finally:
        hub.delay = 0.0
    states = beliefs.states()
    assert states[0] == states[-1] == "ready"
    assert {"absent", "loading", "failed", "stale"} & set(states[1:-1])
    (pod,) = deployed.get_json("pods", "-n", LOADERS)["items"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    # What had been synced before the kill was not fetched again, but for the parts in flight.
    assert hub.bytes_sent("model.safetensors") - sent < size + size // 2
    deployed.apply(from_node_cache("after"), namespace)
    serving(deployed, namespace, "after")
