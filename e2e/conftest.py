"""Fixtures of the tests on a real node, inside the namespaces that ``python -m e2e`` makes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from controlplane.build import binaries, build_node
from e2e.apart import Run
from e2e.cluster import RealCluster
from e2e.inside import HOST_ADDRESS
from e2e.shipped import REPOSITORY, deploy_loader, deploy_scheduler
from tests.loader.hub import Hub, Repository
from tests.loader.models import real_model


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down, when a test fails, how the cluster is: beside the logs, which are kept then."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and cluster is not None:
        cluster.write_down(item.name)
    return report


@pytest.fixture(scope="session")
def run() -> Run:
    """Return the run whose namespaces this process is in."""
    folder = os.environ.get("E2E_RUN")
    if folder is None:
        pytest.exit("these tests need namespaces of their own; run: make e2e", returncode=2)
    return Run(Path(folder))


@pytest.fixture(scope="session")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Start a control plane with the cluster's own scheduler, one real node and three fake ones."""
    workdir = tmp_path_factory.mktemp("cluster")
    found = RealCluster(run, binaries(), build_node(), workdir)
    try:
        found.start()
        found.add_real_node(1)
        found.start_scheduler(name="default-scheduler")
        found.add_fake_nodes("fake-1", "fake-2", "fake-3")
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """Run a stand-in for the hub; it has the real model."""
    with Hub(address=HOST_ADDRESS, page=100, piece=1 << 20) as found:
        found.repositories[REPOSITORY] = Repository(real_model())
        yield found


@pytest.fixture(scope="session")
def deployed(cluster: RealCluster, hub: Hub) -> RealCluster:
    """Apply the second scheduler and the loader as shipped."""
    deploy_scheduler(cluster)
    deploy_loader(cluster, hub.url)
    return cluster


@pytest.fixture
def namespace(cluster: RealCluster) -> Iterator[str]:
    """Make a namespace, gone afterwards with all its pods."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)
