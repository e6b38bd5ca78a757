"""Scripts with more than one way to serve, and hooks that run beside a server.

A local path is ``required`` only where every way through the script that serves opens it: which
way is taken (a test of a file, a variable, a server that fails) cannot be told from the spec.
"""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Pod
from extender.workload.model import ModelReference, Need, Source
from extender.workload.references import read_workload

LOCAL = "vllm serve /models/x"
HUB = "vllm serve org/x"
DIRECTORY = {"path": "/data", "type": "Directory"}
MOUNT = {"name": "m", "mountPath": "/models"}


def references(
    script: str = "",
    *,
    read_only: bool = True,
    init: str = "",
    medium: str | None = None,
    **container: Any,
) -> tuple[ModelReference, ...]:
    """Read a pod that serves from /models: a host directory, or scratch space filled from one."""
    held = {"hostPath": DIRECTORY} if medium is None else {"emptyDir": {"medium": medium}}
    serving = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "volumeMounts": [{**MOUNT, "readOnly": read_only}],
        **({"command": ["bash", "-c", script]} if script else {"args": ["--model", "/models/x"]}),
        **container,
    }
    fetching = {
        "name": "fetch",
        "image": "python:3.12",
        "command": ["sh", "-c", init],
        "volumeMounts": [MOUNT, {"name": "node", "mountPath": "/node", "readOnly": True}],
    }
    spec = {
        "containers": [serving],
        "initContainers": [fetching] if init else [],
        "volumes": [{"name": "m", **held}, {"name": "node", "hostPath": DIRECTORY}],
    }
    made = convert({"spec": spec}, Pod)
    return read_workload(made.metadata, made.spec).references


def local(*args: Any, **kwargs: Any) -> ModelReference:
    return next(r for r in references(*args, **kwargs) if r.model == "/models/x")


OTHER_WAYS = [
    f"if [ -d /models/x ]; then {LOCAL}; else {HUB}; fi",
    f"if [ ! -d /models/x ]; then {HUB}; else {LOCAL}; fi",
    f'if [ "$LOCAL" = 1 ]; then exec {LOCAL}; elif [ -n "$X" ]; then {HUB}; else exit 1; fi',
    f"{LOCAL} || {HUB}",
    f"{LOCAL} || ./fallback.sh",
    f"{LOCAL} || python3 /app/serve.py",
    f"{LOCAL} || {{ echo retrying; {HUB}; }}",
    f"[ -d /models/x ] && {LOCAL} || {HUB}",
    f"[ -d /models/x ] && exec {LOCAL}; exec {HUB}",
    f"[ -d /models/x ] && exec {LOCAL}; exec ./fallback.sh",
    f"[ -d /models/x ] || exec {HUB}; exec {LOCAL}",
    f"if [ ! -d /models/x ]; then exec {HUB}; fi; exec {LOCAL}",
    f"if [ ! -d /models/x ]; then ./fallback.sh; exit; fi; {LOCAL}",
    f"if [ ! -d /models/x ]; then ./fallback.sh; exit $?; fi; {LOCAL}",
    f"if [ -d /models/x ]; then {LOCAL}; fi; ./fallback.sh",
    f"grep -q hub /cfg/mode && {{ ./fallback.sh; exit 0; }}; {LOCAL}",
    f"grep -q hub /cfg/mode && exec ./fallback.sh; {LOCAL}",
    f"if {LOCAL}; then :; else {HUB}; fi",
    f"if ! {LOCAL}; then {HUB}; fi",
    f"{LOCAL}; {HUB}",
    f'case "$MODE" in local) {LOCAL};; *) {HUB};; esac',
    f'case "$MODE" in hub) exec {HUB};; esac; exec {LOCAL}',
    f"serve() {{ {LOCAL} || {HUB}; }}; serve",
    f"if [ -d /models/x ]; then bash -c '{LOCAL}'; else bash -c '{HUB}'; fi",
    f"while true; do {LOCAL} || {HUB}; sleep 5; done",
]


@pytest.mark.parametrize("script", OTHER_WAYS)
def test_a_model_that_another_way_does_without_is_not_required(script: str) -> None:
    reference = local(script)
    assert reference.need is Need.UNKNOWN
    assert "instead" in (reference.unknown or "")
    assert reference.host_path == "/data/x"
    assert not reference.can_fetch


ONE_WAY = [
    f"exec {LOCAL}",
    f"{LOCAL} || exit 1",
    f"{LOCAL} || {{ echo it failed; sleep 60; }}",
    f"{LOCAL} || true",
    f"[ -d /models/x ] || exit 1; {LOCAL}",
    f"if [ ! -d /models/x ]; then echo missing; exit 1; fi; {LOCAL}",
    f"if [ ! -d /models/x ]; then ./tell.sh; exit 1; fi; {LOCAL}",
    f'if [ "$TP" = 1 ]; then {LOCAL}; else {LOCAL} --tensor-parallel-size 8; fi',
    f"if [ -f /hooks/before.sh ]; then /hooks/before.sh; fi; {LOCAL}",
    f"[ -f /hooks/before.sh ] && /hooks/before.sh; {LOCAL}",
    f"./wait.sh && {LOCAL}",
    f"cd /app && {LOCAL} & vllm serve org/embedder; wait",
    f"./wait.sh || exit 1; {LOCAL}",
    f"until [ -f /models/x/config.json ]; do sleep 5; done; exec {LOCAL}",
    f"until {LOCAL}; do sleep 5; done",
    f'if [ "$RANK" = 0 ]; then ray start --head; else ray start --address=$L; fi; {LOCAL}',
    f"{LOCAL} & vllm serve org/embedder --port 8001; wait",
    f"exec > /proc/1/fd/1 2>&1; {LOCAL}",
    f"case local in local) {LOCAL};; *) {HUB};; esac",
]


