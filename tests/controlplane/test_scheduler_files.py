"""The real kube-scheduler takes and refuses the files that ``doctor`` says it takes and refuses.

``--write-config-to`` has it read, check and build everything, and end before it asks an apiserver
(cmd/kube-scheduler/app/options/configfile.go, ``LogOrWriteConfig``).
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from extender.doctor.scheduler_plugins import IN_TREE
from extender.doctor.scheduler_types import Plugins
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import MINOR
from tests.doctor.scheduler_files import ACCEPTED, FULL, REFUSED, changed, enabled, plugins
from tests.doctor.test_scheduler_files import findings, refusals

SEED = int(os.environ.get("SCHEDULER_FILES_SEED") or 6)
FILES = int(os.environ.get("SCHEDULER_FILES") or 30)
VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 1.5, 2.0, 101, 2**31, 2**63, "", "x", "a b", "5", "5s", "-1s", "QQ==",
    "leases", "nvidia.com/gpu", [], {}, [None], [{}], ["x"], {"bogus": 1},
)  # fmt: skip
PLUGIN_POINTS = [
    field.encode_name
    for field in msgspec.structs.fields(Plugins)
    if field.encode_name != "multiPoint"
]


def takes(binaries: Path, tmp_path: Path, text: str) -> str:
    """Return why kube-scheduler refuses a file; empty where it takes it."""
    file = tmp_path / "scheduler.yaml"
    file.write_text(text)
    done = subprocess.run(
        [
            binaries / "kube-scheduler", "--config", file, "--master", "http://127.0.0.1:1",
            "--secure-port", "0", "--write-config-to", tmp_path / "written.yaml",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr[-2000:] or "killed"


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_kube_scheduler_takes(kubernetes_binaries: Path, tmp_path: Path, text: str) -> None:
    assert takes(kubernetes_binaries, tmp_path, text) == ""


@pytest.mark.parametrize("text", [text for text, _ in REFUSED.values()], ids=REFUSED)
def test_kube_scheduler_refuses(kubernetes_binaries: Path, tmp_path: Path, text: str) -> None:
    assert takes(kubernetes_binaries, tmp_path, text) != ""


@pytest.mark.skipif(MINOR < 37, reason="the values of its plugins are those of 1.37")
def test_doctor_and_kube_scheduler_agree_on_a_file_with_anything_changed(
    kubernetes_binaries: Path, tmp_path: Path
) -> None:
    """One field of a file that has every field is given another value, or another name."""
    chance = random.Random(SEED)
    for number in range(FILES):
        text, told = changed_somewhere(chance)
        reason = takes(kubernetes_binaries, tmp_path, text)
        said = refusals(text).keys() | {
            found.object for found in findings(text) if found.check == "PluginNotBuiltIn"
        }
        assert bool(said) == bool(reason), f"file {number}: {told}: {said or reason}"


@pytest.mark.skipif(MINOR < 37, reason="the table of its plugins is that of 1.37")
def test_every_plugin_has_a_part_in_its_points_and_in_no_other(
    kubernetes_binaries: Path, tmp_path: Path
) -> None:
    every = [(name, point) for name in IN_TREE for point in PLUGIN_POINTS]
    for name, point in random.Random(SEED).sample(every, min(FILES, len(every))):
        text = plugins(**{point: {"disabled": [{"name": "*"}], **enabled(name)}})
        reason = takes(kubernetes_binaries, tmp_path, text)
        assert ("does not extend" in reason) is (point not in IN_TREE[name]), (name, point, reason)


def changed_somewhere(chance: random.Random) -> tuple[str, str]:
    """Change one field; return the file and what was done."""
    document = yaml.safe_load(FULL)
    inner, path = document, []
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = chance.choice(keys)
        path.append(key)
        below = inner[key]
        if not isinstance(below, (dict, list)) or not below or chance.random() < 0.2:
            break
        inner = below
    if isinstance(inner, dict) and chance.random() < 0.2:
        inner[f"{key}s"] = inner.pop(key)
        return yaml.safe_dump(document), f"{path} renamed"
    inner[key] = chance.choice(VALUES)
    return yaml.safe_dump(document), f"{path} = {inner[key]!r}"


def test_a_leader_that_cannot_renew_in_time_does_not_start(
    control_plane: ControlPlane, kubernetes_binaries: Path, tmp_path: Path
) -> None:
    """What ``--write-config-to`` does not come to: it is refused once an apiserver was asked."""
    text = changed(("leaderElection", "renewDeadline"), "2s")
    assert takes(kubernetes_binaries, tmp_path, text) == ""
    assert refusals(text)
    document = yaml.safe_load(text)
    document["clientConnection"] = {"kubeconfig": str(control_plane.kubeconfig())}
    file = tmp_path / "leads.yaml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [kubernetes_binaries / "kube-scheduler", "--config", file, "--secure-port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "renewDeadline must be greater than retryPeriod" in done.stderr
    assert done.returncode == 1
