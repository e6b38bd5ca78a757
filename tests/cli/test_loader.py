"""``loader verify`` and ``loader gc`` as a person or a script runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from extender.loader.layout import CacheDirectory, writing
from extender.loader.publish import Publisher
from tests.cli.program import run
from tests.clock import Clock
from tests.loader.models import contents, hub_cache, listing, put, safetensors, small_model

SHARD = "model-00001-of-00002.safetensors"
FILES = small_model()

CATALOG = """
apiVersion: modelcache.dev/v1alpha1
kind: ModelCatalog
graceSeconds: 3600
watermarks: {highPercent: %s, lowPercent: 0.00001}
models: [%s]
"""


def catalog(at: Path, *models: str, high: float = 100) -> Path:
    at.write_text(CATALOG % (high, ", ".join(models)))
    return at


def entry(path: str, more: str = "") -> str:
    return f"{{name: {path}, source: 'hf://org/{path}'{more}}}"


def publish(root: Path, path: str, proven_at: float = 0.0) -> None:
    publisher = Publisher(clock=Clock(proven_at))
    with writing(CacheDirectory(root), path) as held:
        put(publisher.begin(held, listing(FILES)), FILES)
        publisher.publish(held, listing(FILES))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    publish(root, "a", proven_at=1_000.0)
    publish(root, "b", proven_at=2_000.0)
    return root


@pytest.mark.parametrize(
    "kind", ["plain", "directories", "a loader's", "a new file system", "the hub's"]
)
def test_where_nothing_is_there_is_nothing_to_verify(tmp_path: Path, kind: str) -> None:
    """That is not damaged, and not whole: a pod may have come before its model."""
    place = tmp_path / "models--org--small"
    place.mkdir()
    if kind == "directories":
        (place / "a" / "b").mkdir(parents=True)
    if kind == "a loader's":
        publish(place, "a")
        with writing(CacheDirectory(place), "a") as held:
            Publisher().remove(held)
    if kind == "a new file system":
        (place / "lost+found").mkdir()
    if kind == "the hub's":
        (place / "snapshots").mkdir()
    done = run("loader", "verify", place)
    assert done.code == 1
    assert "\n  empty: nothing to verify\n" in done.stdout
    assert "damaged" not in done.stdout
    done = run("loader", "verify", place, "-o", "json")
    assert done.code == 1
    (model,) = done.json()["models"]
    (problem,) = model["problems"]
    assert (done.json()["ok"], model["path"], problem["kind"]) == (False, str(place), "empty")


def test_a_directory_with_anything_in_it_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert run("loader", "verify", tmp_path).code == 1
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert run("loader", "verify", tmp_path).code == 1


def told(done: Any) -> dict[str, bool]:
    return {Path(model["path"]).name: model["ok"] for model in done.json()["models"]}


@pytest.mark.parametrize(
    ("empty", "arguments"),
    [
        ("DEST", "fill hf://org/name EMPTY"),
        ("--from", "fill hf://org/name models/name --from EMPTY"),
        ("DIRECTORY", "verify EMPTY"),
        ("--directory", "gc --catalog c.yaml --assume-unused --directory EMPTY"),
        ("--catalog", "gc --catalog EMPTY --assume-unused --directory ."),
        ("--directory", "run --catalog c.yaml --standalone --directory EMPTY"),
        ("--catalog", "run --catalog EMPTY --standalone --directory ."),
    ],
)
def test_an_empty_word_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str, arguments: str
) -> None:
    """It would be the current directory: what a variable gives that is not set."""
    monkeypatch.chdir(tmp_path)
    done = run("loader", *("" if word == "EMPTY" else word for word in arguments.split()))
    assert done.code == 2
    assert f"{empty}': is empty; name the" in done.stderr
    assert not list(tmp_path.iterdir())


def test_verify_says_yes_for_a_whole_model(cache: Path) -> None:
    done = run("loader", "verify", cache / "a", "--level", "content", "-o", "json")
    assert done.code == 0
    (model,) = done.json()["models"]
    assert (model["ok"], model["level"], model["kind"], model["files"]) == (
        True,
        "content",
        "safetensors",
        len(FILES),
    )
    assert (model["problems"], model["unchecked"]) == ([], [])


def test_verify_says_no_with_every_problem_for_a_damaged_one(cache: Path) -> None:
    (cache / "a" / SHARD).unlink()
    done = run("loader", "verify", cache / "a", "-o", "json")
    assert done.code == 1
    assert done.json()["models"][0]["problems"] == [
        {"file": SHARD, "kind": "missing", "message": "is not there"}
    ]
    done = run("loader", "verify", cache / "a")
    assert done.code == 1
    assert f"damaged: {SHARD}: is not there" in done.stdout


def test_verify_looks_at_every_model_of_a_cache_whoever_filled_it(cache: Path) -> None:
    put(cache / "org/foreign", small_model(3))
    os.truncate(cache / "org/foreign" / SHARD, 10)
    hub_cache(cache, small_model(4))
    done = run("loader", "verify", cache, "-o", "json")
    assert done.code == 1
    assert told(done) == {"a": True, "b": True, "foreign": False, "c" * 40: True}
    assert run("loader", "verify", cache / "models--org--small").code == 0


def test_verify_takes_a_model_with_parts_for_one(tmp_path: Path) -> None:
    put(tmp_path, {**small_model(), "1_Pooling/config.json": b"{}", "onnx/model.onnx": b"x"})
    done = run("loader", "verify", tmp_path, "-o", "json")
    assert told(done) == {tmp_path.name: True}


@pytest.mark.parametrize("flag", ["README.md", ".ready"])
@pytest.mark.parametrize("below", ["", "org"])
def test_verify_takes_a_cache_with_a_note_in_it_for_what_it_is(
    tmp_path: Path, flag: str, below: str
) -> None:
    """Loaders that are shell lines leave flags beside models."""
    there = tmp_path / below
    put(there, {flag: b"hi"})
    put(there / "whole", small_model())
    put(there / "half", {p: d for p, d in small_model().items() if p != "tokenizer.json"})
    done = run("loader", "verify", tmp_path, "-o", "json")
    assert told(done) == {"whole": True, "half": False}
    assert done.code == 1


PARTS = {
    "split": {
        "split_files/vae/vae.safetensors": safetensors({"a": b"1"}),
        "split_files/text_encoders/clip.safetensors": safetensors({"b": b"1"}),
    },
    "annotators": {"models/control.pth": b"\x80\x02", "annotator/ckpts/body.pth": b"\x80\x02"},
    "one with a config": {
        "converter/config.json": b"{}",
        "converter/checkpoint.pth": b"\x80\x02",
        "base_speakers/ses/en.pth": b"\x80\x02",
    },
    "a tokenizer of its own": {
        "text_encoder/config.json": b'{"vocab_size": 9}',
        "text_encoder/model.safetensors": safetensors({"a": b"1"}),
        "tokenizer/vocab.txt": b"a",
    },
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("flag", [{}, {"README.md": b"a cache"}])
def test_verify_takes_parts_beside_a_note_for_one_model(
    tmp_path: Path, parts: str, flag: dict[str, bytes]
) -> None:
    """Whole repositories are laid out so, with nothing but a README above their parts."""
    put(tmp_path / "cache/repackaged", {"README.md": b"hi", **PARTS[parts]})
    put(tmp_path / "cache/other", small_model())
    put(tmp_path / "cache", flag)
    done = run("loader", "verify", tmp_path / "cache/repackaged", "-o", "json")
    assert told(done) == {"repackaged": True}
    done = run("loader", "verify", tmp_path / "cache", "-o", "json")
    assert told(done) == {"other": True, "repackaged": True}
    assert done.code == 0


def test_verify_leaves_out_what_the_hubs_tools_keep_beside_models(tmp_path: Path) -> None:
    home = tmp_path / "home"
    hub_cache(home / "hub", small_model())
    data = put(
        home, {"hub/datasets--org--d/refs/main": b"c", "token": b"t", "xet/logs/a.log": b"x"}
    )
    put(
        data,
        {"modules/a/b.py": b"", "datasets/d/data.arrow": b"x", "hub/spaces--o--s/blobs/b": b""},
    )
    for directory in (home, home / "hub"):
        done = run("loader", "verify", directory, "-o", "json")
        assert told(done) == {"c" * 40: True}
        assert done.code == 0


def test_verify_tells_of_names_that_are_no_text(tmp_path: Path) -> None:
    model = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe"))
    put(model, {**small_model(), os.fsdecode(b"\xff.part"): b""})
    done = run("loader", "verify", tmp_path, "-o", "json")
    assert json.loads(done.stdout)["ok"] is False
    assert "no model can have this path" in done.stderr
    for output in ("table", "json"):
        done = run("loader", "verify", model, "-o", output)
        assert done.code == 1
        assert ("\\xfe" if output == "table" else "\\\\xfe") in done.stdout
        assert "a download that has not ended" in done.stdout


def test_verify_of_what_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    assert "No such file" in run("loader", "verify", tmp_path / "nowhere").refusal()


def gc(cache: Path, catalog: Path, *arguments: str | Path) -> Any:
    return run("loader", "gc", "--directory", cache, "--catalog", catalog, *arguments)


def test_gc_refuses_where_it_cannot_know_what_is_in_use(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    file = catalog(tmp_path / "catalog.yaml")
    assert "--assume-unused" in gc(cache, file).refusal()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: "
        "{server: 'http://127.0.0.1:1'}}], contexts: [{name: c, context: {cluster: c, user: u}}], "
        "users: [{name: u, user: {}}]}"
    )
    refusal = gc(cache, file, "--node", "n1", "--kubeconfig", kubeconfig).refusal()
    assert "which models are in use cannot be known" in refusal
    assert (cache / "a").is_dir()


def test_gc_says_what_would_go_and_then_lets_it_go(cache: Path, tmp_path: Path) -> None:
    file = catalog(tmp_path / "catalog.yaml", entry("a", ", pin: true"), entry("b"), high=0.001)
    dry = gc(cache, file, "--assume-unused", "--dry-run", "-o", "json")
    assert dry.code == 1  # a disk of a machine cannot be emptied to a fraction of a percent
    document = dry.json()
    assert document["dryRun"] is True
    assert [(e["path"], e["reason"]) for e in document["evictions"]] == [("b", "room")]
    assert [(s["path"], s["reason"]) for s in document["stays"]] == [("a", "pinned")]
    assert document["missingBytes"] > 0
    assert contents(cache / "b") == FILES

    done = gc(cache, file, "--assume-unused")
    assert "gone" in done.stdout
    assert "pinned in the catalog" in done.stdout
    assert not (cache / "b").exists()
    assert contents(cache / "a") == FILES


def test_gc_gives_what_left_the_catalog_its_grace(cache: Path, tmp_path: Path) -> None:
    file = catalog(tmp_path / "catalog.yaml", entry("a"))
    done = gc(cache, file, "--assume-unused", "-o", "json")
    assert (done.code, done.json()["evictions"]) == (0, [])
    usage = cache / ".modelcache/usage.json"
    usage.write_text('{"leftAt": {"b": 1000.0}}')
    done = gc(cache, file, "--assume-unused", "-o", "json")
    assert [(e["path"], e["reason"]) for e in done.json()["evictions"]] == [("b", "left-catalog")]
    assert not (cache / "b").exists()


def test_gc_keeps_what_a_pod_of_the_node_reads_and_what_others_put_there(
    cache: Path, tmp_path: Path
) -> None:
    put(cache / "foreign", small_model(3))
    snapshot = tmp_path / "pods.yaml"
    snapshot.write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d}, spec: {nodeName: n1, "
        "containers: [{name: c, image: 'vllm/vllm-openai:v1', args: [--model, /m/b], volumeMounts: "
        "[{name: v, mountPath: /m}]}], volumes: [{name: v, hostPath: {path: /var/lib/models}}]}, "
        "status: {phase: Running}}"
    )
    file = catalog(tmp_path / "catalog.yaml", high=0.001)
    known = ("--snapshot", snapshot, "--host-directory", "/var/lib/models", "-o", "json")
    document = gc(cache, file, "--node", "n1", "--dry-run", *known).json()
    assert [e["path"] for e in document["evictions"]] == ["a"]
    assert {s["path"]: s["reason"] for s in document["stays"]} == {
        "b": "in-use",
        "foreign": "foreign",
    }
    refusal = gc(cache, file, "--node", "n2", "--foreign", *known).refusal()
    assert "has no node n2 and no pod on it" in refusal  # and not that nobody reads anything
    with snapshot.open("a") as dump:
        dump.write("\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}}")
    document = gc(cache, file, "--node", "n2", "--foreign", "--dry-run", *known).json()
    assert {e["path"] for e in document["evictions"]} == {"a", "b", "foreign"}


POD_WITH_CLAIM = """
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  nodeName: n1
  containers:
    - name: c
      image: vllm/vllm-openai:v1
      args: [--model, /m/b]
      volumeMounts: [{name: v, mountPath: /m}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: local}}]
