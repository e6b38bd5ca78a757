"""What the apiserver's refusals mean for a watch: go on from the last version, or list anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.watch.answers import MAX_RETRY_AFTER, Answer
from extender.watch.failures import RelistError, failure, refusal
from extender.watch.messages import Status, read_status
from tests.watch.fake_apiserver import status

# name -> (Status, whether the version is of no more use)
STATUSES: dict[str, tuple[dict[str, Any], bool]] = {
    "expired": (status(410, "Expired"), True),
    "gone, by its reason alone": (status(0, "Gone"), True),
    "expired, by its reason alone": (status(500, "Expired"), True),
    "a version that the server does not have yet": (
        status(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]),
        True,
    ),
    "a version that it cannot read": (status(400, "BadRequest"), True),
    "the resource is gone": (status(404, "NotFound"), True),
    "overloaded": (status(429, "TooManyRequests"), False),
    "failing": (status(500, "InternalError"), False),
    "etcd is slow": (status(504, "Timeout"), False),
    "not allowed": (status(403, "Forbidden"), False),
    "not known": (status(401, "Unauthorized"), False),
}


@pytest.mark.parametrize("case", STATUSES)
def test_only_a_version_that_is_of_no_more_use_costs_a_list(case: str) -> None:
    body, relist = STATUSES[case]
    error = failure(read_status(json.dumps(body).encode()))
    assert isinstance(error, RelistError) is relist


@pytest.mark.parametrize("case", STATUSES)
def test_a_refusal_means_the_same_as_an_answer_and_as_an_event(case: str) -> None:
    body, relist = STATUSES[case]
    answer = Answer(body["code"], {}, json.dumps(body).encode())
    assert isinstance(refusal(answer), RelistError) is relist


def test_the_words_name_code_reason_and_message_and_are_bounded() -> None:
    error = failure(Status(code=403, reason="Forbidden", message="no " * 1000))
    assert str(error).startswith("apiserver: 403 Forbidden no no")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b"[]", b"7", b'{"code": "x"}', b"\xff", b"[" * 5000]
)
def test_a_body_that_is_no_status_leaves_the_http_status(body: bytes) -> None:
    assert str(refusal(Answer(503, {}, body))) == "apiserver: 503"


# name -> (headers, retryAfterSeconds of the body, seconds)
WAITS: dict[str, tuple[dict[str, str], int | None, float]] = {
    "nothing said": ({}, None, 0),
    "a header": ({"Retry-After": "7"}, None, 7),
    "a header in any case": ({"retry-after": "7"}, None, 7),
    "the body": ({}, 9, 9),
    "the header wins": ({"Retry-After": "7"}, 9, 7),
    "a date is not read, the body is": ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9, 9),
    "not a number": ({"Retry-After": "nan"}, None, 0),
    "less than nothing": ({"Retry-After": "-5"}, None, 0),
    "less than nothing in the body": ({}, -5, 0),
    "for ever": ({"Retry-After": "inf"}, None, MAX_RETRY_AFTER),
    "for ever in the body": ({}, 10**18, MAX_RETRY_AFTER),
}


@pytest.mark.parametrize("case", WAITS)
def test_the_wait_that_a_server_asks_for_is_kept_within_bounds(case: str) -> None:
    headers, seconds, expected = WAITS[case]
    details = {} if seconds is None else {"retryAfterSeconds": seconds}
    body = json.dumps(status(429, "TooManyRequests", **details)).encode()
    assert refusal(Answer(429, headers, body)).retry_after == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (3, 3), (10**18, MAX_RETRY_AFTER)])
def test_the_wait_of_an_error_event_is_kept_within_bounds(seconds: int, expected: float) -> None:
    said = status(429, "TooManyRequests", retryAfterSeconds=seconds)
    assert failure(read_status(json.dumps(said).encode())).retry_after == expected
