"""kube-scheduler and the extender in two deployments: both show a certificate."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.authority import CLIENT, SERVER, Authority
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.processes import free_port
from tests.controlplane.shipped import ROOT, SCHEDULER, taker
from tests.controlplane.test_binding import filler

OVERLAY = ROOT / "deploy/overlays/two-deployments/scheduler-config.yaml"


def test_pods_are_placed_and_bound_over_mutual_tls(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The overlay's own scheduler configuration; only the address and the files are the test's."""
    authority = Authority(tmp_path / "authority")
    server = authority.issue("server", SERVER)
    client = authority.issue("client", CLIENT)
    extender_config = {
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ExtenderConfiguration",
        "tls": {
            "certFile": str(server.cert),
            "keyFile": str(server.key),
            "clientCaFile": str(authority.cert),
        },
    }
    path = tmp_path / "extender.yaml"
    path.write_text(yaml.safe_dump(extender_config), encoding="utf-8")
    port = free_port()
    control_plane.start_extender(
        f"--config={path}",
        f"--listen=127.0.0.1:{port}",
        status_listen=True,
    )
    config = yaml.safe_load(OVERLAY.read_text(encoding="utf-8"))
    config["profiles"] = [{"schedulerName": f"{SCHEDULER}-{namespace}"}]
    (extender,) = config["extenders"]
    extender["urlPrefix"] = f"https://127.0.0.1:{port}"
    extender["tlsConfig"].update(
        caFile=str(authority.cert), certFile=str(client.cert), keyFile=str(client.key)
    )
    control_plane.start_scheduler(config, name=f"tls-{namespace}")
    control_plane.add_nodes(["tls-1", "tls-2"])
    control_plane.apply(taker("tls-1", "62Gi"), namespace)
    workload = filler(3)
    workload["spec"]["template"]["spec"]["schedulerName"] = f"{SCHEDULER}-{namespace}"
    control_plane.apply(workload, namespace)

    def nodes() -> list[str]:
        items = control_plane.get_json("pods", "-n", namespace, "-l", "app=burst")["items"]
        return [item["spec"].get("nodeName", "") for item in items]

    control_plane.wait_for(lambda: nodes() == ["tls-2"] * 3, 30, "three pods on the other node")
