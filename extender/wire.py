"""The scheduler extender protocol: bytes in, bytes out, and nothing else.

Types of k8s.io/kube-scheduler/extender/v1, which have no JSON tags: keys are Go names (``Pod``,
``NodeNames``), Go reads them in any case, and so does this module. Unset pointers arrive as null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import chain
from typing import Any

import msgspec

from extender.errors import InvalidObjectError, ProtocolError
from extender.kube.decode import decode
from extender.kube.objects import KubeStruct, Pod
from extender.name_sets import NameSets


class _Name(KubeStruct, frozen=True):
    name: str = ""


class _NamedOnly(KubeStruct, frozen=True):
    """A node object of which only the name is read; the rest is passed through as bytes."""

    metadata: _Name = _Name()


class ExtenderArgs(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The question of filter and prioritize.

    ``names`` are the candidates in the order asked, each once. ``nodes`` holds the full node
    objects by name where the scheduler sends them (``nodeCacheCapable: false``), else None.
    """

    pod: Pod
    names: tuple[str, ...]
    nodes: Mapping[str, msgspec.Raw] | None

    @cached_property
    def asked(self) -> frozenset[str]:
        """Return the candidates as a set: for the same ones the very same, while it is kept."""
        return _name_sets.of(self.names)


class FilterResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of filter. ``unresolvable`` maps refused nodes to their reason's text."""

    names: Sequence[str] = ()
    unresolvable: Mapping[str, str] = {}
    error: str = ""


class HostPriority(msgspec.Struct, frozen=True, gc=False):
    """One entry of the answer of prioritize: a node and its score from 0 to 10."""

    host: str = msgspec.field(name="Host")
    score: int = msgspec.field(name="Score")


class Entries(dict[str, bytes]):
    """The entries of nodes with one score, encoded once as they are asked for; bounded."""

    def __init__(self, score: int) -> None:
        super().__init__()
        self._score = score

    def __missing__(self, name: str) -> bytes:
        if len(self) >= _MAX_ENTRIES:
            self.clear()
        entry = self[name] = _encoder.encode(HostPriority(name, self._score))
        return entry


def entries() -> Sequence[Entries]:
    """Return the entries for each score, none made yet."""
    return tuple(Entries(score) for score in range(11))


_COMMON = entries()


class Written(msgspec.Struct):
    """An answer of prioritize, empty until it is written for the first time."""

    answer: bytes = b""


class Ranking(msgspec.Struct, frozen=True):
    """The answer of prioritize: every node asked about, in groups of one score each.

    ``entries`` are those of answers about the same nodes, for as long as these are kept. Where all
    nodes score the same, ``alike`` is the set of them: for the same one so is the answer.
    ``written`` is shared by the questions that are answered alike.
    """

    groups: Sequence[tuple[int, Sequence[str]]]
    entries: Sequence[Entries] = _COMMON
    alike: AbstractSet[str] | None = None
    written: Written | None = None

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((name, score) for score, names in self.groups for name in names)


class BindArgs(msgspec.Struct, frozen=True, kw_only=True):
    """The question of bind: may this very pod go to this node."""

    namespace: str
    name: str
    uid: str
    node: str


class Victims(msgspec.Struct, frozen=True, kw_only=True):
    """The pods that would be evicted from one node, by UID."""

    uids: tuple[str, ...]
    pdb_violations: int


class PreemptArgs(msgspec.Struct, frozen=True, kw_only=True):
    """The question of preempt: which of these candidates would really help the pod."""

    pod: Pod
    candidates: Mapping[str, Victims]


class _Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``ExtenderArgs`` as Go's encoder writes it: read in one go."""

    pod: msgspec.Raw = msgspec.field(name="Pod")
    nodes: None = msgspec.field(name="Nodes", default=None)
    names: tuple[str, ...] = msgspec.field(name="NodeNames")


class _MetaPod(msgspec.Struct, frozen=True):
    uid: str = msgspec.field(name="UID")


class _MetaVictims(msgspec.Struct, frozen=True):
    pods: Sequence[_MetaPod] = msgspec.field(name="Pods")
    pdb_violations: int = msgspec.field(name="NumPDBViolations")


class _NodeList(msgspec.Struct):
    items: list[Any]


