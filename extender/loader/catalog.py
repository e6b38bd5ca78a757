"""The catalog: which models the node caches should hold, from where, and within which limits.

One YAML document (``ModelCatalog``), mounted from a ConfigMap into every loader. It is checked
whole: a document with an error changes nothing, and all its errors are named.
"""

from __future__ import annotations

import hashlib
import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from extender.documents import API_VERSION, Section, load_yaml, read_document
from extender.errors import InvalidQuantityError
from extender.kube.names import is_label_value, is_qualified_name
from extender.kube.quantity import parse_quantity
from extender.loader.layout import model_path_problem
from extender.loader.sources import Part, SourceError
from extender.loader.sources.urls import locate

KIND = "ModelCatalog"

Percent = Annotated[float, Meta(gt=0, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 365)]
Size = str | int
_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"
Name = Annotated[str, Meta(pattern=_NAME)]
Pattern = Annotated[str, Meta(min_length=1, max_length=255)]


class CatalogModel(Section, frozen=True):
    """One model.

    ``source`` and ``revision``: see ``sources.urls.locate``. ``include`` and ``exclude``: shell
    patterns on the paths of its files. ``without``: what it is meant to have none of (a draft head
    has no tokenizer of its own, a single file no config). ``path``: where it lies under the cache's
    directory; left out, its name. ``node_selector`` and ``copies``: the nodes that should hold it,
    see ``spreading.holders``. ``priority``: higher ones are fetched first and removed last.
    ``pin``: never removed to make room. ``on_demand``: true, fetched only where a pod waits for it;
    false, never because a pod waits for it; left out, also where a pod waits for it.
    ``replace_foreign``: what another program left at its path may go where it is not this model.
    ``replace_in_use``: a new revision takes the old one's place though pods read it.
    """

    name: Name
    source: str
    revision: str | None = None
    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    without: tuple[Part, ...] = ()
    path: str | None = None
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    copies: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    pin: bool = False
    on_demand: bool | None = None
    replace_foreign: bool = False
    replace_in_use: bool = False

    @property
    def directory(self) -> str:
        """Where it lies under the cache's directory."""
        return self.name if self.path is None else self.path


class WatermarkSection(Section, frozen=True):
    """``watermarks``: above ``high`` percent of the disk used, models go until it is at ``low``.

    ``reserve`` is kept free at all times: nothing is fetched that would need it.
    """

    high_percent: Percent = 90.0
    low_percent: Percent = 80.0
    reserve: Size = "2Gi"

    @property
    def reserve_bytes(self) -> int:
        """``reserve`` in bytes."""
        return parse_quantity(self.reserve)


class LimitSection(Section, frozen=True):
    """``limits``: of one loader, over all its downloads; bytes per second 0: no bound.

    ``downloads``: models that are fetched at the same time. ``proof_bytes_per_second``: how fast
    the bytes of published models are read again in the background.
    """

    downloads: Annotated[int, Meta(ge=1, le=64)] = 2
    connections: Annotated[int, Meta(ge=1, le=256)] = 8
    bytes_per_second: Size = 0
    proof_bytes_per_second: Size = "50M"

    @property
    def bandwidth(self) -> int:
        """``bytes_per_second`` as a number; 0: no bound."""
        return parse_quantity(self.bytes_per_second)

    @property
    def proof_bandwidth(self) -> int:
        """``proof_bytes_per_second`` as a number; 0: no bound."""
        return parse_quantity(self.proof_bytes_per_second)


class Catalog(Section, frozen=True):
    """The whole document.

    ``on_demand`` false: nothing is fetched because a pod waits for it. ``grace_seconds``: how long
    a model that left the catalog stays on the nodes. ``refresh_seconds``: how long after a model
    was looked up at its source that is done again, unless it names a commit; 0: only at a start.
    """

    api_version: str = API_VERSION
    kind: str = KIND
    on_demand: bool = True
    grace_seconds: Seconds = 86_400.0
    refresh_seconds: Seconds = 21_600.0
    watermarks: WatermarkSection = WatermarkSection()
    limits: LimitSection = LimitSection()
    models: tuple[CatalogModel, ...] = ()

    def fetches_on_demand(self, model: CatalogModel) -> bool:
        """Tell whether a model is fetched on a node where a pod waits for it."""
        return self.on_demand and model.on_demand is not False

    @property
    def digest(self) -> str:
        """What is in force, in a few characters: equal for documents that mean the same."""
        ordered = msgspec.structs.replace(
            self, models=tuple(sorted(self.models, key=lambda model: model.name))
        )
        text = msgspec.json.encode(ordered, order="deterministic")
        return f"sha256:{hashlib.sha256(text).hexdigest()}"


