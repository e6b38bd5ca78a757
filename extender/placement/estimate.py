"""Estimated start: seconds until the pod would serve on a node.

    queue + missing bytes / source bandwidth + size / tier bandwidth + engine start

each of them times a factor that starts of the same kind have taught (``cluster/corrections``);
after ServerlessLLM's estimator (Fu et al., OSDI 2024), extended to nodes without the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.cluster.tiers import Tier
from extender.placement.policy import GB, Policy
from extender.placement.progress import bytes_left, seconds_left
from extender.report import Disk, Transfer
from extender.workload.model import ModelReference

HALF = 0.5
"""How far something is that is under way, where nobody tells: right on average."""

PLAUSIBLE_DISK = (0.01, 50.0)
"""GB/s between which a loader's measurement of its cache disk is believed."""

STALE_PENALTY = 5.0
"""Seconds added to a node whose copy is stale or leaves, so that every other ready node comes
before it."""

_PARAMETERS = re.compile(r"(?<![A-Za-z0-9.])(\d{1,4}(?:\.\d{1,3})?)\s?[bB](?![A-Za-z])")
_EXPERTS = re.compile(r"(?<![A-Za-z0-9])(\d{1,2})x(\d{1,3}(?:\.\d{1,2})?)[bB](?![A-Za-z])")
_QUANTIZED = (
    (re.compile(r"int4|4bit|awq|gptq|nvfp4|mxfp4|q4_|bnb", re.IGNORECASE), 0.5),
    (re.compile(r"fp8|int8|8bit|w8a8|q8_", re.IGNORECASE), 1.0),
)


class Start(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An estimate and its parts, in seconds before ``correction``, a factor.

    ``tier`` is where the weights are read from, ``evidence`` that a node's cache has them. A stale
    or leaving copy has no tier: its penalty is no time that anybody measures.
    """

    fetch: float = 0.0
    read: float = 0.0
    engine: float = 0.0
    penalty: float = 0.0
    correction: float = 1.0
    tier: Tier | None = None
    evidence: Evidence | None = None

    @property
    def seconds(self) -> float:
        """Return the whole."""
        return (self.fetch + self.read + self.engine + self.penalty) * self.correction

    @property
    def is_told(self) -> bool:
        """Tell whether anything is known of what is to be loaded, beside the engine's own time."""
        return bool(self.fetch or self.read or self.penalty)


class Others(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is under way on a node for others: pods that are starting there, and its loader.

    ``same``: one of the pods brings in this very model. ``reading`` has the sizes of the other
    models that they bring in, ``fetching`` what other downloads have left, both in bytes.
    """

    same: bool = False
    reading: tuple[int, ...] = ()
    fetching: tuple[int, ...] = ()


NOBODY = Others()


def _between(size: int, others: Iterable[int]) -> int:
    """Return the bytes of others that move before this much has, where all share evenly."""
    return sum(min(size, other) for other in others)


def model_bytes(reference: ModelReference, held: int | None, policy: Policy) -> int:
    """Return a model's size: as proven, as stated, as its name says, or the default."""
    for known in (held, reference.bytes):
        if known:
            return known
    return bytes_from_name(reference.model or "") or policy.default_model_bytes


@lru_cache(maxsize=4096)
def bytes_from_name(name: str) -> int | None:
    """Guess a size from a name such as ``Llama-3.1-8B-Instruct``: two bytes a parameter.

    Names of quantized weights count one byte (8 bit) or half a byte (4 bit) a parameter.
    """
    experts = _EXPERTS.search(name)
    plain = _PARAMETERS.search(name)
    if experts is not None:
        billions = float(experts[1]) * float(experts[2])
    elif plain is not None:
        billions = float(plain[1])
    else:
        return None
    width = next((width for pattern, width in _QUANTIZED if pattern.search(name)), 2.0)
    return int(billions * width * GB) or None


def from_cache(
    size: int,
    holding: Holding | None,
    *,
    warm: bool,
    policy: Policy,
    transfer: Transfer | None = None,
    disk: Disk | None = None,
    others: Others = NOBODY,
) -> Start:
    """Estimate a start from the node's disk, fetching first what is not there.

    ``transfer`` is the model's download where its loader tells of it, ``disk`` its disk as
    measured; without them a half of what is loading counts as there, and the disk is as configured.

    What several read or fetch at once they share evenly. How much pods that are starting have read
    already nobody tells: a half. What one of them is bringing in is brought in for all: the rest of
    it is waited for, and then it is in the page cache.
    """
    speeds = policy.bandwidths
    engine = policy.engine_start
    cached = size / speeds.page_cache / GB
    speed = disk_speed(disk, policy) * GB
    read = (size + HALF * _between(size, others.reading)) / speed
    if others.same:
        read = max(min(read, cached), HALF * size / speed)
    if holding is not None and (
        holding.state is ModelState.STALE
        or (holding.state is ModelState.READY and holding.leaves_at is not None)
    ):
        # Never as warm: for a large model that would be worth more than the penalty.
        return Start(read=read, engine=engine, penalty=STALE_PENALTY)
    if holding is not None and holding.state is ModelState.READY:
        if warm:
            read = cached
        tier = Tier.PAGE_CACHE if warm else Tier.DISK
        return Start(read=read, engine=engine, tier=tier)
    if _is_loading(holding) and transfer is not None:
        left = seconds_left(transfer)
        fetch = bytes_left(transfer) / speeds.hub / GB if left is None else left
        return Start(fetch=fetch, read=read, engine=engine, tier=Tier.HUB)
    begun = _is_loading(holding) or (others.same and not _has_failed(holding))
    missing = HALF * size if begun else size + _between(size, others.fetching)
    return Start(fetch=missing / speeds.hub / GB, read=read, engine=engine, tier=Tier.HUB)


def disk_speed(disk: Disk | None, policy: Policy) -> float:
    """Return the GB/s of a node's cache disk: as measured where that can be, else as configured."""
    measured = (disk.read_bytes_per_second or 0.0) / GB if disk is not None else 0.0
    low, high = PLAUSIBLE_DISK
    return measured if low <= measured <= high else policy.bandwidths.disk


def from_claim(size: int, *, warm: bool, policy: Policy) -> Start:
    """Estimate a start from a shared volume; a node that reads the same model has it cached."""
    speed = policy.bandwidths.page_cache if warm else policy.bandwidths.shared_volume
    tier = Tier.PAGE_CACHE if warm else Tier.SHARED_VOLUME
    return Start(read=size / speed / GB, engine=policy.engine_start, tier=tier)


def from_image(size: int, *, present: bool, policy: Policy) -> Start:
    """Estimate a start from an OCI image, pulling it first where the node has it not."""
    pull = 0.0 if present else size / policy.bandwidths.registry / GB
    read = size / policy.bandwidths.disk / GB
    tier = Tier.DISK if present else Tier.REGISTRY
    return Start(fetch=pull, read=read, engine=policy.engine_start, tier=tier)


def from_hub(size: int, policy: Policy) -> Start:
    """Estimate a start that downloads everything."""
    speeds = policy.bandwidths
    return Start(
        fetch=size / speeds.hub / GB,
        read=size / speeds.page_cache / GB,
        engine=policy.engine_start,
        tier=Tier.HUB,
    )


def _has_failed(holding: Holding | None) -> bool:
    return holding is not None and holding.state is ModelState.FAILED


def _is_loading(holding: Holding | None) -> bool:
    return holding is not None and holding.state is ModelState.LOADING
