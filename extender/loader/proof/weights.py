"""What kind of model lies there, whether its parts are all there, and whether they are whole.

What the files say of themselves, needing nothing from the source: an index names its shards, a
numbered shard tells how many there are, a header tells the length of its file. What is of a kind
that cannot be looked into is said, not failed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from extender.loader.proof.beginnings import (
    MAX_JSON_BYTES,
    DoubtError,
    HeaderError,
    check_archive,
    check_beginning,
    check_gguf,
    check_tokenizer,
    read_bounded,
    read_first,
)
from extender.loader.proof.names import CONFIGS, INDEX, KINDS, WITH_CONFIG, is_tokenizer, is_weights
from extender.loader.proof.parts import DIFFUSERS, check_parts, note_code
from extender.loader.proof.safetensors import read_header
from extender.loader.proof.scan import Found, Scan
from extender.loader.proof.verdict import Problem, ProblemKind
from extender.loader.sources import Part

_SAFETENSORS_INDEX = ".safetensors.index.json"
_READ_FIRST = frozenset(
    f"{name}{_SAFETENSORS_INDEX}" for name in ("model", "diffusion_pytorch_model")
)
"""Where one of these is, transformers, diffusers and vLLM open what it names and nothing else."""
_NUMBERED = re.compile(
    r"(?P<stem>.+)-(?P<of>\d{5,6})-of-(?P<all>\d{5,6})(?P<suffix>\.[a-z]+)", re.ASCII
)
_MOST_SHARDS = 10_000

_LOOKED_INTO = frozenset({"safetensors", "gguf", "pytorch"})


class Weights(msgspec.Struct):
    """What was found out; ``tensors`` are counted where headers were read."""

    kind: str = "unknown"
    tensors: int = 0


def lacking(files: Mapping[str, Found], *, allowed: frozenset[Part]) -> list[Problem]:
    """Return what the names of a model's files alone show not to be among them."""
    named = Scan(dict(files), [], [])
    _check_numbers(named)
    problem = _lacking_by_name(named.files, _kind(named))
    if problem is not None and Part(problem.kind.value) not in allowed:
        named.problems.append(problem)
    return named.problems


def shape(
    directory: Path, scan: Scan, *, allowed: frozenset[Part], vouched: bool = False
) -> Weights:
    """Check that what belongs together is there; problems go to ``scan``.

    What it has none of and is ``allowed`` to lack (``may_lack``) is said, and no damage.
    ``vouched``: see ``sources.Listing``.
    """
    weights = Weights(kind=_kind(scan))
    _check_indexes(directory, scan)
    _check_numbers(scan)
    check_parts(directory, scan, vouched=vouched)
    problem = _lacking_by_name(scan.files, weights.kind) or _without_tokenizer(
        directory, scan, weights.kind
    )
    if problem is not None and Part(problem.kind.value) in allowed:
        scan.unchecked.append(f"{problem}; it is not in the list of its files")
    elif problem is not None:
        scan.problems.append(problem)
    return weights


def headers(
    directory: Path, scan: Scan, weights: Weights, *, as_told: Callable[[str], bool]
) -> None:
    """Check every weight file's own account of itself, and what tokenizers begin with.

    ``as_told`` tells whether a file has the hash that is known of it: it is said, then, to be odd,
    and is no damage.
    """
    odd: set[str] = set()
    unseen: dict[str, list[str]] = {}
    for path in scan.files:
        kind = KINDS.get(posixpath.splitext(path)[1].lower())
        try:
            if kind == "safetensors":
                header = read_header(directory / path)
                weights.tensors += header.tensors
                odd |= header.unknown
            elif kind == "gguf":
                check_gguf(directory / path)
            elif kind == "pytorch":
                unseen.setdefault(check_archive(directory / path), []).append(path)
            elif kind is not None:
                check_beginning(read_first(directory / path))
            elif is_tokenizer(posixpath.basename(path)):
                check_tokenizer(directory / path)
        except DoubtError as error:
            if kind == "gguf" or not (_may_be_empty(path, scan) or as_told(path)):
                scan.problems.append(Problem(path, ProblemKind.HEADER, str(error)))
            else:
                scan.unchecked.append(f"{path}: {error}; taken for what its maker left")
        except HeaderError as error:
            scan.problems.append(Problem(path, ProblemKind.HEADER, str(error)))
        except OSError as error:
            scan.problems.append(
                Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error))
            )
    for note, paths in unseen.items():
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        if note:
            scan.unchecked.append(f"{paths[0]}{more}: {note}")
    if odd:
        scan.unchecked.append(f"the size of tensors of type {', '.join(sorted(odd))}: not known")
    kinds = {KINDS.get(posixpath.splitext(path)[1].lower()) for path in scan.files} - {None}
    if "gguf" in kinds:
        scan.unchecked.append("whether gguf files are cut short: only their beginning was read")
    for kind in sorted(k for k in kinds if k is not None and k not in _LOOKED_INTO):
        scan.unchecked.append(f"{kind} files: their format is not looked into")


def _may_be_empty(path: str, scan: Scan) -> bool:
    """Tell whether an empty file does no harm: no constants for OpenVINO, or no tokenizer's place.

    OpenVINO: https://github.com/openvinotoolkit/model_server/issues/302
    """
    if scan.files[path].size:
        return False
    stem, suffix = posixpath.splitext(path)
    return f"{stem}.xml" in scan.files if suffix == ".bin" else "/" in path and suffix not in KINDS


