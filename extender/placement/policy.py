"""What an operator can set about decisions. The defaults are the documented ones."""

from __future__ import annotations

from enum import StrEnum

import msgspec

GB = 10**9


class OnStale(StrEnum):
    """What to do for pods that need certainty while the watch is old."""

    REFUSE = "refuse"
    NEUTRAL = "neutral"


class Bandwidths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GB/s (10^9 bytes per second) at which weights are read or fetched.

    The defaults are middle values of published figures (NVMe 2-4, NFS and EFS about 0.5, a
    registry or hub download 0.2); measure your own and set them.
    """

    page_cache: float = msgspec.field(name="pageCache", default=6.0)
    disk: float = 2.0
    shared_volume: float = msgspec.field(name="sharedVolume", default=0.5)
    registry: float = 0.2
    hub: float = 0.2


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How decisions are made. Times are seconds, sizes bytes.

    ``stale_grace``: how long files of a loader that is no longer Ready pass. ``engine_start``: from
    weights read to serving. ``default_model_bytes``: assumed where a size cannot be told.
    ``half_life``: a node that starts so much later than the best has half its score.
    ``required_timeout``: after so long a required model that the pod can fetch is only preferred;
    0 for never.
    """

    stale_grace: float = 600.0
    engine_start: float = 20.0
    default_model_bytes: int = 16 * GB
    half_life: float = 15.0
    on_stale: OnStale = OnStale.REFUSE
    required_timeout: float = 0.0
    bandwidths: Bandwidths = Bandwidths()
