"""Fixtures of the tests on a real control plane."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from controlplane.build import BuildError, binaries
from extender.watch.client import connect
from tests.controlplane.changes import (
    ASIDE,
    ASIDE_RESOURCES,
    NODE_RESOURCES,
    NODES,
    PRIORITIES,
    Changes,
)
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.processes import Process
from tests.controlplane.run_queue import RunQueue
from tests.controlplane.shipped import (
    OPTS_IN,
    SCHEDULER,
    SYSTEM,
    Object,
    kustomized,
    load,
    scheduler_config,
)
from tests.controlplane.stage import Stage

HERE = Path(__file__).resolve().parent
VERSION = os.environ.get("K8S_VERSION") or "1.37"

collect_ignore = [] if os.environ.get("SOAK_SECONDS") else ["test_soak.py"]
"""Twenty minutes, for `make soak` alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("controlplane")


@pytest.fixture(scope="session")
def kubernetes_binaries() -> Path:
    """The folder of the binaries. Where a control plane is required, its absence is an error."""
    try:
        return binaries(VERSION)
    except BuildError as error:
        if os.environ.get("CI") or os.environ.get("REQUIRE_CONTROL_PLANE"):
            pytest.exit(f"no control plane to test on: {error}", returncode=2)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def control_plane(
    kubernetes_binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """One control plane for the whole session, without nodes and without a scheduler."""
    cluster = ControlPlane(kubernetes_binaries, tmp_path_factory.mktemp("control-plane"))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace; its pods, and the nodes and processes that a test added, go afterwards."""
    before = control_plane.processes()
    nodes = list(control_plane.nodes)
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create_namespace(name)
    yield name
    stop_others(control_plane, before)
    control_plane.delete_namespace(name)
    control_plane.delete_nodes([node for node in control_plane.nodes if node not in nodes])


@pytest.fixture(scope="module")
def extender_args() -> tuple[str, ...]:
    """What the extender of ``placing`` is started with; a module may have more than nothing."""
    return ()


@pytest.fixture(scope="module")
def placing(control_plane: ControlPlane, extender_args: tuple[str, ...]) -> Iterator[Extender]:
    """The shipped manifests applied, the extender with its own account, and both schedulers.

    What is applied stays: the next module applies it again.
    """
    control_plane.apply(kustomized(control_plane, "deploy/overlays/second-scheduler"))
    if OPTS_IN:
        control_plane.apply(kustomized(control_plane, "deploy/opt-in"))
    account = control_plane.kubeconfig_for_service_account(SYSTEM, "model-cache-extender")
    before = control_plane.processes()
    extender = control_plane.start_extender(*extender_args, kubeconfig=account)
    control_plane.start_scheduler(scheduler_config(extender.url), SCHEDULER, kubeconfig=account)
    control_plane.start_scheduler(name="default-scheduler")
    yield extender
    stop_others(control_plane, before)


def stop_others(control_plane: ControlPlane, kept: list[Process]) -> None:
    """Stop every process but these, a scheduler before the extender that waits for its end."""
    for process in reversed(control_plane.processes()):
        if process not in kept:
            control_plane.stop_process(process)


@pytest.fixture
def inference(control_plane: ControlPlane, placing: Extender, namespace: str) -> str:
    """A namespace whose pods go to the model-cache scheduler with no change to their manifests."""
    _ = placing
    label = "modelcache.dev/scheduling=enabled"
    control_plane.kubectl("label", "namespace", namespace, label)
    return namespace


@pytest.fixture
def random_changes(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> Iterator[Changes]:
    """Nodes with a loader on each, which nobody evicts, to be changed at random."""
    _ = placing  # its default scheduler places the loaders
    control_plane.add_nodes(NODES, NODE_RESOURCES)
    control_plane.add_nodes([ASIDE], ASIDE_RESOURCES)
    load(control_plane, namespace, len(NODES) + 1, priority="system-node-critical")
    with priority_classes(control_plane, namespace, PRIORITIES):
        api = connect(str(control_plane.kubeconfig()))
        yield Changes(api, namespace, RunQueue(lambda: acting(control_plane)))


def acting(control_plane: ControlPlane) -> list[int]:
    """Return the processes between a change and the Binding that follows from it."""
    names = {"etcd", "kube-apiserver", "extender", SCHEDULER}
    found = [process for process in control_plane.processes() if process.name in names]
    return [pid for process in found for pid in process.pids()]


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str) -> Iterator[Stage]:
    """One scheduler name with an extender and two priority classes of its own."""
    levels = {"low": (1, True), "high": (1000, True)}
    with priority_classes(control_plane, namespace, levels):
        yield Stage(control_plane, namespace, control_plane.start_extender())


@contextmanager
def priority_classes(
    control_plane: ControlPlane, namespace: str, levels: Mapping[str, tuple[int, bool]]
) -> Iterator[None]:
    """Have priority classes for a while, each with a test's own name.

    ``levels``: how high each is, and whether others are evicted for its pods.
    """
    classes: list[Object] = [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"{level}-{namespace}"},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority" if preempts else "Never",
        }
        for level, (value, preempts) in levels.items()
    ]
    control_plane.apply(classes)
    yield
    control_plane.kubectl("delete", "priorityclass", *(c["metadata"]["name"] for c in classes))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    folder = "tests/controlplane/"
    counts = {
        outcome: sum(
            report.nodeid.startswith(folder)
            for report in terminalreporter.getreports(outcome)
            if getattr(report, "when", "call") == "call" or outcome == "skipped"
        )
        for outcome in ("passed", "failed", "skipped")
    }
    ran = counts["passed"] + counts["failed"]
    terminalreporter.write_line(
        f"real control plane: {ran} tests ran on Kubernetes {VERSION}, {counts['skipped']} skipped"
    )
