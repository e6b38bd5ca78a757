"""The policy that sets pod-level memory requests; what it computes is shown on a real apiserver."""

from __future__ import annotations

from .manifests import of_kind

POLICY = "deploy/pod-level-request/mutating-admission-policy.yaml"
OPT_IN = "deploy/opt-in/mutating-admission-policy.yaml"


def test_it_means_the_namespaces_that_opt_in() -> None:
    (ours,) = of_kind(POLICY, "MutatingAdmissionPolicyBinding")
    (other,) = of_kind(OPT_IN, "MutatingAdmissionPolicyBinding")
    assert ours["spec"]["matchResources"] == other["spec"]["matchResources"]


def test_the_binding_names_its_policy() -> None:
    (policy,) = of_kind(POLICY, "MutatingAdmissionPolicy")
    (binding,) = of_kind(POLICY, "MutatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_it_never_keeps_a_pod_from_being_created() -> None:
    """Without the request a pod is as before: the ledger places it."""
    (policy,) = of_kind(POLICY, "MutatingAdmissionPolicy")
    assert policy["spec"]["failurePolicy"] == "Ignore"


def test_it_does_not_mistake_its_own_request_for_the_authors() -> None:
    (policy,) = of_kind(POLICY, "MutatingAdmissionPolicy")
    assert policy["spec"]["reinvocationPolicy"] == "Never"
