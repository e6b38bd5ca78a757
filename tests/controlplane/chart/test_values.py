"""What values do to the objects, and which values are refused, with what is said."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender import __version__
from extender.config import load_configuration
from tests.controlplane.chart.helm import (
    CHART,
    ROOT,
    Helm,
    HelmError,
    Object,
    Values,
    container,
    one,
)
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import MINOR, OPTS_IN
from tests.controlplane.test_shipped import make_known

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
CONFIGURATION = """\
# Kept, with this line.
apiVersion: modelcache.dev/v1alpha1
kind: ExtenderConfiguration
server:
  maxBodyBytes: 67108864
"""
ZONE = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"a": "b"}}}
AFFINITY = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [ZONE]}}
TAINT = {"key": "pool", "operator": "Equal", "value": "system", "effect": "NoSchedule"}
PLACEMENT: Object = {
    "podLabels": {"team": "serving", "app.kubernetes.io/part-of": "not-this"},
    "podAnnotations": {"note": "kept"},
    "nodeSelector": {"pool": "system"},
    "tolerations": [TAINT],
    "affinity": AFFINITY,
    "priorityClassName": "important",
}
EVERY: Object = {
    "image": {"repository": "registry.example:5000/mce", "digest": DIGEST, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "labels": {"cost-centre": "42"},
    "annotations": {"owner": "serving"},
    "extender": {"configuration": CONFIGURATION, "resources": {"limits": {"memory": "3Gi"}}},
    "scheduler": {
        "image": {"repository": "registry.example/kube-scheduler", "tag": "v1.36.1"},
        "replicas": 3,
        "resources": {"requests": {"cpu": "1"}},
    },
    "pods": PLACEMENT,
    "loader": {
        "enabled": True,
        "namespace": "loaders",
        "directory": "/mnt/nvme/models",
        "changeOwner": False,
        "tokenSecret": "hub",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"},
        "resources": {"requests": {"memory": "1Gi"}},
        **PLACEMENT,
    },
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
}
"""Every value that has no say in what objects there are, set to something else."""
REFUSED: dict[str, tuple[Values, str]] = {
    "a value that is not there": ({"extender": {"replicas": 2}}, "'replicas' not allowed"),
    "an unknown mode": ({"mode": "sidecar"}, "value must be one of"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "does not match pattern"),
    "kube-scheduler without a tag": ({"scheduler": {"image": {"tag": ""}}}, "/scheduler/image"),
    "configuration of another kind": (
        {"extender": {"configuration": "kind: ModelCatalog"}},
        "extender.configuration: has to be a whole document of the kind ExtenderConfiguration, "
        "such as files/config/extender-config.yaml",
    ),
    "a catalog that is no YAML": (
        {"loader": {"enabled": True, "catalog": "models: ["}},
        "loader.catalog: has to be a whole document of the kind ModelCatalog",
    ),
    "pods with a model by Kyverno": (
        {"optIn": {"enabled": True, "engine": "kyverno", "pods": "with-model"}},
        "optIn.pods=with-model: takes optIn.engine=admission-policy",
    ),
    "opt-in without a scheduler": (
        {"mode": "existing-scheduler", "optIn": {"enabled": True}},
        "optIn.enabled: with mode=existing-scheduler there is no scheduler of that name",
    ),
    "certificates for nobody": (
        {"certManager": {"enabled": True}},
        "only with two-deployments",
    ),
    "a page where none can be": (
        {"mode": "two-deployments", "page": {"enabled": True}},
        "page.enabled: only with mode=second-scheduler",
    ),
    "a page whose configuration has no certificate": (
        {"page": {"enabled": True}, "extender": {"configuration": CONFIGURATION}},
        "page.enabled: extender.configuration has no statusTls with certFile and keyFile",
    ),
    "probes in the clear before a listener that speaks TLS": (
        {
            "extender": {
                "configuration": CONFIGURATION
                + "statusTls: {certFile: /etc/model-cache-page-tls/tls.crt, keyFile: /k}\n"
            }
        },
        "extender.configuration: has statusTls, and page.enabled is false",
    ),
    "loaders among the extenders": (
        {"loader": {"enabled": True, "namespace": "model-cache-system"}},
        "loader.namespace: has to be one of its own",
    ),
}


def pod_spec(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def described(schema: Object, definitions: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield every value of a schema by its path."""
    for name, inner in schema.get("properties", {}).items():
        reference = inner.get("$ref", "") or inner.get("allOf", [{}])[0].get("$ref", "")
        whole = {**definitions.get(reference.rpartition("/")[2], {}), **inner}
        yield f"{path}{name}", whole
        yield from described(whole, definitions, f"{path}{name}.")


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value that is no group of others."""
    if isinstance(values, dict) and values:
        for name, inner in values.items():
            yield from leaves(inner, f"{path}{name}.")
    else:
        yield path.removesuffix(".")


def test_the_chart_lints_without_a_word_but_for_the_icon(helm: Helm) -> None:
    said = helm.run("lint", CHART, "--strict", values=EVERY)
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    remarks = [line for line in said.splitlines() if line.startswith("[")]
    assert remarks == ["[INFO] Chart.yaml: icon is recommended"]


def test_every_value_is_in_values_yaml_and_described_in_the_schema_which_allows_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    paths = dict(described(schema, schema["definitions"]))
    written = set(leaves(yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))))
    inner = {".requests", ".limits", "imagePullSecrets.", "loader.env.", "global"}
    assert written == {
        path
        for path, found in paths.items()
        if not found.get("properties", {}).keys() - {"requests", "limits"}
        and not any(word in path for word in inner)
    }
    for path, found in paths.items():
        assert found.get("description") or path.endswith((".requests", ".limits")), path
        if "properties" in found:
            assert found["additionalProperties"] is False, path


def test_the_table_of_values_leaves_none_out() -> None:
    written = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    choices = {"mode", "certManager", "page", "optIn", "podLevelRequest"}
    apart = {"image.tag", "scheduler.image.digest", "scheduler.image.pullPolicy"}
    apart |= {"scheduler.configuration", "loader.catalog"}  # as extender.configuration
    for path in leaves({key: inner for key, inner in written.items() if key not in choices}):
        if path in apart:
            continue
        place: Any = EVERY
        for word in path.split("."):
            assert word in place, path
            place = place[word]


def test_values_reach_the_pods_they_are_for(helm: Helm) -> None:
    objects = helm.objects(EVERY)
    deployment = one(objects, "Deployment", "model-cache-scheduler")
    daemon_set = one(objects, "DaemonSet", "model-cache-loader")
    assert deployment["spec"]["replicas"] == 3
    for workload in (deployment, daemon_set):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels["team"] == "serving"
        assert labels["app.kubernetes.io/part-of"] == "model-cache-extender"
        assert workload["spec"]["template"]["metadata"]["annotations"]["note"] == "kept"
        spec = pod_spec(workload)
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "system"}
        assert spec["tolerations"] == [TAINT]
        assert spec["affinity"] == AFFINITY
        assert spec["priorityClassName"] == "important"
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
    extender, scheduler = (container(deployment, name) for name in ("extender", "kube-scheduler"))
    assert extender["image"] == f"registry.example:5000/mce@{DIGEST}"
    assert extender["imagePullPolicy"] == "Always"
    assert extender["resources"]["limits"] == {"memory": "3Gi"}
    assert extender["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi"}
    assert scheduler["image"] == "registry.example/kube-scheduler:v1.36.1"
    assert "imagePullPolicy" not in scheduler
    assert scheduler["resources"]["requests"] == {"cpu": "1", "memory": "128Mi"}


def test_a_loader_is_told_where_models_are_and_what_it_fetches_with(helm: Helm) -> None:
    objects = helm.objects(EVERY)
    daemon_set = one(objects, "DaemonSet", "model-cache-loader")
    assert "initContainers" not in pod_spec(daemon_set)
    (models,) = [v for v in pod_spec(daemon_set)["volumes"] if v["name"] == "models"]
    assert models["hostPath"]["path"] == "/mnt/nvme/models"
    loader = container(daemon_set, "loader")
    assert loader["image"] == f"registry.example:5000/mce@{DIGEST}"
    assert loader["resources"]["requests"] == {"cpu": "250m", "memory": "1Gi"}
    variables = {variable["name"]: variable for variable in loader["env"]}
    assert variables["HF_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "hub"
    assert variables["HTTPS_PROXY"]["value"] == "http://proxy:3128"
    assert variables["POD_UID"]["valueFrom"]["fieldRef"] == {"fieldPath": "metadata.uid"}
    account = one(objects, "ServiceAccount", "model-cache-loader")
    assert account["metadata"]["annotations"] == {
        "owner": "serving",
        "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models",
    }
    assert not [o for o in objects if o["metadata"].get("namespace") == "model-cache-loaders"]
    one(objects, "Namespace", "loaders")


def test_labels_and_annotations_are_on_every_object_and_those_of_monitoring_on_its_own(
    helm: Helm,
) -> None:
    for found in helm.objects(EVERY):
        assert found["metadata"]["labels"]["cost-centre"] == "42"
        assert found["metadata"]["annotations"]["owner"] == "serving"
        selected = found["metadata"]["labels"].get("release") == "prometheus"
        of_monitoring = found["apiVersion"] == "monitoring.coreos.com/v1"
        assert selected == (of_monitoring or found["metadata"]["name"] == "model-cache-dashboard")


def test_a_configuration_ends_in_its_config_map_word_for_word_and_rolls_the_pods(
    helm: Helm, tmp_path: Path
) -> None:
    def checksum(objects: list[Object]) -> str:
        template = one(objects, "Deployment", "model-cache-scheduler")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/configuration"])

    before, after = helm.objects({}), helm.objects({"extender": {"configuration": CONFIGURATION}})
    text = one(after, "ConfigMap", "model-cache-extender-config")["data"]["config.yaml"]
    assert text == CONFIGURATION
    assert checksum(before) != checksum(after)
    others = {"scheduler": {"replicas": 1}, "labels": {"cost-centre": "42"}}
    assert checksum(before) == checksum(helm.objects(others))
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_configuration(file).server.max_body_bytes == 67108864


def test_in_another_namespace_nothing_speaks_of_the_usual_ones(helm: Helm) -> None:
    everything = {
        "mode": "two-deployments",
        "certManager": {"enabled": True},
        "loader": {"enabled": True, "namespace": "nodes"},
        **{name: {"enabled": True} for name in ("optIn", "podLevelRequest", "monitoring")},
    }
    objects = helm.objects(everything, "--namespace=elsewhere")
    text = json.dumps(objects)
    assert "model-cache-system" not in text
    assert "model-cache-loaders" not in text
    assert "https://model-cache-extender.elsewhere.svc:8888" in text
    assert "system:serviceaccount:elsewhere:model-cache-extender" in text


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_the_value_and_the_remedy(helm: Helm, case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(HelmError) as refusal:
        helm.objects(values)
    assert message in str(refusal.value)


@pytest.mark.parametrize("addition", ["optIn", "podLevelRequest"])
def test_a_policy_that_an_old_apiserver_does_not_serve_is_refused_before_anything_is_installed(
    helm: Helm, addition: str
) -> None:
    with pytest.raises(HelmError, match=r"takes Kubernetes 1\.36 or newer and this is v1\.35"):
        helm.objects({addition: {"enabled": True}}, minor="1.35.2")


def test_an_apiserver_that_is_not_supported_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.34"):
        helm.objects({}, minor="1.33.9")


@pytest.mark.parametrize("mode", ["second-scheduler", "two-deployments", "existing-scheduler"])
def test_the_apiserver_accepts_every_value_in_every_mode(
    control_plane: ControlPlane, helm: Helm, namespace: str, mode: str
) -> None:
    """Strictly: a field that it does not know is an error."""
    opts_in = mode != "existing-scheduler" and OPTS_IN
    values = {
        **EVERY,
        "mode": mode,
        "loader": {**EVERY["loader"], "namespace": f"{namespace}-loaders"},
        "optIn": {"enabled": opts_in},
        "podLevelRequest": {"enabled": OPTS_IN},
        # The same in every mode.
        "monitoring": {"enabled": mode == "second-scheduler"},
    }
    objects = helm.objects(values, f"--namespace={namespace}", minor=f"1.{MINOR}")
    for kind in sorted({o["kind"] for o in objects if "coreos" in o["apiVersion"]}):
        make_known(control_plane, kind)
    spaces = [found for found in objects if found["kind"] == "Namespace"]
    control_plane.apply(spaces)
    text = "\n---\n".join(json.dumps(found) for found in objects)
    said = control_plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text
    )
    assert len(said.splitlines()) == len(objects)
    control_plane.kubectl("delete", "namespace", f"{namespace}-loaders", "--wait=false")


def test_the_notes_say_what_to_do_next_in_each_mode(helm: Helm) -> None:
    words: dict[str, tuple[str, ...]] = {
        "second-scheduler": ("rollout status deployment/model-cache-scheduler", "helm test"),
        "two-deployments": ("model-cache-extender-tls", "deployment/model-cache-extender"),
        "existing-scheduler": ("daemonset/model-cache-extender", "`extenders` stanza"),
    }
    release = ("install", "model-cache", CHART, "--namespace=model-cache-system")
    pages = "model-cache-page-tls"
    for mode, expected in words.items():
        said = helm.run(*release, "--dry-run=client", values={"mode": mode})
        notes = said.partition("\nNOTES:\n")[2]
        assert pages not in notes, mode
        for word in (*expected, "kubectl modelcache explain"):
            assert word in notes, mode
    said = helm.run(*release, "--dry-run=client", values={"page": {"enabled": True}})
    assert pages in said.partition("\nNOTES:\n")[2]


def test_the_packed_chart_is_the_tree_and_needs_it_no_more(helm: Helm, tmp_path: Path) -> None:
    packed = helm.package(tmp_path, __version__)
    with tarfile.open(packed) as archive:
        assert not [member.name for member in archive if not member.isfile()]
        assert "model-cache-extender/files/base/kustomization.yaml" not in archive.getnames()
    assert helm.objects(EVERY, chart=packed) == helm.objects(EVERY)


def test_the_commands_of_the_readme_install_a_release(helm: Helm) -> None:
    text = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    (install,) = re.findall(r"^helm (install .+)$", text, re.MULTILINE)
    words = [word.replace("REGISTRY", "registry.example") for word in install.split()]
    words[words.index("deploy/chart")] = str(CHART)
    said = helm.run(*words, "--dry-run=client")
    assert "image: registry.example/model-cache-extender:" in said
    assert "kind: MutatingAdmissionPolicy\n" in said
