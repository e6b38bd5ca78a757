"""SIGTERM to the real process while the real apiserver keeps its binds waiting."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extender.serving.bindings import BIND_SECONDS
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.scene import eventually, kubeconfig_through, proxy_for
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
    """A bind is given up after seconds: where the machine stood still for so long, once more."""
    control_plane.add_nodes(["stop-node"])
    assert any(stopped(control_plane, namespace, tmp_path) for _ in range(5)), "always too slow"


def stopped(control_plane: ControlPlane, namespace: str, folder: Path) -> bool:
    """Stop an extender amid binds and judge it; return False where one may have been given up."""
    control_plane.apply([pod(number) for number in range(PODS)], namespace)
    made = control_plane.get_json("pods", "-n", namespace)["items"]
    with proxy_for(control_plane) as proxy, ThreadPoolExecutor(PODS) as callers:
        kubeconfig = kubeconfig_through(proxy, control_plane, folder)
        extender = control_plane.start_extender(kubeconfig=kubeconfig)
        proxy.hold_bindings()
        began = time.monotonic()
        answers = [callers.submit(bind, extender, one, "stop-node") for one in made]
        in_flight = eventually(lambda: proxy.held == PODS, BIND_SECONDS)
        os.kill(extender.pid, signal.SIGTERM)
        time.sleep(0.5)
        waited = extender.running()
        proxy.let_bindings_go()
        errors = [str(answer.exception(30) or answer.result()) for answer in answers]
        in_time = in_flight and time.monotonic() - began < BIND_SECONDS
        control_plane.wait_for(lambda: not extender.running(), 30, "it to stop")
    nodes = [control_plane.pod_node(namespace, one["metadata"]["name"]) for one in made]
    control_plane.kubectl("delete", "pods", "--all", "-n", namespace, "--force")
    if in_time:
        assert waited, "it waits for what it has begun"
        assert errors == [""] * PODS
        assert nodes == ["stop-node"] * PODS
    assert "Traceback" not in extender.log()
    assert '"stopped"' in extender.log()
    return in_time
