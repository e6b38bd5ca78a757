"""What is not the protocol, sent to the real process.

Each request has its documented answer, leaves one line in the log, and harms nobody: the process
answers a good request right after it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.serving.running import GOOD, JSON, Running, answer_on
from tests.watch.harness import eventually

VERBS = ("filter", "prioritize", "preempt", "bind")
GOOD_BODY = msgspec.json.encode(GOOD)
LIMIT = 64 * 1024 * 1024


@contextmanager
def refused(server: Running, *, code: int, path: str | None = "/filter") -> Iterator[None]:
    """Hold the laws that every refusal has in common."""
    mark = server.mark()
    yield
    assert server.answers_well()
    first, *rest = server.lines(mark)
    assert [line["event"] for line in rest] == ["decision"], "the good request, and nothing else"
    assert first["event"] == "request refused"
    assert first["level"] == "warning"
    assert first["code"] == code
    assert first["path"] == path
    assert set(first) == {"method", "path", "code", "error", "event", "level", "timestamp"}
    assert "Traceback" not in server.log()


NOT_JSON = "the request is not a JSON object of the extender protocol"
BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", f"{NOT_JSON}: it is empty; send what k8s.io/kube-scheduler"),
    "spaces": (b"  \n ", NOT_JSON),
    "broken": (b'{"Pod": {', NOT_JSON),
    "trailing comma": (b'{"Pod": {},}', NOT_JSON),
    "two documents": (b"{}{}", NOT_JSON),
    "array": (b"[]", NOT_JSON),
    "number": (b"5", NOT_JSON),
    "text": (b'"Pod"', NOT_JSON),
    "null": (b"null", NOT_JSON),
    "YAML": (b"Pod: {}", NOT_JSON),
    "UTF-16": (GOOD_BODY.decode().encode("utf-16"), NOT_JSON),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD_BODY, NOT_JSON),
    "half a surrogate": (b'{"Pod": {"metadata": {"name": "\\ud800"}}}', NOT_JSON),
    "NUL bytes": (b"\0" * 1000, NOT_JSON),
    "nested arrays": (b'{"Pod": ' + b"[" * 1_000_000, "."),
    "nested objects": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "."),
    "nested in the pod": (
        b'{"Pod": {"spec": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_002,
        ".",
    ),
}
PODS: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b'{"Pod": {"metadata": {"name": "\xff\xfe"}}}', "field Pod cannot be read"),
    "no pod": (b'{"NodeNames": ["gpu-1"]}', "field Pod is missing; send the pod"),
    "pod is a list": (b'{"Pod": []}', "field Pod cannot be read"),
    "container is a text": (
        b'{"Pod": {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": ["x"]}}}',
        r"field Pod cannot be read: Pod n/p: .*spec\.containers\[0\]",
    ),
    "quantity": (
        b'{"Pod": {"spec": {"containers": [{"resources": {"requests": {"memory": "lots"}}}]}}}',
        "quantity 'lots' is not a Kubernetes quantity; write it like 512Mi",
    ),
}
CANDIDATES: dict[str, tuple[bytes, str]] = {
    "names are a text": (b'{"Pod": {}, "NodeNames": "gpu-1"}', "field NodeNames is not a list"),
    "names are numbers": (b'{"Pod": {}, "NodeNames": [1, 2]}', "field NodeNames is not a list"),
    "nodes are a list": (b'{"Pod": {}, "Nodes": []}', "field Nodes is not a JSON object"),
    "items are texts": (b'{"Pod": {}, "Nodes": {"items": ["a"]}}', "field Nodes.items is not"),
}


VICTIMS: dict[str, tuple[bytes, str]] = {
    "victims are a list": (
        b'{"Pod": {}, "NodeNameToMetaVictims": []}',
        "field NodeNameToMetaVictims",
    ),
    "victims are numbers": (b'{"Pod": {}, "NodeNameToMetaVictims": {"a": 1}}', r"MetaVictims\[a\]"),
    "a victim without UID": (
        b'{"Pod": {}, "NodeNameToMetaVictims": {"a": {"Pods": [{}]}}}',
        r"field NodeNameToMetaVictims\[a\]: a victim has no UID",
    ),
    "a full victim without UID": (
        b'{"Pod": {}, "NodeNameToVictims": {"a": {"Pods": [{"metadata": {"uid": 5}}]}}}',
        "UID is not a text",
    ),
}
BINDINGS: dict[str, tuple[bytes, str]] = {
    "nothing to bind": (b"{}", "field PodNamespace is missing; send the pod and the node"),
    "no node": (
        b'{"PodNamespace": "n", "PodName": "p", "PodUID": "u", "Node": null}',
        "field Node is missing",
    ),
    "node is a number": (
        b'{"PodNamespace": "n", "PodName": "p", "PodUID": "u", "Node": 1}',
        "field Node is not a text",
    ),
}
CASES = [
    pytest.param(verb, body, message, id=f"{verb}-{name}")
    for bodies, verbs in (
        (BODIES, VERBS),
        (PODS, ("filter", "prioritize", "preempt")),
        (CANDIDATES, ("filter", "prioritize")),
        (VICTIMS, ("preempt",)),
        (BINDINGS, ("bind",)),
    )
    for name, (body, message) in bodies.items()
    for verb in verbs
]


@pytest.mark.parametrize(("verb", "body", "message"), CASES)
def test_a_body_that_is_not_the_protocol_is_400_and_the_field_named(
    server: Running, verb: str, body: bytes, message: str
) -> None:
    with refused(server, code=400, path=f"/{verb}"):
        answer = server.ask("POST", f"/{verb}", body)
        assert answer.status == 400
        assert re.search(message, answer.error()), answer.error()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_405_and_the_right_one_named(
    server: Running, verb: str, method: str
) -> None:
    with refused(server, code=405, path=f"/{verb}"):
        answer = server.ask(method, f"/{verb}", GOOD_BODY)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            assert answer.error() == f"/{verb} answers POST, not {method}"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/nodes"])
def test_a_write_to_what_is_read_only_is_405(server: Running, path: str) -> None:
    with refused(server, code=405, path=path):
        answer = server.ask("POST", path, b"{}")
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "missing"),
        ({"Content-Type": "text/plain"}, "text/plain"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "application/x-www-form-urlen"),
        ({"Content-Type": "application/yaml"}, "application/yaml"),
        ({"Content-Type": ";;;"}, "missing"),
    ],
    ids=str,
)
def test_another_content_type_is_415_and_the_right_one_named(
    server: Running, verb: str, headers: dict[str, str], said: str
) -> None:
    with refused(server, code=415, path=f"/{verb}"):
        answer = server.ask("POST", f"/{verb}", GOOD_BODY, headers)
        assert answer.status == 415
        assert answer.error().startswith(f"content type is {said}")
        assert answer.error().endswith("; send application/json")


@pytest.mark.parametrize(
    "given", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
def test_json_may_be_announced_in_any_spelling(server: Running, given: str) -> None:
    answer = server.ask("POST", "/filter", GOOD_BODY, {"Content-Type": given})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/nowhere", "/nowhere"),
        ("/filter/", "/filter/"),
        ("/Filter", "/Filter"),
        ("/filter/../bind", "/filter/../bind"),
        ("/api/v2/nodes", "/api/v2/nodes"),
        ("/%00%ff%0A{}", "/\0\ufffd\n{}"),
        ("/" + "a" * 3000, "/" + "a" * 199),
    ],
    ids=["unknown", "slash", "case", "dots", "version", "bytes", "long"],
)
def test_an_unknown_path_is_404_and_cannot_break_the_log(
    server: Running, path: str, logged: str
) -> None:
    with refused(server, code=404, path=logged):
        answer = server.ask("POST", path, GOOD_BODY)
        assert answer.status == 404
        assert "is not a path of this server" in answer.error()


# -- sizes ---------------------------------------------------------------------------------------


def peak_memory(server: Running) -> int:
    """The most memory that a process of the server ever had, in bytes."""
    peaks = []
    for pid in server.worker_pids():
        status = Path(f"/proc/{pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)


TOO_LARGE = (
    f"the body is larger than {LIMIT} bytes; raise server.maxBodyBytes, or set "
    "nodeCacheCapable: true in the scheduler's configuration"
)


def test_a_body_announced_as_too_large_is_413_before_it_is_sent(server: Running) -> None:
    head = (
        b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000000000\r\n\r\n"
    )
    with refused(server, code=413), server.connect() as connection:
        connection.sendall(head)
        answer = answer_on(connection)
        assert (answer.status, answer.error()) == (413, TOO_LARGE)


def test_a_body_over_the_limit_is_413_and_never_held_in_memory(server: Running) -> None:
    """A client that goes on sending is cut off after a while, as it is with any server."""
    before = peak_memory(server)
    with refused(server, code=413), server.connect() as connection:
        connection.sendall(with_length(LIMIT + 1, b""))
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(b" " * 2**20)
    assert peak_memory(server) - before < LIMIT / 4


def test_a_chunked_body_over_the_limit_is_413_and_not_cut_to_the_limit(server: Running) -> None:
    """A whole request with spaces after it: cut at the limit, it would pass for a good one."""
    chunk = b" " * 2**20

    def body() -> Iterator[bytes]:
        yield GOOD_BODY
        for _ in range(LIMIT // len(chunk) + 1):
            yield chunk

    with refused(server, code=413):
        connection = http.client.HTTPConnection(*server.address, timeout=30)
        connection.request("POST", "/filter", body(), JSON, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 413
        assert msgspec.json.decode(response.read()) == {"error": TOO_LARGE}
        connection.close()


def test_a_megabyte_of_names_is_answered_name_by_name(server: Running) -> None:
    names = [f"node-{number:032d}" for number in range(27_000)]
    body = {**GOOD, "NodeNames": names}
    assert len(msgspec.json.encode(body)) > 2**20
    passed = server.post("/filter", body)
    assert (passed.status, passed.json()["NodeNames"]) == (200, names)
    ranked = server.post("/prioritize", body)
    assert [entry["Host"] for entry in ranked.json()] == names


# -- the transport -------------------------------------------------------------------------------

HEAD = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(length: int, body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % length + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD + b"\r\n", "it is empty; send what k8s.io/kube-scheduler"),
        (with_length(len(GOOD_BODY) - 1, GOOD_BODY[:-1]), NOT_JSON),
        (with_length(len(GOOD_BODY) + 5, GOOD_BODY), "the body ended early; send all that was"),
        (CHUNKED + b"zz\r\nabc", "the body is badly chunked"),
        (CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", "the body is badly chunked"),
        (CHUNKED + b"ff\r\nabc", "the body ended early; send all that was announced"),
    ],
    ids=["no length", "length too small", "length too large", "chunk size", "chunk end", "cut"],
)
def test_a_body_of_another_length_than_announced_is_400(
    server: Running, data: bytes, message: str
) -> None:
    with refused(server, code=400):
        answer = server.raw(data)
        assert answer.status == 400
        assert message in answer.error()


def test_a_chunked_body_is_read_like_any_other(server: Running) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, GOOD_BODY[i : i + 1]) for i in range(len(GOOD_BODY)))
    answer = server.raw(CHUNKED + chunks + b"0\r\n\r\n")
    assert (answer.status, answer.json()["NodeNames"]) == (200, GOOD["NodeNames"])


def test_what_follows_a_body_that_is_too_long_is_not_taken_for_part_of_it(server: Running) -> None:
    mark = server.mark()
    answer = server.raw(with_length(len(GOOD_BODY), GOOD_BODY + b"rest\r\n\r\n"))
    assert answer.status == 200
    assert server.answers_well()
    said = ["decision", "decision", "request refused"]
    assert eventually(lambda: sorted(line["event"] for line in server.lines(mark)) == said)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (HEAD + b"Content-Length: many\r\n\r\n", 400),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc", 400),
        (HEAD + b"Expect: tea\r\nContent-Length: 1\r\n\r\n", 417),
        (HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"\r\n", 431),
        (HEAD + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (HEAD + b"X Y: 1\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
    ],
    ids=[
        "length is a word", "length is negative", "length is huge", "two lengths",
        "length and chunks", "unknown coding", "expectation", "500 headers", "a huge header",
        "header name", "huge path", "HTTP/2", "TLS", "control character", "no HTTP",
    ],
)  # fmt: skip
def test_what_is_not_http_is_refused_in_the_same_form(
    server: Running, data: bytes, code: int
) -> None:
    with refused(server, code=code, path=None):
        answer = server.raw(data)
        assert answer.status == code
        assert answer.error().startswith("not an HTTP request that can be served: ")
        assert answer.headers["connection"] == "close"


def test_a_client_that_says_nothing_and_leaves_is_no_event(server: Running) -> None:
    mark = server.mark()
    for _ in range(20):
        server.connect().close()
    assert server.answers_well()
    assert [line["event"] for line in server.lines(mark)] == ["decision"]


def test_a_refused_request_leaves_its_connection_usable(server: Running) -> None:
    """kube-scheduler reuses connections: the request after a refused one must not be lost."""
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    for body, status in [(b"{", 400), (GOOD_BODY, 200), (b"[]", 400), (GOOD_BODY, 200)]:
        connection.request("POST", "/filter", body, JSON)
        response = connection.getresponse()
        assert response.status == status
        response.read()
        assert not response.will_close
    connection.close()
