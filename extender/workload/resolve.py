"""From what a container asks for to a model reference: paths followed to volumes, need judged."""

from __future__ import annotations

import posixpath
from collections.abc import Set as AbstractSet

import msgspec

from extender.workload.downloads import Fill
from extender.workload.fills import Filler, fillers, own_downloads, way_without
from extender.workload.model import ModelReference, Need, Source, Strategy
from extender.workload.names import Kind, Name, parse_name
from extender.workload.need import Judgement, can_fetch, need_of_cache, need_of_path
from extender.workload.stacks.view import Cache, ContainerView, Found
from extender.workload.volumes import Location

_DEEPEST = 2


def resolve(found: Found, view: ContainerView, recognised: AbstractSet[str]) -> ModelReference:
    """Follow one finding to where its bytes are; ``recognised``: see ``fillers``."""
    return _Resolver(found, view, recognised).resolve()


class _Resolver:
    """One finding in one container; ``depth`` counts steps from volumes to what fills them."""

    def __init__(
        self, found: Found, view: ContainerView, recognised: AbstractSet[str], *, depth: int = 0
    ) -> None:
        self.found = found
        self.view = view
        self.recognised = recognised
        self.depth = depth

    def resolve(self) -> ModelReference:
        value = self.found.path or self.found.value
        if value is None:
            return self._unknown(self.found.unknown or "the spec does not name the model")
        name = parse_name(value, self.view.home)
        match name.kind:
            case Kind.PATH:
                return self._at_path(name.text)
            case Kind.RELATIVE:
                return self._relative(name)
            case Kind.HUB:
                return self._hub(name)
            case Kind.CLAIM:
                claim, _, path = name.text.partition("/")
                return self._reference(
                    Strategy.SHARED_VOLUME, Source.CLAIM, Need.UNKNOWN, claim=claim, claim_path=path
                )
            case Kind.IMAGE:
                return self._reference(
                    Strategy.IMAGE, Source.IMAGE, Need.PREFERRED, image=name.text
                )
            case Kind.REMOTE:
                return self._reference(Strategy.NONE, Source.HUB, Need.PREFERRED)
            case Kind.UNREADABLE:
                return self._unknown(f"{value[:80]!r} is neither a path nor the name of a model")

    # -- paths -----------------------------------------------------------------------------------

    def _relative(self, name: Name) -> ModelReference:
        directory = self.view.container.working_dir
        if not directory.startswith("/"):
            return self._unknown(
                f"{name.text} is relative to the image's working directory, which the spec does "
                "not show"
            )
        return self._at_path(posixpath.join(directory, name.text))

    def _at_path(self, path: str) -> ModelReference:
        place = self.view.mounts.locate(path)
        if place is None:
            return self._in_image(path)
        volume = place.volume
        if volume.host_path is not None:
            return self._on_node(place, self._need(place))
        if volume.persistent_volume_claim is not None:
            return self._in_claim(place, self._need(place))
        if volume.image is not None:
            return self._reference(
                Strategy.IMAGE,
                Source.IMAGE,
                Need.PREFERRED,
                image=volume.image.reference,
                volume=volume.name,
            )
        if volume.empty_dir is not None or volume.ephemeral is not None:
            return self._in_scratch(place)
        why = "is of a kind that is not followed"
        if volume not in self.view.spec.volumes:
            why = (
                "is not among spec.volumes: a claim that a StatefulSet makes for each pod "
                "(spec.volumeClaimTemplates) is followed once that pod is there"
            )
        return self._unknown(f"volume {volume.name} {why}", volume=volume.name)

    def _in_image(self, path: str) -> ModelReference:
        writers = own_downloads(path, self.view)
        if writers:
            return self._filled_by(writers)
        if not self.found.sure:
            return self._unknown(f"no volume holds {path}; it may be part of the image")
        return self._reference(
            Strategy.IMAGE, Source.IMAGE, Need.PREFERRED, image=self.view.container.image or None
        )

    def _need(self, place: Location) -> Judgement:
        return need_of_path(self.found, place, fillers(place, self.view, self.recognised))

    def _on_node(self, place: Location, judged: Judgement) -> ModelReference:
        need, unknown = judged
        if place.host_path is None:
            return self._reference(
                Strategy.NODE_CACHE,
                Source.UNKNOWN,
                Need.UNKNOWN,
                volume=place.volume.name,
                unknown="its subPathExpr cannot be filled in from the spec",
            )
        return self._reference(
            Strategy.NODE_CACHE,
            Source.HOST_PATH,
            need,
            host_path=place.host_path,
            volume=place.volume.name,
            unknown=unknown,
            can_fetch=can_fetch(need, place),
        )

    def _in_claim(self, place: Location, judged: Judgement) -> ModelReference:
        need, unknown = judged
        assert place.volume.persistent_volume_claim is not None
        return self._reference(
            Strategy.SHARED_VOLUME,
            Source.CLAIM,
            need,
            claim=place.volume.persistent_volume_claim.claim_name,
            claim_path=place.inside,
            volume=place.volume.name,
            unknown=unknown,
        )

    # -- volumes that start empty ----------------------------------------------------------------

    def _in_scratch(self, place: Location) -> ModelReference:
        """Follow a volume that lives as long as the pod to what fills it."""
        writers = fillers(place, self.view, self.recognised)
        origin = self._origin(writers)
        volume = place.volume
        if volume.empty_dir is not None and volume.empty_dir.medium == "Memory":
            need, unknown = _need_of_scratch(origin, writers)
            return self._reference(
                Strategy.MEMORY,
                Source.MEMORY,
                need,
                volume=volume.name,
                origin=origin,
                unknown=unknown,
            )
        if origin is None:
            need, unknown = _need_of_scratch(origin, writers)
            return self._reference(
                Strategy.NONE, Source.UNKNOWN, need, volume=volume.name, unknown=unknown
            )
        return msgspec.structs.replace(
            origin,
            role=self.found.role,
            model=self.found.value,
            revision=self.found.revision or origin.revision,
            read_from=_distinct(*self.found.read_from, *origin.read_from),
        )

    def _origin(self, writers: list[Filler]) -> ModelReference | None:
        told = [writer for writer in writers if writer.fill is not None]
        if not told or self.depth >= _DEEPEST:
            return None
        untold = [writer for writer in writers if writer.fill is None]
        return self._filled_by([*told, *untold])

    def _filled_by(self, writers: list[Filler]) -> ModelReference:
        """Resolve what a container fills a place from, as that container sees it."""
        writer = writers[0]
        assert writer.fill is not None
        fill: Fill = writer.fill
        found = Found(
            without=self.found.without or way_without(writers),
            role=self.found.role,
            value=fill.nearer[0] if fill.nearer else fill.source,
            revision=fill.revision,
            read_from=fill.read_from,
            otherwise=bool(fill.nearer),
            unknown="what it is filled from cannot be read",
        )
        return _Resolver(found, writer.view, self.recognised, depth=self.depth + 1).resolve()

    # -- hubs ------------------------------------------------------------------------------------

    def _hub(self, name: Name) -> ModelReference:
        revision = self.found.revision or name.revision
        cache = self.found.cache
        if cache is None:
            return self._reference(Strategy.NONE, Source.HUB, Need.PREFERRED, revision=revision)
        if cache.unknown:
            return self._reference(
                Strategy.NONE,
                Source.HUB,
                Need.UNKNOWN,
                revision=revision,
                unknown=f"where it is cached cannot be told: {cache.unknown}",
            )
        return self._cached(cache, revision)

    def _cached(self, cache: Cache, revision: str | None) -> ModelReference:
        path = posixpath.join(cache.directory, cache.below)
        place = self.view.mounts.locate(path) if path.startswith("/") else None
        found = msgspec.structs.replace(
            self.found,
            read_from=(*self.found.read_from, *cache.read_from),
            revision=revision,
        )
        inner = _Resolver(found, self.view, self.recognised, depth=self.depth)
        if place is None:
            return inner.uncached()
        return inner.in_cache(place)

    def uncached(self) -> ModelReference:
        """Return a hub id whose cache is in the container's own files."""
        if self.found.offline:
            return self._reference(
                Strategy.IMAGE,
                Source.IMAGE,
                Need.PREFERRED,
                image=self.view.container.image or None,
            )
        return self._reference(Strategy.NONE, Source.HUB, Need.PREFERRED)

    def in_cache(self, place: Location) -> ModelReference:
        """Return a hub id whose cache lies on a volume."""
        volume = place.volume
        judged = need_of_cache(self.found, place, fillers(place, self.view, self.recognised))
        if volume.host_path is not None:
            return self._on_node(place, judged)
        if volume.persistent_volume_claim is not None:
            return self._in_claim(place, judged)
        if volume.image is not None:
            return self._at_path(f"{place.mount.mount_path}/")
        hub = self._reference(Strategy.NONE, Source.HUB, Need.PREFERRED)
        if volume.empty_dir is not None and volume.empty_dir.medium == "Memory":
            return self._reference(
                Strategy.MEMORY, Source.MEMORY, Need.PREFERRED, volume=volume.name, origin=hub
            )
        return hub

    # -- building --------------------------------------------------------------------------------

    def _unknown(self, why: str, *, volume: str | None = None) -> ModelReference:
        return self._reference(
            Strategy.NONE, Source.UNKNOWN, Need.UNKNOWN, unknown=why, volume=volume
        )

    def _reference(
        self,
        strategy: Strategy,
        source: Source,
        need: Need,
        *,
        revision: str | None = None,
        host_path: str | None = None,
        claim: str | None = None,
        claim_path: str | None = None,
        image: str | None = None,
        volume: str | None = None,
        origin: ModelReference | None = None,
        unknown: str | None = None,
        can_fetch: bool = False,
    ) -> ModelReference:
        return ModelReference(
            role=self.found.role,
            strategy=strategy,
            source=source,
            need=need,
            model=self.found.value,
            revision=revision or self.found.revision,
            host_path=host_path,
            claim=claim,
            claim_path=claim_path,
            image=image,
            volume=volume,
            read_from=_distinct(*self.found.read_from),
            unknown=unknown,
            origin=origin,
            can_fetch=can_fetch,
        )


def _distinct(*fields: str) -> tuple[str, ...]:
    """Return each field once: a variable may name both the model and its place."""
    return tuple(dict.fromkeys(fields))


def _need_of_scratch(origin: ModelReference | None, writers: list[Filler]) -> Judgement:
    """Judge a volume that starts empty: the pod needs what it is filled from."""
    if origin is not None:
        return origin.need, origin.unknown
    if not writers:
        return Need.UNKNOWN, "nothing in the pod is seen to fill it"
    names = ", ".join(sorted({w.view.container.name or w.view.field for w in writers}))
    return Need.UNKNOWN, f"what container {names} fills it from cannot be read"
