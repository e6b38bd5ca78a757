"""Jobs that fill a claim with a model, once, for every pod that mounts it afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from extender.kube.objects import Job
from extender.workload.downloads import Fill
from extender.workload.model import ClaimWriter, DeclaredModel
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import ContainerView
from extender.workload.volumes import locate


def read_job(job: Job) -> tuple[ClaimWriter, ...]:
    """Return the models that a Job's pods write into claims, as far as its scripts tell."""
    template = job.spec.template
    kinds = (
        ("initContainers", template.spec.init_containers),
        ("containers", template.spec.containers),
    )
    views = [
        ContainerView(container, f"{field}[{index}]", template.metadata, template.spec)
        for field, containers in kinds
        for index, container in enumerate(containers)
    ]
    return tuple(dict.fromkeys(writer for view in views for writer in _writers(view)))


def _writers(view: ContainerView) -> Iterator[ClaimWriter]:
    for fill in fills(view).fills:
        writer = _writer(view, fill)
        if writer is not None:
            yield writer


def _writer(view: ContainerView, fill: Fill) -> ClaimWriter | None:
    if fill.destination is None or not fill.destination.startswith("/"):
        return None
    place = locate(fill.destination, view.container, view.spec, view.declared)
    if place is None or place.inside is None or place.mount.read_only:
        return None
    claim = place.volume.persistent_volume_claim
    if claim is None or claim.read_only:
        return None
    model = DeclaredModel(
        path=place.inside, model=fill.source, revision=fill.revision, read_from=fill.read_from
    )
    return ClaimWriter(claim=claim.claim_name, model=model)
