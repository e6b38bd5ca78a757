"""What files of a model are by their names: weights, config, tokenizer, and what names others."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from extender.loader.proof.parts import PIPELINES
from extender.loader.sources import ANY_PART, Listing, Part

INDEX = ".index.json"

KINDS = {
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".bin": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".onnx": "onnx",
    ".engine": "tensorrt",
    ".plan": "tensorrt",
    ".h5": "keras",
    ".msgpack": "flax",
    ".pdparams": "paddle",
    ".tflite": "tflite",
    ".mlpackage": "coreml",
    ".ckpt": "pytorch",
}
"""Suffixes of weight files; the first that is there names the model's kind."""

WITH_CONFIG = frozenset({"safetensors", "pytorch"})
"""Kinds of weights that nobody can open without a config."""

CONFIGS = ("config.json", "adapter_config.json", "params.json")
"""Of transformers, of an adapter, of Mistral's own format."""

TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt"),
    *("merges.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "vocab.model"),
    *("source.spm", "target.spm", "bpe.codes", "tokenizer.tiktoken", "multilingual.tiktoken"),
    "tokenizer.tok.json",
)
"""Any of these is a tokenizer to transformers, vLLM or SGLang; so is any ``*.tiktoken``."""


def may_lack(listing: Listing) -> frozenset[Part]:
    """Return which parts a model has none of where none is listed.

    What it is said to have none of; and where somebody vouches for all of its files, what is among
    none of them, those included that patterns left out.
    """
    told = frozenset(listing.without)
    return told | (ANY_PART - parts_of(listing.left_out)) if listing.vouched else told


def parts_of(paths: Iterable[str]) -> frozenset[Part]:
    """Return which parts of a model are among these files by their names."""
    found = set()
    for path in paths:
        if is_weights(path):
            found.add(Part.WEIGHTS)
        elif path in CONFIGS:
            found.add(Part.CONFIG)
        elif "/" not in path and is_tokenizer(path):
            found.add(Part.TOKENIZER)
    return frozenset(found)


def is_of_a_model(name: str) -> bool:
    """Tell whether a file is, by its name, one of those that a model consists of."""
    known = name in CONFIGS or name in PIPELINES or name.endswith(INDEX)
    return known or is_weights(name) or is_tokenizer(name)


def are_of_a_part(names: Sequence[str]) -> bool:
    """Tell whether files that lie together are of a part of a model, and no model by themselves.

    By their names: weights that cannot be opened without a config, or a tokenizer, and no config.
    """
    kinds = {KINDS.get(posixpath.splitext(name)[1].lower()) for name in names} - {None}
    known = any(name in CONFIGS or name in PIPELINES for name in names)
    return any(map(is_of_a_model, names)) and not known and kinds <= WITH_CONFIG


def models_among(paths: Iterable[str]) -> list[str]:
    """Return the directories that are models by the names of their files, where the top is none.

    They have weights beside the config that opens them, or such as need none.
    """
    files: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        files.setdefault(folder, []).append(name)
    if any(map(is_of_a_model, files.get("", ()))):
        return []
    models: list[str] = []
    for folder in sorted(files):
        kinds = {KINDS.get(posixpath.splitext(name)[1].lower()) for name in files[folder]}
        opened = kinds & WITH_CONFIG and any(name in CONFIGS for name in files[folder])
        if (opened or "gguf" in kinds) and not any(
            folder.startswith(f"{other}/") for other in models
        ):
            models.append(folder)
    return models


def tells_of_others(path: str) -> bool:
    """Tell whether a file says by its content what else a model has."""
    return path.endswith(INDEX) or path in CONFIGS or path in PIPELINES


def is_weights(path: str) -> bool:
    """Tell whether a file holds weights."""
    return posixpath.splitext(path)[1].lower() in KINDS


def is_tokenizer(name: str) -> bool:
    """Tell whether a file is a tokenizer, or a part of one."""
    return name in TOKENIZERS or name.endswith(".tiktoken")
