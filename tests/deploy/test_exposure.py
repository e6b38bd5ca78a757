"""What the shipped pods may do in the cluster, and who can reach them."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from .manifests import (
    DEPLOYMENT,
    EXISTING_SCHEDULER,
    EXTENDERS,
    LOADER,
    OBJECTS,
    ON_LOOPBACK,
    OVER_TLS,
    ROLES,
    SHIPPED_CONFIG,
    TWO_DEPLOYMENTS,
    Manifest,
    Workload,
    flags,
    listener,
    load_one,
    named,
    of_kind,
    probes,
)


@named(ROLES)
def test_no_role_has_a_wildcard(case: Manifest) -> None:
    for rule in case.body["rules"]:
        for field in ("apiGroups", "resources", "verbs"):
            assert not any("*" in value for value in rule[field])


def test_the_extender_may_only_read_what_it_decides_on() -> None:
    (role,) = of_kind("deploy/common/read-rights.yaml", "ClusterRole")
    allowed = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    expected = {
        ("", "nodes"),
        ("", "pods"),
        ("", "namespaces"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("apps", "daemonsets"),
        ("batch", "jobs"),
        ("storage.k8s.io", "storageclasses"),
        ("coordination.k8s.io", "leases"),
    }
    assert set(allowed) == expected
    assert all(verbs == {"get", "list", "watch"} for verbs in allowed.values())


@pytest.mark.parametrize("folder", ["deploy/shadow", str(EXISTING_SCHEDULER)])
def test_ways_without_a_scheduler_of_their_own_get_no_rights_of_one(folder: str) -> None:
    resources = load_one(f"{folder}/kustomization.yaml")["resources"]
    reads_only = {"common", "deployment.yaml"}
    assert {Path(folder, resource).name for resource in resources} == (
        reads_only if folder == "deploy/shadow" else {"common", "write-alone", "daemonset.yaml"}
    )


@pytest.mark.parametrize("folder", [EXISTING_SCHEDULER, TWO_DEPLOYMENTS], ids=str)
def test_where_kube_scheduler_has_an_account_of_its_own_the_extenders_may_write_less(
    folder: Path,
) -> None:
    assert "../../write-alone" in load_one(f"{folder}/kustomization.yaml")["resources"]


def test_what_is_written_is_bindings_the_status_of_pods_and_events() -> None:
    (role,) = of_kind("deploy/write/rights.yaml", "ClusterRole")
    assert {(*rule["resources"], *rule["verbs"]) for rule in role["rules"]} == {
        ("pods/binding", "create"),
        ("pods/status", "patch"),
        ("events", "create"),
    }


def test_the_lease_that_the_role_opens_is_the_one_that_is_configured() -> None:
    election = SHIPPED_CONFIG["leaderElection"]
    (role,) = of_kind("deploy/base/scheduler-rights.yaml", "Role")
    named_rules = [rule for rule in role["rules"] if "resourceNames" in rule]
    assert [rule["resourceNames"] for rule in named_rules] == [[election["resourceName"]]]
    assert set(named_rules[0]["verbs"]) == {"get", "update"}
    assert role["metadata"]["namespace"] == election["resourceNamespace"]


def test_every_way_with_more_than_one_extender_is_fenced_on_the_lease_of_its_scheduler() -> None:
    leases = {
        DEPLOYMENT.manifest.path: SHIPPED_CONFIG["leaderElection"],
        EXISTING_SCHEDULER / "daemonset.yaml": {
            "resourceNamespace": "kube-system",  # kube-scheduler's defaults
            "resourceName": "kube-scheduler",
            **load_one(f"{EXISTING_SCHEDULER}/kube-scheduler-config.yaml")["leaderElection"],
        },
    }
    alone = {OVER_TLS.manifest.path}
    binding = {
        workload.manifest.path: flags(workload.container("extender"))
        for workload in EXTENDERS
        if "--observe" not in flags(workload.container("extender"))
    }
    assert binding.keys() == leases.keys() | alone
    for path, election in leases.items():
        assert election["leaderElect"] is True
        lease = f"{election['resourceNamespace']}/{election['resourceName']}"
        assert binding[path]["--lease"] == lease
    assert "--lease" not in binding[OVER_TLS.manifest.path]


def test_no_generated_config_map_shares_its_name_with_anything_else() -> None:
    # kustomize adds the hash to every reference to such a name, and takes the resourceNames of a
    # Role for references: the scheduler could then not renew its lease.
    generated = {
        entry["name"] for entry in load_one("config/kustomization.yaml")["configMapGenerator"]
    }
    assert not generated & {manifest.body["metadata"]["name"] for manifest in OBJECTS}
    for role in ROLES:
        for rule in role.body["rules"]:
            assert not generated & set(rule.get("resourceNames", []))


@named([manifest for manifest in OBJECTS if manifest.kind.endswith("RoleBinding")])
def test_every_binding_is_for_the_one_service_account(case: Manifest) -> None:
    """Of each container's own, where they are two pods; the loader has one, too."""
    file = "deploy/common/service-account.yaml"
    if case.path.parent == TWO_DEPLOYMENTS:
        file = f"{TWO_DEPLOYMENTS}/scheduler.yaml"
    elif case.body["roleRef"]["name"] == LOADER.spec["serviceAccountName"]:
        file = str(case.path)
    (account,) = of_kind(file, "ServiceAccount")
    account = account["metadata"]
    assert case.body["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": account["name"],
            "namespace": account["namespace"],
        }
    ]


