"""The shape of every manifest, checked on the files as they stand, without a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from extender import __version__

from .manifests import (
    CLUSTER_SCOPED,
    DEPLOYMENT,
    EXISTING_SCHEDULER,
    EXTENDER_IMAGE,
    EXTENDERS,
    KUSTOMIZATIONS,
    LEFT_OUT_OF_KUSTOMIZE,
    MANIFESTS,
    NOT_CLUSTER_OBJECTS,
    OBJECTS,
    ROOT,
    SCHEDULER_ALONE,
    WORKLOADS,
    Manifest,
    Workload,
    flags,
    load_one,
    named,
)


def test_there_is_something_to_check() -> None:
    assert len(KUSTOMIZATIONS) >= 8
    assert len(EXTENDERS) == 4
    assert len(WORKLOADS) >= 9


@named(MANIFESTS)
def test_every_document_says_what_it_is(case: Manifest) -> None:
    assert case.body["apiVersion"]
    assert case.body["kind"]
    if case.kind not in NOT_CLUSTER_OBJECTS:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", case.body["metadata"]["name"])


@named(OBJECTS)
def test_every_namespaced_object_names_its_namespace(case: Manifest) -> None:
    # No kustomization adds it: a namespace transformer would drag objects out of kube-system too.
    assert ("namespace" in case.body["metadata"]) == (case.kind not in CLUSTER_SCOPED)


@named([path.relative_to(ROOT) for path in KUSTOMIZATIONS])
def test_every_resource_of_a_kustomization_exists(case: Path) -> None:
    kustomization = load_one(str(case))
    for resource in kustomization.get("resources", []):
        target = (ROOT / case.parent / resource).resolve()
        assert target.is_file() or (target / "kustomization.yaml").is_file(), resource


def _generated_from(folder: Path) -> set[Path]:
    """The files that a kustomization makes ConfigMaps of."""
    entries = load_one(f"{folder}/kustomization.yaml").get("configMapGenerator", [])
    return {folder / file.split("=")[-1] for entry in entries for file in entry["files"]}


def test_every_manifest_is_in_a_kustomization_or_is_offered_by_name() -> None:
    listed = {
        (path.parent / resource).resolve().relative_to(ROOT)
        for path in KUSTOMIZATIONS
        for resource in yaml.safe_load(path.read_text()).get("resources", [])
    }
    left_out = {manifest.path for manifest in OBJECTS if manifest.path not in listed}
    pasted = (
        {
            manifest.path
            for manifest in MANIFESTS
            if manifest.kind in NOT_CLUSTER_OBJECTS and EXISTING_SCHEDULER in manifest.path.parents
        }
        - {EXISTING_SCHEDULER / "kustomization.yaml"}
        - _generated_from(EXISTING_SCHEDULER)
    )
    assert left_out | pasted == set(LEFT_OUT_OF_KUSTOMIZE)
    for path, mention in LEFT_OUT_OF_KUSTOMIZE.items():
        assert path.name in (ROOT / mention).read_text()


@named([workload for workload in WORKLOADS if workload.selector is not None])
def test_selectors_match_the_labels_of_their_templates(case: Workload) -> None:
    assert case.selector is not None
    labels = case.template["metadata"]["labels"]
    assert case.selector["matchLabels"].items() <= labels.items()


def test_selectors_of_one_namespace_do_not_overlap() -> None:
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for workload in WORKLOADS:
        if workload.selector is None:
            continue
        namespace = workload.manifest.body["metadata"]["namespace"]
        key = (namespace, tuple(sorted(workload.selector["matchLabels"].items())))
        assert key not in seen
        seen.add(key)


def test_spreading_disruption_budget_and_network_policy_mean_the_schedulers_pods() -> None:
    labels = DEPLOYMENT.template["metadata"]["labels"]
    budget = load_one("deploy/base/pod-disruption-budget.yaml")
    policy = load_one("deploy/common/network-policy.yaml")
    selectors = [
        budget["spec"]["selector"],
        policy["spec"]["podSelector"],
        *(entry["labelSelector"] for entry in DEPLOYMENT.spec["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector["matchLabels"].items() <= labels.items()


@named(WORKLOADS)
def test_every_image_is_pinned(case: Workload) -> None:
    images = [container["image"] for container in case.containers()]
    images += [
        volume["image"]["reference"] for volume in case.spec.get("volumes", []) if "image" in volume
    ]
    for image in images:
        _, _, tag = image.rpartition("/")[2].partition(":")
        assert tag, image
        assert tag != "latest"


@named(EXTENDERS)
def test_the_extenders_image_has_the_version_of_the_package(case: Workload) -> None:
    assert case.container("extender")["image"] == f"{EXTENDER_IMAGE}:{__version__}"


@named([path.relative_to(ROOT) for path in KUSTOMIZATIONS])
def test_overlays_name_the_same_image_tags_as_what_they_build_on(case: Path) -> None:
    shipped = {
        tuple(container["image"].rsplit(":", 1))
        for workload in EXTENDERS
        for container in workload.containers()
    }
    for image in load_one(str(case)).get("images", []):
        assert (image["name"], image["newTag"]) in shipped


@named([*EXTENDERS, SCHEDULER_ALONE])
def test_containers_have_no_more_than_they_need(case: Workload) -> None:
    pod = case.spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == 65532
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in case.containers():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert "cpu" not in container["resources"]["limits"]


@named(WORKLOADS)
def test_every_mount_has_its_volume_and_every_volume_is_mounted(case: Workload) -> None:
    volumes = {volume["name"] for volume in case.spec.get("volumes", [])}
    mounted = {
        mount["name"]
        for container in case.containers()
        for mount in container.get("volumeMounts", [])
    }
    assert mounted == volumes


@named(EXTENDERS)
def test_the_configuration_that_is_named_is_mounted(case: Workload) -> None:
    container = case.container("extender")
    generated = load_one("config/kustomization.yaml")["configMapGenerator"]
    keys = {entry["name"]: [f.partition("=")[0] for f in entry["files"]] for entry in generated}
    config_maps = {
        volume["name"]: volume["configMap"]["name"]
        for volume in case.spec["volumes"]
        if "configMap" in volume
    }
    files = {
        f"{mount['mountPath']}/{key}"
        for mount in container["volumeMounts"]
        if mount["name"] in config_maps
        for key in keys[config_maps[mount["name"]]]
    }
    assert flags(container)["--config"] in files


@named([DEPLOYMENT, SCHEDULER_ALONE])
def test_kube_scheduler_reads_the_shipped_configuration(case: Workload) -> None:
    container = case.container("kube-scheduler")
    mount, *_ = container["volumeMounts"]
    assert flags(container)["--config"] == f"{mount['mountPath']}/scheduler-config.yaml"


@named(WORKLOADS)
def test_secrets_are_given_by_reference_only(case: Workload) -> None:
    for container in case.containers():
        for variable in container.get("env", []):
            if re.search(r"TOKEN|SECRET|PASSWORD|KEY", variable["name"]):
                assert set(variable) == {"name", "valueFrom"}
                assert "secretKeyRef" in variable["valueFrom"]


def test_no_secret_is_shipped() -> None:
    assert not [manifest for manifest in OBJECTS if manifest.kind == "Secret"]
