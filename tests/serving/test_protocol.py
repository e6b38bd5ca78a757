"""The protocol through the whole application: nulls, cases and both forms; never a fault."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from extender.placement.reasons import TEXTS, Reason
from tests.serving import examples

VERBS = ("filter", "prioritize")
ALL_VERBS = (*VERBS, "preempt", "bind")
REQUEST = examples.request()
PATHS = list(examples.paths(REQUEST))


def post(client: FlaskClient, verb: str, document: Any) -> TestResponse:
    body = msgspec.json.encode(document)
    return client.post(f"/{verb}", data=body, content_type="application/json")


def post_json(client: FlaskClient, verb: str, document: Any) -> Any:
    """Return the answer of a request that must be answered."""
    answer = post(client, verb, document)
    assert answer.status_code == 200, answer.text
    return answer.json


# -- nulls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_request_with_everything_in_it_is_answered(client: FlaskClient, verb: str) -> None:
    answer = post(client, verb, REQUEST)
    assert answer.status_code == 200
    assert "gpu-1" in answer.text


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("path", PATHS, ids=examples.name)
def test_null_in_any_place_is_as_if_it_were_not_there(
    client: FlaskClient, verb: str, path: examples.Path
) -> None:
    answer = post(client, verb, examples.put(REQUEST, path, None))
    if path == ("Pod",):
        assert answer.status_code == 400
        assert "field Pod is missing" in answer.text
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("verb", VERBS)
def test_null_beside_a_preferred_affinity_is_as_if_it_were_not_there(
    client: FlaskClient, verb: str
) -> None:
    terms = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
    pod = {"metadata": {"name": "p", "labels": None}, "spec": {"affinity": {"nodeAffinity": terms}}}
    assert post(client, verb, {"Pod": pod, "NodeNames": ["gpu-1"]}).status_code == 200


# -- odd but allowed -----------------------------------------------------------------------------

PLAIN = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
STRICT = {
    "metadata": {"name": "strict", "namespace": "inference", "uid": "strict"},
    "spec": {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm/vllm-openai:v0.11.0",
                "args": ["--model", "/models/llama-3.1-8b-instruct"],
                "volumeMounts": [{"name": "m", "mountPath": "/models", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "m", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}],
    },
}
"""A pod that needs its model on the node: on gpu-2 it is, on gpu-5 it is not."""


@pytest.mark.parametrize(
    "keys",
    [
        ("Pod", "Nodes", "NodeNames"),
        ("pod", "nodes", "nodenames"),
        ("POD", "NODES", "NODENAMES"),
        ("pOd", "nOdEs", "nodeNames"),
    ],
    ids=lambda keys: keys[0],
)
def test_top_level_keys_are_read_in_any_case_as_go_reads_them(
    client: FlaskClient, keys: tuple[str, str, str]
) -> None:
    """See https://pkg.go.dev/encoding/json#Unmarshal."""
    document = dict(zip(keys, (STRICT, None, ["gpu-2", "gpu-5"]), strict=True))
    assert post_json(client, "filter", document)["NodeNames"] == ["gpu-2"]


def test_unknown_keys_are_passed_over(client: FlaskClient) -> None:
    document = {"Pod": {**PLAIN, "x": {"y": 1}}, "NodeNames": ["gpu-1"], "Later": {"a": [1]}}
    assert post_json(client, "filter", document)["NodeNames"] == ["gpu-1"]


def test_a_candidate_named_twice_is_answered_once(client: FlaskClient) -> None:
    document = {"Pod": PLAIN, "NodeNames": ["gpu-2", "gpu-1", "gpu-2"]}
    assert post_json(client, "filter", document)["NodeNames"] == ["gpu-2", "gpu-1"]
    ranked = post_json(client, "prioritize", document)
    assert [entry["Host"] for entry in ranked] == ["gpu-2", "gpu-1"]


@pytest.mark.parametrize("names", [[], None, [None]], ids=str)
def test_no_candidates_are_answered_with_none(client: FlaskClient, names: Any) -> None:
    document = {"Pod": STRICT, "NodeNames": names}
    assert post_json(client, "filter", document)["NodeNames"] == []
    assert post_json(client, "prioritize", document) == []


UNKNOWN = ["", " ", "../etc", "gpu-1\n", "GPU-1", "knoten-ä", "\U0001f600", "a" * 10_000]


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: repr(name)[:20])
def test_an_unknown_candidate_is_refused_where_a_wrong_yes_would_hurt(
    client: FlaskClient, name: str
) -> None:
    answer = post_json(client, "filter", {"Pod": STRICT, "NodeNames": [name]})
    assert answer["NodeNames"] == []
    assert answer["FailedAndUnresolvableNodes"] == {name: TEXTS[Reason.NODE_UNKNOWN]}


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: repr(name)[:20])
def test_an_unknown_candidate_passes_for_a_pod_that_needs_nothing(
    client: FlaskClient, name: str
) -> None:
    document = {"Pod": PLAIN, "NodeNames": [name]}
    assert post_json(client, "filter", document)["NodeNames"] == [name]
    assert post_json(client, "prioritize", document) == [{"Host": name, "Score": 0}]


# -- both forms ----------------------------------------------------------------------------------


