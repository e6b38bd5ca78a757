"""Decoding: nulls anywhere, odd objects named, nothing else lost."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import InvalidObjectError
from extender.kube.decode import convert, decode
from extender.kube.objects import Node, Pod

POD = b"""{"metadata": {"name": "a", "namespace": "b", "labels": null, "creationTimestamp": null},
 "spec": {"containers": [{"name": "c", "env": null, "args": ["x"], "resources": {"limits": null}},
 null], "volumes": null, "priority": null, "unknownField": {"deep": [1, 2]}}, "status": null}"""


def test_nulls_are_as_if_they_were_left_out() -> None:
    pod = decode(POD, Pod)
    assert pod.metadata.labels == {}
    assert [container.args for container in pod.spec.containers] == [("x",)]
    assert pod.spec.volumes == ()


def test_an_odd_object_is_named_with_its_field() -> None:
    body = b'{"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": "none"}}'
    with pytest.raises(InvalidObjectError, match=r"Pod b/a: .*containers"):
        decode(body, Pod)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{" * 10_000])
def test_what_is_no_object_is_refused_without_a_crash(body: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode(body, Pod)


def test_plain_data_is_read_like_json() -> None:
    node = convert({"metadata": {"name": "n"}, "status": {"allocatable": {"memory": 5}}}, Node)
    assert node.status.allocatable["memory"] == 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "status", "containers", "name", "env", "volumes"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        decode(msgspec.json.encode(value), Pod)
    except InvalidObjectError as error:
        assert "Pod" in str(error)
