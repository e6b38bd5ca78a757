"""Which models the pods of a node read, and what is remembered of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from extender.kube.objects import Pod
from extender.loader.disk import Disk
from extender.loader.layout import CacheDirectory
from extender.loader.usage import Record, load_record, models_in_use, save_record
from extender.report import REPORT_ANNOTATION
from tests.builders import READY, loader_pod, pod, tmpfs, vllm

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
CACHE = "/var/lib/models"
LLAMA, OTHER = "llama-3.1-8b-instruct", "org/other"
PATHS = (LLAMA, OTHER, "models--org--small")


def mounting(path: str, *, args: list[str] | None = None, **metadata: Any) -> Pod:
    return pod(
        metadata=metadata,
        spec={
            "containers": [
                {
                    "name": "main",
                    "image": "vllm/vllm-openai:v0.11.0" if args else "busybox:1.37",
                    "args": args or [],
                    "volumeMounts": [{"name": "host", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "host", "hostPath": {"path": path}}],
        },
    )


def in_use(*pods: Pod) -> set[str]:
    return models_in_use(pods, CACHE, PATHS)


def test_a_serving_pod_uses_its_model_and_no_other() -> None:
    assert in_use(vllm(on="n1")) == {LLAMA}


def test_pods_without_the_cache_use_nothing() -> None:
    assert in_use(pod(), tmpfs(), mounting("/var/log")) == set()


def test_a_pod_whose_model_cannot_be_told_may_read_all_that_it_mounts() -> None:
    assert in_use(mounting(CACHE)) == set(PATHS)
    assert in_use(mounting(f"{CACHE}/{LLAMA}")) == {LLAMA}
    assert in_use(mounting(f"{CACHE}/org")) == {OTHER}


def test_an_agent_that_mounts_the_whole_node_uses_nothing_and_a_server_that_does_may() -> None:
    assert in_use(mounting("/")) == set()
    assert in_use(mounting("/var/lib", args=["--model", "$(UNKNOWN)"])) == set(PATHS)


def with_helper(helper: dict[str, Any], **metadata: Any) -> Pod:
    """A server of one model of the cache, and another container beside it."""
    server = mounting(CACHE, args=["--model", f"/models/{LLAMA}"])
    spec = msgspec.to_builtins(server.spec)
    beside = {"name": "helper", "image": "busybox:1.37", **helper}
    spec["containers"] = [beside, *spec["containers"]]
    return pod(spec=spec, metadata=metadata)


def test_a_container_beside_a_server_that_asks_for_no_known_model_may_read_all_that_it_mounts() -> (
    None
):
    mount = {"name": "host", "mountPath": "/cache"}
    custom = {"command": ["python", "rerank.py"], "volumeMounts": [mount]}
    assert in_use(with_helper(custom)) == set(PATHS)
    assert in_use(with_helper({"command": ["python", "rerank.py"]})) == {LLAMA}
    annotated = {"modelcache.dev/model": f"/models/{LLAMA}"}
    assert in_use(with_helper(custom, annotations=annotated)) == {LLAMA}


def test_a_pod_whose_spec_is_not_read_to_its_end_may_read_all_that_it_mounts() -> None:
    script = f"vllm serve /models/{LLAMA} " + "; ".join(f"echo {at}" for at in range(200_000))
    server = with_helper({"command": ["sh", "-c", script]})
    assert in_use(server) == set(PATHS)


def test_a_server_below_a_mount_of_the_parent_uses_its_model() -> None:
    assert in_use(mounting("/var/lib", args=["--model", "/models/models/org/other"])) == {OTHER}


def copied_into_memory(initialized: str, *, sidecar: bool = False) -> Pod:
    """The pod of deploy/examples/loader-memory.yaml, and how far it is."""
    documents = yaml.safe_load_all((EXAMPLES / "loader-memory.yaml").read_text())
    spec = next(iter(documents))["spec"]["template"]["spec"]
    if sidecar:
        spec["initContainers"][0]["restartPolicy"] = "Always"
    conditions = [{"type": "Initialized", "status": initialized}]
    return pod(spec=spec, status={"phase": "Pending", "conditions": conditions})


def test_a_pod_that_copies_its_model_into_memory_uses_the_cache_until_that_is_done() -> None:
    assert in_use(copied_into_memory("False")) == {LLAMA}
    assert in_use(copied_into_memory("True")) == set()
    assert in_use(copied_into_memory("True", sidecar=True)) == {LLAMA}


def test_what_a_server_reads_itself_it_uses_though_an_init_container_read_it_before() -> None:
    mount = {"name": "host", "mountPath": "/models"}
    spec = msgspec.to_builtins(mounting(CACHE).spec)
    spec["initContainers"] = [{"name": "look", "image": "busybox:1.37", "volumeMounts": [mount]}]
    conditions = [{"type": "Initialized", "status": "True"}]
    assert in_use(pod(spec=spec, status={"conditions": conditions})) == set(PATHS)


def test_loaders_do_not_use_what_they_fill() -> None:
    assert in_use(loader_pod("n1", READY)) == set()
    assert in_use(mounting(CACHE, annotations={REPORT_ANNOTATION: "{}"})) == set()


def test_the_record_remembers_last_use_and_departure_and_forgets_what_is_gone(
    tmp_path: Path,
) -> None:
    directory, record = CacheDirectory(tmp_path), Record()
    record.observe(there={"a", "b"}, in_use={"a", "x"}, wanted={"a"}, now=10.0)
    assert (record.last_used, record.left_at) == ({"a": 10.0}, {"b": 10.0})
    record.observe(there={"a", "b"}, in_use=set(), wanted=set(), now=20.0)
    assert (record.last_used, record.left_at) == ({"a": 10.0}, {"a": 20.0, "b": 10.0})
    save_record(directory, record, Disk())
    assert msgspec.structs.asdict(load_record(directory)) == msgspec.structs.asdict(record)
    record.observe(there={"b"}, in_use=set(), wanted={"b"}, now=5.0)
    assert (record.last_used, record.left_at) == ({}, {})


def test_a_clock_that_was_set_back_makes_nothing_younger_than_now() -> None:
    record = Record(last_used={"a": 100.0}, left_at={"a": 100.0})
    record.observe(there={"a"}, in_use=set(), wanted=set(), now=50.0)
    assert (record.last_used, record.left_at) == ({"a": 50.0}, {"a": 50.0})


@pytest.mark.parametrize("text", [b"", b"[]", b'{"lastUsed": {"a": "x"}}', b"\xff"])
def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: bytes) -> None:
    directory = CacheDirectory(tmp_path)
    directory.work_area.mkdir()
    (directory.work_area / "usage.json").write_bytes(text)
    assert load_record(directory).last_used == {}


def test_two_loaders_of_one_directory_may_note_it_at_once(fast: Path) -> None:
    """As in a rolling update: neither fails, and what is kept is one's or the other's, whole."""
    directory = CacheDirectory(fast)
    records = [Record(last_used={name * 1000: 1.0}) for name in "abcd"]

    def note(record: Record) -> None:
        for _ in range(50):
            save_record(directory, record, Disk())
            assert load_record(directory) in records

    with ThreadPoolExecutor(len(records)) as loaders:
        list(loaders.map(note, records))
