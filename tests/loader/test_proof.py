"""What is told of a directory: whole, or what is wrong with it, or what could not be looked at."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from extender.loader.disk import Disk
from extender.loader.proof.manifest import Expected
from extender.loader.proof.marker import MarkerError, read_marker
from extender.loader.proof.reading import Reader, ReadingStoppedError
from extender.loader.proof.verdict import Level, ProblemKind, Verdict
from extender.loader.proof.verify import prove_file, verify
from tests.loader.models import git_oid, hub_cache, listing, put, safetensors, small_model

SHARD = "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


LEASE = """
import fcntl, signal, sys
with open(sys.argv[1], "r+b") as file:
    give_back = lambda *_: fcntl.fcntl(file.fileno(), fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, give_back)
    fcntl.fcntl(file.fileno(), fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print("leased", flush=True)
    sys.stdin.readline()
"""


def kinds(verdict: Verdict) -> set[tuple[str, str]]:
    return {(problem.file, problem.kind.value) for problem in verdict.problems}


def cut(name: str) -> Callable[[Path], None]:
    return lambda at: os.truncate(at / name, (at / name).stat().st_size - 1)


def gone(name: str) -> Callable[[Path], None]:
    return lambda at: (at / name).unlink()


def flipped(name: str) -> Callable[[Path], None]:
    def flip(at: Path) -> None:
        data = bytearray((at / name).read_bytes())
        data[-1] ^= 1
        (at / name).write_bytes(data)

    return flip


def added(name: str, data: bytes = b"x") -> Callable[[Path], None]:
    def add(at: Path) -> None:
        put(at, {name: data})

    return add


DAMAGE: list[tuple[str, Callable[[Path], None], tuple[str, str], Level]] = [
    ("a shard is missing", gone(SHARD), (SHARD, "missing"), Level.SIZES),
    ("a shard is cut short", cut(SHARD), (SHARD, "header"), Level.HEADERS),
    (
        "a download has not ended",
        added(".cache/huggingface/download/k.1.incomplete"),
        (".cache/huggingface/download/k.1.incomplete", "unfinished"),
        Level.MARKER,
    ),
    (
        "a link leads nowhere",
        lambda at: (at / "x.safetensors").symlink_to("blobs/0"),
        ("x.safetensors", "broken-link"),
        Level.MARKER,
    ),
    ("there is no config", gone("config.json"), ("config.json", "config"), Level.SIZES),
    ("there is no tokenizer", gone("tokenizer.json"), ("", "tokenizer"), Level.SIZES),
    ("the index is cut", cut(INDEX), (INDEX, "index"), Level.SIZES),
    ("the config is cut", cut("config.json"), ("config.json", "config"), Level.SIZES),
    (
        "the index leads out of the model",
        added(INDEX, b'{"weight_map": {"a": "../../etc/passwd"}}'),
        (INDEX, "index"),
        Level.SIZES,
    ),
]


@pytest.mark.parametrize(("_name", "damage", "told", "level"), DAMAGE, ids=[d[0] for d in DAMAGE])
def test_damage_is_told_with_its_file_from_its_level_on(
    tmp_path: Path, _name: str, damage: Callable[[Path], None], told: tuple[str, str], level: Level
) -> None:
    put(tmp_path, small_model())
    assert verify(tmp_path, level=Level.CONTENT).ok
    damage(tmp_path)
    for at in Level:
        verdict = verify(tmp_path, level=at)
        assert (told in kinds(verdict)) == at.covers(level), verdict
        assert verdict.ok == (not at.covers(level))


LISTED: list[tuple[str, Callable[[Path], None], tuple[str, str], Level]] = [
    ("a small file is missing", gone("tokenizer.json"), ("tokenizer.json", "missing"), Level.SIZES),
    ("a file is too long", added("tokenizer.json"), ("tokenizer.json", "size"), Level.SIZES),
    ("a bit of a shard is flipped", flipped(SHARD), (SHARD, "content"), Level.CONTENT),
    (
        "a byte of a small file is changed",
        added("tokenizer.json", b"[]"),
        ("tokenizer.json", "content"),
        Level.CONTENT,
    ),
]


@pytest.mark.parametrize(("_name", "damage", "told", "level"), LISTED, ids=[d[0] for d in LISTED])
def test_the_source_s_own_list_tells_more(
    tmp_path: Path, _name: str, damage: Callable[[Path], None], told: tuple[str, str], level: Level
) -> None:
    files = small_model()
    put(tmp_path, files)
    damage(tmp_path)
    for at in Level:
        verdict = verify(tmp_path, level=at, expected=listing(files))
        assert (told in kinds(verdict)) == at.covers(level)


def test_the_half_finished_directory_of_the_article_s_loader_is_told_as_damaged(
    tmp_path: Path,
) -> None:
    """Killed in mid-download: config.json is there, which its own check takes for the model."""
    files = small_model(shards=4)
    done = [name for name in files if not name.startswith("model-")]
    put(tmp_path, {name: files[name] for name in [*done, "model-00001-of-00004.safetensors"]})
    put(
        tmp_path / ".cache/huggingface",
        {
            "CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55",
            "download/config.json.metadata": b"c0ffee\n%b\n1.0\n"
            % git_oid(files["config.json"]).encode(),
            "download/Zk3.abc.incomplete": files["model-00002-of-00004.safetensors"][:500],
        },
    )
    verdict = verify(tmp_path)
    assert not verdict.ok
    assert {(f"model-0000{n}-of-00004.safetensors", "missing") for n in (2, 3, 4)} < kinds(verdict)
    assert verdict.files == 4


def test_what_the_hub_s_tools_wrote_beside_the_files_proves_their_content(tmp_path: Path) -> None:
    files = small_model()
    put(tmp_path, files)
    metadata = {
        f"download/{name}.metadata": f"c0ffee\n{etag}\n1.0\n".encode()
        for name, data in files.items()
        for etag in [
            hashlib.sha256(data).hexdigest() if name.endswith("tensors") else git_oid(data)
        ]
    }
    put(tmp_path / ".cache/huggingface", metadata)
    verdict = verify(tmp_path, level=Level.CONTENT)
    assert verdict.ok
    assert verdict.unchecked == ()
    flipped(SHARD)(tmp_path)
    assert kinds(verify(tmp_path, level=Level.CONTENT)) == {(SHARD, "content")}


def test_the_hub_s_cache_layout_is_proven_by_its_blobs_names_and_its_tree(tmp_path: Path) -> None:
    files = small_model()
    snapshot = hub_cache(tmp_path, files)
    verdict = verify(snapshot, level=Level.CONTENT)
    assert (verdict.ok, verdict.layout, verdict.files) == (True, "hub-cache", len(files))
    assert verdict.unchecked == ()

    blob = (snapshot / SHARD).resolve()
    flipped(blob.name)(blob.parent)
    assert kinds(verify(snapshot, level=Level.CONTENT)) == {(SHARD, "content")}
    cut(blob.name)(blob.parent)
    assert (SHARD, "size") in kinds(verify(snapshot, level=Level.SIZES))
    blob.unlink()
    assert (SHARD, "broken-link") in kinds(verify(snapshot, level=Level.MARKER))


def test_a_blob_that_is_still_fetched_makes_its_snapshot_unfinished_and_no_other(
    tmp_path: Path,
) -> None:
    files = small_model()
    snapshot = hub_cache(tmp_path, files)
    blobs = snapshot.parent.parent / "blobs"
    put(blobs, {f"{'a' * 64}.incomplete": b"of another revision"})
    assert verify(snapshot).ok
    blob = (snapshot / SHARD).resolve()
    (snapshot / SHARD).unlink()
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    assert (SHARD, "unfinished") in kinds(verify(snapshot, level=Level.MARKER))


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 100)
    return data.getvalue()


PYTORCH_INDEX = json.dumps(
    {"weight_map": {f"w{n}": f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)}}
).encode()

CONSOLIDATED_INDEX = b'{"weight_map": {"a": "consolidated-00001-of-00001.safetensors"}}'
MODULES = b"""[{"path": "", "type": "sentence_transformers.models.Transformer"},
{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
{"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"""

OTHER_KINDS = {
    "gguf": ({"llama-q4.gguf": b"GGUF" + bytes(40)}, "gguf", True),
    "gguf that is another file": ({"llama-q4.gguf": b"<html>" + bytes(40)}, "gguf", False),
    "gguf in parts, one missing": ({"m-00001-of-00002.gguf": b"GGUF" + bytes(40)}, "gguf", False),
    "pytorch": ({"pytorch_model.bin": archive(), "config.json": b"{}"}, "pytorch", True),
    "pytorch, cut": (
        {"pytorch_model.bin": archive()[:-30], "config.json": b"{}"},
        "pytorch",
        False,
    ),
    "pytorch, one shard of two": (
        {
            "pytorch_model-00001-of-00002.bin": archive(),
            "pytorch_model.bin.index.json": PYTORCH_INDEX,
            "config.json": b"{}",
        },
        "pytorch",
        False,
    ),
    "safetensors, and pytorch left out but for its index": (
        {**small_model(), "pytorch_model.bin.index.json": PYTORCH_INDEX},
        "safetensors",
        True,
    ),
    "one file of safetensors, and the index of another format by its name": (
        {
            "model_index.json": b"{}",
            "unet/diffusion_pytorch_model.safetensors": safetensors({"a": b"1"}),
            "unet/diffusion_pytorch_model.bin.index.json": PYTORCH_INDEX,
        },
        "diffusers",
        True,
    ),
    "safetensors, and one pytorch shard of two": (
        {
            **small_model(),
            "pytorch_model.bin.index.json": PYTORCH_INDEX,
            "pytorch_model-00001-of-00002.bin": archive(),
        },
        "safetensors",
        False,
    ),
    "half of the safetensors, and an index of pytorch": (
        {
            **{path: data for path, data in small_model().items() if path != SHARD},
            "pytorch_model.bin.index.json": PYTORCH_INDEX,
        },
        "safetensors",
        False,
    ),
    "pytorch, and an index of safetensors, which readers take first": (
        {"pytorch_model.bin": archive(), "config.json": b"{}", INDEX: small_model()[INDEX]},
        "pytorch",
        False,
    ),
    "an index of a maker's own layout without its shards beside safetensors": (
        {**small_model(), "consolidated.safetensors.index.json": CONSOLIDATED_INDEX},
        "safetensors",
        True,
    ),
    "an index of a maker's own layout without its shards, and nothing else": (
        {
            "params.json": b"{}",
            "model.gguf": b"GGUF" + bytes(40),
            "consolidated.safetensors.index.json": CONSOLIDATED_INDEX,
        },
        "gguf",
        False,
    ),
    "numbers of six digits, one missing": (
        {
            "config.json": b"{}",
            "model-00001-of-000003.safetensors": safetensors({"a": b"1"}),
            "model-00003-of-000003.safetensors": safetensors({"b": b"1"}),
        },
        "safetensors",
        False,
    ),
    "numbers of six digits": (
        {
            "config.json": b"{}",
            "model-00001-of-000002.safetensors": safetensors({"a": b"1"}),
            "model-00002-of-000002.safetensors": safetensors({"b": b"1"}),
        },
        "safetensors",
        True,
    ),
    "half a pipeline of diffusers": (
        {
            "model_index.json": b'{"_class_name": "P", "unet": ["d", "U"], "vae": ["d", "V"], '
            b'"safety_checker": [null, null], "requires_safety_checker": false}',
            "unet/config.json": b"{}",
            "unet/diffusion_pytorch_model.safetensors": safetensors({"a": b"1"}),
        },
        "diffusers",
        False,
    ),
    "half a model of sentence-transformers": (
        {**small_model(), "modules.json": MODULES},
        "safetensors",
        False,
    ),
    "a model of sentence-transformers, whose last module keeps nothing": (
        {**small_model(), "modules.json": MODULES, "1_Pooling/config.json": b"{}"},
        "safetensors",
        True,
    ),
    "diffusers": (
        {
            "model_index.json": b"{}",
            "unet/config.json": b"{}",
            "unet/diffusion_pytorch_model.safetensors": safetensors({"a": b"1"}),
        },
        "diffusers",
        True,
    ),
    "a pipeline of diffusers with numbers and words among what it was made with": (
        {
            "model_index.json": b'{"vae": ["d", "V"], "image_size": [512, 512], '
            b'"scale": [0.5, null], "sizes": [1, 2, 3], "mode": "fast"}',
            "vae/diffusion_pytorch_model.safetensors": safetensors({"a": b"1"}),
        },
        "diffusers",
        True,
    ),
    "an adapter": (
        {"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors({"a": b"1"})},
        "safetensors",
        True,
    ),
    "a vision model without a tokenizer": (
        {"config.json": b'{"model_type": "vit"}', "model.safetensors": safetensors({"a": b"1"})},
        "safetensors",
        True,
    ),
    "onnx": ({"model.onnx": b"\x08\x07"}, "onnx", True),
    "no model at all": ({"README.md": b"hello"}, "unknown", False),
    "an empty directory": ({}, "unknown", False),
}


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "is a Git LFS pointer"),
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        *("pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt", "onnx/model.onnx"),
        *("model.h5", "model.gguf", "model.safetensors", "tokenizer.model", "tokenizer.json"),
    ],
)
def test_what_is_put_in_the_place_of_a_file_is_told(
    tmp_path: Path, path: str, content: bytes, said: str
) -> None:
    """What git leaves without its LFS, a copy that has just begun, what a server says instead."""
    put(tmp_path, {**small_model(), path: content})
    [problem] = verify(tmp_path).problems
    assert (problem.file, problem.kind) == (path, ProblemKind.HEADER)
    assert said in problem.message


@pytest.mark.parametrize("name", ["vocab.json", "extra.bin"])
def test_what_its_source_has_as_it_is_is_no_damage_and_said(tmp_path: Path, name: str) -> None:
    """A hash that is known of it tells more than what such files mostly look like."""
    files = {**small_model(), name: b""}
    put(tmp_path, files)
    assert (name, "header") in kinds(verify(tmp_path))
    verdict = verify(tmp_path, expected=listing(files))
    assert verdict.ok, verdict
    assert f"{name}: is empty; taken for what its maker left" in verdict.unchecked
    assert not verify(tmp_path, expected=listing({**files, name: b"x"})).ok


@pytest.mark.parametrize(
    "files",
    [
        {"openvino_tokenizer.xml": b"<net/>", "openvino_tokenizer.bin": b""},
        {"assets/vocab.json": b""},
        {"vocab.json": b'{"\\ud83d": 1, "b": NaN}'},
    ],
    ids=["OpenVINO without constants", "no tokenizer's place", "what Python's json reads"],
)
def test_what_readers_take_is_no_damage(tmp_path: Path, files: dict[str, bytes]) -> None:
    verdict = verify(put(tmp_path, {**small_model(), **files}))
    assert verdict.ok, verdict


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "tekken.json"])
def test_a_tokenizer_that_is_cut_is_told(tmp_path: Path, name: str) -> None:
    put(tmp_path, {**small_model(), name: b'{"model": {"vocab": {"a"'})
    [problem] = verify(tmp_path).problems
    assert (problem.file, problem.kind) == (name, ProblemKind.HEADER)
    assert "is no JSON" in problem.message


