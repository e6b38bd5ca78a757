"""The scheduler extender protocol: bytes in, bytes out, and nothing else.

Types of k8s.io/kube-scheduler/extender/v1, which have no JSON tags: keys are Go names (``Pod``,
``NodeNames``), Go reads them in any case, and so does this module. Unset pointers arrive as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from extender.errors import InvalidObjectError, ProtocolError
from extender.kube.decode import decode
from extender.kube.objects import KubeStruct, Pod


class _Name(KubeStruct, frozen=True):
    name: str = ""


class _NamedOnly(KubeStruct, frozen=True):
    """A node object of which only the name is read; the rest is passed through as bytes."""

    metadata: _Name = _Name()


class ExtenderArgs(msgspec.Struct, frozen=True, kw_only=True):
    """The question of filter and prioritize.

    ``names`` are the candidates in the order asked, each once. ``nodes`` holds the full node
    objects by name where the scheduler sends them (``nodeCacheCapable: false``), else None.
    """

    pod: Pod
    names: tuple[str, ...]
    nodes: Mapping[str, msgspec.Raw] | None


class FilterResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of filter. ``unresolvable`` maps refused nodes to their reason's text."""

    names: Sequence[str] = ()
    unresolvable: Mapping[str, str] = {}
    error: str = ""


class HostPriority(msgspec.Struct, frozen=True, gc=False):
    """One entry of the answer of prioritize: a node and its score from 0 to 10."""

    host: str = msgspec.field(name="Host")
    score: int = msgspec.field(name="Score")


class _NodeList(msgspec.Struct):
    items: list[Any]


class _FilterAnswer(msgspec.Struct, kw_only=True):
    nodes: _NodeList | None = msgspec.field(name="Nodes", default=None)
    names: Sequence[str] | None = msgspec.field(name="NodeNames", default=None)
    failed: Mapping[str, str] = msgspec.field(name="FailedNodes", default={})
    unresolvable: Mapping[str, str] = msgspec.field(name="FailedAndUnresolvableNodes", default={})
    error: str = msgspec.field(name="Error", default="")


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_names = msgspec.json.Decoder(list[str])
_names_or_null = msgspec.json.Decoder(list[str | None])
_raw_items = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_NULL = b"null"


def read_args(body: bytes) -> ExtenderArgs:
    """Read a filter or prioritize request. Raises ProtocolError that names the field."""
    fields = _fields(body, "the request")
    pod = _pod(fields.get("pod"))
    names = _read_names(fields.get("nodenames"))
    nodes = _read_nodes(fields.get("nodes"))
    if nodes is not None and not names:
        names = list(nodes)
    return ExtenderArgs(pod=pod, names=tuple(dict.fromkeys(names)), nodes=nodes)


def write_filter_result(result: FilterResult, args: ExtenderArgs | None) -> bytes:
    """Write the answer of filter in the form that the request used."""
    answer = _FilterAnswer(unresolvable=result.unresolvable, error=result.error)
    if args is not None and args.nodes is not None:
        kept = (args.nodes[name] for name in result.names if name in args.nodes)
        answer.nodes = _NodeList(list(kept))
    else:
        answer.names = result.names
    return _encoder.encode(answer)


def write_priorities(scores: Iterable[tuple[str, int]]) -> bytes:
    """Write the answer of prioritize."""
    return _encoder.encode([HostPriority(name, score) for name, score in scores])


def _fields(body: bytes | msgspec.Raw, what: str) -> dict[str, msgspec.Raw]:
    try:
        return {key.lower(): value for key, value in _top.decode(body).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"{what} is not a JSON object of the extender protocol: {error}"
        ) from error


def _pod(raw: msgspec.Raw | None) -> Pod:
    if raw is None or bytes(raw) == _NULL:
        raise ProtocolError("field Pod is missing; send the pod that is to be scheduled")
    try:
        return decode(raw, Pod)
    except InvalidObjectError as error:
        raise ProtocolError(f"field Pod cannot be read: {error}") from error


def _read_names(raw: msgspec.Raw | None) -> list[str]:
    if raw is None or bytes(raw) == _NULL:
        return []
    try:
        return _names.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return [name for name in _names_or_null.decode(raw) if name is not None]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"field NodeNames is not a list of node names: {error}") from error


def _read_nodes(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    if raw is None or bytes(raw) == _NULL:
        return None
    items = _fields(raw, "field Nodes").get("items")
    if items is None or bytes(items) == _NULL:
        return {}
    try:
        nodes = _raw_items.decode(items)
        named = {decode(node, _NamedOnly).metadata.name: node for node in nodes}
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidObjectError) as error:
        raise ProtocolError(f"field Nodes.items is not a list of nodes: {error}") from error
    return {name: node for name, node in named.items() if name}
