"""Fixtures: one real server a module, and the application inside of this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.serving.app import create_app
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service
from extender.snapshot import fill, read_documents
from extender.verbs.context import Context
from tests.serving.running import DEMO_CLUSTER, Running, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The demo's cluster, served by a process with both listeners."""
    folder = tmp_path_factory.mktemp("server")
    arguments = ("--snapshot", DEMO_CLUSTER, "--status-listen", "127.0.0.1:0")
    with running(folder, *arguments) as started:
        yield started


@pytest.fixture(scope="module")
def service() -> Service:
    """The demo's cluster, decided about inside of this process."""
    return demo_service(ExtenderConfiguration())


@pytest.fixture(scope="module")
def client(service: Service) -> FlaskClient:
    """The same, served over HTTP without a socket."""
    return create_app(service).test_client()


def demo_service(configuration: ExtenderConfiguration) -> Service:
    """What answers about the demo's cluster."""
    state = ClusterState(clock=time.time)
    fill(state, read_documents(DEMO_CLUSTER))
    return Service(Context(state=state), FileKnowledge(), configuration)
