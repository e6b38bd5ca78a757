"""The words of this package: model references, strategies, needs, and what a template fills."""

from __future__ import annotations

from enum import StrEnum

import msgspec

ANNOTATION_PREFIX = "modelcache.dev/"

MODEL_ANNOTATION = f"{ANNOTATION_PREFIX}model"
"""On pod templates, by you: the model, where it cannot be told from the spec. A path in the
container, ``hf://org/name[@revision]``, or ``none``."""

NEED_ANNOTATION = f"{ANNOTATION_PREFIX}need"
"""On pod templates, by you: ``required`` (must be there), ``preferred`` (sooner is better), or
``ignore``."""

LOADER_LABEL = f"{ANNOTATION_PREFIX}loader"
"""On DaemonSets' templates, by you: ``true`` makes it a loader though it does not look like one."""

MODELS_ANNOTATION = f"{ANNOTATION_PREFIX}models"
"""On DaemonSets' templates, by you: paths that this loader vouches for, one a line, where its
script cannot be read."""


class Strategy(StrEnum):
    """How a pod gets its weights."""

    NODE_CACHE = "node-cache"
    SHARED_VOLUME = "shared-volume"
    MEMORY = "memory"
    IMAGE = "image"
    NONE = "none"


class Source(StrEnum):
    """Where the weights are when the pod opens them."""

    HOST_PATH = "hostPath"
    CLAIM = "claim"
    MEMORY = "memory"
    IMAGE = "image"
    HUB = "hub"
    UNKNOWN = "unknown"


class Need(StrEnum):
    """What it means for the pod when the model is not there."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    IGNORE = "ignore"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """What the model is to the pod."""

    MODEL = "model"
    DRAFT = "draft"
    ADAPTER = "adapter"


class ModelReference(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a pod asks for.

    ``model`` is what the pod says: a hub id or a path in the container. ``host_path`` is the
    directory on the node (source hostPath). ``claim`` and ``claim_path`` name the claim (of the
    pod's namespace) and the path inside the volume, without a leading slash. ``image`` is the OCI
    image that carries the weights. ``volume`` is the pod's volume. ``read_from`` lists the spec
    fields it was read from (``containers[0].args[3]``). ``unknown`` says in words what could not
    be told, else None. ``origin`` is what an init container fills a memory volume from.
    ``can_fetch``: the spec shows that the pod itself fills the node's cache where the model is
    missing (source hostPath), whatever need an annotation asks for.
    """

    role: Role = Role.MODEL
    strategy: Strategy = Strategy.NONE
    source: Source = Source.UNKNOWN
    need: Need = Need.UNKNOWN
    model: str | None = None
    revision: str | None = None
    host_path: str | None = None
    claim: str | None = None
    claim_path: str | None = None
    image: str | None = None
    volume: str | None = None
    bytes: int | None = None
    read_from: tuple[str, ...] = ()
    unknown: str | None = None
    origin: ModelReference | None = None
    can_fetch: bool = False

    @property
    def title(self) -> str:
        """Return what people call it: as the pod says it, and what it is beside the served one."""
        role = "" if self.role is Role.MODEL else f" ({self.role})"
        return f"{self.model or 'a model that cannot be told'}{role}"


class Warning(msgspec.Struct, frozen=True):  # noqa: A001 - the word of the explain document
    """Something that the author of the spec should know. ``reason`` is a CamelCase token."""

    reason: str
    message: str


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What one pod (template) asks for; the serving model comes first."""

    references: tuple[ModelReference, ...] = ()
    warnings: tuple[Warning, ...] = ()


class DeclaredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a template says it puts at ``path`` (on the node, or inside a claim)."""

    path: str
    model: str | None = None
    revision: str | None = None
    read_from: tuple[str, ...] = ()


class LoaderTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What a loader DaemonSet's template says.

    ``directories`` are the host directories that it mounts writable, each absolute and without a
    trailing slash. ``models`` are those that it declares, by host path. ``opaque`` is true where
    it may load more than ``models`` says (a script that cannot be read to the end).
    ``ready_means_done`` is false where its pods are Ready while they still fetch: a main container
    that fetches has no probe. ``init_means_done`` is true where only init containers fetch: once
    they have ended everything is there, whatever becomes of the pod.
    """

    directories: tuple[str, ...]
    models: tuple[DeclaredModel, ...] = ()
    opaque: bool = False
    ready_means_done: bool = True
    init_means_done: bool = True
    reports: bool = False


class ClaimWriter(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a Job's template writes into a claim (path inside the volume, no slash)."""

    claim: str
    model: DeclaredModel