@named(ON_LOOPBACK)
def test_the_verbs_listen_on_loopback_only(case: Workload) -> None:
    host, _ = listener(case.container("extender"), "--listen")
    assert ipaddress.ip_address(host).is_loopback


@named(EXTENDERS)
def test_probes_ask_the_status_listener(case: Workload) -> None:
    container = case.container("extender")
    host, port = listener(container, "--status-listen")
    asked = probes(container)
    assert set(asked) == {"startupProbe", "readinessProbe", "livenessProbe"}
    for probe in asked.values():
        assert probe["port"] == port
        assert probe["path"] in {"/healthz", "/readyz"}
        # The kubelet asks the pod's address unless told otherwise, and nobody listens there.
        assert ("host" in probe) == ipaddress.ip_address(host).is_loopback
    assert asked["readinessProbe"]["path"] == "/readyz"
    assert asked["livenessProbe"]["path"] == "/healthz"


def test_kube_schedulers_probes_ask_its_own_endpoints() -> None:
    asked = probes(DEPLOYMENT.container("kube-scheduler"))
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    for probe in asked.values():
        assert (probe["port"], probe["scheme"]) == (10259, "HTTPS")


@named([workload for workload in ON_LOOPBACK if not workload.spec.get("hostNetwork")])
def test_the_network_policy_opens_status_and_metrics_but_not_the_verbs(case: Workload) -> None:
    policy = load_one("deploy/common/network-policy.yaml")
    (rule,) = policy["spec"]["ingress"]
    opened = {entry["port"] for entry in rule["ports"]}
    container = case.container("extender")
    assert listener(container, "--status-listen")[1] in opened
    assert listener(container, "--listen")[1] not in opened
    assert opened == {8889, 10259}
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_a_listener_on_the_hosts_network_is_on_loopback() -> None:
    on_host = [workload for workload in EXTENDERS if workload.spec.get("hostNetwork")]
    assert on_host
    for workload in on_host:
        for flag in ("--listen", "--status-listen"):
            host, _ = listener(workload.container("extender"), flag)
            assert ipaddress.ip_address(host).is_loopback


def test_the_extender_is_up_before_kube_scheduler_and_down_after_it() -> None:
    (sidecar,) = DEPLOYMENT.spec["initContainers"]
    assert sidecar["name"] == "extender"
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert [container["name"] for container in DEPLOYMENT.spec["containers"]] == ["kube-scheduler"]


def test_only_the_shadow_observes() -> None:
    observing = {
        workload.manifest.path.parent
        for workload in EXTENDERS
        if "--observe" in flags(workload.container("extender"))
    }
    assert observing == {Path("deploy/shadow")}
