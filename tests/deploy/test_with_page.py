"""The page where the network reaches it: configuration, certificate, probes and Service agree."""

from __future__ import annotations

import msgspec
import yaml

from extender.config import check_exposure, load_configuration

from .manifests import DEPLOYMENT, ROOT, Object, flags, listener, load_one, of_kind

FOLDER = "deploy/overlays/with-page"
CONFIG = load_configuration(ROOT / FOLDER / "extender-config.yaml")
STATUS = flags(DEPLOYMENT.container("extender"))["--status-listen"]
(SERVICE,) = of_kind(f"{FOLDER}/service.yaml", "Service")


def patched() -> Object:
    (patch,) = load_one(f"{FOLDER}/kustomization.yaml")["patches"]
    spec: Object = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]
    return spec


def test_the_configuration_lets_the_shipped_listener_start_and_would_not_without_tls() -> None:
    document = load_one(f"{FOLDER}/extender-config.yaml")
    assert set(document) == {"apiVersion", "kind", "server", "statusTls"}
    served = msgspec.structs.replace(CONFIG, status_listen=STATUS)
    assert check_exposure(served) == []
    in_the_clear = msgspec.structs.replace(served, status_tls=type(CONFIG.status_tls)())
    (error,) = check_exposure(in_the_clear)
    assert error.startswith("server.page: ")


def test_the_certificate_is_mounted_whole_and_for_the_containers_group_alone() -> None:
    spec = patched()
    (volume,) = spec["volumes"]
    (container,) = spec["initContainers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert "subPath" not in mount, "the kubelet would not renew it"
    tls = CONFIG.status_tls
    assert {tls.cert_file, tls.key_file} == {
        f"{mount['mountPath']}/tls.{k}" for k in ("crt", "key")
    }
    assert volume["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"] == {"fsGroup": 65532}


def test_every_probe_and_a_monitor_ask_over_tls() -> None:
    (container,) = patched()["initContainers"]
    shipped = DEPLOYMENT.container("extender")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = shipped[probe]["httpGet"]
        assert container[probe]["httpGet"] == {"port": asked["port"], "scheme": "HTTPS"}
    (port,) = container["ports"]
    (monitor, _) = of_kind("deploy/monitoring/pod-monitors.yaml", "PodMonitor")
    by_port = {one["port"]: one for one in monitor["spec"]["podMetricsEndpoints"]}
    assert by_port[port["name"]]["scheme"] == "https"
    assert by_port.keys() == {port["name"], shipped["ports"][0]["name"]}


def test_the_service_leads_to_the_status_listener_of_the_schedulers_pods() -> None:
    (port,) = SERVICE["spec"]["ports"]
    assert port["targetPort"] == listener(DEPLOYMENT.container("extender"), "--status-listen")[1]
    labels = DEPLOYMENT.template["metadata"]["labels"]
    assert SERVICE["spec"]["selector"].items() <= labels.items()
