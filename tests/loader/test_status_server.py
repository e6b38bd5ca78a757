"""The loader's listener: why it is not well, in words, and nothing that slows it down."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from extender.errors import UsageError
from extender.loader.server import StatusServer
from tests.controlplane.cluster import http_get


class Well:
    """What the checks say."""

    alive = ready = ""


@pytest.fixture
def well() -> Well:
    return Well()


@pytest.fixture
def server(well: Well) -> Iterator[StatusServer]:
    made = StatusServer(
        ("127.0.0.1", 0),
        CollectorRegistry(),
        alive=lambda: well.alive,
        ready=lambda: well.ready,
    )
    made.start()
    yield made
    made.stop()


def get(server: StatusServer, path: str) -> tuple[int, str]:
    return http_get(f"http://127.0.0.1:{server.port}{path}")


def test_alive_and_ready_are_told_apart(server: StatusServer, well: Well) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    well.ready = "no catalog is in force"
    assert get(server, "/readyz") == (503, "no catalog is in force\n")
    assert get(server, "/healthz") == (200, "ok\n")
    well.alive = "no turn of the loop for 61 s"
    assert get(server, "/healthz") == (503, "no turn of the loop for 61 s\n")


def test_another_path_names_those_that_there_are(server: StatusServer) -> None:
    assert get(server, "/") == (404, "/healthz, /readyz and /metrics are served\n")


def test_a_client_that_says_nothing_holds_nobody_up(server: StatusServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_wrong_use(server: StatusServer) -> None:
    with pytest.raises(UsageError, match=f"--status-listen 127.0.0.1:{server.port}: Address"):
        StatusServer(
            ("127.0.0.1", server.port), CollectorRegistry(), alive=lambda: "", ready=lambda: ""
        )
