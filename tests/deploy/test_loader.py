"""The shipped node cache: it may do little, and the extender knows it for what it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from extender import __version__
from extender.kube.decode import convert
from extender.kube.objects import DaemonSet
from extender.loader.catalog import read_catalog
from extender.workload.loaders import read_loader
from extender.workload.model import LoaderTemplate

from .manifests import EXTENDER_IMAGE, LOADER, flags, load_one, of_kind, probes

MAIN = LOADER.container("loader")


def test_the_extender_knows_it_for_a_loader_that_reports() -> None:
    found = read_loader(convert(LOADER.manifest.body, DaemonSet))
    assert found == LoaderTemplate(
        directories=("/var/lib/models",),
        ready_means_done=False,
        init_means_done=False,
        reports=True,
    )


def test_it_is_believed_by_every_namespace() -> None:
    namespace = load_one("deploy/loader/namespace.yaml")
    assert namespace["metadata"]["labels"]["modelcache.dev/loaders"] == "trusted"
    assert namespace["metadata"]["name"] == LOADER.manifest.body["metadata"]["namespace"]


def test_the_shipped_catalog_can_be_read_and_is_the_one_that_is_mounted() -> None:
    catalog = read_catalog(load_one("deploy/loader/catalog.yaml"))
    assert [model.name for model in catalog.models] == ["all-minilm-l6-v2"]
    (generated,) = load_one("deploy/loader/kustomization.yaml")["configMapGenerator"]
    (volume,) = [v for v in LOADER.spec["volumes"] if "configMap" in v]
    assert volume["configMap"]["name"] == generated["name"]
    assert generated["options"]["disableNameSuffixHash"] is True
    (mount,) = [m for m in MAIN["volumeMounts"] if m["name"] == volume["name"]]
    assert flags(MAIN)["--catalog"] == f"{mount['mountPath']}/{generated['files'][0]}"


def test_it_knows_its_pod_and_its_node() -> None:
    fields = {
        variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"]
        for variable in MAIN["env"]
        if "fieldRef" in variable["valueFrom"]
    }
    assert fields == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "NODE_NAME": "spec.nodeName",
    }


def test_it_runs_without_root_and_writes_its_cache_alone() -> None:
    assert LOADER.spec["securityContext"]["runAsNonRoot"] is True
    assert LOADER.spec["securityContext"]["runAsUser"] == 65532
    assert MAIN["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    hosts = [v["name"] for v in LOADER.spec["volumes"] if "hostPath" in v]
    assert hosts == ["models"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & LOADER.spec.keys()


def test_root_gives_the_directory_away_and_nothing_in_it() -> None:
    owner = LOADER.container("owner")
    assert owner["command"] == ["chown", "-R", "65532:65532", "/cache"]
    capabilities = {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE"]}
    assert owner["securityContext"]["capabilities"] == capabilities
    assert owner["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_directory_away_at_every_start(tmp_path: Path) -> None:
    """A disk of its own has a lost+found that is closed to others, whoever has it."""
    cache = tmp_path / "cache"
    for name, user in (("lost+found", 0), ("another-loaders", 1000)):
        (cache / name / "below").mkdir(parents=True)
        os.chown(cache / name, user, user)
        (cache / name).chmod(0o700)
    owner = LOADER.container("owner")
    added = owner["securityContext"]["capabilities"]["add"]
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
    command = [str(cache) if word == "/cache" else word for word in owner["command"]]
    limited = ["setpriv", "--bounding-set", bounds, *command]
    for _ in range(2):
        subprocess.run(limited, check=True)
    assert {file.stat().st_uid for file in (cache, *cache.rglob("*"))} == {65532}


def test_both_containers_have_the_image_of_the_extender() -> None:
    images = {container["image"] for container in LOADER.containers()}
    assert images == {f"{EXTENDER_IMAGE}:{__version__}"}


def test_its_probes_ask_the_listener_that_it_opens() -> None:
    port = int(flags(MAIN)["--status-listen"].rpartition(":")[2])
    assert {probe["port"] for probe in probes(MAIN).values()} == {port}
    assert {name: probe["path"] for name, probe in probes(MAIN).items()} == {
        "startupProbe": "/healthz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }


def test_its_rights_are_its_pods_its_leases_and_reading() -> None:
    roles = {
        role["metadata"]["name"]: {(*rule["resources"], *rule["verbs"]) for rule in role["rules"]}
        for role in of_kind("deploy/loader/rights.yaml", "Role")
    }
    assert roles == {
        "model-cache-loader": {
            ("pods", "get", "patch"),
            ("leases", "get", "list", "watch", "create", "patch"),
        },
        "model-cache-extender-wishes": {("leases", "patch")},
    }
    (reading,) = of_kind("deploy/loader/rights.yaml", "ClusterRole")
    assert {(*rule["resources"], *rule["verbs"]) for rule in reading["rules"]} == {
        ("nodes", "get", "list"),
        ("pods", "list"),
        ("persistentvolumeclaims", "persistentvolumes", "get"),
    }