class _FilterAnswer(msgspec.Struct, kw_only=True):
    nodes: _NodeList | None = msgspec.field(name="Nodes", default=None)
    names: Sequence[str] | None = msgspec.field(name="NodeNames", default=None)
    failed: Mapping[str, str] = msgspec.field(name="FailedNodes", default={})
    unresolvable: Mapping[str, str] = msgspec.field(name="FailedAndUnresolvableNodes", default={})
    error: str = msgspec.field(name="Error", default="")


_name_sets = NameSets()
_last_alike: tuple[AbstractSet[str] | None, bytes] = (None, b"")
"""The last answer in which all nodes scored the same: pods without a model get it in turn."""
_last_pod: tuple[bytes, Pod] = (b"", Pod())
"""The last pod that was asked about, as it came: prioritize is asked about that of filter."""

_args = msgspec.json.Decoder(_Args)
_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_names = msgspec.json.Decoder(tuple[str, ...])
_names_or_null = msgspec.json.Decoder(list[str | None])
_raw_items = msgspec.json.Decoder(list[msgspec.Raw])
_integer = msgspec.json.Decoder(int | None)
_string_or_null = msgspec.json.Decoder(str | None)
_encoder = msgspec.json.Encoder()
_NULL = b"null"
_MAX_ENTRIES = 50_000
_REMEDY = "send what k8s.io/kube-scheduler/extender/v1 defines"


def read_args(body: bytes | memoryview) -> ExtenderArgs:
    """Read a filter or prioritize request. Raises ProtocolError that names the field."""
    nodes: Mapping[str, msgspec.Raw] | None = None
    try:
        plain = _args.decode(body)
        pod, names = _pod(plain.pod), plain.names
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = _fields(body, "the request")
        pod = _pod(fields.get("pod"))
        names = _read_names(fields.get("nodenames"))
        nodes = _read_nodes(fields.get("nodes"))
        if nodes is not None and not names:
            names = tuple(nodes)
    args = ExtenderArgs(pod=pod, names=names, nodes=nodes)
    if len(args.asked) < len(names):
        return ExtenderArgs(pod=pod, names=tuple(dict.fromkeys(names)), nodes=nodes)
    return args


def write_filter_result(result: FilterResult, args: ExtenderArgs | None) -> bytes:
    """Write the answer of filter in the form that the request used."""
    answer = _FilterAnswer(unresolvable=result.unresolvable, error=result.error)
    if args is not None and args.nodes is not None:
        kept = (args.nodes[name] for name in result.names if name in args.nodes)
        answer.nodes = _NodeList(list(kept))
    else:
        answer.names = result.names
    return _encoder.encode(answer)


def write_priorities(ranking: Ranking) -> bytes:
    """Write the answer of prioritize."""
    global _last_alike  # noqa: PLW0603 - one answer, replaced as a whole
    alike, answer = _last_alike
    if alike is not None and alike is ranking.alike:
        return answer
    if ranking.written is not None and ranking.written.answer:
        return ranking.written.answer
    entries = (map(ranking.entries[score].__getitem__, names) for score, names in ranking.groups)
    answer = b"[" + b",".join(chain.from_iterable(entries)) + b"]"
    if ranking.alike is not None:
        _last_alike = ranking.alike, answer
    if ranking.written is not None:
        ranking.written.answer = answer
    return answer


def read_bind_args(body: bytes | memoryview) -> BindArgs:
    """Read a bind request. Raises ProtocolError that names the field."""
    fields = _fields(body, "the request")
    texts = {}
    for key in ("PodNamespace", "PodName", "PodUID", "Node"):
        text = _text(fields.get(key.lower()), key)
        if not text:
            raise ProtocolError(f"field {key} is missing; send the pod and the node to bind it to")
        texts[key] = text
    return BindArgs(
        namespace=texts["PodNamespace"],
        name=texts["PodName"],
        uid=texts["PodUID"],
        node=texts["Node"],
    )


def write_bind_result(error: str) -> bytes:
    """Write the answer of bind; an empty error means that the pod is bound."""
    return _encoder.encode({"Error": error})