@pytest.mark.parametrize("script", ONE_WAY)
def test_a_model_that_every_way_opens_is_required(script: str) -> None:
    assert local(script).need is Need.REQUIRED


def test_an_adapter_that_one_way_does_without_leaves_the_model_required() -> None:
    script = f"{LOCAL} --enable-lora --lora-modules a=/models/l || {LOCAL}"
    needs = {reference.model: reference.need for reference in references(script)}
    assert needs == {"/models/x": Need.REQUIRED, "/models/l": Need.UNKNOWN}


@pytest.mark.parametrize(
    "fetch",
    ["hf download org/x --local-dir /models/x", "cp -r /node/x /models/"],
)
def test_a_way_that_fetches_the_model_makes_it_preferred(fetch: str) -> None:
    script = f"{LOCAL} || {{ {fetch}; {LOCAL}; }}"
    assert local(script, read_only=False).need is Need.PREFERRED


def test_a_script_with_too_many_ways_requires_nothing() -> None:
    ways = " ".join(f"{n}) ./serve-{n}.sh;;" for n in range(60))
    assert local(f'case "$MODE" in {ways} *) {LOCAL};; esac').need is Need.UNKNOWN


class TestWhatFillsMemory:
    """A memory volume needs what it is filled from, unless something else may fill it."""

    @pytest.mark.parametrize(
        "script",
        [
            "cp -r /node/x /models/ || hf download org/x --local-dir /models/x",
            "cp -r /node/x /models/x || aws s3 sync s3://b/x /models/x",
            "if [ -d /node/x ]; then cp -r /node/x /models/; else hf download a/b --local-dir "
            "/models/x; fi",
            "cp -r /node/x /models/; [ -f /models/x/config.json ] || hf download a/b --local-dir "
            "/models/x",
            "cp -r /node/x /models/ || ./fetch.sh",
        ],
    )
    def test_a_source_that_another_may_stand_in_for_is_not_required(self, script: str) -> None:
        reference = local(init=script, medium="Memory")
        assert reference.need is Need.UNKNOWN
        assert reference.unknown
        assert reference.origin is not None
        assert (reference.origin.source, reference.origin.need) == (Source.HOST_PATH, Need.UNKNOWN)

    @pytest.mark.parametrize(
        "script",
        [
            "cp -r /node/x /models/",
            "cp -r /node/x /models/ || exit 1",
            "set -e; cp -r /node/x /models/; echo done",
            "[ -d /models/x ] || cp -r /node/x /models/",
            "cp -r /node/x /models/; hf download org/tokenizer --local-dir /models/x/tokenizer",
        ],
    )
    def test_the_only_source_is_required(self, script: str) -> None:
        assert local(init=script, medium="Memory").need is Need.REQUIRED

    def test_a_server_that_does_without_the_copy_does_without_its_source(self) -> None:
        script = f"if [ -d /models/x ]; then {LOCAL}; else {HUB}; fi"
        reference = local(script, init="cp -r /node/x /models/", medium="Memory")
        assert reference.need is Need.UNKNOWN


def hook(*command: str) -> dict[str, Any]:
    return {"lifecycle": {"postStart": {"exec": {"command": list(command)}}}}


class TestHooks:
    """``postStart`` runs beside the server's start, with the container's own mounts."""

    def test_a_hook_that_fetches_makes_the_model_preferred(self) -> None:
        download = hook("sh", "-c", "hf download org/x --local-dir /models/x")
        assert local(read_only=False, **download).need is Need.PREFERRED

    @pytest.mark.parametrize("command", [["/fetch.sh"], ["sh", "-c", "/fetch.sh || true"]])
    def test_a_hook_that_cannot_be_read_leaves_the_need_unknown(self, command: list[str]) -> None:
        assert local(read_only=False, **hook(*command)).need is Need.UNKNOWN

    @pytest.mark.parametrize("command", [["sleep", "5"], ["sh", "-c", "echo up > /tmp/log"], []])
    def test_a_hook_that_writes_no_model_changes_nothing(self, command: list[str]) -> None:
        assert local(read_only=False, **hook(*command)).need is Need.REQUIRED

    def test_a_hook_cannot_write_to_a_read_only_mount(self) -> None:
        assert local(**hook("/fetch.sh")).need is Need.REQUIRED

    def test_a_hook_of_another_kind_changes_nothing(self) -> None:
        probe = {"lifecycle": {"postStart": {"httpGet": {"port": 80}}, "preStop": {}}}
        assert local(read_only=False, **probe).need is Need.REQUIRED

    def test_the_hook_is_named_as_what_fills_scratch_space(self) -> None:
        download = hook("sh", "-c", "hf download org/x --local-dir /models/x")
        reference = local(read_only=False, medium="", **download)
        place = "containers[0].lifecycle.postStart.exec.command[2]"
        assert (reference.source, reference.need) == (Source.HUB, Need.PREFERRED)
        assert place in reference.read_from
