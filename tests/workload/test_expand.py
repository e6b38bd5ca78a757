"""``$(NAME)`` as the kubelet fills it in.

https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.decode import convert
from extender.kube.objects import Container, ObjectMeta
from extender.workload.commands import command_line
from extender.workload.expand import environment, expand

VARIABLES = {"NAME": "llama", "DIR": "/models", "EMPTY": "", "SECRET": None}
METADATA = convert(
    {
        "name": "loader",
        "namespace": "inference",
        "labels": {"app": "llama"},
        "annotations": {"model": "qwen"},
    },
    ObjectMeta,
)


def env(*entries: dict[str, Any], **container: Any) -> dict[str, str | None]:
    return environment(convert({"env": list(entries), **container}, Container), METADATA)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        pytest.param("plain", "plain", id="no reference"),
        pytest.param("$(DIR)/$(NAME)", "/models/llama", id="two references"),
        pytest.param("x$(EMPTY)y", "xy", id="an empty value"),
        pytest.param("$(OTHER)", "$(OTHER)", id="an undefined name stays"),
        pytest.param("$$(NAME)", "$(NAME)", id="an escaped reference"),
        pytest.param("$$$(NAME)", "$llama", id="an escaped dollar before a reference"),
        pytest.param("$$$$(NAME)", "$$(NAME)", id="two escaped dollars"),
        pytest.param("$$HOME", "$HOME", id="an escaped dollar before anything"),
        pytest.param("$HOME ${HOME}", "$HOME ${HOME}", id="the shell's own variables stay"),
        pytest.param("$(NAME", "$(NAME", id="a reference that is not closed"),
        pytest.param("$(NAME$$", "$(NAME$", id="an escape after a reference that is not closed"),
        pytest.param("$()", "$()", id="a reference without a name"),
        pytest.param("100$", "100$", id="a dollar at the end"),
        pytest.param("$(dirname $(DIR))", "$(dirname $(DIR))", id="the first parenthesis closes"),
        pytest.param("$((NAME))", "$((NAME))", id="arithmetic stays"),
        pytest.param("$(SECRET)/x", None, id="a variable from elsewhere"),
        pytest.param("$$(SECRET)", "$(SECRET)", id="an escaped variable from elsewhere"),
    ],
)
def test_references_are_filled_in_as_the_kubelet_does(text: str, filled: str | None) -> None:
    """The cases of kubernetes/third_party/forked/golang/expansion/expand_test.go, in short."""
    assert expand(text, VARIABLES) == filled


def test_a_filled_in_value_is_not_read_again() -> None:
    assert expand("$(A)", {"A": "$(B)", "B": "x"}) == "$(B)"


def test_a_variable_sees_those_before_it() -> None:
    known = env({"name": "A", "value": "/models"}, {"name": "B", "value": "$(A)/llama"})
    assert known["B"] == "/models/llama"


def test_a_variable_does_not_see_those_after_it() -> None:
    known = env({"name": "B", "value": "$(A)/llama"}, {"name": "A", "value": "/models"})
    assert known["B"] == "$(A)/llama"


def test_the_last_definition_of_a_name_wins() -> None:
    known = env(
        {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}, {"name": "A", "value": "2"}
    )
    assert known == {"A": "2", "B": "1"}


@pytest.mark.parametrize(
    "source",
    [
        {"configMapKeyRef": {"name": "settings", "key": "model"}},
        {"secretKeyRef": {"name": "token", "key": "token"}},
        {"resourceFieldRef": {"resource": "limits.memory"}},
        {"fieldRef": {"fieldPath": "spec.nodeName"}},
        {"fieldRef": {"fieldPath": "status.hostIP"}},
        {"fieldRef": {"fieldPath": "metadata.labels['set-later']"}},
    ],
    ids=lambda source: str(*source.values()),
)
def test_what_the_spec_does_not_show_is_set_but_unknown(source: dict[str, Any]) -> None:
    known = env({"name": "A", "valueFrom": source}, {"name": "B", "value": "/models/$(A)"})
    assert known == {"A": None, "B": None}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata.name", "loader"),
        ("metadata.namespace", "inference"),
        ("metadata.labels['app']", "llama"),
        ("metadata.annotations['model']", "qwen"),
    ],
)
def test_the_downward_api_shows_what_the_metadata_says(field: str, value: str) -> None:
    known = env({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": field}}})
    assert known == {"A": value}


class TestEnvFrom:
    """Its variables are not known even by name: an undefined reference may be one of them."""

    FROM = ({"configMapRef": {"name": "settings"}},)

    def test_an_undefined_name_may_come_from_it(self) -> None:
        known = env({"name": "A", "value": "/models/$(MODEL)"}, envFrom=list(self.FROM))
        assert known == {"A": None}

    def test_a_name_of_env_comes_first(self) -> None:
        known = env(
            {"name": "MODEL", "value": "llama"},
            {"name": "A", "value": "/models/$(MODEL)"},
            envFrom=list(self.FROM),
        )
        assert known["A"] == "/models/llama"

    @pytest.mark.parametrize("script", ["$(nproc)", "$(dirname /a/b)", "$(date +%s)", "$$(MODEL)"])
    def test_a_command_substitution_is_not_taken_for_one(self, script: str) -> None:
        assert expand(script, {}, hidden=True) == script.replace("$$", "$")

    def test_an_argument_with_such_a_name_is_unknown_and_says_why(self) -> None:
        container = convert(
            {"args": ["--model", "/models/$(MODEL)"], "envFrom": list(self.FROM)}, Container
        )
        word = command_line(container, "containers[0]", {}).calls[0].words[1]
        assert word.text is None
        assert word.unknown == "variable MODEL comes from outside the pod spec"

    def test_without_it_an_undefined_name_stays(self) -> None:
        container = convert({"args": ["/models/$(MODEL)"]}, Container)
        assert command_line(container, "containers[0]", {}).calls[0].words[0].text == (
            "/models/$(MODEL)"
        )


@given(st.text(alphabet="$()AB{} /", max_size=60))
def test_text_without_defined_names_only_loses_its_escapes(text: str) -> None:
    filled = expand(text, {})
    assert filled is not None
    assert filled.count("$") >= text.count("$") / 2
    assert filled.replace("$", "") == text.replace("$", "")


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=9)))
def test_no_text_is_refused(text: str, variables: dict[str, str | None]) -> None:
    filled = expand(text, variables)
    assert filled is None or "$" in text or filled == text
