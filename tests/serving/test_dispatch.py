"""Verbs that are answered before Flask: the same answers and errors, and nothing done twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from extender.config import ExtenderConfiguration
from extender.errors import ProtocolError
from extender.serving.app import create_app
from tests.serving.conftest import demo_service
from tests.serving.running import GOOD

PLAIN = {"content_type": "application/json", "data": msgspec.json.encode(GOOD)}
FLASKS_WAY: dict[str, dict[str, Any]] = {
    "a charset": PLAIN | {"content_type": "application/json; charset=utf-8"},
    "text/json": PLAIN | {"content_type": "text/json"},
}


class Verb:
    """Counts how often it is called, and fails."""

    def __init__(self, error: Exception) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, _: bytes) -> bytes:
        self.calls += 1
        raise self._error


@pytest.mark.parametrize("way", FLASKS_WAY)
def test_both_ways_give_the_same_answer(client: FlaskClient, way: str) -> None:
    for path in ("/filter", "/prioritize"):
        left, right = client.post(path, **PLAIN), client.post(path, **FLASKS_WAY[way])
        assert left.status_code == right.status_code == 200
        assert (left.data, left.content_type) == (right.data, right.content_type)


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProtocolError("field X is odd"), 400), (RuntimeError("a fault"), 500)],
    ids=["not the protocol", "a fault"],
)
def test_a_verb_that_fails_was_called_once_and_is_counted_once(
    error: Exception, status: int
) -> None:
    service = demo_service(ExtenderConfiguration())
    verb = service.verbs["bind"] = Verb(error)
    answer = create_app(service).test_client().post("/bind", **PLAIN)
    assert answer.status_code == status
    assert answer.json is not None
    assert "a fault" not in answer.json["error"]
    assert verb.calls == 1
    counted = service.metrics.requests.labels("bind", str(status))._value.get()
    assert counted == 1


def test_strangers_do_not_get_to_bind() -> None:
    service = demo_service(ExtenderConfiguration())
    verb = service.verbs["bind"] = Verb(RuntimeError())
    client = create_app(service).test_client()
    answer = client.post("/bind", environ_base={"REMOTE_ADDR": "192.0.2.7"}, **PLAIN)
    assert (answer.status_code, verb.calls) == (403, 0)
