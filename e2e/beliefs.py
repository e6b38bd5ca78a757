"""What the scheduler believes of a model on a node, second by second, beside how things are."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from e2e.cluster import NODE, RealCluster
from e2e.kept import KEPT
from e2e.shipped import CACHE, MODEL, loader_pods
from extender.loader.layout import CacheDirectory
from tests.controlplane.cluster import http_get, is_ready
from tests.controlplane.shipped import SYSTEM

PORT = 8888
"""Of the extender on its pod's loopback, where alone it tells names."""
HEADS = ("second", "believed", "on the disk", "loader's container")
Row = tuple[int, str, str, str]


class Beliefs:
    """Asks a replica of the extender ten times a second, and looks at the node once a second.

    A row of ``rows`` is a second: what was believed in it (everything, where that changed), what
    the node's disk holds, and how the kubelet says the loader's container is.
    """

    def __init__(self, cluster: RealCluster, node: str, extender: str) -> None:
        self._cluster = cluster
        self._node = node
        self._url = f"{extender}/api/v1/models"
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._now = ""
        self._since: list[str] = []
        self.rows: list[Row] = []
        self._threads = [
            threading.Thread(target=self._turn, args=(look, seconds), daemon=True)
            for look, seconds in ((self._ask, 0.1), (self._note, 1.0))
        ]

    def _turn(self, look: Callable[[], None], seconds: float) -> None:
        due = self._begin
        while not self._over.wait(max(0.0, due - time.monotonic())):
            look()
            due = max(due + seconds, time.monotonic())

    def _ask(self) -> None:
        status, body = http_get(self._url)
        state = self._state(body) if status == 200 else "no answer"
        with self._lock:
            if state != self._now:
                self._now = state
                self._since.append(state)

    def _state(self, body: str) -> str:
        for node in json.loads(body)["nodes"]:
            for model in node["models"]:
                if node["name"] == self._node and model["path"].endswith(MODEL):
                    return str(model["state"])
        return "absent"

    def _note(self) -> None:
        with self._lock:
            seen, self._since = self._since or [self._now], []
        second = int(time.monotonic() - self._begin)
        real = on_disk(self._cluster, self._node), container(self._cluster, self._node)
        self.rows.append((second, " → ".join(seen), *real))

    def start(self) -> None:
        """Begin."""
        self._ask()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, with a last row."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        self._note()

    @property
    def now(self) -> str:
        """What is believed now."""
        with self._lock:
            return self._now

    def believed(self) -> list[str]:
        """Return everything that was believed, in order."""
        with self._lock:
            pending = list(self._since)
        told = [state for _, states, _, _ in self.rows for state in states.split(" → ")]
        return [*told, *pending]

    def changes(self) -> list[Row]:
        """Return the rows in which something is other than in the one before."""
        before = [None, *self.rows]
        return [row for old, row in zip(before, self.rows, strict=False) if differ(old, row)]


def mistaken(rows: list[Row]) -> list[int]:
    """Return the seconds in which the model was believed to be there and was not whole.

    From the first in which it was not believed to be there: before, nobody had told.
    """
    known = next(at for at, (_, states, _, _) in enumerate(rows) if "ready" not in states)
    return [row[0] for row in rows[known:] if "ready" in row[1] and row[2] != "whole"]


def differ(old: Row | None, row: Row) -> bool:
    """Say whether anything but the time is new in a row; what was last believed counts."""
    return old is None or (old[1].rpartition(" → ")[2], *old[2:]) != row[1:]


def on_disk(cluster: RealCluster, node: str) -> str:
    """Say how much of the model lies on a node's disk."""
    if not cluster.real[node].machine.running():
        return "switched off"
    cache = CacheDirectory(cluster.real[node].path(CACHE))
    if cache.marker(MODEL).exists():
        return "whole"
    return "in part" if cache.staging(MODEL).exists() else "gone"


def container(cluster: RealCluster, node: str) -> str:
    """Say how the kubelet says the loader's container on a node is."""
    for pod in loader_pods(cluster, node):
        for status in pod["status"].get("containerStatuses", []):
            (kind,) = status["state"]
            reason = str(status["state"][kind].get("reason", ""))
            again = f", restarts: {status['restartCount']}" if status["restartCount"] else ""
            unready = "" if status["ready"] else ", not ready"
            return (reason or str(kind)) + (unready if kind == "running" else "") + again
    return "none"


@contextmanager
def believed(cluster: RealCluster, title: str, node: str = NODE) -> Iterator[Beliefs]:
    """Watch while a block runs; then keep every second in build/e2e and print the changes."""
    pods = cluster.get_json("pods", "-n", SYSTEM)["items"]
    replica = next(pod for pod in pods if is_ready(pod) and pod["spec"]["nodeName"] == NODE)
    with cluster.forwarded(SYSTEM, replica["metadata"]["name"], PORT) as extender:
        found = Beliefs(cluster, node, extender)
        found.start()
        try:
            yield found
        finally:
            found.stop()
            keep(title, found.rows)
            print(f"\n{title}\n{table(found.changes())}")


def table(rows: list[Row]) -> str:
    """Return rows as a table of Markdown."""
    lines = [HEADS, ("---",) * len(HEADS), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def keep(title: str, rows: list[Row]) -> None:
    """Write every second to a file of its own."""
    KEPT.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", title)
    (KEPT / f"believed-{name}.md").write_text(f"# {title}\n\n{table(rows)}\n", encoding="utf-8")
