"""TLS on the status listener: the page for people with a browser, health for everyone."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import CLIENT, SERVER, Authority
from tests.serving.running import GOOD, JSON, Answer, Running, read_answer
from tests.serving.site import Site, serving

PUBLIC = ("/healthz", "/readyz", "/metrics")
NAMING = ("/", "/page.css", "/page.js", "/api/v1/nodes", "/api/v1/models")
"""What is served for people, and names nodes, pods and models."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.at(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def for_all(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("for-all"), site, clients=False) as started:
        yield started


@pytest.fixture(scope="module")
def for_known(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("for-known"), site, clients=True) as started:
        yield started


def connect(server: Running, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    assert server.status_address is not None
    return http.client.HTTPSConnection(*server.status_address, timeout=20, context=context)


def get(server: Running, path: str, context: ssl.SSLContext) -> Answer:
    with contextlib.closing(connect(server, context)) as connection:
        connection.request("GET", path)
        return read_answer(connection.getresponse())


@pytest.mark.parametrize("path", [*PUBLIC, *NAMING])
def test_everything_that_is_read_only_is_answered_over_tls(
    for_all: Running, site: Site, path: str
) -> None:
    assert get(for_all, path, site.context(None)).status == 200


@pytest.mark.parametrize("verb", ["filter", "prioritize", "bind", "preempt"])
def test_a_certificate_opens_no_verb(for_known: Running, site: Site, verb: str) -> None:
    known = site.context(site.clients.issue("browser", CLIENT))
    with contextlib.closing(connect(for_known, known)) as connection:
        connection.request("POST", f"/{verb}", b"{}", JSON)
        assert read_answer(connection.getresponse()).status == 404


def test_the_verbs_beside_it_stay_plain_http_on_loopback(for_all: Running) -> None:
    assert for_all.post("/filter", GOOD).status == 200


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_plain_http_gets_no_answer_in_http(for_all: Running, path: str) -> None:
    with for_all.connect(for_all.status_address) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/" not in connection.recv(4096)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_tls_is_refused(for_all: Running, site: Site) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(for_all, "/", site.context(None, ssl.TLSVersion.TLSv1_1))
    assert get(for_all, "/", site.context(None, ssl.TLSVersion.TLSv1_2)).status == 200


@pytest.mark.parametrize("path", PUBLIC)
def test_probes_and_prometheus_need_no_certificate_where_people_do(
    for_known: Running, site: Site, path: str
) -> None:
    assert get(for_known, path, site.context(None)).status == 200


@pytest.mark.parametrize("path", NAMING)
def test_what_names_pods_is_for_those_who_show_a_certificate(
    for_known: Running, site: Site, path: str
) -> None:
    refused = get(for_known, path, site.context(None))
    assert refused.status == 403
    assert refused.error() == (
        f"{path} is for clients with a certificate of statusTls.clientCaFile; show one, or forward "
        "a port to the address of --listen"
    )
    known = site.context(site.clients.issue("browser", CLIENT))
    assert get(for_known, path, known).status == 200


def test_a_certificate_of_another_authority_ends_the_handshake(
    for_known: Running, site: Site, tmp_path: Path
) -> None:
    namesake = Authority(tmp_path / "namesake")
    assert namesake.common_name == site.clients.common_name
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(for_known, "/healthz", site.context(namesake.issue("browser", CLIENT)))


def test_a_new_certificate_is_shown_without_a_restart_and_ends_old_connections(
    tmp_path: Path,
) -> None:
    site = Site.at(tmp_path / "site")
    context = site.context(None)
    with serving(tmp_path, site, clients=False) as server:
        with contextlib.closing(connect(server, context)) as kept:
            kept.request("GET", "/")
            first = kept.getresponse()
            assert (first.status, first.will_close, len(first.read()) > 0) == (200, False, True)
            renewed = site.servers.issue("renewed", SERVER)
            site.put(renewed)
            with contextlib.closing(connect(server, context)) as other:
                other.request("GET", "/")
                assert other.getresponse().status == 200
                shown = other.sock.getpeercert(binary_form=True)
            assert shown == ssl.PEM_cert_to_DER_cert(renewed.cert.read_text())
            kept.request("GET", "/")
            assert kept.getresponse().will_close
        said = [line for line in server.lines() if line["event"] == "certificates renewed"]
        assert [line["section"] for line in said] == ["statusTls"]
