"""What a pod says of itself is anybody's: none of it may command a terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import Done, run

HOSTILE = "/models/\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj\nnode  yes"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def objects() -> list[dict[str, Any]]:
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", HOSTILE],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    volume = {"name": "models", "hostPath": {"path": "/var/lib/models"}}
    loader = {**container, "name": "download", "command": ["hf", "download", "a/b"], "args": []}
    loader["args"] = ["--local-dir", HOSTILE]
    loader["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    spec = {"containers": [container], "volumes": [volume], "schedulerName": "x\x1b[2Jy"}
    template = {"containers": [{"name": "p"}], "initContainers": [loader], "volumes": [volume]}
    names = {"name": "p", "namespace": "inference"}
    status = {"allocatable": {"memory": "64Gi"}}
    return [
        {"kind": "Node", "metadata": {"name": "n\x1b[2J"}, "status": status},
        {"kind": "Pod", "metadata": {**names, "uid": "1"}, "spec": spec},
        {"kind": "Pod", "metadata": {"name": "q\x1b[2J"}, "spec": {"containers": "\x1b[2J"}},
        {
            "kind": "DaemonSet",
            "metadata": {"name": "loader\x1b[2J", "namespace": "inference", "uid": "2"},
            "spec": {"template": {"spec": template}},
        },
    ]


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("command", ["explain", "inventory", "simulate", "doctor"])
def test_no_control_character_reaches_the_terminal(
    command: str, output: str, tmp_path: Path
) -> None:
    dump, manifest = tmp_path / "dump.yaml", tmp_path / "pod.yaml"
    dump.write_text(yaml.safe_dump_all(objects()))
    manifest.write_text(yaml.safe_dump(objects()[1]))
    of: list[str | Path] = ["-f", manifest] if command in {"explain", "simulate"} else []
    done = run(command, *of, "--snapshot", dump, "-o", output)
    assert done.code in {0, 1}, done
    assert not CONTROLS.search(done.stdout + done.stderr), done
    if command in {"explain", "doctor"}:
        assert r"\u001b[2J" in done.stdout


def test_a_message_of_wrong_use_cannot_either(tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump(objects()[2]))
    refused = run("explain", "-f", manifest, "--snapshot", manifest).refusal()
    assert r"q\u001b[2J" in refused
    assert not CONTROLS.search(refused)


def test_a_name_ends_no_line(tmp_path: Path) -> None:
    """Or it could write rows of its own."""
    dump, manifest = tmp_path / "dump.yaml", tmp_path / "pod.yaml"
    dump.write_text(yaml.safe_dump_all(objects()))
    manifest.write_text(yaml.safe_dump(objects()[1]))
    done: Done = run("explain", "-f", manifest, "--snapshot", dump)
    assert not [line for line in done.stdout.splitlines() if line.startswith("node  yes")]
