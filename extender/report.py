"""What a loader says of its node, and what the extender asks of it: the schema that both share.

Three texts of JSON, each with a schema version, none written where nothing has changed:

``modelcache.dev/report`` on the loader's own pod, written on changes of state only, because every
update of a bound pod makes kube-scheduler try all refused pods again.

``modelcache.dev/progress`` on a Lease for each node, written by the loader as it works. It wakes
nobody. The Lease's ``renewTime`` is the loader's proof of life.

``modelcache.dev/wanted`` on the same Lease, written by the extender: what a waiting pod needs.

Paths of models are relative to the report's ``directory``, so that no entry can point elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from extender.errors import InvalidReportError

REPORT_ANNOTATION = "modelcache.dev/report"
"""On loader pods, by the loader: its report, JSON with a schema version."""

PROGRESS_ANNOTATION = "modelcache.dev/progress"
"""On loaders' Leases, by the loader: downloads with their rate, free space, speed of the disk."""

WANTED_ANNOTATION = "modelcache.dev/wanted"
"""On loaders' Leases, by the extender: the models that pods wait for on this node."""

LEASE_LABEL = "modelcache.dev/loader-lease"
"""On loaders' Leases, by the loader: always ``true``; what the extender's watch selects by."""

VERSION = 1

MAX_REPORT_BYTES = 32 * 1024
"""The apiserver takes 256 KiB of annotations on an object, and copies each report to all watchers.

https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/
"""

WISH_SECONDS = 180.0
"""A wish is forgotten so long after it was last renewed: longer than a new leader of the extender
needs to take over, or the extender to start again."""

MAX_REASON_CHARACTERS = 200

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""JSON has numbers of any length, and whoever may annotate a pod of his own writes what he likes;
what no file system can count is in no report."""

Rate = Annotated[float, Meta(ge=0, le=1e15)]
"""Bytes per second."""


def lease_name(node: str) -> str:
    """Return the name of the Lease that the loader of a node keeps in its own namespace."""
    return f"loader.{node}"


class ReportedState(StrEnum):
    """How far the loader is with a model of its catalog."""

    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"
    ABSENT = "absent"


class Document(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False
):
    """Base of all parts. What is at its default is left out; unknown keys are skipped."""


class ReportedModel(Document, frozen=True, kw_only=True):
    """One model of the catalog on one node.

    ``path`` is relative to the report's directory, ``model`` the source as the catalog names it
    (``hf://org/name``), ``bytes`` its size, ``proven_at`` an RFC 3339 time, ``reason`` why it
    failed, in words. ``on_demand``: it is fetched here where a pod waits, and not otherwise.
    ``leaves_at`` is an RFC 3339 time: the catalog does not have it on this node any more, and after
    that time it goes, unless a pod of the node reads it.
    """

    path: str
    state: ReportedState
    model: str | None = None
    revision: str | None = None
    bytes: Count | None = None
    proven_at: str | None = None
    reason: str = ""
    on_demand: bool = False
    leaves_at: str | None = None


class Unlisted(Document, frozen=True, kw_only=True):
    """How many models did not fit into the report, and the SHA-256 of what they would have said."""

    count: Count
    digest: str


class Report(Document, frozen=True, kw_only=True):
    """Everything one loader pod vouches for.

    ``directory`` is the cache's directory on the node, absolute. ``catalog`` is the digest of the
    catalog that is in force. A path under the directory that is not in ``models`` is absent, but
    only where nothing is ``unlisted``.
    """

    version: int = VERSION
    directory: str
    catalog: str = ""
    models: tuple[ReportedModel, ...] = ()
    unlisted: Unlisted | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """An entry of a report that is not of this schema; ``path`` is empty where it has none."""

    path: str
    problem: str


class _Sheet(Document, frozen=True, kw_only=True):
    """A report whose models are read one by one."""

    version: int = VERSION
    directory: str
    models: tuple[msgspec.Raw, ...] = ()
    unlisted: Unlisted | None = None


class _Named(Document, frozen=True, kw_only=True):
    path: str


class Transfer(Document, frozen=True, kw_only=True):
    """A download that is under way: bytes, and bytes per second of late."""

    path: str
    bytes_done: Count
    bytes_total: Count
    bytes_per_second: Rate = 0.0


class Disk(Document, frozen=True, kw_only=True):
    """The file system of the cache: bytes, and the bytes per second at which it was read."""

    free_bytes: Count
    total_bytes: Count
    read_bytes_per_second: Rate | None = None


class Progress(Document, frozen=True, kw_only=True):
    """What changes all the time, on the Lease of the node."""

    version: int = VERSION
    transfers: tuple[Transfer, ...] = ()
    disk: Disk | None = None


Renewal = tuple[str, str]
"""A wish's path and its ``until``."""


class WantedModel(Document, frozen=True, kw_only=True):
    """A model that a waiting pod (``namespace/name``) needs here.

    ``until`` is an RFC 3339 time by the clock of whoever wrote it, renewed for as long as the pod
    waits. Two machines' clocks may differ by more than a wish lasts, so whoever reads it compares
    it with no clock: a wish is forgotten ``WISH_SECONDS`` after a new ``until`` was first seen.
    ``asked_at`` is when it was asked for first.
    """

    path: str
    until: str
    pod: str = ""
    asked_at: str = ""

    @property
    def renewal(self) -> Renewal:
        """Return what is another one whenever the wish was renewed."""
        return self.path, self.until


class Wanted(Document, frozen=True, kw_only=True):
    """What the extender asks of one node's loader."""

    version: int = VERSION
    models: tuple[WantedModel, ...] = ()


def first_seen(wanted: Wanted, before: Mapping[Renewal, float], now: float) -> dict[Renewal, float]:
    """Return since when each wish has been seen as it is; ``before``: what this returned last."""
    return {model.renewal: before.get(model.renewal, now) for model in wanted.models}


D = TypeVar("D", Report, Progress, Wanted)


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Report, Progress, Wanted, _Sheet, ReportedModel, _Named)
}
"""Made at import, by one thread: see ``kube.decode``."""

