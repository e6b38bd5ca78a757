"""What breaks on a real node, and what the scheduler believes meanwhile, second by second."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from e2e.beliefs import Beliefs, believed, mistaken
from e2e.charging import LIMIT, MEMORY
from e2e.cluster import NODE, RealCluster
from e2e.shipped import (
    CACHE,
    CONNECTIONS,
    LOADERS,
    MODEL,
    REPOSITORY,
    another_loader,
    from_node_cache,
    has_model,
    loader_pods,
    report,
    serving,
)
from e2e.slow import downloads, each_piece_takes
from extender.loader.layout import CacheDirectory
from extender.loader.transfer.journal import Journal
from tests.loader.hub import Hub

WEIGHTS = "model.safetensors"
RATE = 8 << 20
"""Bytes a second at which the hub sends a model that something happens to meanwhile."""
STILL_SECONDS = 10.0
"""For each piece, while a loader is ended: less than the loader waits for a server."""
DISK_BYTES = 4 << 30
"""Of a small disk: the 2 GiB that the shipped catalog keeps free, and room for the model."""


@pytest.fixture
def whole(deployed: RealCluster) -> RealCluster:
    """Return the cluster once its loader has the model."""
    deployed.wait_for(lambda: has_model(deployed), 120, "the loader to have the model")
    return deployed


def slowly(hub: Hub) -> AbstractContextManager[None]:
    """Let downloads take their time, while a block runs."""
    return downloads(hub, RATE, CONNECTIONS)


def loader_process() -> int:
    """Return the loader container's process as this PID namespace numbers it."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if b"loader" in words and b"--catalog" in words:
                return int(folder.name)
    raise AssertionError("no loader runs")


def loader_status(cluster: RealCluster) -> dict[str, Any]:
    """Return the status of the loader's container."""
    (pod,) = loader_pods(cluster)
    (status,) = pod["status"]["containerStatuses"]
    return dict(status)


def fetched(cluster: RealCluster, hub: Hub, since: int, share: float, size: int) -> None:
    """Wait until so much of the weights was sent."""
    cluster.wait_for(
        lambda: hub.bytes_sent(WEIGHTS) - since > size * share, 120, f"{share:.0%} of the model"
    )