def _kind(scan: Scan) -> str:
    suffixes = {posixpath.splitext(path)[1].lower() for path in scan.files}
    if DIFFUSERS in scan.files and ".safetensors" in suffixes:
        return "diffusers"
    return next((kind for suffix, kind in KINDS.items() if suffix in suffixes), "unknown")


def _check_indexes(directory: Path, scan: Scan) -> None:
    indexes = [path for path in scan.files if path.endswith(INDEX)]
    named = {path: _shards(directory, path, scan) for path in indexes}
    told = {problem.file for problem in scan.problems}
    for path, shards in named.items():
        absent = [shard for shard in shards if shard not in scan.files]
        if len(absent) == len(shards) and _is_spare(path, named, scan):
            if shards:
                scan.unchecked.append(f"{path}: none of its shards is there, safetensors are")
            continue
        scan.problems += [
            Problem(shard, ProblemKind.MISSING, f"{path} names this shard, it is not there")
            for shard in absent
            if shard not in told
        ]


def _shards(directory: Path, path: str, scan: Scan) -> list[str]:
    """Return the files that an index names; what is wrong with it goes to ``scan``."""
    index = _json(directory, path, scan, ProblemKind.INDEX)
    if index is None:
        return []
    named = index.get("weight_map")
    if not isinstance(named, dict):
        scan.unchecked.append(f"{path}: an index without a weight_map")
        return []
    shards = []
    for shard in sorted({str(name) for name in named.values()}):
        full = posixpath.normpath(posixpath.join(posixpath.dirname(path), shard))
        if full.startswith(("../", "/")):
            scan.problems.append(
                Problem(path, ProblemKind.INDEX, f"names {shard[:100]!r}, outside of the model")
            )
        else:
            shards.append(full)
    return shards


def _is_spare(path: str, named: Mapping[str, Sequence[str]], scan: Scan) -> bool:
    """Tell whether nobody needs what an index names: all of it is there as safetensors beside it.

    Who reads a model takes these before any other format (transformers, vLLM, SGLang), and before
    the same in a layout of its maker's (``consolidated.safetensors``). So the others are left out
    (``exclude: ["*.bin"]``), and their index, by its name no weights, is not.
    """
    base, name = posixpath.split(path)
    if name in _READ_FIRST:
        return False
    instead = {posixpath.join(base, "model.safetensors")}
    if not name.endswith(_SAFETENSORS_INDEX):
        instead.add(posixpath.splitext(path.removesuffix(INDEX))[0] + ".safetensors")
    return (not instead.isdisjoint(scan.files)) or any(
        shards and all(shard in scan.files for shard in shards)
        for other, shards in named.items()
        if other.endswith(_SAFETENSORS_INDEX) and posixpath.dirname(other) == base
    )


def _check_numbers(scan: Scan) -> None:
    series: dict[tuple[str, str, str, int], set[int]] = {}
    for path in scan.files:
        match = _NUMBERED.fullmatch(path)
        if match is not None and match["suffix"] in KINDS:
            key = match["stem"], match["all"], match["suffix"], len(match["of"])
            series.setdefault(key, set()).add(int(match["of"]))
    told = {problem.file for problem in scan.problems}
    for (stem, count, suffix, digits), there in series.items():
        first = 0 if 0 in there else 1
        for number in range(first, min(int(count), _MOST_SHARDS) + first):
            path = f"{stem}-{number:0{digits}d}-of-{count}{suffix}"
            if number not in there and path not in told:
                message = f"one of {int(count)} shards, it is not there"
                scan.problems.append(Problem(path, ProblemKind.MISSING, message))


def _lacking_by_name(files: Mapping[str, Found], kind: str) -> Problem | None:
    """Say whether weights are missing, or the config beside them; None: neither."""
    if kind == "unknown":
        return Problem("", ProblemKind.WEIGHTS, "holds no weights in any format that is known")
    names = {path for path in files if "/" not in path}
    if (
        kind in WITH_CONFIG
        and names.isdisjoint(CONFIGS)
        and any(is_weights(name) for name in names)
    ):
        return Problem("config.json", ProblemKind.CONFIG, "is not there beside the weights")
    return None


def _without_tokenizer(directory: Path, scan: Scan, kind: str) -> Problem | None:
    """Say whether a config asks for a tokenizer that is not there."""
    names = {path for path in scan.files if "/" not in path}
    config = next((name for name in CONFIGS if name in names), None)
    if config is None or kind not in WITH_CONFIG:
        return None
    content = _json(directory, config, scan, ProblemKind.CONFIG)
    tokenizer = any(map(is_tokenizer, names))
    note_code(content or {}, scan)
    if content is None or config != "config.json" or tokenizer:
        return None
    text = content.get("text_config")
    if "vocab_size" in content or (isinstance(text, dict) and "vocab_size" in text):
        message = "config.json has a vocabulary, and no tokenizer is there"
        return Problem("", ProblemKind.TOKENIZER, message)
    scan.unchecked.append("a tokenizer: none is there, and config.json asks for none")
    return None


def _json(directory: Path, path: str, scan: Scan, kind: ProblemKind) -> dict[str, object] | None:
    try:
        data = read_bounded(directory / path, MAX_JSON_BYTES)
        content = msgspec.json.decode(data, type=dict[str, object])
    except OSError as error:
        scan.problems.append(Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        scan.problems.append(Problem(path, kind, f"cannot be read: {error}"))
    else:
        return content
    return None
