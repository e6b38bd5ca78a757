"""A release on the real apiserver: installed, tested, upgraded to the next version, taken away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.chart.helm import CHART, Helm, HelmError, Object, finished
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.conftest import stop_others
from tests.controlplane.shipped import MINOR, OPTS_IN

PART = "app.kubernetes.io/part-of=model-cache-extender"
RELEASE = "model-cache"
EARLIER = Path(__file__).parent / "earlier"
"""A chart as it was once: see its template."""
CLUSTER_WIDE = (
    "clusterroles clusterrolebindings validatingadmissionpolicies validatingadmissionpolicybindings"
).split() + ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"] * OPTS_IN
IN_NAMESPACES = (
    "configmaps daemonsets deployments networkpolicies "
    "poddisruptionbudgets rolebindings roles secrets serviceaccounts services"
).split()


@pytest.fixture
def free(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A namespace in a cluster without the objects that another way of installing left."""
    forget(control_plane)
    before = control_plane.processes()
    yield namespace
    stop_others(control_plane, before)
    forget(control_plane)


def forget(control_plane: ControlPlane) -> None:
    control_plane.kubectl("delete", ",".join(CLUSTER_WIDE), "-l", PART)
    control_plane.kubectl("delete", "rolebindings", "-n", "kube-system", "-l", PART)


def installed(control_plane: ControlPlane, *namespaces: str) -> dict[tuple[str, str, str], Object]:
    """Every object that is marked as this chart's, and its ConfigMaps."""
    of_release = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/managed-by=Helm"
    queries = [[",".join(CLUSTER_WIDE)]]
    queries += [[",".join(IN_NAMESPACES), "-n", space] for space in ("kube-system", *namespaces)]
    found: list[Object] = [
        item
        for query in queries
        for item in control_plane.get_json(*query, "-l", of_release)["items"]
    ]
    return {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in found
    }


def selectors(objects: dict[tuple[str, str, str], Object]) -> dict[tuple[str, str, str], Object]:
    kinds = {"Deployment", "DaemonSet", "PodDisruptionBudget"}
    return {key: found["spec"]["selector"] for key, found in objects.items() if key[0] in kinds}


def specs(objects: dict[tuple[str, str, str], Object]) -> dict[tuple[str, str, str], Object]:
    return {key: found.get("spec", {}) for key, found in objects.items()}


