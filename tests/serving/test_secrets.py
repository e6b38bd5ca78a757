"""What is secret shows nowhere: not in the log, not in an answer, not in a metric."""

from __future__ import annotations

import base64
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.serving.openapi import OPERATIONS
from tests.serving.running import DEMO_CLUSTER, JSON, dead_kubeconfig, running
from tests.serving.site import Site
from tests.serving.test_tls import serving

GETS = sorted(path for path, method in OPERATIONS if method == "GET")
POSTS = sorted(path for path, method in OPERATIONS if method == "POST")


def secret() -> str:
    return f"s3cr3t{secrets.token_hex(12)}"


def shown(hidden: list[str], texts: list[str]) -> list[str]:
    """Return those secrets that a text has, as they are or in base64."""
    forms = {s: (s, base64.b64encode(s.encode()).decode().rstrip("=")) for s in hidden}
    return [s for s, both in forms.items() if any(form in text for form in both for text in texts)]


@pytest.mark.parametrize("how", ["token", "tokenFile"])
def test_what_the_apiserver_is_asked_with_shows_nowhere(tmp_path: Path, how: str) -> None:
    """The apiserver cannot be reached, so that every failure is told."""
    hidden = secret()
    path = dead_kubeconfig(tmp_path)
    document: Any = msgspec.yaml.decode(path.read_bytes())
    user = {how: hidden}
    if how == "tokenFile":
        (tmp_path / "token").write_text(hidden)
        user = {how: str(tmp_path / "token")}
    document["users"][0]["user"] = user
    path.write_bytes(msgspec.yaml.encode(document))
    with running(tmp_path, "--kubeconfig", path, "--log-level", "DEBUG") as server:
        deadline = time.monotonic() + 60
        while "watch interrupted" not in server.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        texts = [server.ask("GET", get).body.decode() for get in GETS]
        assert server.terminate() == 0
        assert shown([hidden], [*texts, server.log()]) == []


def test_what_callers_pods_and_the_environment_carry_shows_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers of requests; the environment, the arguments and the annotations of pods; our own."""
    header, variable, argument, url, applied, own = (secret() for _ in range(6))
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, own)
    script = f"hf download org/name --token {argument} && curl https://user:{url}@models.example/w"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "carries",
            "namespace": "inference",
            "uid": "carries",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
        },
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "command": ["sh", "-c", script],
                    "env": [{"name": "HF_TOKEN", "value": variable}],
                }
            ]
        },
    }
    request = {"Pod": pod, "NodeNames": ["gpu-1", "gpu-2", "gpu-5"]}
    bodies = {path: msgspec.json.encode(request) for path in POSTS}
    bodies["/api/v1/explain"] = msgspec.json.encode(pod)
    headers = JSON | {"Authorization": f"Bearer {header}", "Cookie": f"session={header}"}
    with running(tmp_path, "--snapshot", DEMO_CLUSTER, "--log-level", "DEBUG") as server:
        texts = []
        for path in POSTS:
            for body in (bodies[path], bodies[path][:-1], b""):
                texts += [server.ask("POST", path, body, headers).body.decode()]
        texts += [server.ask("GET", path, headers=headers).body.decode() for path in GETS]
        texts += [server.ask("GET", "/nowhere", headers=headers).body.decode()]
        assert server.terminate() == 0
        assert shown([header, variable, argument, url, applied, own], [*texts, server.log()]) == []


def test_private_keys_show_nowhere(tmp_path: Path) -> None:
    site = Site.at(tmp_path)
    key = Path(site.files.key_file).read_text("ascii")
    lines = [line for line in key.splitlines() if "PRIVATE KEY" not in line]
    with serving(tmp_path, site) as server:
        texts = [server.ask("GET", path, at=server.status_address).body.decode() for path in GETS]
        Path(site.files.key_file).write_text(key.replace(lines[0], "x" * len(lines[0])))
        deadline = time.monotonic() + 60
        while site.files.key_file not in server.log():
            assert time.monotonic() < deadline, "it does not say that the key is spoilt"
            with server.connect():
                time.sleep(0.2)
        assert server.terminate() == 0
        texts.append(server.log())
    assert [line for line in lines if any(line in text for text in texts)] == []
