"""Everything that the objects of a cluster show, from a dump or from a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from extender.doctor.claims import check_claims
from extender.doctor.examined import Examined
from extender.doctor.extenders import check_extenders
from extender.doctor.finding import Finding
from extender.doctor.formats import check_formats
from extender.doctor.labels import check_labels
from extender.doctor.loaders import check_loaders
from extender.doctor.placements import check_placements
from extender.doctor.pods import check_pods


def check_cluster(examined: Examined) -> Iterator[Finding]:
    """Run every check that needs objects alone."""
    for check in _CHECKS:
        yield from check(examined)


_CHECKS: tuple[Callable[[Examined], Iterator[Finding]], ...] = (
    check_loaders,
    check_labels,
    check_pods,
    check_formats,
    check_placements,
    check_claims,
    check_extenders,
)
