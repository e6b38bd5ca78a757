"""The configuration: defaults, every error at once, each with field and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cluster.memory import VolumeCounting
from extender.config import (
    KIND,
    ExtenderConfiguration,
    check_listeners,
    load_configuration,
    read_configuration,
)
from extender.documents import API_VERSION
from extender.errors import InvalidConfigurationError
from extender.placement.policy import Policy
from extender.verbs.doubt import LOST_SECONDS

HEAD = {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ExtenderConfiguration"}
SHIPPED = Path(__file__).parent.parent / "config" / "extender-config.yaml"


def test_without_a_file_the_defaults_are_those_of_the_core() -> None:
    assert load_configuration(None).policy() == Policy()


def test_the_shipped_file_is_valid_and_says_the_defaults() -> None:
    shipped = load_configuration(SHIPPED)
    assert shipped == ExtenderConfiguration()
    document = yaml.safe_load(SHIPPED.read_text())
    assert set(document) - {"apiVersion", "kind"} == {
        "memory", "evidence", "freshness", "estimate", "filter", "bind", "waking", "events",
            "loaders", "server",
    }  # fmt: skip


def test_every_error_is_named_at_once_with_its_field_and_remedy() -> None:
    document = {
        **HEAD,
        "memory": {"volumes": "some"},
        "freshness": {"boundSeconds": 1, "onStale": 5},
        "estimate": {"bandwidths": {"disk": "fast", "floppy": 1}},
        "server": [],
        "sevrer": {},
    }
    with pytest.raises(InvalidConfigurationError) as caught:
        read_configuration(document, name="file.yaml")
    said = str(caught.value)
    assert "file.yaml: 7 error(s)" in said
    for part in (
        "memory.volumes:", "choose one of sized, strict, off", "freshness.boundSeconds:",
        "freshness.onStale:", "estimate.bandwidths.disk:",
        "estimate.bandwidths.floppy: unknown key",
        "server: is not a mapping", "sevrer: unknown key; known here:",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (None, "not a mapping"),
        ([], "not a mapping"),
        ({}, "apiVersion"),
        ({**HEAD, "kind": "Other"}, "kind: is 'Other'; write kind: ExtenderConfiguration"),
        ({**HEAD, "listen": "here"}, "listen: 'here' is not IP:PORT"),
        ({**HEAD, "listen": "127.0.0.1:99999"}, "listen"),
        ({**HEAD, "statusListen": "0.0.0.0:8888"}, "port 8888 is that of listen"),
        ({**HEAD, "statusListen": "[::]:1", "server": {"page": True}}, "server.page: .*statusTls"),
        ({**HEAD, "statusTls": {"certFile": "a"}}, "statusTls.keyFile: is missing"),
        ({**HEAD, "statusTls": {"clientCaFile": "a"}}, "statusTls.certFile: is missing"),
        ({**HEAD, "estimate": {"defaultModelSize": "big"}}, "estimate.defaultModelSize"),
        ({**HEAD, "estimate": {"defaultModelSize": 0}}, "estimate.defaultModelSize"),
        ({**HEAD, "server": {"keepAliveSeconds": 2}}, "server.keepAliveSeconds"),
        ({**HEAD, "memory": None}, "memory: is not a mapping"),
    ],
)
def test_a_wrong_document_is_refused(document: Any, named: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=named):
        read_configuration(document)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigurationError, match="cannot be read"):
        load_configuration(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(InvalidConfigurationError, match="not YAML"):
        load_configuration(broken)
    broken.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidConfigurationError, match=r"broken\.yaml"):
        load_configuration(broken)


@pytest.mark.parametrize(
    "document",
    [
        {"statusListen": "127.0.0.1:1", "server": {"page": True}},
        {"statusListen": "localhost:1", "server": {"page": True}},
        {"statusListen": "0.0.0.0:1"},
        {"statusListen": "0.0.0.0:1", "server": {"page": True},
         "statusTls": {"certFile": "a", "keyFile": "b"}},
    ],
    ids=["loopback", "localhost", "health alone", "over TLS"],
)  # fmt: skip
def test_the_page_may_be_on_loopback_or_behind_tls(document: dict[str, Any]) -> None:
    read_configuration({**HEAD, **document})


def test_ipv6_listeners_are_addresses_too() -> None:
    assert check_listeners("[::1]:8888", "") == []


def test_errors_of_single_fields_hide_none_of_those_between_fields() -> None:
    document = {
        **HEAD,
        "listen": "here",
        "memory": {"volumes": "some"},
        "estimate": {"defaultModelSize": "big"},
        "bind": {"reservationSeconds": 60},
    }
    with pytest.raises(InvalidConfigurationError) as refused:
        read_configuration(document)
    said = str(refused.value)
    assert "4 error(s)" in said
    for field in ("listen", "memory.volumes", "estimate.defaultModelSize", "bind.reservation"):
        assert field in said


def test_a_reservation_outlasts_a_binding_whose_answer_was_lost() -> None:
    """It may take effect until then, and the watch tell of it ``boundSeconds`` later."""

    def read(kept: float) -> ExtenderConfiguration:
        sections = {"bind": {"reservationSeconds": kept}, "freshness": {"boundSeconds": 15}}
        return read_configuration({**HEAD, **sections})

    assert read(LOST_SECONDS + 16).bind.reservation_seconds == LOST_SECONDS + 16
    for kept in (1, LOST_SECONDS + 15):
        said = f"reservationSeconds: {kept:g} is not more than 90, .*raise it"
        with pytest.raises(InvalidConfigurationError, match=said):
            read(kept)


def test_a_bare_off_is_the_word_off(tmp_path: Path) -> None:
    """YAML 1.1 reads it as false."""
    file = tmp_path / "c.yaml"
    file.write_text(f"apiVersion: {API_VERSION}\nkind: {KIND}\nmemory: {{volumes: off}}\n")
    assert load_configuration(file).memory.volumes is VolumeCounting.OFF