@pytest.mark.parametrize(
    ("begins", "said"),
    [(b"\x80\x02}q", "its end tells nothing"), (b"\x06\x00\x00\x00W", "none of torch.save")],
)
def test_a_file_whose_end_cannot_be_looked_for_is_no_fault_and_said(
    tmp_path: Path, begins: bytes, said: str
) -> None:
    names = ("a.bin", "b.bin", "c.pt")
    put(tmp_path, {"config.json": b"{}", **dict.fromkeys(names, begins + bytes(100))})
    verdict = verify(tmp_path)
    assert verdict.ok
    assert [note for note in verdict.unchecked if said in note and "a.bin (and 2 more): " in note]


def test_code_that_a_config_names_and_that_is_not_there_is_said(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "modeling_own.Own", "AutoConfig": "org/else--other.Config"}}
    put(tmp_path, {**small_model(), "config.json": json.dumps(config).encode()})
    assert "modeling_own.py: config.json names this code, it is not there" in (
        verify(tmp_path).unchecked
    )
    put(tmp_path, {"modeling_own.py": b""})
    assert not any(".py" in note for note in verify(tmp_path).unchecked)


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_models_of_other_kinds_are_not_failed_for_being_so(tmp_path: Path, name: str) -> None:
    files, kind, ok = OTHER_KINDS[name]
    verdict = verify(put(tmp_path, files))
    assert (verdict.kind, verdict.ok) == (kind, ok), verdict
    if kind in {"gguf", "onnx"} and ok:
        assert any(kind in note for note in verdict.unchecked)


