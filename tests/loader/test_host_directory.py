"""What the cache's directory is called on the node, read from the loader's own pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.errors import UsageError
from extender.loader.running import Cluster, host_directory
from extender.watch.answers import UnreachableError
from tests.loader.cluster import ME, apiserver

SHIPPED = Path(__file__).resolve().parents[2] / "deploy/loader/daemonset.yaml"


def pod(mounts: list[dict[str, Any]], path: str = "/var/lib/models") -> dict[str, Any]:
    container = {"name": "loader", "image": "x", "volumeMounts": mounts}
    volumes = [{"name": "models", "hostPath": {"path": path}}, {"name": "tmp", "emptyDir": {}}]
    return {"metadata": {"name": ME.pod}, "spec": {"containers": [container], "volumes": volumes}}


def asked(folder: Path, answer: Any, directory: str = "/cache", status: int = 200) -> str:
    with apiserver(folder) as (api, transport):
        api.status, api.body = status, answer
        return host_directory(Cluster(transport, ME), Path(directory))


def test_the_shipped_pod_says_it(tmp_path: Path) -> None:
    template = yaml.safe_load(SHIPPED.read_text("utf-8"))["spec"]["template"]
    assert asked(tmp_path, template) == "/var/lib/models"


@pytest.mark.parametrize(
    ("mount", "directory", "found"),
    [
        ({"mountPath": "/cache"}, "/cache/team", "/var/lib/models/team"),
        ({"mountPath": "/cache", "subPath": "gpu"}, "/cache", "/var/lib/models/gpu"),
        ({"mountPath": "/cache/"}, "/cache", "/var/lib/models"),
    ],
)
def test_a_directory_inside_of_the_mount_is_found(
    tmp_path: Path, mount: dict[str, Any], directory: str, found: str
) -> None:
    assert asked(tmp_path, pod([{"name": "models", **mount}]), directory) == found


def test_of_two_mounts_the_inner_one_holds_it(tmp_path: Path) -> None:
    mounts = [
        {"name": "models", "mountPath": "/", "subPath": "outer"},
        {"name": "models", "mountPath": "/cache"},
    ]
    assert asked(tmp_path, pod(mounts)) == "/var/lib/models"


@pytest.mark.parametrize(
    "mounts",
    [[], [{"name": "tmp", "mountPath": "/cache"}], [{"name": "models", "mountPath": "/cachet"}]],
    ids=["none", "no hostPath", "beside it"],
)
def test_a_directory_of_no_host_path_is_wrong_use(
    tmp_path: Path, mounts: list[dict[str, Any]]
) -> None:
    with pytest.raises(UsageError, match="lies in no hostPath volume of pod loaders/loader-abc"):
        asked(tmp_path, pod(mounts))


def test_a_pod_that_may_not_be_read_is_wrong_use_and_an_apiserver_that_is_away_is_not(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="right to get pods"):
        asked(tmp_path, {}, status=403)
    for status in (0, 500, 503):
        with pytest.raises(UnreachableError):
            asked(tmp_path, {}, status=status)
