"""An apiserver that comes back with less history than it had, or with another one.

On a small control plane of its own, whose etcd and kube-apiserver are stopped and started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.watch.reflector import Timing
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.api import Api, ApiError
from tests.controlplane.faults.churn import Churn
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import (
    LONG,
    PATHS,
    Scene,
    access_through,
    eventually,
    proxy_for,
    scene,
    token_of,
)

NAMESPACE = "default"
NEVER = 3600.0
RESTART_BOUND = 45.0
"""Seconds: the wait between two tries has grown to 30 s at most while the apiserver was away."""

pytestmark = pytest.mark.long


class SmallPlane(ControlPlane):
    """etcd and kube-apiserver alone: nothing but the test writes much."""

    etcd_url = ""

    def start(self) -> None:
        """Start both; stops what it started where one does not come up."""
        try:
            self.etcd_url = self._start_etcd()
            self._start_api_server(self.etcd_url)
        except BaseException:
            self.stop()
            raise

    def snapshot(self, target: Path) -> Path:
        """Copy etcd's data at one moment, as a snapshot of its disk does."""
        (etcd,) = (process for process in self.processes() if process.name == "etcd")
        os.kill(etcd.pid, signal.SIGSTOP)
        try:
            return Path(shutil.copytree(self.workdir / "etcd", target))
        finally:
            os.kill(etcd.pid, signal.SIGCONT)

    def restore(self, snapshot: Path) -> None:
        """Kill both and start them with what etcd had then."""
        for process in self.processes():
            process.kill()
            self.stop_process(process)
        shutil.rmtree(self.workdir / "etcd")
        shutil.copytree(snapshot, self.workdir / "etcd")
        self.start()

    def compact(self, revision: int) -> None:
        """Let etcd forget all history before a revision."""
        body = json.dumps({"revision": revision, "physical": True}).encode()
        request = urllib.request.Request(f"{self.etcd_url}/v3/kv/compaction", data=body)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            assert answer.status == 200

    def restart_api_server(self) -> None:
        """Kill kube-apiserver and start it: its watch cache begins anew."""
        (server,) = (process for process in self.processes() if process.name == "kube-apiserver")
        server.kill()
        self.stop_process(server)
        self._start_api_server(self.etcd_url)


@pytest.fixture(scope="module")
def small_plane(
    kubernetes_binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallPlane]:
    plane = SmallPlane(kubernetes_binaries, tmp_path_factory.mktemp("small-plane"))
    plane.start()
    try:
        api = direct(plane)
        with contextlib.suppress(ApiError):
            api.call(
                "POST",
                f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
                {"metadata": {"name": "default"}},
            )
        api.close()
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def small_proxy(small_plane: SmallPlane) -> Iterator[Proxy]:
    with proxy_for(small_plane) as made:
        yield made


def direct(plane: ControlPlane) -> Api:
    return Api(plane.server, plane.workdir / "certs" / "apiserver.crt", token_of(plane))


def moved(plane: ControlPlane, made: Scene, seed: int) -> None:
    """Go on with the plane at its new address, with churn that knows nothing of the old one."""
    made.proxy.upstream = plane.server
    made.api.close()
    made.api = direct(plane)
    made.churn = Churn(made.api.another(), NAMESPACE, seed)


def revision(api: Api) -> int:
    """Return the apiserver's present revision."""
    return int(api.call("GET", PATHS[0], limit="1")["metadata"]["resourceVersion"])


def test_an_apiserver_without_the_history_is_listed_anew(
    small_plane: SmallPlane, small_proxy: Proxy, slow_seed: int
) -> None:
    """It answers 410 by itself: etcd is compacted, and the watch cache begins after our version."""
    api, access = direct(small_plane), access_through(small_proxy, small_plane)
    # Without the rule for long outages, which would list anew before the 410 can come.
    timing = Timing(outage=NEVER)
    with scene(small_proxy, api, NAMESPACE, slow_seed, access=access, timing=timing) as (
        made,
        state,
    ):
        made.churn.changes(2)
        made.settle(state)
        small_proxy.down()
        made.churn.changes(4)
        small_plane.compact(revision(api))
        small_plane.restart_api_server()
        moved(small_plane, made, slow_seed)
        small_proxy.up()
        made.settle(state, bound=RESTART_BOUND)
        assert small_proxy.gone > 0, "the apiserver still had the history"
        assert eventually(lambda: made.total("relists") > 0, RESTART_BOUND)
        made.churn.changes(2)
        made.settle(state)


@pytest.mark.parametrize("overtaken", [False, True], ids=["older", "older, then overtaken"])
def test_an_apiserver_of_a_restored_etcd_is_listed_anew(
    small_plane: SmallPlane,
    small_proxy: Proxy,
    tmp_path: Path,
    *,
    overtaken: bool,
    slow_seed: int,
) -> None:
    """Also where so much was written since that its version does not show it."""
    api, access = direct(small_plane), access_through(small_proxy, small_plane)
    timing = Timing(outage=Timing().outage if LONG else 3.0)
    with scene(
        small_proxy, api, NAMESPACE, slow_seed, access=access, timing=timing, honest=False
    ) as (made, state):
        made.churn.changes(3)
        snapshot = small_plane.snapshot(tmp_path / "etcd")
        made.churn.changes(5 if overtaken else 20)
        made.settle(state)
        known = revision(api)
        small_proxy.down()
        small_plane.restore(snapshot)
        moved(small_plane, made, slow_seed)
        if overtaken:
            while revision(made.api) <= known:
                made.churn.touch()
            away = timing.outage + 1.0
            assert eventually(lambda: len(made.watching.stale(away)) == len(PATHS), 30)
        else:
            assert revision(made.api) < known
        small_proxy.up()
        made.settle(state, bound=RESTART_BOUND)
        assert eventually(lambda: all(o.relists for o in made.watching.freshness()), RESTART_BOUND)
        made.churn.changes(2)
        made.settle(state)