def test_pipes_sockets_and_links_to_directories_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, small_model())
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop").symlink_to(tmp_path)
    verdict = verify(tmp_path, level=Level.CONTENT)
    assert verdict.ok
    assert {"loop: a link to a directory", "pipe.safetensors: no regular file"} < set(
        verdict.unchecked
    )


def test_content_without_a_hash_is_read_and_said(tmp_path: Path) -> None:
    verdict = verify(put(tmp_path, small_model()), level=Level.CONTENT)
    assert verdict.ok
    assert any("no hash to compare" in note for note in verdict.unchecked)
    shard = next(file for file in verdict.proven if file.path == SHARD)
    assert shard.sha256 == hashlib.sha256(small_model()[SHARD]).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"id": 1}',
        b"\xff",
        b'{"version": 9, "id": "a", "path": "m"}',
        b'{"id": "a", "path": "m", "files": [{"path": "../../etc/passwd", "size": 1}]}',
        b'{"id": "a", "path": "m", "files": [{"path": "a", "size": -5}]}',
        b'{"id": "a", "path": "m", "files": [{"path": "a", "size": 1%s}]}' % (b"0" * 400),
        b'{"a":' * 10_000,
    ],
)
def test_a_marker_that_says_nothing_reliable_is_a_problem_and_no_proof(
    tmp_path: Path, text: bytes
) -> None:
    put(tmp_path, {**small_model(), ".modelcache.json": text})
    with pytest.raises(MarkerError, match=r"\.modelcache\.json"):
        read_marker(tmp_path)
    assert [problem.kind for problem in verify(tmp_path).problems] == [ProblemKind.MARKER]


