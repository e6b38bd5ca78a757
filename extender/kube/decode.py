"""Bytes or plain data into narrow objects, one object at a time.

The API marks absent lists and maps as ``null`` in places (``creationTimestamp: null`` in every
template, ``containers: null`` in an empty spec). The fast path decodes without looking for them;
only an object that fails is decoded again with its nulls taken out.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeVar

import msgspec

from extender.errors import InvalidObjectError
from extender.kube import objects

T = TypeVar("T", bound=objects.KubeStruct)

NO_NAME = "(no name)"

KINDS: dict[str, type[objects.KubeObject]] = {
    kind.__name__: kind
    for kind in (
        objects.DaemonSet,
        objects.Job,
        objects.Lease,
        objects.Namespace,
        objects.Node,
        objects.PersistentVolume,
        objects.PersistentVolumeClaim,
        objects.Pod,
        objects.StorageClass,
    )
}
"""The kinds that the cluster state is made of, by their API kind."""

_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in KINDS.values()
}
"""Made while this module is imported, by one thread. msgspec describes a struct when it is first
decoded; a second thread that meets the same struct meanwhile takes the unfinished description and
crashes. The kinds share most of theirs, and each is first decoded by a thread of its own.
"""
_making = Lock()


def decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode one JSON object. Raises InvalidObjectError that names the object and the field."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_with_nulls(bytes(data), kind)


def convert(data: Any, kind: type[T]) -> T:
    """Read one object from plain data (YAML). Raises InvalidObjectError like ``decode``."""
    try:
        return msgspec.convert(without_nulls(data), kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidObjectError(f"{kind.__name__} {_name_of(data)}: {error}") from error


def without_nulls(data: Any) -> Any:
    """Return plain data with every null map value and list item left out."""
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_nulls(item) for item in data if item is not None]
    return data


def _decode_with_nulls(data: bytes, kind: type[T]) -> T:
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidObjectError(f"{kind.__name__}: not JSON: {error}") from error
    try:
        return msgspec.convert(without_nulls(plain), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidObjectError(f"{kind.__name__} {_name_of(plain)}: {error}") from error


def _name_of(plain: Any) -> str:
    metadata = plain.get("metadata") if isinstance(plain, dict) else None
    if not isinstance(metadata, dict):
        return "(no metadata)"
    namespace, name = metadata.get("namespace"), metadata.get("name")
    return f"{namespace}/{name or NO_NAME}" if namespace else str(name or NO_NAME)