def read_preempt_args(body: bytes | memoryview) -> PreemptArgs:
    """Read a preempt request, in either form of victims. Raises ProtocolError."""
    fields = _fields(body, "the request")
    pod = _pod(fields.get("pod"))
    for key in ("NodeNameToMetaVictims", "NodeNameToVictims"):
        raw = fields.get(key.lower())
        if raw is not None and bytes(raw) != _NULL:
            return PreemptArgs(pod=pod, candidates=_candidates(raw, key))
    return PreemptArgs(pod=pod, candidates={})


def write_preempt_result(candidates: Mapping[str, Victims]) -> bytes:
    """Write the answer of preempt.

    Never a null in it: one as victims crashes kube-scheduler (pkg/scheduler/extender.go).
    """
    answer = {
        node: _MetaVictims([_MetaPod(uid) for uid in victims.uids], victims.pdb_violations)
        for node, victims in candidates.items()
    }
    return _encoder.encode({"NodeNameToMetaVictims": answer})


def _candidates(raw: msgspec.Raw, key: str) -> dict[str, Victims]:
    try:
        nodes = _top.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"field {key} is not a map of nodes to victims: {error}") from error
    return {
        node: _victims(victims, f"{key}[{node}]")
        for node, victims in nodes.items()
        if bytes(victims) != _NULL
    }


def _victims(raw: msgspec.Raw, where: str) -> Victims:
    fields = _fields(raw, f"field {where}")
    pods, violations = fields.get("pods"), fields.get("numpdbviolations")
    try:
        items = _raw_items.decode(pods) if pods is not None and bytes(pods) != _NULL else []
        number = _integer.decode(violations) if violations is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"field {where} is not a list of victims: {error}") from error
    uids = [_victim_uid(item, where) for item in items if bytes(item) != _NULL]
    return Victims(uids=tuple(dict.fromkeys(uids)), pdb_violations=number or 0)


def _victim_uid(raw: msgspec.Raw, where: str) -> str:
    """Return the UID of a victim: of a MetaPod's own field, or of a full pod's metadata."""
    fields = _fields(raw, f"a victim in field {where}")
    metadata = fields.get("metadata")
    if metadata is not None and bytes(metadata) != _NULL:
        fields = _fields(metadata, f"metadata of a victim in field {where}")
    uid = _text(fields.get("uid"), f"{where}.Pods[].UID")
    if not uid:
        raise ProtocolError(f"field {where}: a victim has no UID")
    return uid


def _text(raw: msgspec.Raw | None, field: str) -> str:
    try:
        return "" if raw is None else (_string_or_null.decode(raw) or "")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"field {field} is not a text: {error}") from error


def _fields(body: bytes | memoryview | msgspec.Raw, what: str) -> dict[str, msgspec.Raw]:
    try:
        return {key.lower(): value for key, value in _top.decode(body).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"{what} is not a JSON object of the extender protocol: "
            f"{error if len(body) else 'it is empty'}; {_REMEDY}"
        ) from error


def _pod(raw: msgspec.Raw | None) -> Pod:
    """Return the pod: the very object of the question before where that was about the same."""
    global _last_pod  # noqa: PLW0603 - one pod, replaced as a whole
    text = _NULL if raw is None else bytes(raw)
    if text == _NULL:
        raise ProtocolError("field Pod is missing; send the pod that is to be scheduled")
    last, pod = _last_pod
    if text == last:
        return pod
    try:
        pod = decode(text, Pod)
    except InvalidObjectError as error:
        raise ProtocolError(f"field Pod cannot be read: {error}") from error
    _last_pod = text, pod
    return pod


def _read_names(raw: msgspec.Raw | None) -> tuple[str, ...]:
    if raw is None or bytes(raw) == _NULL:
        return ()
    try:
        return _names.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return tuple(name for name in _names_or_null.decode(raw) if name is not None)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"field NodeNames is not a list of node names: {error}") from error


def _read_nodes(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    if raw is None or bytes(raw) == _NULL:
        return None
    items = _fields(raw, "field Nodes").get("items")
    if items is None or bytes(items) == _NULL:
        return {}
    try:
        nodes = [node for node in _raw_items.decode(items) if bytes(node) != _NULL]
        named = {decode(node, _NamedOnly).metadata.name: node for node in nodes}
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidObjectError) as error:
        raise ProtocolError(f"field Nodes.items is not a list of nodes: {error}") from error
    return {name: node for name, node in named.items() if name}
