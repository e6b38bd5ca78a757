"""The published document and the program agree, whatever is sent: never a 5xx, never a surprise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.serving.examples import paths, put, request
from tests.serving.openapi import DOCUMENT, OPERATIONS, problems, resolved, responses
from tests.serving.running import GOOD

POSTS = sorted(path for path, method in OPERATIONS if method == "POST")
GETS = sorted(path for path, method in OPERATIONS if method == "GET")
JSON = "application/json"
VICTIMS = {"gpu-1": {"Pods": [{"UID": "x"}], "NumPDBViolations": 1}}
GOOD_BODIES: dict[str, Any] = {
    "/filter": request(),
    "/prioritize": request(),
    "/preempt": {
        "Pod": request()["Pod"],
        "NodeNameToMetaVictims": VICTIMS,
        "NodeNameToVictims": {"gpu-2": {"Pods": [GOOD["Pod"]], "NumPDBViolations": 0}},
    },
    "/bind": {"PodName": "p", "PodNamespace": "n", "PodUID": "u", "Node": "gpu-1"},
    "/api/v1/explain": {"apiVersion": "v1", "kind": "Pod", **request()["Pod"]},
}


def assert_documented(answer: TestResponse, path: str, method: str) -> None:
    """The status, the content type and the body are as the document says."""
    documented = responses(path, method)
    assert answer.status_code in documented, answer.text[:300]
    assert answer.status_code < 500 or path == "/readyz"
    ((kind, content),) = documented[answer.status_code]["content"].items()
    assert answer.mimetype == kind
    if kind == JSON:
        assert problems(answer.json, content["schema"]) == []
    assert "Traceback" not in answer.text


# -- the document ----------------------------------------------------------------------------------


def test_every_route_is_documented_and_nothing_else_is(client: FlaskClient) -> None:
    served = {
        (rule.rule, method)
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_every_operation_has_a_name_a_summary_and_an_answer(path: str, method: str) -> None:
    operation = OPERATIONS[path, method]
    assert operation["operationId"]
    assert operation["summary"].endswith(".")
    assert {tag["name"] for tag in DOCUMENT["tags"]} >= set(operation["tags"])
    assert ("requestBody" in operation) == (method == "POST")
    answers = responses(path, method)
    assert 200 in answers
    for answer in answers.values():
        assert answer["description"]
        assert answer["content"]


def test_names_of_operations_are_unique() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


def test_every_part_that_is_kept_for_reference_is_referred_to() -> None:
    text = json.dumps(DOCUMENT)
    for kind, parts in DOCUMENT["components"].items():
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, name


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/filter", {200, 400, 404, 413, 415}),
        ("/prioritize", {200, 400, 404, 413, 415}),
        ("/preempt", {200, 400, 404, 413, 415}),
        ("/bind", {200, 400, 403, 404, 413, 415}),
        ("/api/v1/explain", {200, 400, 403, 404, 413}),
    ],
)
def test_each_documented_status_can_be_had(
    client: FlaskClient, path: str, statuses: set[int]
) -> None:
    """404, and 403 but of bind, come from the status listener alone: test_listeners and
    test_status_tls have them.
    """
    elsewhere = {404} if path == "/bind" else {403, 404}
    limit = 3 * 2**20 if path == "/api/v1/explain" else 64 * 2**20
    stranger = {"REMOTE_ADDR": "10.1.2.3"}
    answers = [
        client.post(path, json=GOOD_BODIES[path]),
        client.post(path, data=b"{", content_type=JSON),
        client.post(path, content_type=JSON, environ_overrides={"CONTENT_LENGTH": str(limit + 1)}),
        client.post(path, data=b"[", content_type="text/plain"),
        client.post(path, json=GOOD_BODIES[path], environ_overrides=stranger),
    ]
    for answer in answers:
        assert_documented(answer, path, "POST")
    assert {answer.status_code for answer in answers} == statuses - elsewhere
    assert set(responses(path, "POST")) == statuses


@pytest.mark.parametrize("path", GETS)
def test_what_is_read_is_as_documented(client: FlaskClient, path: str) -> None:
    assert client.post("/filter", json=GOOD).status_code == 200
    unready = {"metadata": {"name": "cold", "uid": "cold"}, "spec": {"nodeName": ""}}
    client.post("/filter", json={"Pod": unready, "NodeNames": ["gpu-5"]})
    assert_documented(client.get(path), path, "GET")


def test_the_schemas_of_requests_take_what_the_program_takes() -> None:
    for path, body in GOOD_BODIES.items():
        content = resolved(OPERATIONS[path, "POST"]["requestBody"])["content"]
        ((_, described),) = content.items()
        assert problems(body, described["schema"]) == []


@pytest.mark.parametrize(
    ("value", "schema", "said"),
    [
        ({}, {"type": "object", "required": ["a"]}, "has no a"),
        ({"a": 1}, {"type": "object", "additionalProperties": False}, "not documented"),
        ([1, "x"], {"type": "array", "items": {"type": "integer"}}, r"[1] is 'x'"),
        (11, {"type": "integer", "maximum": 10}, "out of its bounds"),
        (True, {"type": "integer"}, "not integer"),
        (None, {"type": ["string", "object"]}, "not string or object"),
    ],
)
def test_the_check_itself_finds_what_is_wrong(value: Any, schema: Any, said: str) -> None:
    (found,) = problems(value, schema)
    assert said in found


# -- whatever is sent ------------------------------------------------------------------------------

KEYS = st.sampled_from(
    """
    Pod pod Nodes NodeNames items metadata name spec containers UID NodeNameToVictims Pods PodName
    NodeNameToMetaVictims PodUID Node kind volumes resources requests memory template annotations
    """.split()
) | st.text(max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["Pod", "Deployment", "List", "gpu-1", "1Gi", "-1", "1e999", "hf://a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
PLACES = {path: list(paths(body)) for path, body in GOOD_BODIES.items()}
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("path", POSTS)
@FUZZ
@given(value=VALUES)
def test_any_json_is_answered_as_documented(client: FlaskClient, path: str, value: Any) -> None:
    assert_documented(client.post(path, json=value), path, "POST")


@pytest.mark.parametrize("path", POSTS)
@FUZZ
@given(data=st.data())
def test_a_good_body_with_one_value_spoiled_is_answered_as_documented(
    client: FlaskClient, path: str, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(PLACES[path]))
    body = put(GOOD_BODIES[path], place, data.draw(VALUES))
    assert_documented(client.post(path, json=body), path, "POST")


@pytest.mark.parametrize("path", POSTS)
@FUZZ
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from([JSON, "text/json", "text/plain", "", ";", "application/x-yaml"])
    | st.from_regex(r"[ -~]{0,20}", fullmatch=True),
)
def test_any_bytes_of_any_type_are_answered_as_documented(
    client: FlaskClient, path: str, body: bytes, content_type: str
) -> None:
    answer = client.post(path, data=body, content_type=content_type)
    assert_documented(answer, path, "POST")
