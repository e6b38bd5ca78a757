"""Mutual TLS on the verbs' listener: who is answered, who gets nothing, and rotation."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from extender.config import read_configuration
from extender.errors import InvalidConfigurationError
from extender.serving.certificates import Certificates
from tests.authority import CLIENT, DAY, SERVER, Authority, Pair
from tests.serving.running import DEMO_CLUSTER, GOOD, GRACE_SECONDS, JSON, PASSED, Running, running
from tests.serving.site import HEAD, Site, replace

GOOD_BODY = msgspec.json.encode(GOOD)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@contextlib.contextmanager
def serving(folder: Path, site: Site) -> Iterator[Running]:
    arguments = ("--config", site.config(folder), "--status-listen", "127.0.0.1:0")
    with running(folder, "--snapshot", DEMO_CLUSTER, *arguments) as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.at(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def client_pair(site: Site) -> Pair:
    return site.clients.issue("kube-scheduler", CLIENT)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("server"), site) as started:
        yield started


def connect(server: Running, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(*server.address, timeout=20, context=context)


def filtered(connection: http.client.HTTPSConnection) -> http.client.HTTPResponse:
    """Ask filter a question that must be answered well."""
    connection.request("POST", "/filter", GOOD_BODY, JSON)
    response = connection.getresponse()
    assert response.status == 200
    assert msgspec.json.decode(response.read()) == PASSED
    return response


def is_answered(server: Running, context: ssl.SSLContext) -> bool:
    """Whether any byte at all comes back to a request for health."""
    with contextlib.closing(socket.create_connection(server.address, timeout=20)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return connection.recv(1) != b""
        except (ssl.SSLError, ConnectionError):
            return False


# -- who is answered -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_client_with_a_certificate_of_the_client_ca_is_answered_again_and_again(
    tls_server: Running, site: Site, client_pair: Pair, version: ssl.TLSVersion
) -> None:
    with contextlib.closing(connect(tls_server, site.context(client_pair, version))) as connection:
        for _ in range(3):
            assert not filtered(connection).will_close


def test_a_large_and_a_chunked_body_arrive_whole(
    tls_server: Running, site: Site, client_pair: Pair
) -> None:
    names = [f"node-{number:032d}" for number in range(40_000)]
    nobody = {"metadata": {"name": "is-offered-all"}}  # as it has no UID
    body = msgspec.json.encode({**GOOD, "Pod": nobody, "NodeNames": names})
    assert len(body) > 2**20
    with contextlib.closing(connect(tls_server, site.context(client_pair))) as connection:
        for chunked in (False, True):
            content: Any = iter([body[:1000], body[1000:]]) if chunked else body
            connection.request("POST", "/filter", content, JSON, encode_chunked=chunked)
            answer = msgspec.json.decode(connection.getresponse().read())
            assert answer["NodeNames"] == names


def strangers(site: Site, folder: Path) -> dict[str, ssl.SSLContext]:
    other = Authority(folder / "other")
    namesake = Authority(folder / "namesake")
    assert namesake.common_name == site.clients.common_name
    return {
        "no certificate": site.context(None),
        "another authority": site.context(other.issue("kube-scheduler", CLIENT)),
        "an authority of the same name": site.context(namesake.issue("kube-scheduler", CLIENT)),
        "the server's own authority": site.context(site.servers.issue("client", CLIENT)),
        "expired": site.context(site.clients.issue("expired", CLIENT, lasts=-DAY)),
        "a server's certificate": site.context(site.clients.issue("a-server", SERVER)),
    }


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    "who",
    [
        "no certificate",
        "another authority",
        "an authority of the same name",
        "the server's own authority",
        "expired",
        "a server's certificate",
    ],
)
def test_anyone_else_gets_nothing(
    tls_server: Running, site: Site, tmp_path: Path, who: str, version: ssl.TLSVersion
) -> None:
    context = strangers(site, tmp_path)[who]
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = version
    mark = tls_server.mark()
    assert not is_answered(tls_server, context)
    known = site.clients.issue(tmp_path.name, CLIENT)
    assert is_answered(tls_server, site.context(known, version))
    (line,) = tls_server.lines(mark)
    assert (line["event"], line["caller"]) == ("connection refused", "127.0.0.1")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=lambda version: version.name
)
def test_older_tls_gets_nothing_even_with_the_right_certificate(
    tls_server: Running, site: Site, client_pair: Pair, version: ssl.TLSVersion
) -> None:
    mark = tls_server.mark()
    assert not is_answered(tls_server, site.context(client_pair, version))
    assert is_answered(tls_server, site.context(client_pair)), "after which the log is written"
    (line,) = tls_server.lines(mark)
    assert "UNSUPPORTED_PROTOCOL" in line["error"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /bind HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\n",
    ],
    ids=["GET", "POST", "no TLS"],
)
def test_plain_http_gets_no_answer_in_http(tls_server: Running, data: bytes) -> None:
    with tls_server.connect() as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(4096):
                answer += more
    assert b"HTTP/" not in answer
    assert b"{" not in answer


def test_the_status_listener_stays_plain_http_without_a_section_of_its_own(
    tls_server: Running,
) -> None:
    status = tls_server.status_address
    assert tls_server.ask("GET", "/readyz", at=status).status == 200
    assert tls_server.post("/filter", GOOD, at=status).status == 404
    assert tls_server.post("/bind", {}, at=status).status == 404


def test_no_key_is_in_the_log(tls_server: Running, site: Site) -> None:
    lines = Path(site.files.key_file).read_text().splitlines()[1:-1]
    assert not [line for line in lines if line in tls_server.log()]
    assert "PRIVATE KEY" not in tls_server.log()


# -- who may bind ----------------------------------------------------------------------------------


BINDING = {"PodNamespace": "n", "PodName": "p", "PodUID": "u", "Node": "gpu-1"}


@contextlib.contextmanager
def handshake(site: Site, pair: Pair | None) -> Iterator[ssl.SSLSocket]:
    """The server's end of a TLS connection over a pair of sockets."""
    near, far = socket.socketpair()
    near.settimeout(20)
    far.settimeout(20)
    asked = Certificates(site.files).context()
    if pair is None:
        asked.verify_mode = ssl.CERT_NONE
    client = site.context(pair)
    ends: list[ssl.SSLSocket] = []

    def shake() -> None:
        ends.append(client.wrap_socket(far, server_hostname="localhost"))

    other = threading.Thread(target=shake)
    other.start()
    with asked.wrap_socket(near, server_side=True) as connection:
        other.join(20)
        yield connection
    for end in ends:
        end.close()


