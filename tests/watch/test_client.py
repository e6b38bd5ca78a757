"""Requests to an apiserver: who asks, what comes back, and what it is called when nothing does."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from kubernetes.client.configuration import Configuration

from extender.watch.access import Access
from extender.watch.answers import (
    FencedError,
    HandshakeError,
    SilenceError,
    StoppedError,
    UnreachableError,
)
from extender.watch.client import Transport
from tests.authority import Pair, self_signed
from tests.clock import Clock
from tests.watch import faults
from tests.watch.fake_apiserver import NODES, Exchange, FakeApiserver, Fault
from tests.watch.harness import access_to, eventually

TOKEN = "the-token"


def changing(
    load: Callable[[int], Configuration],
) -> tuple[Access, Clock]:
    """Return an access whose nth reading is ``load(n)``, long enough after the first reading."""
    clock, readings = Clock(), iter(range(100))
    access = Access(lambda: load(next(readings)), clock=clock)
    clock.now += 10
    return access, clock


def tokens(api: FakeApiserver, *texts: str | None) -> Access:
    """Return an access with one token after another."""

    def load(number: int) -> Configuration:
        configuration = Configuration(host=api.url)
        text = texts[min(number, len(texts) - 1)]
        if text is not None:
            configuration.api_key["BearerToken"] = f"Bearer {text}"
        return configuration

    return changing(load)[0]


# -- what is sent --------------------------------------------------------------------------------


def test_a_request_carries_the_token(api: FakeApiserver) -> None:
    api.tokens = {TOKEN}
    assert Transport(access_to(api, TOKEN)).request("GET", NODES).status == 200
    assert api.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_request_without_a_token_says_nothing_of_one(api: FakeApiserver) -> None:
    Transport(access_to(api)).request("GET", NODES)
    assert "Authorization" not in api.requests[-1].headers


def test_a_request_says_who_asks_and_what_for(api: FakeApiserver) -> None:
    Transport(access_to(api)).request("GET", NODES)
    headers = api.requests[-1].headers
    assert headers["User-Agent"].startswith("model-cache-extender/")
    assert headers["Accept"] == "application/json"


def test_a_body_is_sent_as_it_is_and_its_type_can_be_named(api: FakeApiserver) -> None:
    transport = Transport(access_to(api))
    answer = transport.request("POST", NODES, body=b'{"a": 1}')
    assert (answer.status, answer.body) == (201, b'{"a": 1}')
    assert api.requests[-1].headers["Content-Type"] == "application/json"
    patch = {"Content-Type": "application/merge-patch+json"}
    transport.request("PATCH", NODES, body=b"{}", headers=patch)
    assert api.requests[-1].headers["Content-Type"] == "application/merge-patch+json"


def test_a_query_is_encoded(api: FakeApiserver) -> None:
    query: dict[str, str | int] = {"fieldSelector": "status.phase!=Failed,a=b&c", "limit": 5}
    Transport(access_to(api)).request("GET", NODES, query=query)
    assert api.requests[-1].query == {"fieldSelector": "status.phase!=Failed,a=b&c", "limit": "5"}


# -- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 403, 404, 409, 410, 429, 500, 503])
def test_any_status_is_an_answer_with_the_servers_words(api: FakeApiserver, code: int) -> None:
    api.fail("list", faults.answers(code, "Because"))
    answer = Transport(access_to(api, TOKEN)).request("GET", NODES)
    assert (answer.status, answer.ok) == (code, False)
    assert answer.problem().summary() == f"{code} Because Because by the test"
    assert len(api.requests) == 1


def test_a_redirect_is_not_followed(api: FakeApiserver) -> None:
    """It could lead the token anywhere."""
    api.fail("list", lambda exchange: exchange.reply(302, {}, {"Location": "/elsewhere"}))
    assert Transport(access_to(api, TOKEN)).request("GET", NODES).status == 302
    assert [request.path for request in api.requests] == [NODES]


def test_a_stream_gives_bytes_as_they_come(api: FakeApiserver) -> None:
    def slowly(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(b"one")
        exchange.hang()

    api.fail("watch", slowly)
    with Transport(access_to(api)).stream("GET", NODES, query={"watch": "true"}) as stream:
        assert stream.status == 200
        assert next(stream.chunks()) == b"one"
    api.stopped.set()


# -- when nothing does ---------------------------------------------------------------------------

NO_ANSWER: dict[str, tuple[Fault, type[UnreachableError]]] = {
    "reset before the head": (faults.reset_before_head, UnreachableError),
    "cut off in the body": (faults.truncated_list, UnreachableError),
    "silent before the head": (faults.slow(30), SilenceError),
    "silent in the body": (faults.half_open, SilenceError),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_an_answer_that_does_not_come_may_have_been_acted_upon_and_is_not_asked_for_again(
    api: FakeApiserver, case: str
) -> None:
    fault, kind = NO_ANSWER[case]
    api.fail("list", fault)
    with pytest.raises(UnreachableError) as caught:
        Transport(access_to(api, TOKEN)).request("GET", NODES, read_timeout=0.3)
    assert type(caught.value) is kind
    assert caught.value.sent
    assert len(api.requests) == 1
    api.stopped.set()


def test_silence_is_said_in_words(api: FakeApiserver) -> None:
    api.fail("list", faults.half_open)
    with pytest.raises(SilenceError, match="sent nothing within the read timeout"):
        Transport(access_to(api)).request("GET", NODES, read_timeout=0.2)
    api.stopped.set()


def test_a_server_that_is_not_there_got_nothing(api: FakeApiserver) -> None:
    api.down()
    with pytest.raises(UnreachableError) as caught:
        Transport(access_to(api, TOKEN)).request("POST", NODES, body=b"{}")
    assert not caught.value.sent
    assert "refused" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_transport_works_again_after_the_server_was_away(api: FakeApiserver) -> None:
    transport = Transport(access_to(api))
    transport.request("GET", NODES)
    api.down()
    with pytest.raises(UnreachableError):
        transport.request("GET", NODES)
    api.up()
    assert transport.request("GET", NODES).ok


# -- a credential that is refused ----------------------------------------------------------------


def test_a_refused_token_is_read_anew_and_tried_once_more(api: FakeApiserver) -> None:
    api.tokens = {"new"}
    transport = Transport(tokens(api, "old", "new"))
    assert transport.request("GET", NODES).status == 200
    assert transport.request("GET", NODES).status == 200
    sent = [request.headers["Authorization"] for request in api.requests]
    assert sent == ["Bearer old", "Bearer new", "Bearer new"]


def test_a_token_that_is_refused_again_is_the_answer(api: FakeApiserver) -> None:
    api.tokens = {"another"}
    assert Transport(tokens(api, "old", "new")).request("GET", NODES).status == 401
    assert len(api.requests) == 2


def test_a_fence_that_closes_while_a_token_is_read_anew_keeps_the_second_try_back(
    api: FakeApiserver,
) -> None:
    """A Binding may not go out once another leads; the next request has the token."""
    api.tokens = {"new"}
    answers = itertools.chain(["", "", "another leads"], itertools.repeat(""))
    transport = Transport(tokens(api, "old", "new"))
    with pytest.raises(FencedError, match="another leads") as caught:
        transport.request("GET", NODES, fence=answers.__next__)
    assert not caught.value.sent
    assert transport.request("GET", NODES, fence=answers.__next__).status == 200
    sent = [request.headers["Authorization"] for request in api.requests]
    assert sent == ["Bearer old", "Bearer new"]


def test_a_token_that_was_read_just_now_is_not_read_again(api: FakeApiserver) -> None:
    """A wrong credential must not become a loop of plugins that fetch it."""
    api.tokens = {"another"}
    transport = Transport(access_to(api, "old"))
    assert transport.request("GET", NODES).status == 401
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("first", "requests"), [(None, 2), ("old", 1)], ids=["anonymous", "with a token"]
)
def test_what_is_forbidden_to_nobody_in_particular_is_a_credential_that_is_missing(
    api: FakeApiserver, first: str | None, requests: int
) -> None:
    """A plugin that failed once leaves requests anonymous: they are forbidden, not refused."""
    api.fail("list", faults.answers(403, "Forbidden"))
    answer = Transport(tokens(api, first, "new")).request("GET", NODES)
    assert answer.status == (200 if requests == 2 else 403)
    assert len(api.requests) == requests


def test_nothing_leaves_where_the_fence_has_closed_by_the_time_that_the_token_is_there(
    api: FakeApiserver,
) -> None:
    opened = [True]

    class Slow(Access):
        def authorization(self) -> str | None:
            opened.clear()  # the lead is lost meanwhile
            return super().authorization()

    access = Slow(lambda: Configuration(host=api.url))
    with pytest.raises(FencedError, match="another leads") as caught:
        Transport(access).request("POST", NODES, fence=lambda: "" if opened else "another leads")
    assert not caught.value.sent
    assert api.requests == []


def test_nothing_leaves_where_the_fence_has_closed_by_the_time_that_there_is_a_connection(
    api: FakeApiserver,
) -> None:
    """Also where this process was stopped in the midst of it, and went on a minute later."""
    answers = iter(["", "another leads", "", "", ""])
    transport = Transport(access_to(api))
    with pytest.raises(FencedError, match=r"another leads .*its connection") as caught:
        transport.request("POST", NODES, body=b"{}", fence=answers.__next__)
    assert not caught.value.sent
    assert api.requests == []
    for _ in range(2):  # the second one has a connection already
        assert transport.request("GET", NODES, fence=answers.__next__).ok
    assert not list(answers)


# -- cutting it ----------------------------------------------------------------------------------


def test_a_cut_transport_sends_nothing_any_more(api: FakeApiserver) -> None:
    transport = Transport(access_to(api))
    transport.cut()
    with pytest.raises(StoppedError) as caught:
        transport.request("GET", NODES)
    assert not caught.value.sent
    assert api.requests == []


def test_a_cut_ends_the_request_that_waits_for_its_answer(api: FakeApiserver) -> None:
    api.fail("list", faults.half_open)
    transport = Transport(access_to(api))
    ended: list[Exception] = []

    def ask() -> None:
        try:
            transport.request("GET", NODES, read_timeout=60)
        except UnreachableError as error:
            ended.append(error)

    thread = Thread(target=ask)
    thread.start()
    assert eventually(lambda: api.count("list") == 1)
    before = monotonic()
    transport.cut()
    thread.join(30)
    assert not thread.is_alive()
    assert monotonic() - before < 30
    assert len(ended) == 1
    api.stopped.set()


def test_a_sibling_has_connections_of_its_own(api: FakeApiserver) -> None:
    transport = Transport(access_to(api, TOKEN))
    sibling = transport.sibling()
    transport.cut()
    assert sibling.request("GET", NODES).ok
    assert api.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"


# -- TLS -----------------------------------------------------------------------------------------


def serving(made: Pair) -> FakeApiserver:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    return FakeApiserver(tls=context)


def trusting(api: FakeApiserver, *authorities: Path) -> Access:
    """Return an access that trusts one authority after another."""

    def load(number: int) -> Configuration:
        configuration = Configuration(host=api.url)
        configuration.ssl_ca_cert = str(authorities[min(number, len(authorities) - 1)])
        configuration.api_key["BearerToken"] = f"Bearer {TOKEN}"
        return configuration

    return changing(load)[0]


def test_a_server_with_a_trusted_certificate_is_asked_over_tls(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "server")
    with serving(made) as api:
        assert Transport(trusting(api, made.cert)).request("GET", NODES).ok
        assert api.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_is_not_trusted_gets_neither_request_nor_token(
    tmp_path: Path, method: str
) -> None:
    made, other = self_signed(tmp_path, "server"), self_signed(tmp_path, "other")
    with serving(made) as api:
        with pytest.raises(HandshakeError, match="TLS: ") as caught:
            Transport(trusting(api, other.cert)).request(method, NODES)
        assert not caught.value.sent
        assert api.requests == []


def test_a_certificate_for_another_address_is_not_trusted(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "server", "127.0.0.2")
    with serving(made) as api:
        with pytest.raises(HandshakeError):
            Transport(trusting(api, made.cert)).request("GET", NODES)
        assert api.requests == []


def test_an_authority_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    made, old = self_signed(tmp_path, "server"), self_signed(tmp_path, "old")
    with serving(made) as api:
        assert Transport(trusting(api, old.cert, made.cert)).request("GET", NODES).ok
        assert len(api.requests) == 1


# -- where it goes -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_apiserver_below_a_path_is_asked_there_and_by_its_name(
    api: FakeApiserver, method: str
) -> None:
    """As Rancher serves clusters; what stands before an ``@`` is no part of a host's name."""
    url = api.url.replace("//", "//user:secret@") + "/k8s/clusters/c-1/"
    transport = Transport(Access(lambda: Configuration(host=url)))
    transport.request(method, NODES, body=b"{}" if method == "POST" else None)
    asked = api.requests[-1]
    assert asked.path == f"/k8s/clusters/c-1{NODES}"
    assert asked.headers["Host"] == f"127.0.0.1:{api.port}"
