"""The opt-in policies and the examples that opt in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .manifests import OPT_IN_LABEL, SCHEDULER_NAME, WORKLOADS, Object, load_one, of_kind


def opt_in_selectors() -> Iterator[Object]:
    path = "deploy/opt-in/mutating-admission-policy.yaml"
    (binding,) = of_kind(path, "MutatingAdmissionPolicyBinding")
    yield binding["spec"]["matchResources"]["namespaceSelector"]
    (rule,) = load_one("deploy/opt-in/kyverno.yaml")["spec"]["rules"]
    yield rule["match"]["any"][0]["resources"]["namespaceSelector"]


def test_both_opt_in_policies_mean_the_same_namespaces() -> None:
    first, second = opt_in_selectors()
    assert first == second
    assert first["matchLabels"] == OPT_IN_LABEL
    (exempt,) = first["matchExpressions"]
    assert (exempt["operator"], set(exempt["values"])) == (
        "NotIn",
        {"kube-system", "model-cache-system"},
    )


def test_both_opt_in_policies_choose_the_scheduler_that_is_shipped() -> None:
    (policy,) = of_kind("deploy/opt-in/mutating-admission-policy.yaml", "MutatingAdmissionPolicy")
    (mutation,) = policy["spec"]["mutations"]
    assert f'value: "{SCHEDULER_NAME}"' in mutation["jsonPatch"]["expression"]
    kyverno = load_one("deploy/opt-in/kyverno.yaml")
    (rule,) = kyverno["spec"]["rules"]
    patch = rule["mutate"]["patchStrategicMerge"]
    assert patch == {"spec": {"schedulerName": SCHEDULER_NAME}}


def test_kyverno_writes_no_rules_for_the_templates_of_controllers() -> None:
    annotations = load_one("deploy/opt-in/kyverno.yaml")["metadata"]["annotations"]
    assert annotations == {"pod-policies.kyverno.io/autogen-controllers": "none"}


def test_the_binding_names_its_policy() -> None:
    path = "deploy/opt-in/mutating-admission-policy.yaml"
    (policy,) = of_kind(path, "MutatingAdmissionPolicy")
    (binding,) = of_kind(path, "MutatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_the_examples_namespace_opts_in_and_its_pods_name_no_scheduler() -> None:
    namespace = load_one("deploy/examples/namespace.yaml")["metadata"]
    assert namespace["labels"] == OPT_IN_LABEL
    examples = [w for w in WORKLOADS if w.manifest.path.parent == Path("deploy/examples")]
    assert len(examples) == 10
    for workload in examples:
        assert workload.manifest.body["metadata"]["namespace"] == namespace["name"]
        assert "schedulerName" not in workload.spec


def test_every_server_of_the_examples_asks_for_one_gpu() -> None:
    servers = [w for w in WORKLOADS if w.manifest.body["metadata"]["name"].startswith("vllm-")]
    assert len(servers) == 7
    for server in servers:
        assert server.container("vllm")["resources"]["limits"] == {"nvidia.com/gpu": 1}