@pytest.mark.parametrize(
    ("caller", "shown", "code"),
    [
        ("127.0.0.1", "plain", 200),
        ("127.9.9.9", "plain", 200),
        ("::1", "plain", 200),
        ("10.1.2.3", "plain", 403),
        ("fe80::1%eth0", "plain", 403),
        ("", "plain", 403),
        ("10.1.2.3", "certificate", 200),
        ("10.1.2.3", "none", 403),
    ],
)
def test_bind_answers_loopback_and_clients_that_have_shown_a_certificate(
    client: FlaskClient, site: Site, caller: str, shown: str, code: int
) -> None:
    overrides: dict[str, Any] = {"REMOTE_ADDR": caller}
    with contextlib.ExitStack() as stack:
        if shown != "plain":
            pair = site.clients.issue("binder", CLIENT) if shown == "certificate" else None
            overrides["gunicorn.socket"] = stack.enter_context(handshake(site, pair))
        answer = client.post("/bind", json=BINDING, environ_overrides=overrides)
        asked = client.post("/filter", json=GOOD, environ_overrides=overrides)
    assert (answer.status_code, asked.status_code) == (code, 200)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-SSL-Cert"])
def test_no_header_makes_a_caller_known(client: FlaskClient, header: str) -> None:
    answer = client.post(
        "/bind",
        json=BINDING,
        headers={header: "127.0.0.1"},
        environ_overrides={"REMOTE_ADDR": "10.1.2.3"},
    )
    assert answer.status_code == 403


# -- rotation --------------------------------------------------------------------------------------


def shown_by(server: Running, context: ssl.SSLContext) -> bytes:
    """The certificate that the server shows."""
    with contextlib.closing(connect(server, context)) as connection:
        filtered(connection)
        shown = connection.sock.getpeercert(binary_form=True)
        assert isinstance(shown, bytes)
        return shown


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def test_a_new_server_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("kube-scheduler", CLIENT))
    with serving(tmp_path, site) as server:
        old = shown_by(server, context)
        renewed = site.servers.issue("renewed", SERVER)
        site.put(renewed)
        assert shown_by(server, context) == der(renewed) != old
        assert "Traceback" not in server.log()


def test_a_new_certificate_beside_the_old_key_waits_for_its_own(tmp_path: Path) -> None:
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("kube-scheduler", CLIENT))
    with serving(tmp_path, site) as server:
        old, mark = shown_by(server, context), server.mark()
        renewed = site.servers.issue("renewed", SERVER)
        replace(Path(site.files.cert_file), renewed.cert.read_bytes())
        for _ in range(3):
            assert shown_by(server, context) == old
        said = [line for line in server.lines(mark) if line["event"] != "decision"]
        assert [line["event"] for line in said] == ["certificates not renewed"], "once"
        assert "are no pair" in said[0]["error"]
        replace(Path(site.files.key_file), renewed.key.read_bytes())
        assert shown_by(server, context) == der(renewed)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"], ids=["gone", "empty", "nonsense"])
