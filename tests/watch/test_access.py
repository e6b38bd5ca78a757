"""Which apiserver, as whom: found as kubectl does, renewed when refused, never quoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import configuration
from kubernetes.client.configuration import Configuration

from extender.errors import InvalidConfigurationError
from extender.watch.access import Access, load_access
from extender.watch.client import connect
from tests.clock import Clock
from tests.watch.fake_apiserver import FakeApiserver

SECRET = "do-not-repeat-this"


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in a pod nor with a kubeconfig of somebody's own."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def kubeconfig(path: Path, *, server: str = "http://127.0.0.1:1", **user: Any) -> Path:
    """Write a kubeconfig with the contexts ``first`` (the current one) and ``second``."""
    contexts = [
        {"name": name, "context": {"cluster": "c", "user": user_name}}
        for name, user_name in (("first", "me"), ("second", "nobody"))
    ]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "first",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": contexts,
        "users": [
            {"name": "me", "user": user or {"token": SECRET}},
            {"name": "nobody", "user": {"token": "of-nobody"}},
        ],
    }
    path.write_text(yaml.safe_dump(document))
    return path


# -- finding it ----------------------------------------------------------------------------------


def test_a_named_kubeconfig_gives_server_and_token(tmp_path: Path, api: FakeApiserver) -> None:
    api.tokens = {SECRET}
    config = kubeconfig(tmp_path / "config", server=api.url)
    answer = connect(str(config)).request("GET", "/api/v1/nodes")
    assert answer.status == 200
    assert api.requests[-1].headers["Authorization"] == f"Bearer {SECRET}"


def test_a_named_context_is_used_instead_of_the_current_one(tmp_path: Path) -> None:
    config = str(kubeconfig(tmp_path / "config"))
    assert load_access(config).authorization() == f"Bearer {SECRET}"
    assert load_access(config, "second").authorization() == "Bearer of-nobody"


def test_the_environment_names_the_kubeconfig_where_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "from-environment")))
    assert load_access().authorization() == f"Bearer {SECRET}"


def test_the_kubeconfig_of_the_home_directory_comes_last(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config")
    assert load_access().authorization() == f"Bearer {SECRET}"


# -- what is wrong with it, in words -------------------------------------------------------------


def test_a_missing_kubeconfig_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigurationError, match=r"no such file.*--kubeconfig"):
        load_access(str(tmp_path / "missing"))


def test_a_service_account_without_a_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    with pytest.raises(InvalidConfigurationError, match="automountServiceAccountToken"):
        load_access()


BROKEN: dict[str, str] = {
    "no YAML": f"users: [{{token: {SECRET}",
    "another shape": f"- {SECRET}",
    "nothing": "",
    "no contexts": f"apiVersion: v1\nkind: Config\nusers: [{{name: a, user: {{token: {SECRET}}}}}]",
    "users without a name": (
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: me}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        f"users: [{{user: {{token: {SECRET}}}}}]\n"
    ),
    "a token that is a map": (
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: nowhere, user: me}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        f"users: [{{name: me, user: {{token: {{a: {SECRET}}}}}}}]\n"
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_kubeconfig_is_named_and_its_credentials_are_not(
    tmp_path: Path, case: str
) -> None:
    """The official client quotes whole entries of it in its error texts."""
    config = tmp_path / "config"
    config.write_text(BROKEN[case])
    with pytest.raises(InvalidConfigurationError) as caught:
        load_access(str(config))
    assert str(config) in str(caught.value)
    assert SECRET not in str(caught.value)
    # Nor does a traceback show it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_unknown_context_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigurationError):
        load_access(str(kubeconfig(tmp_path / "config")), "third")


# -- renewing it ---------------------------------------------------------------------------------


class Source:
    """Where configurations come from: each has the next token."""

    def __init__(self) -> None:
        self.loads = 0
        self.broken = False

    def __call__(self) -> Configuration:
        self.loads += 1
        if self.broken:
            raise InvalidConfigurationError("half written")
        configuration = Configuration(host="http://127.0.0.1:1")
        configuration.api_key["BearerToken"] = f"Bearer token-{self.loads}"
        return configuration


def test_a_renewed_access_is_read_anew_and_has_a_new_generation() -> None:
    clock, source = Clock(), Source()
    access = Access(source, clock=clock)
    before, _ = access.current()
    clock.now += 10
    assert access.renew(before)
    assert access.current()[0] == before + 1
    assert access.authorization() == "Bearer token-2"


def test_the_environment_is_not_searched_for_proxies_with_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster it names every Service of the namespace, several times."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    access = load_access(str(kubeconfig(tmp_path / "config", server="https://192.0.2.1")))
    monkeypatch.setattr(configuration, "getproxies", lambda: pytest.fail("searched again"))
    for _ in range(3):
        assert access.authorization() == f"Bearer {SECRET}"
    assert access.current()[1].proxy == "http://127.0.0.1:3128"


def test_an_access_is_not_read_anew_in_a_loop() -> None:
    clock, source = Clock(), Source()
    access = Access(source, clock=clock)
    for _ in range(100):
        clock.now += 0.1
        access.renew(access.current()[0])
    assert 1 < source.loads <= 3


def test_an_access_that_another_thread_renewed_is_taken_as_it_is() -> None:
    clock, source = Clock(), Source()
    access = Access(source, clock=clock)
    clock.now += 10
    old, _ = access.current()
    assert access.renew(old)
    assert access.renew(old)
    assert source.loads == 2


def test_a_source_that_cannot_be_read_now_leaves_the_present_access_in_place() -> None:
    clock, source = Clock(), Source()
    access = Access(source, clock=clock)
    source.broken = True
    clock.now += 10
    assert not access.renew(access.current()[0])
    assert access.authorization() == "Bearer token-1"


@pytest.mark.parametrize(
    ("token", "certificate", "anonymous"),
    [(None, None, True), ("t", None, False), (None, "client.crt", False)],
    ids=["nothing", "a token", "a certificate"],
)
def test_a_request_is_anonymous_without_a_token_and_a_certificate(
    token: str | None, certificate: str | None, *, anonymous: bool
) -> None:
    configuration = Configuration(host="http://127.0.0.1:1")
    configuration.cert_file = certificate
    if token:
        configuration.api_key["BearerToken"] = f"Bearer {token}"
    assert Access(lambda: configuration).anonymous() is anonymous
