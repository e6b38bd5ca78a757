"""What kube-scheduler's strict decoder would refuse, told all at once and each by its place.

Go's rules, as kube-scheduler applies them (apimachinery/pkg/runtime/serializer/json with strict
decoding): keys are known in this very case, null stands for what is left out except where a
duration is read, and no value is made into another: ``"15"`` is no number.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import inspect

Step = str | int
Path = tuple[Step, ...]

_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_LONGEST_SECONDS = 2**63 / 1e9
"""A duration is a signed 64-bit number of nanoseconds."""

_SHOWN = 60


class Refusal(msgspec.Struct, frozen=True):
    """One thing for which kube-scheduler does not start: its place, what is so, what to write."""

    path: Path
    message: str
    remedy: str


def refused(value: Any, wanted: type[msgspec.Struct], path: Path = ()) -> Iterator[Refusal]:
    """Yield what keeps a tree, as YAML has it, from being read as a struct."""
    yield from _read(value, inspect.type_info(wanted), path)


def present(value: Any) -> Any:
    """Leave out nulls, and write whole numbers as such: Go reads ``15.0`` as 15."""
    if isinstance(value, dict):
        return {str(key): present(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [{} if item is None else present(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def without(value: Any, paths: Iterable[Path]) -> Any:
    """Return a tree in which nothing stands at these places."""
    below: dict[Step, list[Path]] = {}
    for step, *rest in paths:
        below.setdefault(step, []).append(tuple(rest))
    items = enumerate(value) if isinstance(value, list) else value.items()
    right = {
        step: without(inner, below[step]) if step in below else inner
        for step, inner in items
        if () not in below.get(step, ())
    }
    if isinstance(value, dict):
        return right
    return [right.get(index) for index in range(len(value))]


def seconds(duration: str) -> float | None:
    """Read a Go duration (``1m30s``, ``-500ms``); None where it is none."""
    sign, rest = (-1, duration[1:]) if duration.startswith("-") else (1, duration.removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(rest))
    if not parts or "".join(part[0] for part in parts) != rest:
        return None
    total = sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
    return sign * total if total < _LONGEST_SECONDS else None


def from_base64(text: Any) -> bytes | None:
    """Decode base64, whose lines may be broken; None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        return b64decode("".join(text.splitlines()), validate=True)
    except ValueError:
        return None


def shown(value: Any) -> str:
    """Show a value of the file, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _read(value: Any, kind: inspect.Type, path: Path) -> Iterator[Refusal]:
    if isinstance(kind, inspect.Metadata) and "duration" in (kind.extra or {}):
        if not isinstance(value, str) or seconds(value) is None:
            yield Refusal(path, f"is {shown(value)}, which is no duration", f"{path[-1]}: 5s")
    elif isinstance(kind, inspect.UnionType):
        (inner,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
        if value is not None:
            yield from _read(value, inner, path)
    elif value is None:
        return
    elif isinstance(kind, inspect.StructType):
        yield from _struct(value, kind, path)
    elif isinstance(kind, inspect.VarTupleType):
        if isinstance(value, list):
            for index, item in enumerate(value):
                where = (*path, index)
                if item is None and isinstance(kind.item_type, inspect.StrType):
                    yield _of_another_type(item, "a text", where)
                yield from _read(item, kind.item_type, where)
        else:
            yield _of_another_type(value, "a list", path)
    else:
        yield from _plain(value, kind, path)


def _struct(value: Any, kind: inspect.StructType, path: Path) -> Iterator[Refusal]:
    if not isinstance(value, dict):
        yield _of_another_type(value, "an object with keys", path)
        return
    known = {field.encode_name: field.type for field in kind.fields}
    for key, inner in value.items():
        if key in known:
            yield from _read(inner, known[key], (*path, key))
            continue
        near = get_close_matches(str(key), known, n=1, cutoff=0.7)
        yield Refusal(
            (*path, str(key)),
            "is a key that kube-scheduler does not know",
            f"write {near[0]}, or take {key} out"
            if near
            else f"take {key} out; known here: {', '.join(known)}",
        )


def _plain(value: Any, kind: inspect.Type, path: Path) -> Iterator[Refusal]:
    if isinstance(kind, inspect.IntType):
        number = present(value)
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not whole or not _in_range(number, kind):
            quoted = _is_quoted_number(value) and _in_range(int(value), kind)
            yield _of_another_type(
                value, f"a whole number of {_bits(kind)} bits", path, quoted=quoted
            )
    elif isinstance(kind, inspect.FloatType):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            yield _of_another_type(value, "a number", path, quoted=_is_quoted_number(value))
    elif isinstance(kind, inspect.BoolType):
        if not isinstance(value, bool):
            yield _of_another_type(value, "true or false, without quotes", path)
    elif isinstance(kind, inspect.StrType):
        if not isinstance(value, str):
            yield _of_another_type(value, "a text, in quotes where it looks like another", path)
    elif isinstance(kind, inspect.DictType):
        if not isinstance(value, dict):
            yield _of_another_type(value, "an object with keys", path)
    elif isinstance(kind, inspect.Metadata) and from_base64(value) is None:
        yield Refusal(path, "is no base64", f"{path[-1]}: what base64 -w0 prints of the file")


def _of_another_type(value: Any, wanted: str, path: Path, *, quoted: bool = False) -> Refusal:
    """Say what should stand there; ``quoted``: the same without quotes would do."""
    key = path[-1] if path and isinstance(path[-1], str) else "it"
    return Refusal(
        path,
        f"is {'of another type' if 'tlsConfig' in path else shown(value)}, and should be {wanted}",
        f"{key}: {value}" if quoted else f"write {key} as {wanted}",
    )


def _is_quoted_number(value: Any) -> bool:
    return isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) <= _SHOWN


def _in_range(number: int, kind: inspect.IntType) -> bool:
    return (kind.ge or 0) <= number <= (kind.le or 0)


def _bits(kind: inspect.IntType) -> int:
    return (kind.le or 0).bit_length() + 1
