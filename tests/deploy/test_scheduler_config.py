"""The invariants of kube-scheduler's configuration, as shipped for each overlay."""

from __future__ import annotations

from urllib.parse import urlsplit

from .manifests import (
    DEPLOYMENT,
    EXISTING_SCHEDULER,
    ON_LOOPBACK,
    SCHEDULER_CONFIGS,
    SCHEDULER_NAME,
    SHIPPED_CONFIG,
    TWO_DEPLOYMENTS,
    Manifest,
    listener,
    load_one,
    named,
)


@named(SCHEDULER_CONFIGS)
def test_the_scheduler_looks_at_every_node(case: Manifest) -> None:
    assert case.body["percentageOfNodesToScore"] == 100


@named(SCHEDULER_CONFIGS)
def test_the_scheduler_tries_evictions_on_every_node(case: Manifest) -> None:
    for profile in case.body["profiles"]:
        (preemption,) = profile["pluginConfig"]
        assert preemption["name"] == "DefaultPreemption"
        assert preemption["args"] == {"minCandidateNodesPercentage": 100}


@named(SCHEDULER_CONFIGS)
def test_a_refused_pod_backs_off_two_seconds_at_most(case: Manifest) -> None:
    assert case.body["podInitialBackoffSeconds"] == 1
    assert case.body["podMaxBackoffSeconds"] == 2


@named(SCHEDULER_CONFIGS)
def test_the_extender_is_asked_by_name_and_never_skipped(case: Manifest) -> None:
    (extender,) = case.body["extenders"]
    assert extender["nodeCacheCapable"] is True
    assert extender["ignorable"] is False
    assert extender["filterVerb"] == "filter"
    assert extender["prioritizeVerb"] == "prioritize"
    assert extender["bindVerb"] == "bind"
    assert extender["preemptVerb"] == "preempt"
    assert extender["weight"] == 15
    assert extender["httpTimeout"] == "5s"


@named([config for config in SCHEDULER_CONFIGS if config.path.parent != TWO_DEPLOYMENTS])
def test_plain_http_goes_to_the_loopback_address_that_the_verbs_listen_on(case: Manifest) -> None:
    (extender,) = case.body["extenders"]
    url = urlsplit(extender["urlPrefix"])
    assert (url.scheme, extender["enableHTTPS"]) == ("http", False)
    for workload in ON_LOOPBACK:
        assert (url.hostname, url.port) == listener(workload.container("extender"), "--listen")


def test_the_second_scheduler_leads_by_a_lease_of_its_own() -> None:
    election = SHIPPED_CONFIG["leaderElection"]
    assert election["leaderElect"] is True
    assert election["resourceLock"] == "leases"
    assert (election["resourceNamespace"], election["resourceName"]) == (
        "model-cache-system",
        "model-cache-scheduler",
    )


def test_the_second_scheduler_has_one_profile_and_asks_about_all_its_pods() -> None:
    profiles = [profile["schedulerName"] for profile in SHIPPED_CONFIG["profiles"]]
    assert profiles == [SCHEDULER_NAME]
    assert "managedResources" not in SHIPPED_CONFIG["extenders"][0]


def test_an_existing_scheduler_asks_about_pods_with_gpus_only() -> None:
    config = load_one(f"{EXISTING_SCHEDULER}/kube-scheduler-config.yaml")
    assert config["extenders"][0]["managedResources"] == [
        {"name": "nvidia.com/gpu", "ignoredByScheduler": False}
    ]


def test_the_schedulers_own_pods_are_placed_by_another_scheduler() -> None:
    assert DEPLOYMENT.spec["schedulerName"] == "default-scheduler"
