"""What is compared: the settings, and the policies that see the same pods, disks and failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import msgspec

from bench.placement import core, rivals
from bench.placement.cluster import Cluster, Policy
from bench.placement.omniscient import omniscient
from bench.placement.workload import Workload

Make = Callable[[Cluster], Policy]

OURS: Mapping[str, Make] = {"on demand": core.on_demand, "preferring": core.preferring}
RIVALS: Mapping[str, Make] = {
    "random": rivals.random_choice,
    "default scheduler": rivals.default_scheduler,
    "ImageLocality": rivals.image_scoring,
    "GPUStack": rivals.gpustack,
    "Fluid": rivals.fluid,
    "KServe": rivals.kserve,
    "OME": rivals.ome,
    "ServerlessLLM": rivals.serverless_llm,
}
OMNISCIENT = "omniscient"
POLICIES: Mapping[str, Make] = {**OURS, **RIVALS, OMNISCIENT: omniscient}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One workload, and how many machines fail while its pods come."""

    name: str
    workload: Workload
    failures: int = 0


def _vary(name: str, *, failures: int = 0, **changed: float | str) -> Setting:
    workload = msgspec.structs.replace(Workload(), **changed)
    return Setting(name=name, workload=workload, failures=failures)


BASE = _vary("60 models, Zipf 1.0, CV 4")
ONE_BY_ONE = (
    BASE,
    _vary("20 models", models=20),
    _vary("200 models", models=200),
    _vary("Zipf 0.6", zipf=0.6),
    _vary("Zipf 1.4", zipf=1.4),
    _vary("CV 1", cv=1.0),
    _vary("CV 8", cv=8.0),
    _vary("Azure conversation", rhythm="conv"),
    _vary("Azure code", rhythm="code"),
    _vary("load 0.7", load=0.7),
    _vary("4 failures", failures=4),
)
"""The base, and what one change each makes of it."""

GRID = tuple(
    _vary(f"{models} models, Zipf {zipf}, CV {cv}", models=models, zipf=zipf, cv=cv)
    for models, zipf, cv in product((20, 60, 200), (0.6, 1.0, 1.4), (1.0, 4.0, 8.0))
)
"""Every combination."""