@pytest.mark.parametrize("file", ["cert_file", "key_file", "client_ca_file"])
def test_a_file_that_is_lost_changes_nothing(
    tmp_path: Path, file: str, content: bytes | None
) -> None:
    site = Site.at(tmp_path)
    certificates = Certificates(site.files)
    before = certificates.context()
    path = Path(getattr(site.files, file))
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        replace(path, content)
    assert certificates.context() is before
    replace(path, good)
    assert certificates.context() is not before


def test_a_new_client_authority_counts_at_once_and_ends_old_connections(tmp_path: Path) -> None:
    """A connection that is open already gets one more answer, which announces its end."""
    site = Site.at(tmp_path / "site")
    before = site.context(site.clients.issue("before", CLIENT))
    clients = Authority(tmp_path / "new-clients", "new-clients")
    after = site.context(clients.issue("after", CLIENT))
    with serving(tmp_path, site) as server:
        with contextlib.closing(connect(server, before)) as kept:
            assert not filtered(kept).will_close
            assert not is_answered(server, after)
            site.trust(clients)
            assert is_answered(server, after)
            assert not is_answered(server, before)
            assert filtered(kept).will_close
        with contextlib.closing(connect(server, before)) as again, pytest.raises(OSError):
            filtered(again)


def test_a_certificate_is_looked_at_again_on_each_connection(tmp_path: Path) -> None:
    """A session from before is not resumed: its client may have lost its right since."""
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("before", CLIENT), ssl.TLSVersion.TLSv1_2)
    with serving(tmp_path, site) as server:
        session = None
        for _ in range(2):
            with (
                socket.create_connection(server.address, timeout=20) as plain,
                context.wrap_socket(
                    plain, server_hostname="localhost", session=session
                ) as connection,
            ):
                session = connection.session
                assert not connection.session_reused


# -- refusing to start -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"certFile": "a"}, ["tls.keyFile: is missing", "tls.clientCaFile: is missing"]),
        ({"certFile": "a", "keyFile": "b"}, ["tls.clientCaFile: is missing"]),
        ({"clientCaFile": "c"}, ["tls.certFile: is missing", "tls.keyFile: is missing"]),
        (
            {"certFile": "a", "ca": "b"},
            ["tls.ca: unknown key", "tls.keyFile: is missing", "tls.clientCaFile: is missing"],
        ),
        ({"certFile": 5}, ["tls.certFile: "]),
    ],
)
def test_half_a_tls_section_is_refused_and_what_is_missing_named(
    given: dict[str, Any], errors: list[str]
) -> None:
    with pytest.raises(InvalidConfigurationError) as caught:
        read_configuration({**HEAD, "tls": given})
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len(errors)
    for line, error in zip(lines, errors, strict=True):
        assert line.strip().startswith(error)


def no_file(site: Site) -> None:
    Path(site.files.cert_file).unlink()
    Path(site.files.client_ca_file).unlink()


def other_key(site: Site) -> None:
    replace(Path(site.files.key_file), site.servers.issue("other", SERVER).key.read_bytes())


def no_ca(site: Site) -> None:
    replace(Path(site.files.client_ca_file), b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_file, ["tls.certFile: ", "tls.clientCaFile: ", "cannot be read: No such file"]),
        (other_key, ["tls.certFile, tls.keyFile: ", "are no pair", "its own PEM key"]),
        (no_ca, ["tls.clientCaFile: ", "holds no certificate", "give the PEM certificate"]),
    ],
    ids=["missing", "another key", "empty CA"],
)
def test_files_that_cannot_be_used_end_the_start_with_field_and_remedy(
    tmp_path: Path, spoil: Callable[[Site], None], said: list[str]
) -> None:
    site = Site.at(tmp_path)
    spoil(site)
    with pytest.raises(InvalidConfigurationError) as caught:
        Certificates(site.files)
    for part in said:
        assert part in str(caught.value)


def test_an_encrypted_key_is_refused_and_no_password_asked_for(tmp_path: Path) -> None:
    site = Site.at(tmp_path)
    key = Path(site.files.key_file)
    encrypted = "EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233"
    encrypted += "445566778899AABBCCDDEEFF\n"
    replace(key, key.read_text().replace("EC PRIVATE KEY-----", encrypted, 1).encode())
    with pytest.raises(InvalidConfigurationError, match="without a password"):
        Certificates(site.files)


def test_a_server_that_stops_lets_a_tls_client_have_its_answer(tmp_path: Path) -> None:
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("kube-scheduler", CLIENT))
    with serving(tmp_path, site) as server, contextlib.closing(connect(server, context)) as kept:
        filtered(kept)
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < GRACE_SECONDS
        assert "Traceback" not in server.log()