def full_nodes(*names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": name}, "status": {"allocatable": {"cpu": "1"}}} for name in names]


def test_names_come_back_as_names(client: FlaskClient) -> None:
    answer = post_json(client, "filter", {"Pod": STRICT, "NodeNames": ["gpu-2", "gpu-5"]})
    assert (answer["NodeNames"], answer["Nodes"]) == (["gpu-2"], None)


def test_full_nodes_come_back_whole_and_unchanged(client: FlaskClient) -> None:
    """``nodeCacheCapable: false``: kube-scheduler goes on with the objects of the answer."""
    nodes = full_nodes("gpu-2", "gpu-5")
    document = {"Pod": STRICT, "Nodes": {"items": nodes}, "NodeNames": None}
    answer = post_json(client, "filter", document)
    assert (answer["Nodes"], answer["NodeNames"]) == ({"items": [nodes[0]]}, None)
    ranked = post_json(client, "prioritize", document)
    assert [entry["Host"] for entry in ranked] == ["gpu-2", "gpu-5"]


@pytest.mark.parametrize(
    "items", [[], None, [{}], [{"metadata": None}], [{"metadata": {}}]], ids=str
)
def test_nodes_without_a_name_are_no_candidates(client: FlaskClient, items: Any) -> None:
    answer = post_json(client, "filter", {"Pod": STRICT, "Nodes": {"items": items}})
    assert answer["Nodes"] == {"items": []}


@pytest.mark.parametrize("verb", VERBS)
def test_both_forms_get_the_same_verdict(client: FlaskClient, verb: str) -> None:
    names = [f"gpu-{number}" for number in range(1, 6)]
    by_name = post_json(client, verb, {"Pod": STRICT, "NodeNames": names})
    by_node = post_json(client, verb, {"Pod": STRICT, "Nodes": {"items": full_nodes(*names)}})
    if verb == "prioritize":
        assert by_name == by_node
    else:
        kept = [node["metadata"]["name"] for node in by_node["Nodes"]["items"]]
        assert kept == by_name["NodeNames"] != []


# -- whatever comes ------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
words = st.sampled_from(
    ["--model", "/models/x", "$(A)", "${A}", "bash", "-c", "python", "--model=", "'", '"', "<<E",
     "$((", "&&", ";", "|", "hf", "download", "=", "\0", "..", "//", "-", "Memory", "1Gi", "-1",
     "1e999", "vllm serve x", "for i in a b; do", "{", "}", "*", "`", "\\", "~", "", "5", "Always"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(verb=st.sampled_from(ALL_VERBS), document=anything)
@example(verb="filter", document={"Pod": {}, "NodeNames": ["gpu-1"], "nodenames": None})
def test_any_json_is_answered_or_refused(client: FlaskClient, verb: str, document: Any) -> None:
    assert post(client, verb, document).status_code in {200, 400}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(verb=st.sampled_from(VERBS), path=st.sampled_from(PATHS), value=anything)
def test_any_json_in_any_place_is_answered_or_refused_by_field(
    client: FlaskClient, verb: str, path: examples.Path, value: Any
) -> None:
    answer = post(client, verb, examples.put(REQUEST, path, value))
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 400:
        assert set(msgspec.json.decode(answer.data)) == {"error"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    key=st.sampled_from(["NodeNameToMetaVictims", "NodeNameToVictims", "nodenametovictims"]),
    victims=st.dictionaries(
        st.sampled_from(["gpu-1", "gpu-9", ""]),
        st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "Pods": st.none() | st.lists(st.fixed_dictionaries({"UID": st.text()}) | anything),
                "NumPDBViolations": anything,
            },
        ),
    ),
)
def test_no_victims_are_a_fault_and_none_in_the_answer_is_null(
    client: FlaskClient, key: str, victims: dict[str, Any]
) -> None:
    """A null among them would crash kube-scheduler."""
    answer = post(client, "preempt", {"Pod": STRICT, key: victims})
    assert answer.status_code in {200, 400}, answer.text
    assert "null" not in answer.text or answer.status_code == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from([p for p in PATHS if p[0] == "Pod"]),
            words | st.lists(words, max_size=8),
        ),
        max_size=6,
    )
)
def test_no_words_in_a_pod_are_a_fault(
    client: FlaskClient, changes: list[tuple[examples.Path, Any]]
) -> None:
    """Commands, scripts and annotations are read for models: texts of users, whatever they are."""
    document = REQUEST
    for path, value in changes:
        try:
            document = examples.put(document, path, value)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took that place away
    for verb in VERBS:
        answer = post(client, verb, document)
        assert answer.status_code in {200, 400}, answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=300))
@pytest.mark.parametrize("path", [*(f"/{verb}" for verb in ALL_VERBS), "/api/v1/explain"])
def test_no_bytes_are_a_fault(client: FlaskClient, path: str, body: bytes) -> None:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code in {200, 400}, answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names=st.lists(st.text(max_size=12), max_size=12))
def test_every_candidate_is_answered_once(client: FlaskClient, names: list[str]) -> None:
    once = sorted(set(names))
    document = {"Pod": STRICT, "NodeNames": names}
    ranked = post_json(client, "prioritize", document)
    assert sorted(entry["Host"] for entry in ranked) == once
    assert all(isinstance(entry["Score"], int) and 0 <= entry["Score"] <= 10 for entry in ranked)
    answer = post_json(client, "filter", {**document, "NodeNames": [*names, "gpu-5"]})
    refused = answer["FailedAndUnresolvableNodes"]
    assert answer["FailedNodes"] == {}
    assert sorted(answer["NodeNames"]) == [name for name in once if name in {"gpu-1", "gpu-2"}]
    assert bool(refused) == (not answer["NodeNames"])
