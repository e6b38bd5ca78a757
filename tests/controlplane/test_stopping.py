"""SIGTERM to the real process while the real apiserver keeps its binds waiting."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.scene import kubeconfig_through, proxy_for
from tests.controlplane.shipped import Object
from tests.controlplane.test_binding import bind

PODS = 8


def pod(number: int) -> Object:
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"stop-{number}"},
        "spec": {"schedulerName": "nobody", "containers": [container]},
    }


def test_sigterm_lets_every_bind_in_flight_be_done_and_answered(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    control_plane.add_nodes(["stop-node"])
    control_plane.apply([pod(number) for number in range(PODS)], namespace)
    made = control_plane.get_json("pods", "-n", namespace)["items"]
    with proxy_for(control_plane) as proxy, ThreadPoolExecutor(PODS) as callers:
        kubeconfig = kubeconfig_through(proxy, control_plane, tmp_path)
        extender = control_plane.start_extender(kubeconfig=kubeconfig)
        proxy.hold_bindings()
        answers = [callers.submit(bind, extender, one, "stop-node") for one in made]
        control_plane.wait_for(lambda: proxy.held == PODS, 2, "all binds to be in flight")
        os.kill(extender.pid, signal.SIGTERM)
        time.sleep(0.5)
        assert extender.running(), "it waits for what it has begun"
        proxy.let_bindings_go()
        assert [answer.result(10) for answer in answers] == [""] * PODS
        control_plane.wait_for(lambda: not extender.running(), 10, "it to stop")
    nodes = [control_plane.pod_node(namespace, f"stop-{number}") for number in range(PODS)]
    assert nodes == ["stop-node"] * PODS
    assert "Traceback" not in extender.log()
    assert '"stopped"' in extender.log()
