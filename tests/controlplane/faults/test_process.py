"""The real process while it cannot see the cluster: what it says of itself, and what it decides."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from extender.config import KIND
from extender.documents import API_VERSION
from extender.placement.reasons import TEXTS, Reason
from extender.watch.resources import PODS, RESOURCES
from tests.controlplane.cluster import ROOT, ControlPlane, Extender, fake_node
from tests.controlplane.faults import kinds_of_fault as faults
from tests.controlplane.faults.api import Api, Object
from tests.controlplane.faults.churn import LABEL, Churn, Storm
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import eventually, kubeconfig_through
from tests.controlplane.processes import free_port

BOUND = 7.0
"""``freshness.boundSeconds``, short; all kinds are changed more often than that, all along."""

RECOVERY = 60.0
"""Seconds: the wait between two tries grows while the apiserver is away."""

ON_STALE = ("refuse", "neutral")


@contextmanager
def extenders(plane: ControlPlane, proxy: Proxy, workdir: Path) -> Iterator[Mapping[str, Extender]]:
    """Run one real process for each ``onStale`` behind the proxy; they need not be ready."""
    kubeconfig = kubeconfig_through(proxy, plane, workdir)
    running: dict[str, Extender] = {}
    try:
        for on_stale in ON_STALE:
            config = workdir / f"{on_stale}.yaml"
            freshness = {"boundSeconds": BOUND, "onStale": on_stale}
            text = {"apiVersion": API_VERSION, "kind": KIND, "freshness": freshness}
            config.write_text(yaml.safe_dump(text), encoding="utf-8")
            listen = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "extender", "serve", f"--listen={listen}"]
            command += [f"--config={config}", f"--kubeconfig={kubeconfig}"]
            log = workdir / f"{on_stale}.log"
            env = plane._environment()
            running[on_stale] = Extender(on_stale, command, log, env=env, cwd=ROOT)
            running[on_stale].url = f"http://{listen}"
        yield running
    finally:
        for process in running.values():
            process.stop()


def eater(name: str, node: str = "") -> Object:
    """Return a pod that takes 40 GiB of memory by its volume; bound, where a node is named."""
    volume = {"name": "weights", "emptyDir": {"medium": "Memory", "sizeLimit": "40Gi"}}
    mount = {"name": "weights", "mountPath": "/models"}
    main = {"name": "main", "image": "registry.k8s.io/pause:3.10", "volumeMounts": [mount]}
    spec: Object = {"containers": [main], "volumes": [volume]}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def asked(extender: Extender, node: str) -> tuple[list[str], str]:
    """Return the nodes on which 40 GiB can go, and why not on the one that was asked about."""
    pod = eater("asked") | {"metadata": {"name": "asked", "namespace": "default", "uid": "u-1"}}
    status, answer = extender.post("/filter", {"Pod": pod, "NodeNames": [node]})
    assert status == 200
    found: dict[str, Any] = {key.lower(): value for key, value in answer.items()}
    refused = found.get("failedandunresolvablenodes") or {}
    return list(found.get("nodenames") or ()), refused.get(node) or found.get("error") or ""


def metric(extender: Extender, name: str) -> float:
    """Return one sample of ``/metrics``."""
    status, text = extender.get("/metrics")
    assert status == 200
    (value,) = (line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} "))
    return float(value)


def test_a_process_that_lost_sight_says_so_decides_as_configured_and_sees_again(
    control_plane: ControlPlane,
    proxy: Proxy,
    api: Api,
    playground: str,
    *,
    tmp_path: Path,
    slow_seed: int,
) -> None:
    churn = Churn(api.another(), playground, slow_seed)
    node = f"node-{churn.name}"
    shape = fake_node(node, {"memory": "64Gi", "cpu": "8", "pods": "110"}, {LABEL: churn.name})
    del shape["metadata"]["annotations"]
    control_plane.apply(shape)
    proxy.meet("list", faults.slow(4.0), faults.slow(4.0), paths=[PODS.path])
    try:
        with extenders(control_plane, proxy, tmp_path) as running:
            pids = {name: process.pid for name, process in running.items()}
            for process in running.values():
                _says_what_is_not_listed(process, node)
            with Storm(churn, every=1.0):
                for process in running.values():
                    _becomes_ready(process, 60)
                    assert asked(process, node) == ([node], "")
                proxy.down()
                down_at = monotonic()
                filler = eater(f"filler-{churn.name}", node)
                control_plane.apply(filler, namespace=playground)
                for process in running.values():
                    _says_that_it_lost_sight(process, down_at)
                assert asked(running["refuse"], node) == ([], TEXTS[Reason.KNOWLEDGE_STALE])
                assert asked(running["neutral"], node) == ([node], "")
                for process in running.values():
                    _, decisions = process.get("/api/v1/decisions")
                    assert '"Pod"' in decisions, "the decision does not name what is stale"
                proxy.up()
                for process in running.values():
                    _becomes_ready(process, RECOVERY)
                    assert asked(process, node) == ([], TEXTS[Reason.INSUFFICIENT_MEMORY])
                    assert metric(process, "model_cache_extender_stale") == 0
            assert {name: p.pid for name, p in running.items() if p.running()} == pids
    finally:
        force = ("--force", "--grace-period=0", "--ignore-not-found")
        control_plane.kubectl("delete", "pod", f"filler-{churn.name}", "-n", playground, *force)
        churn.clean()


def _becomes_ready(process: Extender, seconds: float) -> None:
    process.wait_ready(lambda: process.get("/readyz")[0] == 200, seconds)


def _says_what_is_not_listed(process: Extender, node: str) -> None:
    """While the list of pods takes long, nothing is decided and nobody is told to be ready."""
    wanted = "not listed yet: Pod\n"
    assert eventually(lambda: process.get("/readyz") == (503, wanted), 30)
    passed, why = asked(process, node)
    assert passed == []
    assert "has not listed yet: Pod" in why


def _says_that_it_lost_sight(process: Extender, down_at: float) -> None:
    """Not before the bound, and soon after it: readiness, metrics and every kind by name."""
    lines = {f"not heard of for too long: {resource.name}" for resource in RESOURCES}

    def says_it() -> bool:
        asked_at = monotonic()
        status, text = process.get("/readyz")
        assert status == 503 or asked_at - down_at < BOUND + 5
        return status == 503 and lines <= set(text.splitlines())

    assert eventually(says_it, BOUND + 30)
    assert metric(process, "model_cache_extender_stale") == 1
    asked_at = monotonic()
    age = metric(process, 'model_cache_extender_watch_age_seconds{resource="Pod"}')
    assert age >= BOUND
    assert age >= asked_at - down_at - 1.0