def within(wanted: Any, found: Any) -> bool:
    """Tell whether all that is wanted is there, in lists nothing else: the apiserver fills in."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            within(value, found.get(key)) for key, value in wanted.items() if value is not None
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(
            map(within, wanted, found)
        )  # fmt: skip
    return bool(wanted == found)


def test_an_upgrade_from_an_earlier_chart_is_what_a_new_installation_would_be(
    control_plane: ControlPlane, live_helm: Helm, free: str, tmp_path: Path
) -> None:
    """What was there is changed in place, what is new is made, what a version has no more goes."""
    loaders = f"{free}-loaders"
    values: Object = {
        "loader": {"enabled": True, "namespace": loaders},
        "optIn": {"enabled": OPTS_IN},
    }
    scope = f"--namespace={free}"
    live_helm.run("install", RELEASE, EARLIER, scope, values=values)
    before = installed(control_plane, free, loaders)
    assert ("Deployment", free, "model-cache-scheduler") in before
    assert ("DaemonSet", loaders, "model-cache-loader") in before

    following = live_helm.package(tmp_path, "0.2.0")
    live_helm.run("upgrade", RELEASE, following, scope, values=values)
    after = installed(control_plane, free, loaders)
    rendered = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o
        for o in live_helm.objects(values, scope, minor=f"1.{MINOR}", chart=following)
        if o["kind"] != "Namespace"
    }
    assert before.keys() - after.keys() == {("ConfigMap", free, "model-cache-retired")}
    assert after.keys() - before.keys() >= {
        ("NetworkPolicy", loaders, "model-cache-loader"),
        ("ClusterRole", "", "model-cache-loader"),
    }
    assert after.keys() == rendered.keys()
    for key, found in after.items():
        assert found["metadata"]["labels"]["app.kubernetes.io/version"] == "0.2.0", key
        assert within(rendered[key], found), (key, rendered[key], found)
        if key in before:
            assert found["metadata"]["uid"] == before[key]["metadata"]["uid"], key
    kept = selectors(before)
    assert {key: selectors(after)[key] for key in kept} == kept
    (extender,) = after["Deployment", free, "model-cache-scheduler"]["spec"]["template"]["spec"][
        "initContainers"
    ]
    assert extender["image"].endswith(":0.2.0")
    assert "env" not in extender, "RETIRED is of the earlier version"
    live_helm.run("rollback", RELEASE, "1", scope)
    assert installed(control_plane, free, loaders).keys() == before.keys()
    live_helm.run("uninstall", RELEASE, scope)


def test_an_upgrade_changes_objects_in_place_and_what_is_left_out_goes(
    control_plane: ControlPlane, live_helm: Helm, free: str, tmp_path: Path
) -> None:
    loaders = f"{free}-loaders"
    values: Object = {
        "loader": {"enabled": True, "namespace": loaders},
        "optIn": {"enabled": OPTS_IN},
    }
    scope = f"--namespace={free}"
    following = live_helm.package(tmp_path, "0.2.0")

    live_helm.run("install", RELEASE, CHART, scope, values=values)
    before = installed(control_plane, free, loaders)
    assert ("Deployment", free, "model-cache-scheduler") in before
    assert ("DaemonSet", loaders, "model-cache-loader") in before

    changed = {"labels": {"cost-centre": "42"}, "pods": {"podLabels": {"team": "serving"}}}
    live_helm.run("upgrade", RELEASE, following, scope, values={**values, **changed})
    after = installed(control_plane, free, loaders)
    assert after.keys() == before.keys()
    for key, found in after.items():
        assert found["metadata"]["uid"] == before[key]["metadata"]["uid"], key
    assert selectors(after) == selectors(before)
    pods = after["Deployment", free, "model-cache-scheduler"]["spec"]["template"]
    assert pods["metadata"]["labels"]["team"] == "serving"

    live_helm.run("upgrade", RELEASE, following, scope, "--reset-values")
    left = installed(control_plane, free, loaders)
    rendered = live_helm.objects({}, scope, chart=following)
    assert {name for _, _, name in left} == {found["metadata"]["name"] for found in rendered}
    control_plane.wait_for(
        lambda: loaders not in control_plane.kubectl("get", "namespaces", "-o=name"),
        60,
        "the loaders' namespace to go",
    )

    with pytest.raises(HelmError, match="no upgrade leads from one mode to the other"):
        live_helm.run("upgrade", RELEASE, following, scope, values={"mode": "two-deployments"})
    assert specs(installed(control_plane, free)) == specs(left)

    live_helm.run("uninstall", RELEASE, scope)
    assert not installed(control_plane, free)
    assert RELEASE not in control_plane.kubectl("get", "secrets", "-n", free, "-o=name")
    live_helm.run("install", RELEASE, following, scope, values={"mode": "two-deployments"})
    assert ("Service", free, "model-cache-extender") in installed(control_plane, free)
    live_helm.run("uninstall", RELEASE, scope)


def test_what_kustomize_installed_becomes_a_release_where_that_is_asked_for(
    control_plane: ControlPlane, live_helm: Helm, free: str
) -> None:
    tree = live_helm.objects({}, f"--namespace={free}")
    for found in tree:
        del found["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    control_plane.apply(tree)
    install = ("install", RELEASE, CHART, f"--namespace={free}")
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        live_helm.run(*install)
    live_helm.run(*install, "--take-ownership", "--force-conflicts")
    assert len(installed(control_plane, free)) == len(tree)
    live_helm.run("uninstall", RELEASE, f"--namespace={free}")


def test_helm_test_passes_once_the_releases_own_scheduler_has_placed_its_pod(
    control_plane: ControlPlane, live_helm: Helm, free: str
) -> None:
    scope = f"--namespace={free}"
    live_helm.run("install", RELEASE, CHART, scope)
    control_plane.add_nodes(["helm-test"])
    account = control_plane.kubeconfig_for_service_account(free, "model-cache-extender")
    maps = control_plane.get_json("configmaps", "-n", free)["items"]
    data = {key: text for found in maps for key, text in found.get("data", {}).items()}
    config = control_plane.workdir / f"{free}.yaml"
    config.write_text(data["config.yaml"], encoding="utf-8")
    asked = live_helm.start("test", RELEASE, scope, "--timeout=240s")
    extender = control_plane.start_extender(f"--config={config}", kubeconfig=account)
    scheduler = data["scheduler-config.yaml"].replace("http://127.0.0.1:8888", extender.url)
    assert f"resourceNamespace: {free}" in scheduler
    control_plane.start_scheduler(scheduler, name=free, kubeconfig=account)
    control_plane.wait_for(
        lambda: control_plane.pod_node(free, "model-cache-test") == "helm-test", 60, "its place"
    )
    pod = control_plane.get_json("pod", "model-cache-test", "-n", free)
    decision = pod["metadata"]["annotations"]["modelcache.dev/decision"]
    assert asked.poll() is None, "it waits for the pod to end well"
    assert decision in as_the_container_would(pod, {"DECISION": decision})
    with pytest.raises(subprocess.CalledProcessError):
        as_the_container_would(pod, {"DECISION": ""})
    control_plane.set_pod_status(free, "model-cache-test", {"phase": "Succeeded"})
    assert "Phase:          Succeeded" in finished(asked)
    live_helm.run("uninstall", RELEASE, scope)


def test_helm_test_asks_an_extender_beside_the_clusters_own_scheduler_on_its_loopback(
    control_plane: ControlPlane, live_helm: Helm, free: str
) -> None:
    shown = (f"--namespace={free}", "--show-only=templates/tests/placed.yaml")
    text = live_helm.run("template", RELEASE, CHART, *shown, values={"mode": "existing-scheduler"})
    control_plane.apply(text)
    pod = control_plane.get_json("pod", "model-cache-test", "-n", free)
    assert pod["spec"]["hostNetwork"] is True
    extender = control_plane.start_extender()
    port = extender.url.rpartition(":")[2]
    assert '"Error":""' in as_the_container_would(pod, port=port).replace(" ", "")
    control_plane.stop_process(extender)
    with pytest.raises(subprocess.CalledProcessError):
        as_the_container_would(pod, port=port)


def as_the_container_would(
    pod: Object, variables: dict[str, str] | None = None, port: str = ""
) -> str:
    """Run here what a pod's one container runs, on another port; return what it prints."""
    (container,) = pod["spec"]["containers"]
    command: list[str] = [*container["command"], *container["args"]]
    program, *words = command
    words = [re.sub(r"\b888[89]\b", port, word) for word in words]
    program = sys.executable if program == "python3" else program
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(
        [program, *words], env=environment, check=True, capture_output=True, text=True, timeout=30
    ).stdout