@pytest.mark.parametrize("size", [b"-5", b"1" + b"0" * 400])
def test_how_large_a_model_is_its_files_tell_and_no_number_beside_them(
    tmp_path: Path, size: bytes
) -> None:
    """A pod that mounts the cache may write it, and no report could be read that has it."""
    text = b'{"id": "a", "path": "m", "files": [{"path": "a", "size": 7}], "bytes": %s}' % size
    marker = read_marker(put(tmp_path, {".modelcache.json": text}))
    assert marker is not None
    assert marker.bytes == 7


def test_reading_ends_where_it_is_told_to(tmp_path: Path) -> None:
    put(tmp_path, small_model())
    with pytest.raises(ReadingStoppedError):
        verify(tmp_path, level=Level.CONTENT, reader=Reader(stop=lambda: True))


def is_proven(file: Path) -> bool:
    data = small_model()[SHARD]
    expected = Expected(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    return prove_file(file.parent, file.name, expected, Reader()) is None


def is_synced(file: Path) -> bool:
    Disk().sync_file(file)
    return True


@pytest.mark.parametrize("done", [is_proven, is_synced])
def test_a_file_under_a_write_lease_is_waited_for_and_not_damaged(
    fast: Path, done: Callable[[Path], bool]
) -> None:
    put(fast, small_model())
    with subprocess.Popen(
        [sys.executable, "-c", LEASE, str(fast / SHARD)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        if process.stdout.readline() != "leased\n":
            pytest.skip("the file system of this test grants no lease")
        assert done(fast / SHARD)
        assert process.poll() is None
        process.kill()


def test_a_name_that_is_no_text_is_said_and_belongs_to_no_model(tmp_path: Path) -> None:
    put(tmp_path, small_model())
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_bytes(b"")
    verdict = verify(tmp_path)
    assert verdict.ok
    assert "\\xff.txt: its name is not UTF-8" in verdict.unchecked
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.part")).write_bytes(b"")
    assert kinds(verify(tmp_path)) == {("\\xfe.part", "unfinished")}
