"""Extender and kube-scheduler in a Deployment each: what holds the two together, and others out."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from extender.config import load_configuration

from .manifests import (
    DEPLOYMENT,
    OVER_TLS,
    ROOT,
    SCHEDULER_ALONE,
    SHIPPED_CONFIG,
    TWO_DEPLOYMENTS,
    Workload,
    flags,
    listener,
    load,
    load_one,
    of_kind,
)

CONFIG = load_one(f"{TWO_DEPLOYMENTS}/scheduler-config.yaml")
ASKED = CONFIG["extenders"][0]
EXTENDER_CONFIG = load_configuration(ROOT / TWO_DEPLOYMENTS / "extender-config.yaml")
(SERVICE,) = of_kind(f"{TWO_DEPLOYMENTS}/extender.yaml", "Service")
CERTIFICATES = {
    body["spec"]["secretName"]: body["spec"]
    for body in of_kind(f"{TWO_DEPLOYMENTS}/cert-manager.yaml", "Certificate")
}


def secret_files(workload: Workload, container: str) -> dict[str, str]:
    """The paths of a container that a TLS Secret gives, and the Secret's name."""
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in workload.spec["volumes"]
        if "secret" in volume
    }
    return {
        f"{mount['mountPath']}/{key}": secrets[mount["name"]]
        for mount in workload.container(container)["volumeMounts"]
        if mount["name"] in secrets
        for key in ("tls.crt", "tls.key", "ca.crt")
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_only_the_way_to_the_extender_differs_from_the_usual_schedulers_configuration() -> None:
    assert differing(CONFIG, SHIPPED_CONFIG) == {"extenders"}
    assert differing(ASKED, SHIPPED_CONFIG["extenders"][0]) == {
        "urlPrefix",
        "enableHTTPS",
        "tlsConfig",
    }


def test_only_tls_differs_from_the_usual_configuration_of_the_extender() -> None:
    document = load_one(f"{TWO_DEPLOYMENTS}/extender-config.yaml")
    assert set(document) == {"apiVersion", "kind", "tls"}
    assert EXTENDER_CONFIG.tls.enabled


def test_kube_scheduler_asks_the_service_of_the_extender_over_tls() -> None:
    url = urlsplit(ASKED["urlPrefix"])
    metadata = SERVICE["metadata"]
    (port,) = SERVICE["spec"]["ports"]
    assert (url.scheme, ASKED["enableHTTPS"]) == ("https", True)
    assert url.hostname == f"{metadata['name']}.{metadata['namespace']}.svc"
    assert url.port == port["port"]
    assert port["targetPort"] == listener(OVER_TLS.container("extender"), "--listen")[1]
    labels = OVER_TLS.template["metadata"]["labels"]
    assert SERVICE["spec"]["selector"].items() <= labels.items()


def test_kube_scheduler_trusts_one_authority_and_shows_its_own_certificate() -> None:
    """Without a CA kube-scheduler takes any certificate."""
    tls = ASKED["tlsConfig"]
    files = secret_files(SCHEDULER_ALONE, "kube-scheduler")
    assert tls["insecure"] is False
    assert {tls["caFile"], tls["certFile"], tls["keyFile"]} == set(files)


def test_the_extender_shows_its_own_certificate_and_asks_for_one() -> None:
    tls = EXTENDER_CONFIG.tls
    files = secret_files(OVER_TLS, "extender")
    assert {tls.cert_file, tls.key_file, tls.client_ca_file} == set(files)


@pytest.mark.parametrize(
    ("workload", "container", "usage"),
    [(OVER_TLS, "extender", "server auth"), (SCHEDULER_ALONE, "kube-scheduler", "client auth")],
    ids=["extender", "kube-scheduler"],
)
def test_cert_manager_makes_the_secret_that_is_mounted_for_its_one_use(
    workload: Workload, container: str, usage: str
) -> None:
    (secret,) = set(secret_files(workload, container).values())
    certificate = CERTIFICATES[secret]
    assert certificate["usages"] == ["digital signature", usage]
    assert certificate["issuerRef"] == {"kind": "Issuer", "name": "model-cache-authority"}
    if usage == "server auth":
        assert certificate["dnsNames"] == [urlsplit(ASKED["urlPrefix"]).hostname]


def test_the_authority_is_nobody_elses() -> None:
    """Whoever has a client certificate of it may bind pods."""
    kinds = {manifest.kind for manifest in load(TWO_DEPLOYMENTS / "cert-manager.yaml")}
    assert kinds == {"Issuer", "Certificate"}, "no ClusterIssuer"


@pytest.mark.parametrize("workload", [OVER_TLS, SCHEDULER_ALONE], ids=str)
def test_keys_are_mounted_whole_and_for_the_containers_group_alone(workload: Workload) -> None:
    """The kubelet does not renew what is mounted with subPath."""
    volumes = [volume["secret"] for volume in workload.spec["volumes"] if "secret" in volume]
    assert [secret["defaultMode"] for secret in volumes] == [0o440]
    assert workload.spec["securityContext"]["fsGroup"] == 65532
    for container in workload.containers():
        for mount in container["volumeMounts"]:
            assert "subPath" not in mount
            assert mount["name"] != "tls" or mount["readOnly"] is True


def test_there_is_never_more_than_one_extender() -> None:
    spec = OVER_TLS.manifest.body["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_each_has_its_own_account_and_only_kube_scheduler_has_the_rights_of_one() -> None:
    accounts = {
        OVER_TLS.spec["serviceAccountName"],
        SCHEDULER_ALONE.spec["serviceAccountName"],
    }
    assert accounts == {"model-cache-extender", "model-cache-scheduler"}
    (made,) = of_kind(f"{TWO_DEPLOYMENTS}/scheduler.yaml", "ServiceAccount")
    assert made["metadata"]["name"] == SCHEDULER_ALONE.spec["serviceAccountName"]
    assert made["automountServiceAccountToken"] is False


def test_kube_schedulers_rights_are_those_of_the_usual_way() -> None:
    def rights(path: str) -> list[Any]:
        return [
            (manifest.kind, manifest.body["metadata"], manifest.body.get("roleRef"),
             manifest.body.get("rules"))
            for manifest in load(TWO_DEPLOYMENTS.parents[2] / path)
        ]  # fmt: skip

    own = rights(f"{TWO_DEPLOYMENTS}/scheduler-rights.yaml")
    assert own == rights("deploy/base/scheduler-rights.yaml")


def test_kube_scheduler_itself_runs_as_in_the_usual_way() -> None:
    alone, beside = (
        workload.container("kube-scheduler") for workload in (SCHEDULER_ALONE, DEPLOYMENT)
    )
    assert differing(alone, beside) == {"volumeMounts"}
    assert flags(alone) == flags(beside)


def test_the_network_policy_lets_kube_scheduler_alone_to_the_verbs() -> None:
    policy = load_one(f"{TWO_DEPLOYMENTS}/network-policy.yaml")["spec"]
    labels = OVER_TLS.template["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    (caller,) = rule["from"]
    assert set(caller) == {"podSelector"}, "of this namespace"
    theirs = SCHEDULER_ALONE.template["metadata"]["labels"]
    assert caller["podSelector"]["matchLabels"].items() <= theirs.items()
    assert not caller["podSelector"]["matchLabels"].items() <= labels.items()
    verbs = listener(OVER_TLS.container("extender"), "--listen")[1]
    assert rule["ports"] == [{"protocol": "TCP", "port": verbs}]
    (others,) = load_one("deploy/common/network-policy.yaml")["spec"]["ingress"]
    assert verbs not in {entry["port"] for entry in others["ports"]}


@pytest.mark.parametrize("workload", [OVER_TLS, SCHEDULER_ALONE], ids=str)
def test_neither_waits_for_itself_to_be_placed(workload: Workload) -> None:
    assert workload.spec["schedulerName"] == "default-scheduler"