_ODD = (msgspec.DecodeError, UnicodeError, RecursionError)


def read(text: str, kind: type[D]) -> D:
    """Read one of the three texts.

    Raises InvalidReportError where it is not of that kind, or of a version that is not known.
    """
    try:
        document: D = _DECODERS[kind].decode(text)
    except _ODD as error:
        raise InvalidReportError(f"not a {kind.__name__.lower()}: {error}") from error
    _expect_known(document.version, kind.__name__.lower())
    return document


def _expect_known(version: int, what: str) -> None:
    if version != VERSION:
        raise InvalidReportError(
            f"{what} has version {version}, known is {VERSION}; let loader and extender be of one "
            "release"
        )


def read_report_entries(text: str) -> tuple[Report, Iterator[ReportedModel | Unreadable]]:
    """Read a report of which single models may be odd; return it, and its models one by one.

    Raises InvalidReportError where the rest of it is none, or of a version that is not known.
    """
    try:
        sheet: _Sheet = _DECODERS[_Sheet].decode(text)
    except _ODD as error:
        raise InvalidReportError(f"not a report: {error}") from error
    _expect_known(sheet.version, "report")
    report = Report(directory=sheet.directory, unlisted=sheet.unlisted)
    return report, map(_entry, sheet.models)


def _entry(raw: msgspec.Raw) -> ReportedModel | Unreadable:
    try:
        model: ReportedModel = _DECODERS[ReportedModel].decode(raw)
    except _ODD as error:
        try:
            path = _DECODERS[_Named].decode(raw).path
        except _ODD:
            path = ""
        return Unreadable(path, str(error))
    return model


def write(document: Report | Progress | Wanted) -> str:
    """Return a document as the text of its annotation; a report is cut to its bound first."""
    if isinstance(document, Report):
        document = bounded(document)
    return _text(document)


def bounded(report: Report, limit: int = MAX_REPORT_BYTES) -> Report:
    """Return a report whose text has at most ``limit`` bytes.

    First the reasons are cut short, then what only informs is left out, then models: those that are
    absent first, the ready ones last. What was left out is counted, with a digest, so that a
    change among it changes the report.
    """
    short = msgspec.structs.replace(report, models=tuple(_short(m) for m in report.models))
    if _size(short) <= limit:
        return short
    bare = msgspec.structs.replace(short, models=tuple(_bare(m) for m in short.models))
    if _size(bare) <= limit:
        return bare
    rank = {state: at for at, state in enumerate(ReportedState)}
    models = sorted(bare.models, key=lambda m: (rank[m.state], m.path))
    room = limit - _size(_cut(bare, (), models)) - len('"models":[],')
    kept: list[ReportedModel] = []
    for model in models:
        room -= _size(model) + 1
        if room < 0:
            break
        kept.append(model)
    return _cut(bare, kept, models[len(kept) :])


def _cut(report: Report, kept: Iterable[ReportedModel], left_out: list[ReportedModel]) -> Report:
    digest = hashlib.sha256(msgspec.json.encode(left_out)).hexdigest()
    unlisted = Unlisted(count=len(left_out), digest=f"sha256:{digest}")
    return msgspec.structs.replace(report, models=tuple(kept), unlisted=unlisted)


def _short(model: ReportedModel) -> ReportedModel:
    return msgspec.structs.replace(model, reason=model.reason[:MAX_REASON_CHARACTERS])


def _bare(model: ReportedModel) -> ReportedModel:
    return msgspec.structs.replace(
        model, model=None, revision=None, proven_at=None, reason=model.reason[:40]
    )


def _size(document: Document) -> int:
    return len(msgspec.json.encode(document))


def _text(document: Document) -> str:
    return msgspec.json.encode(document).decode()