@contextmanager
def halfway(cluster: RealCluster, hub: Hub, since: int) -> Iterator[None]:
    """Run a block, which ends the loader, in the middle of a download, which all but stands still.

    See that it was the middle, and that the next loader goes on where this one was. ``since``: of
    the weights, so many bytes had been sent before the download.
    """
    cache = CacheDirectory(cluster.real[NODE].path(CACHE))
    journal = Journal(cache.journal(MODEL))
    size = len(hub.repositories[REPOSITORY].files[WEIGHTS])

    def sent() -> int:
        return hub.bytes_sent(WEIGHTS) - since

    def synced() -> int:
        ranges = (found for (path, _, _), found in journal.read().items() if path == WEIGHTS)
        return sum(end - start for found in ranges for start, end in found)

    fetched(cluster, hub, since, 0.25, size)
    early = synced()
    fetched(cluster, hub, since, 0.5, size)
    with each_piece_takes(hub, STILL_SECONDS):
        cluster.wait_for(lambda: synced() > size // 4, 60, "a quarter to be synced")
        held = synced()
        assert early < held < sent() < size
        assert not cache.marker(MODEL).exists()
        assert not has_model(cluster)
        before = loader_status(cluster)["restartCount"]
        yield
        cluster.wait_for(
            lambda: loader_status(cluster)["restartCount"] == before + 1, 60, "another loader"
        )
        reached = sent()
        assert reached < size
        assert not cache.marker(MODEL).exists()
    cluster.wait_for(cache.marker(MODEL).exists, 120, "the model to be whole")
    # Nothing that had been synced was fetched again; what was in flight was.
    assert size <= sent() <= size + reached - held + CONNECTIONS * hub.piece
    shares = [f"{part / size:.0%}" for part in (reached, held, sent())]
    print("ended at {}, of which {} synced; sent in all: {}".format(*shares))


def believed_again(cluster: RealCluster, beliefs: Beliefs) -> None:
    """Wait until the model is believed to be there."""
    cluster.wait_for(lambda: beliefs.now == "ready", 180, "the model to be believed in again")


def test_a_model_removed_under_the_loader_is_not_believed_in_and_survives_a_kill_in_mid_download(
    whole: RealCluster, hub: Hub, namespace: str
) -> None:
    sent = hub.bytes_sent(WEIGHTS)
    with (
        slowly(hub),
        believed(whole, "model removed, loader killed") as beliefs,
    ):
        whole.wait_for(lambda: beliefs.now == "ready", 30, "the model to be believed in")
        shutil.rmtree(whole.real[NODE].path(CACHE) / MODEL)
        with halfway(whole, hub, sent):
            os.kill(loader_process(), signal.SIGKILL)
        believed_again(whole, beliefs)
    assert "loading" in beliefs.believed()
    assert mistaken(beliefs.rows) == []
    whole.apply(from_node_cache("after"), namespace)
    serving(whole, namespace, "after")


def test_a_loader_that_the_kernel_kills_for_memory_in_mid_download_goes_on_where_it_was(
    whole: RealCluster, hub: Hub, namespace: str
) -> None:
    sent = hub.bytes_sent(WEIGHTS)
    with slowly(hub), believed(whole, "loader killed for memory") as beliefs:
        shutil.rmtree(whole.real[NODE].path(CACHE) / MODEL)
        another_loader(whole)
        with halfway(whole, hub, sent):
            run_out_of_memory(whole)
        believed_again(whole, beliefs)
    ended = loader_status(whole)["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert mistaken(beliefs.rows) == []
    whole.apply(from_node_cache("after"), namespace)
    serving(whole, namespace, "after")


def run_out_of_memory(cluster: RealCluster) -> None:
    """Lower the limit of the loader's container to what it has, then let it need more.

    What it needs more lies in memory that nobody can be asked to give back; its page cache, of
    which most of what it has consists, the kernel takes first.
    """
    (pod,) = loader_pods(cluster)
    container = loader_status(cluster)["containerID"].rpartition("/")[2]
    (folder,) = (MEMORY / cluster.real[NODE].machine.cgroup).rglob(container)
    (folder / LIMIT).write_text(str(resident(loader_process()) + (32 << 20)), encoding="ascii")
    ballast = ["dd", "if=/dev/zero", "of=/dev/shm/ballast", "bs=1M", "count=60"]
    with suppress(AssertionError):  # it ends with the container
        cluster.kubectl("exec", "-n", LOADERS, pod["metadata"]["name"], "--", *ballast)


def resident(process: int) -> int:
    """Return the memory that a process holds and no file has, bytes."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {process} tells no RssAnon")


def test_a_disk_that_fills_up_in_mid_download_is_said_and_the_download_goes_on_with_room(
    whole: RealCluster, hub: Hub, namespace: str
) -> None:
    machine = whole.real[NODE].machine
    image = machine.folder / "models.ext4"
    machine.run("truncate", f"--size={DISK_BYTES}", str(image))
    machine.run("mkfs.ext4", "-q", "-m", "0", str(image))
    machine.run("mount", "-o", "loop", str(image), str(CACHE))
    size = len(hub.repositories[REPOSITORY].files[WEIGHTS])
    sent = hub.bytes_sent(WEIGHTS)
    ballast = f"{CACHE}/ballast"
    try:
        with slowly(hub), believed(whole, "disk full") as beliefs:
            another_loader(whole)
            fetched(whole, hub, sent, 0.4, size)
            free = int(machine.run("df", "--output=avail", "-B1", str(CACHE)).split()[-1])
            machine.run("fallocate", f"--length={free - size}", ballast)
            # The download takes of the rest meanwhile: how much is left of it nobody can know.
            until_full = f"! dd if=/dev/zero of={ballast} bs=1M oflag=append conv=notrunc"
            machine.run("sh", "-c", until_full)
            whole.wait_for(lambda: beliefs.now == "failed", 60, "the full disk to be known")
            (model,) = (m for m in report(whole)["models"] if m["path"] == MODEL)
            assert "free" in model["reason"]
            machine.run("rm", ballast)
            believed_again(whole, beliefs)
        assert mistaken(beliefs.rows) == []
        assert hub.bytes_sent(WEIGHTS) - sent < size + size // 2
        whole.apply(from_node_cache("after"), namespace)
        serving(whole, namespace, "after")
    finally:
        machine.run("umount", "--lazy", str(CACHE))
        another_loader(whole)


def test_a_cache_directory_that_is_removed_under_the_loader_is_said_to_need_another_loader(
    whole: RealCluster, namespace: str
) -> None:
    with believed(whole, "cache directory removed") as beliefs:
        whole.wait_for(lambda: beliefs.now == "ready", 30, "the model to be believed in")
        shutil.rmtree(whole.real[NODE].path(CACHE))
        whole.wait_for(lambda: beliefs.now == "failed", 120, "the loss to be known")
        (model,) = (m for m in report(whole)["models"] if m["path"] == MODEL)
        assert "delete the loader's pod" in model["reason"]
        another_loader(whole)
        believed_again(whole, beliefs)
    assert mistaken(beliefs.rows) == []
    whole.apply(from_node_cache("after"), namespace)
    serving(whole, namespace, "after")
