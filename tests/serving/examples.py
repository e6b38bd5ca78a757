"""Requests made from the types themselves: every field that is read, and every way to spoil it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from extender.kube.objects import KubeStruct, ObjectMeta, Pod

Path = tuple[str | int, ...]
_SCALARS: dict[Any, Any] = {str: "1", int: 1, bool: True, float: 1.5}


def example(kind: Any) -> Any:
    """Return plain data with every field of a type set, as it is on the wire."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, type) and issubclass(kind, KubeStruct):
        hints = typing.get_type_hints(kind)
        return {
            field.encode_name: example(hints[field.name]) for field in msgspec.structs.fields(kind)
        }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return example(arguments[0])
    if origin is dict:
        return {"memory": example(arguments[1])}
    if origin is tuple:
        return [example(arguments[0])]
    raise TypeError(f"no example of {kind}")


def pod() -> dict[str, Any]:
    """Return a pod with everything in it that is ever read."""
    document: dict[str, Any] = example(Pod)
    assert document["metadata"] == example(ObjectMeta)
    return document


def request() -> dict[str, Any]:
    """Return a request with everything in it."""
    node = {"metadata": {"name": "gpu-1"}, "spec": {"unschedulable": False}}
    return {
        "Pod": pod(),
        "Nodes": {"metadata": {}, "items": [node]},
        "NodeNames": ["gpu-1"],
    }


def paths(document: Any, so_far: Path = ()) -> Iterator[Path]:
    """Yield the way to every value of a document, itself left out."""
    if isinstance(document, dict):
        steps: list[tuple[str | int, Any]] = list(document.items())
    elif isinstance(document, list):
        steps = list(enumerate(document))
    else:
        return
    for step, value in steps:
        yield (*so_far, step)
        yield from paths(value, (*so_far, step))


def put(document: Any, path: Path, value: Any) -> Any:
    """Return a copy of a document with one value replaced."""
    if not path:
        return value
    first, *rest = path
    copy = document.copy()
    copy[first] = put(document[first], tuple(rest), value)
    return copy


def name(path: Path) -> str:
    """Write a path as people do: ``Pod.spec.containers[0].name``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
