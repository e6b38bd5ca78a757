"""The chart and the kustomize tree install the same objects, field by field."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender import __version__
from tests.controlplane.chart.helm import CHART, ROOT, SYSTEM, Helm, Object, Values, documents

OVERLAYS: dict[str, Values] = {
    "second-scheduler": {"mode": "second-scheduler"},
    "two-deployments": {"mode": "two-deployments"},
    "existing-scheduler": {"mode": "existing-scheduler"},
    "with-page": {"page": {"enabled": True}},
}
ADDITIONS: dict[str, Values] = {
    "deploy/loader": {"loader": {"enabled": True}},
    "deploy/monitoring": {"monitoring": {"enabled": True}},
    "deploy/opt-in": {"optIn": {"enabled": True}},
    "deploy/opt-in-models": {"optIn": {"enabled": True, "pods": "with-model"}},
    "deploy/pod-level-request": {"podLevelRequest": {"enabled": True}},
}
BESIDE_ITS_FOLDER: dict[str, Values] = {
    "deploy/overlays/two-deployments/cert-manager.yaml": {
        "mode": "two-deployments",
        "certManager": {"enabled": True},
    },
    "deploy/opt-in/kyverno.yaml": {"optIn": {"enabled": True, "engine": "kyverno"}},
}
"""Manifests that their kustomization leaves out, with the values that bring them."""
HELMS_OWN_LABELS = {
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
}
MADE_BY_HELM = ("Namespace", "", SYSTEM)
"""The namespace of a release is there before its objects are."""
EXPRESSIONS = {"expression", "expr"}
"""Fields in CEL and PromQL, to which a line break is a blank."""

Key = tuple[str, str, str]


def kustomized(binaries: Path, folder: str) -> list[Object]:
    """What ``kubectl kustomize`` makes of a folder, without the hashes in names of ConfigMaps."""
    command = [str(binaries / "kubectl"), "kustomize", str(ROOT / folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return without_hashes(documents(text))


def without_hashes(objects: list[Object]) -> list[Object]:
    text = json.dumps(objects)
    for found in objects:
        name = found["metadata"]["name"]
        hashed = re.fullmatch(r"(.+-config)-[a-z0-9]{10}", name)
        if found["kind"] == "ConfigMap" and hashed:
            text = text.replace(f'"{name}"', f'"{hashed[1]}"')
    without: list[Object] = json.loads(text)
    return without


def without_helms_own(found: Object) -> Object:
    """An object without what Helm's conventions add to it."""
    labels = found["metadata"]["labels"]
    assert labels.keys() >= HELMS_OWN_LABELS
    kept = {key: value for key, value in labels.items() if key not in HELMS_OWN_LABELS}
    found["metadata"]["labels"] = kept
    if not kept:
        del found["metadata"]["labels"]
    template = found.get("spec", {}).get("template", {})
    if "checksum/configuration" in template.get("metadata", {}).get("annotations", {}):
        del template["metadata"]["annotations"]
    return found


def folded(found: Any) -> Any:
    """An object with each expression on one line: kustomize breaks folded ones anew."""
    if isinstance(found, dict):
        return {
            key: " ".join(inner.split()) if key in EXPRESSIONS else folded(inner)
            for key, inner in found.items()
        }
    return [folded(inner) for inner in found] if isinstance(found, list) else found


def by_key(objects: list[Object]) -> dict[Key, Object]:
    """Objects by kind, namespace and name; no two are the same one."""
    keyed = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): folded(o)
        for o in objects
    }
    assert len(keyed) == len(objects)
    return keyed


def rendered(helm: Helm, values: Values) -> dict[Key, Object]:
    return by_key([without_helms_own(found) for found in helm.objects(values)])


def assert_same(chart: dict[Key, Object], tree: dict[Key, Object]) -> None:
    assert chart.keys() == tree.keys()
    for key, expected in tree.items():
        assert chart[key] == expected, key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_mode_installs_what_its_overlay_does(
    helm: Helm, kubernetes_binaries: Path, overlay: str
) -> None:
    tree = by_key(kustomized(kubernetes_binaries, f"deploy/overlays/{overlay}"))
    assert tree.pop(MADE_BY_HELM)
    assert len(tree) >= 9
    assert_same(rendered(helm, OVERLAYS[overlay]), tree)


def test_the_usual_way_takes_no_values(helm: Helm) -> None:
    assert rendered(helm, {}) == rendered(helm, {"mode": "second-scheduler"})


@pytest.mark.parametrize("folder", ADDITIONS)
def test_an_addition_adds_what_its_folder_does(
    helm: Helm, kubernetes_binaries: Path, folder: str
) -> None:
    without, added = rendered(helm, {}), rendered(helm, ADDITIONS[folder])
    assert {key: added[key] for key in without} == without
    new = {key: found for key, found in added.items() if key not in without}
    assert_same(new, by_key(kustomized(kubernetes_binaries, folder)))


@pytest.mark.parametrize("file", BESIDE_ITS_FOLDER)
def test_what_a_kustomization_leaves_out_is_in_the_chart_as_it_stands(
    helm: Helm, file: str
) -> None:
    tree = by_key(documents((ROOT / file).read_text("utf-8")))
    chart = rendered(helm, BESIDE_ITS_FOLDER[file])
    assert_same({key: found for key, found in chart.items() if key in tree}, tree)


def test_every_folder_of_the_tree_is_in_the_chart_or_is_known_not_to_be() -> None:
    """Shadow mode stays beside a release; examples are for reading."""
    folders = {path.parent for path in (ROOT / "deploy").rglob("kustomization.yaml")}
    linked = {link.resolve() for link in (CHART / "files").iterdir()}
    missing = {
        folder.name
        for folder in folders
        if not any(folder == link or link in folder.parents for link in linked)
    }
    assert missing == {"shadow", "examples"}


def test_chart_and_program_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