status: {phase: Running}
"""
CLAIM = """
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: local, namespace: d}
spec: {volumeName: disk}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {local: {path: /var/lib/models}}
"""


def test_gc_keeps_what_a_pod_reads_through_a_claim_on_the_nodes_own_disk(
    cache: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "dump.yaml"
    file = catalog(tmp_path / "catalog.yaml", high=0.001)
    known = ("--node", "n1", "--snapshot", snapshot, "--host-directory", "/var/lib/models")
    snapshot.write_text(POD_WITH_CLAIM + CLAIM)
    document = gc(cache, file, *known, "--dry-run", "-o", "json").json()
    assert [e["path"] for e in document["evictions"]] == ["a"]
    assert {s["path"]: s["reason"] for s in document["stays"]} == {"b": "in-use"}
    snapshot.write_text(POD_WITH_CLAIM)
    refusal = gc(cache, file, *known).refusal()
    assert "claim local of pod d/p is not there or not bound" in refusal
    assert (cache / "a").is_dir()


def test_gc_leaves_a_model_that_is_being_written_and_says_so(cache: Path, tmp_path: Path) -> None:
    file = catalog(tmp_path / "catalog.yaml", entry("a"))
    (cache / ".modelcache/usage.json").write_text('{"leftAt": {"b": 1000.0}}')
    with writing(CacheDirectory(cache), "b"):
        done = gc(cache, file, "--assume-unused")
    assert done.code == 1
    assert "is being written" in done.stdout
    assert (cache / "b").is_dir()


def test_gc_goes_on_with_the_others_where_one_is_refused_and_says_so(
    cache: Path, tmp_path: Path
) -> None:
    file = catalog(tmp_path / "catalog.yaml", high=0.001)
    lock = CacheDirectory(cache).lock("a")
    lock.unlink()
    lock.mkdir()
    document = gc(cache, file, "--assume-unused", "-o", "json")
    assert document.code == 1
    assert list(document.json()["refused"]) == ["a"]
    assert [path.name for path in sorted(cache.iterdir()) if path.name in "ab"] == ["a"]
    done = gc(cache, file, "--assume-unused")
    assert done.code == 1
    assert "refused" in done.stdout
    assert str(lock) in done.stdout
