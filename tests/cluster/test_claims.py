"""Claims: bound, waiting for a consumer, tied to nodes by volume or class."""

from __future__ import annotations

import pytest

from extender.cluster.claims import JobState, claim_facts, job_state
from extender.kube.decode import convert
from extender.kube.objects import PersistentVolume
from tests.builders import claim, job, storage_class, volume

ZONE = "topology.kubernetes.io/zone"


def test_a_volume_without_affinity_is_reachable_everywhere() -> None:
    facts = claim_facts(claim(), {"pv-model-store": volume("pv-model-store")}, {})
    assert facts.bound
    assert facts.reachable("n", {})


def test_a_zonal_volume_is_reachable_in_its_zone_alone() -> None:
    facts = claim_facts(claim(), {"pv-model-store": volume("pv-model-store", zone="a")}, {})
    assert facts.reachable("n", {ZONE: "a"})
    assert not facts.reachable("n", {ZONE: "b"})
    assert not facts.reachable("n", {})


def test_an_unbound_claim_follows_the_topologies_of_its_class() -> None:
    pending = claim(phase="Pending", storageClassName="zonal", volumeName="")
    facts = claim_facts(pending, {}, {"zonal": storage_class("zonal", zone="a")})
    assert not facts.bound
    assert facts.waits_for_consumer
    assert facts.reachable("n", {ZONE: "a"})
    assert not facts.reachable("n", {ZONE: "b"})


def test_a_claim_that_lost_its_volume_waits_for_nobody() -> None:
    lost = claim(phase="Lost", storageClassName="late")
    facts = claim_facts(lost, {}, {"late": storage_class("late")})
    assert (facts.bound, facts.waits_for_consumer) == (False, False)


@pytest.mark.parametrize(
    ("operator", "values", "label", "holds"),
    [
        ("In", ["a"], "a", True),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "b", True),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "a", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("Gt", ["5"], "6", True),
        ("Gt", ["5"], "5", False),
        ("Lt", ["5"], "4", True),
        ("Gt", ["5"], "x", False),
        ("Gt", [], "6", False),
        ("Strange", ["a"], "a", False),
    ],
)
def test_node_selector_operators_mean_what_the_api_says(
    operator: str, values: list[str], label: str | None, holds: bool
) -> None:
    expression = {"key": "k", "operator": operator, "values": values}
    terms = [{"matchExpressions": [expression]}]
    spec = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}
    pv = convert({"metadata": {"name": "pv-model-store"}, "spec": spec}, PersistentVolume)
    facts = claim_facts(claim(), {"pv-model-store": pv}, {})
    assert facts.reachable("n", {} if label is None else {"k": label}) is holds


def test_a_local_volume_names_its_node_in_match_fields() -> None:
    fields = [{"key": "metadata.name", "operator": "In", "values": ["n"]}]
    spec = {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchFields": fields}]}}}
    pv = convert({"metadata": {"name": "pv-model-store"}, "spec": spec}, PersistentVolume)
    facts = claim_facts(claim(), {"pv-model-store": pv}, {})
    assert facts.reachable("n", {})
    assert not facts.reachable("m", {})


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ((), JobState.RUNNING),
        (("Suspended",), JobState.RUNNING),
        (("Complete",), JobState.COMPLETE),
        (("SuccessCriteriaMet",), JobState.COMPLETE),
        (("Failed",), JobState.FAILED),
        (("FailureTarget",), JobState.FAILED),
    ],
)
def test_a_job_stands_where_its_conditions_say(
    conditions: tuple[str, ...], state: JobState
) -> None:
    assert job_state(job("j", conditions))[0] is state