def load_catalog(path: Path) -> Catalog:
    """Read a file. Raises InvalidConfigurationError that lists every error."""
    return read_catalog(load_yaml(path), name=str(path))


def read_catalog(document: Any, *, name: str = "catalog") -> Catalog:
    """Check a parsed document and return it typed; see ``load_catalog``."""
    read = read_document(
        document,
        Catalog,
        name=name,
        kind=KIND,
        further=lambda read: (
            _limit_errors(read, document) + _errors_of_models(document.get("models"))
        ),
    )
    return msgspec.structs.replace(read, models=tuple(_revised(model) for model in read.models))


def _revised(model: CatalogModel) -> CatalogModel:
    """Return a model whose revision is in ``revision`` alone, however it was written."""
    location = locate(model.source, model.revision)
    return msgspec.structs.replace(model, source=location.url, revision=location.revision)


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """A model as the document gives it, whatever else is wrong with it.

    ``label`` is its name, or its place in the list; ``directory`` None where that cannot be told.
    """

    label: str
    source: str | None
    revision: str | None
    directory: str | None
    selector: dict[Any, Any]


def _errors_of_models(models: Any) -> list[str]:
    given = [
        _given(str(at), model)
        for at, model in enumerate(models if isinstance(models, list) else ())
        if isinstance(model, dict)
    ]
    errors = [f"models[{one.label}].{error}" for one in given for error in _model_errors(one)]
    return errors + _path_errors(given)


def _given(place: str, model: dict[Any, Any]) -> _Given:
    name, source, revision, path = (
        found if isinstance(found, str) else None
        for found in (model.get(key) for key in ("name", "source", "revision", "path"))
    )
    proper = name if name is not None and re.search(_NAME, name) else None
    return _Given(
        label=place if name is None else name,
        source=source,
        revision=revision,
        directory=proper if model.get("path") is None else path,
        selector=selector if isinstance(selector := model.get("nodeSelector"), dict) else {},
    )


def _limit_errors(read: Catalog, document: dict[str, Any]) -> list[str]:
    sizes = {
        "watermarks.reserve": read.watermarks.reserve,
        "limits.bytesPerSecond": read.limits.bytes_per_second,
        "limits.proofBytesPerSecond": read.limits.proof_bytes_per_second,
    }
    errors = []
    for field, size in sizes.items():
        try:
            parse_quantity(size)
        except InvalidQuantityError as error:
            errors.append(f"{field}: {error}")
    marks, given = read.watermarks, document.get("watermarks")
    percents = {"lowPercent": marks.low_percent, "highPercent": marks.high_percent}
    # What was refused has its default here, of which nobody has spoken.
    told = not isinstance(given, dict) or {**percents, **given}.items() >= percents.items()
    if told and marks.low_percent >= marks.high_percent:
        errors.append(
            f"watermarks.lowPercent: {marks.low_percent:g} is not below highPercent "
            f"({marks.high_percent:g}); lower it"
        )
    return errors


def _model_errors(given: _Given) -> list[str]:
    errors = []
    try:
        location = locate(given.source, given.revision) if given.source is not None else None
    except SourceError as error:
        errors.append(f"source: {error}")
    else:
        if location is not None and location.scheme == "http":
            errors.append("source: http:// can be read and changed on the way; write https://")
    problem = model_path_problem(given.directory) if given.directory is not None else None
    if problem is not None:
        errors.append(
            f"path: {given.directory!r} {problem}; write it relative to the cache's directory"
        )
    for key, value in given.selector.items():
        if isinstance(key, str) and not is_qualified_name(key):
            errors.append(f"nodeSelector: {key!r} can be no label's name; write it like zone")
        if isinstance(value, str) and not is_label_value(value):
            errors.append(f"nodeSelector: {value!r} can be no label's value: no node has it")
    return errors


def _path_errors(models: list[_Given]) -> list[str]:
    placed = [(given.label, given.directory) for given in models if given.directory is not None]
    return [
        f"models[{two}].path: {second!r} overlaps with {first!r} of model {one}; give each a "
        "directory of its own"
        for (one, first), (two, second) in combinations(placed, 2)
        if one != two and _overlap(first, second)
    ]


def _overlap(one: str, two: str) -> bool:
    short, long = sorted((f"{one}/", f"{two}/"), key=len)
    return long.startswith(short)
