"""The protocol: both forms, any case of keys, nulls anywhere, clear errors for the rest."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import ProtocolError
from extender.wire import (
    FilterResult,
    Ranking,
    read_args,
    write_filter_result,
    write_priorities,
)

POD: dict[str, Any] = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def test_names_are_kept_in_order_and_once() -> None:
    args = read_args(body(Pod=POD, Nodes=None, NodeNames=["b", "a", "b"]))
    assert args.names == ("b", "a")
    assert args.pod.metadata.uid == "u"


def test_keys_are_read_in_any_case_as_go_does() -> None:
    args = read_args(body(pod=POD, nodes=None, nodenames=["a"]))
    assert args.names == ("a",)


def test_full_nodes_go_back_as_they_came() -> None:
    nodes = [{"metadata": {"name": name}, "spec": {"x": [1]}} for name in ("a", "b")]
    args = read_args(body(Pod=POD, Nodes={"metadata": {}, "items": nodes}, NodeNames=None))
    assert args.names == ("a", "b")
    answer = msgspec.json.decode(write_filter_result(FilterResult(names=["b"]), args))
    assert answer["Nodes"] == {"items": [nodes[1]]}
    assert answer["NodeNames"] is None


def test_filter_answers_with_every_key_that_go_knows() -> None:
    args = read_args(body(Pod=POD, NodeNames=["a", "b"]))
    result = FilterResult(names=["a"], unresolvable={"b": "why"})
    assert msgspec.json.decode(write_filter_result(result, args)) == {
        "Nodes": None,
        "NodeNames": ["a"],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {"b": "why"},
        "Error": "",
    }


def test_priorities_are_hosts_and_integers() -> None:
    assert write_priorities(Ranking([(10, ("a",))])) == b'[{"Host":"a","Score":10}]'


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=6))
def test_an_answer_that_is_given_again_is_that_of_the_nodes_asked_about(
    questions: list[list[str]],
) -> None:
    for names in questions:
        args = read_args(body(Pod=POD, NodeNames=names))
        answer = msgspec.json.decode(write_priorities(Ranking([(0, args.names)], alike=args.asked)))
        assert sorted(entry["Host"] for entry in answer) == sorted(set(names))
        assert {entry["Score"] for entry in answer} <= {0}


def test_a_pod_that_is_asked_about_again_is_read_once_unless_it_has_changed() -> None:
    first, again = (read_args(body(Pod=POD, NodeNames=[name])).pod for name in "ab")
    assert again is first
    changed = {**POD, "metadata": {**POD["metadata"], "labels": {"a": "b"}}}
    assert read_args(body(Pod=changed, NodeNames=["a"])).pod.metadata.labels == {"a": "b"}
    assert read_args(body(Pod=POD, NodeNames=["a"])).pod == first


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"Pod": POD}, ()),
        ({"Pod": POD, "Nodes": None, "NodeNames": None}, ()),
        ({"Pod": POD, "NodeNames": []}, ()),
        ({"Pod": POD, "NodeNames": [None, "a", None]}, ("a",)),
        ({"Pod": POD, "Nodes": {"items": None}}, ()),
        ({"Pod": POD, "Nodes": {}}, ()),
        ({"Pod": POD, "Nodes": {"items": [None, {"metadata": {"name": "a"}}]}}, ("a",)),
        ({"Pod": {"metadata": None, "spec": None, "status": None}, "NodeNames": ["a"]}, ("a",)),
        ({"Pod": {}, "NodeNames": ["a"]}, ("a",)),
    ],
)
def test_nulls_and_absent_fields_are_empty(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    assert read_args(body(**fields)).names == names


@pytest.mark.parametrize(
    ("request_body", "named"),
    [
        (b"", "JSON object"),
        (b"{", "JSON object"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b"\xff\xfe\x00", "JSON object"),
        (b'{"Pod": "\xff"}', "JSON object|Pod"),
        (b"{}", "Pod is missing"),
        (b'{"Pod": null}', "Pod is missing"),
        (b'{"Pod": 5}', "Pod cannot be read"),
        (b'{"Pod": {"spec": {"containers": 5}}}', "Pod cannot be read: .*containers"),
        (b'{"Pod": {}, "NodeNames": "a"}', "NodeNames"),
        (b'{"Pod": {}, "NodeNames": [1]}', "NodeNames"),
        (b'{"Pod": {}, "Nodes": []}', "Nodes"),
        (b'{"Pod": {}, "Nodes": {"items": [5]}}', "Nodes.items"),
        (b"[" * 100_000, "JSON object"),
        (b'{"Pod":' * 50_000, "JSON object"),
    ],
)
def test_what_is_not_the_protocol_is_refused_and_the_field_named(
    request_body: bytes, named: str
) -> None:
    with pytest.raises(ProtocolError, match=named):
        read_args(request_body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_args(data)
    except ProtocolError as error:
        assert error.status == 400
