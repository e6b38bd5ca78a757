"""Jobs that fill a claim with a model, once, for every pod that mounts it afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from extender.kube.objects import Job
from extender.workload.downloads import Fill
from extender.workload.model import ClaimWriter, DeclaredModel
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import ContainerView, PodView
from extender.workload.volumes import Location


def read_job(job: Job) -> tuple[ClaimWriter, ...]:
    """Return the models that a Job's pods write into claims, as far as its scripts tell."""
    template = job.spec.template
    pod = PodView(template.metadata, template.spec)
    writers = (writer for view in (*pod.before, *pod.main) for writer in _writers(view))
    return tuple(dict.fromkeys(writers))


def _writers(view: ContainerView) -> Iterator[ClaimWriter]:
    for fill in fills(view).fills:
        yield from _written(view, fill)


def _written(view: ContainerView, fill: Fill) -> Iterator[ClaimWriter]:
    """Yield the models of one download: the files that it names, where it goes into the root."""
    root = _located(view, fill.destination)
    if root is None:
        return
    paths = fill.models(at_root=root.is_root) or (fill.destination,)
    for place in (_located(view, path) for path in paths):
        claim = place.volume.persistent_volume_claim if place is not None else None
        if place is None or place.inside is None or claim is None:
            continue
        model = DeclaredModel(
            path=place.inside, model=fill.source, revision=fill.revision, read_from=fill.read_from
        )
        yield ClaimWriter(claim=claim.claim_name, model=model)


def _located(view: ContainerView, path: str | None) -> Location | None:
    """Follow a path to the writable claim that it lies in."""
    if path is None or not path.startswith("/"):
        return None
    place = view.mounts.locate(path)
    if place is None or place.mount.read_only:
        return None
    claim = place.volume.persistent_volume_claim
    return None if claim is None or claim.read_only else place
