"""Tokens and certificates rotate under a running watch: it goes on, and says what is wrong before.

The access is the one of ``serve``: a kubeconfig that names files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time

import pytest
import yaml

from extender.cluster.state import ClusterState
from extender.watch.access import load_access
from extender.watch.client import Transport
from extender.watch.watching import Watching
from tests.authority import CLIENT, Authority, self_signed
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.api import Api, ApiError
from tests.controlplane.faults.pipe import Pipe
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import (
    BOUND,
    PATHS,
    eventually,
    kubeconfig_of,
    scene,
)

RENEWED_EVERY = 5.0
"""Seconds between two readings of the credentials."""


@pytest.fixture
def account(control_plane: ControlPlane, playground: str) -> Iterator[str]:
    """A service account that may do anything, with two secrets that tokens can hang on."""
    name = "rotating"
    create = ("create", "-n", playground)
    control_plane.kubectl(*create, "serviceaccount", name)
    for secret in ("first", "second"):
        control_plane.kubectl(*create, "secret", "generic", secret)
    role = ("clusterrolebinding", f"{playground}-{name}")
    who = f"--serviceaccount={playground}:{name}"
    control_plane.kubectl("create", *role, "--clusterrole=cluster-admin", who)
    yield name
    control_plane.kubectl("delete", *role)
    control_plane.kubectl("delete", "-n", playground, f"serviceaccount/{name}")
    control_plane.kubectl(
        "delete", "secret", "--ignore-not-found", "-n", playground, "first", "second"
    )


def all_failing_with(watching: Watching, text: str) -> bool:
    return all(text in (one.last_error or "") for one in watching.freshness())


def test_a_token_that_ended_is_replaced_by_the_new_one_of_its_file(
    control_plane: ControlPlane,
    proxy: Proxy,
    api: Api,
    playground: str,
    account: str,
    *,
    tmp_path: Path,
    slow_seed: int,
) -> None:
    """A token hangs on a secret, so that the apiserver ends it when the secret goes."""

    def token(secret: str) -> str:
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={secret}")
        made = control_plane.kubectl("create", "token", account, "-n", playground, *bound)
        return made.strip()

    def ended(text: str) -> bool:
        authority = control_plane.workdir / "certs" / "apiserver.crt"
        asked = Api(control_plane.server, authority, text)
        try:
            asked.call("GET", "/api/v1/namespaces")
        except ApiError as error:
            return " 401 " in str(error)
        finally:
            asked.close()
        return False

    file, kubeconfig = tmp_path / "token", tmp_path / "kubeconfig"
    first, second = token("first"), token("second")
    file.write_text(first, encoding="ascii")
    document = kubeconfig_of(control_plane, server=proxy.url, tokenFile=str(file))
    kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
    access = load_access(str(kubeconfig))
    with scene(proxy, api, playground, slow_seed, access=access) as (made, state):
        made.churn.changes(1)
        made.settle(state)
        control_plane.kubectl("delete", "secret", "first", "-n", playground)
        assert eventually(lambda: ended(first), 30)
        proxy.drop()
        cut_at = monotonic()
        made.churn.changes(1)
        assert eventually(lambda: all_failing_with(made.watching, "401"), 30)
        looked_at = monotonic()
        assert all(one.age_seconds >= looked_at - cut_at - 0.5 for one in made.watching.freshness())
        file.write_text(second, encoding="ascii")
        made.settle(state, bound=BOUND + RENEWED_EVERY)
        assert eventually(lambda: made.total("reconnects") >= len(PATHS), BOUND)


def test_a_server_certificate_of_a_new_authority_is_trusted_once_its_file_says_so(
    control_plane: ControlPlane,
    proxy: Proxy,
    api: Api,
    playground: str,
    *,
    tmp_path: Path,
    seed: int,
) -> None:
    authority, kubeconfig = tmp_path / "ca.crt", tmp_path / "kubeconfig"
    shutil.copy(control_plane.workdir / "certs" / "apiserver.crt", authority)
    document = kubeconfig_of(control_plane, server=proxy.url, certificate_authority=str(authority))
    kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
    access = load_access(str(kubeconfig))
    with scene(proxy, api, playground, seed, access=access) as (made, state):
        made.churn.changes(1)
        new = self_signed(tmp_path, "rotated")
        proxy.serve_with(new.cert, new.key)
        proxy.drop()
        made.churn.changes(1)
        asked = len(proxy.requests)
        assert eventually(lambda: all_failing_with(made.watching, "TLS: "), 30)
        assert len(proxy.requests) == asked, "a server that is not trusted got a request"
        shutil.copy(new.cert, authority)
        made.settle(state, bound=BOUND + RENEWED_EVERY)
        assert eventually(lambda: made.total("reconnects") >= len(PATHS), BOUND)


@pytest.fixture
def user(control_plane: ControlPlane) -> Iterator[str]:
    """The name of a user who may do anything, whoever vouches for him."""
    name = "rotating-user"
    role = ("clusterrolebinding", name)
    control_plane.kubectl("create", *role, "--clusterrole=cluster-admin", f"--user={name}")
    yield name
    control_plane.kubectl("delete", *role)


def test_a_client_certificate_that_is_trusted_no_more_is_replaced_by_the_new_one_of_its_files(
    control_plane: ControlPlane, namespace: str, user: str, *, tmp_path: Path, slow_seed: int
) -> None:
    """Certificate and key are two files: in between, the new one stands beside the old key."""
    first, second = (Authority(tmp_path / each, f"{each}-{slow_seed}") for each in ("a", "b"))
    old, new = first.issue(user, CLIENT), second.issue(user, CLIENT)
    cert, key = tmp_path / "client.crt", tmp_path / "client.key"
    shutil.copy(old.cert, cert)
    shutil.copy(old.key, key)
    control_plane.trust_clients_of(first.cert)
    with Pipe(control_plane.server) as pipe:
        document = kubeconfig_of(control_plane, server=pipe.url)
        document["users"][0]["user"] = {"client-certificate": str(cert), "client-key": str(key)}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
        transport = Transport(load_access(str(kubeconfig)))
        assert eventually(lambda: transport.request("GET", "/api").ok, 30), "it is let in"
        state = ClusterState(clock=time)
        watching = Watching(transport, state)
        watching.start()
        try:
            assert watching.wait_synced(30)
            control_plane.trust_clients_of(second.cert)
            asking = transport.sibling()
            assert eventually(lambda: asking.request("GET", "/api").status == 401, 30)
            pipe.drop()
            assert eventually(lambda: all_failing_with(watching, "401"), 30), watching.freshness()
            # From here on each try comes after waits that have grown, to 30 s at most.
            shutil.copy(new.cert, cert)
            assert eventually(lambda: all_failing_with(watching, "TLS"), 45)
            shutil.copy(new.key, key)
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "after"},
                "spec": {"schedulerName": "nobody", "containers": [{"name": "m", "image": "i"}]},
            }
            control_plane.apply(pod, namespace)
            assert eventually(lambda: "after" in {pod.name for pod in state.pods()}, 45)
        finally:
            assert watching.stop(timeout=30)
