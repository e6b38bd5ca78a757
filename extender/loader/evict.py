"""From the facts on the disk to what goes, and its going."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from extender.errors import CacheError, LockHeldError
from extender.kube.objects import Pod
from extender.kube.times import unix_time
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.disk_space import file_system
from extender.loader.layout import IN_PLACE, CacheDirectory, unwritable, writing
from extender.loader.publish import Publisher
from extender.loader.space import Bounds, Candidate, FileSystem, Plan, plan
from extender.loader.stored import Stored, bytes_on_disk, stored
from extender.loader.usage import Record, load_record, models_in_use, save_record


def candidates(
    directory: CacheDirectory,
    held: list[Stored],
    catalog: Mapping[str, CatalogModel],
    record: Record,
    *,
    in_use: set[str],
    keep: frozenset[str],
    refused: Mapping[str, str],
) -> list[Candidate]:
    """Return what is known of each model; ``catalog`` and ``refused`` by the models' paths.

    What another program put there is foreign until it was proven to be what the catalog names.
    A model that left stays while one of the catalog lies below it: it would take that along.
    """
    found = []
    for one in held:
        named = catalog.get(one.path)
        final = directory.final(one.path)
        proven = unix_time(one.marker.proven_at) if one.marker else None
        inside = {path for path in (*catalog, *keep) if _lies_in(path, one.path)}
        found.append(
            Candidate(
                path=one.path,
                bytes=bytes_on_disk(final),
                last_used=record.last_used.get(one.path, proven or final.stat().st_mtime),
                in_use=one.path in in_use,
                pinned=any(catalog[path].pin for path in inside & catalog.keys()),
                wished=bool(inside & keep) or bool(inside - {one.path}),
                priority=named.priority if named else 0,
                left_at=None if named else record.left_at.get(one.path),
                foreign=one.marker is None or (named is None and one.marker.adopted),
                unreadable=one.unreadable,
                refused=refused.get(one.path, ""),
            )
        )
    return found


def _lies_in(path: str, directory: str) -> bool:
    """Tell whether a path is a directory of the cache or one below it."""
    return directory == IN_PLACE or f"{path}/".startswith(f"{directory}/")


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What should go, on which disk, and what was seen of the models meanwhile."""

    plan: Plan
    file_system: FileSystem
    record: Record


def decide(
    directory: CacheDirectory,
    catalog: Catalog,
    pods: Iterable[Pod],
    *,
    host_directory: str,
    now: float,
    needed: int = 0,
    keep: frozenset[str] = frozenset(),
    refused: Mapping[str, str] = MappingProxyType({}),
    foreign: bool = False,
    of_node: bool = True,
) -> Decided:
    """Look at the cache and decide what goes; nothing is changed.

    ``of_node``: the catalog has only what it wants on this node; else all of it, and which of its
    models that is cannot be told where it has a node selector or a number of copies.

    ``pods`` are those of this node, ``host_directory`` the cache's directory there; ``needed`` are
    the bytes of a download that is to begin, ``keep`` the models that it must not cost, ``refused``
    those that could not be removed of late, with why. Raises OSError where the cache cannot be
    read.
    """
    held = stored(directory)
    there = {model.path for model in held}
    wanted = {model.directory: model for model in catalog.models}
    in_use = models_in_use(pods, host_directory, there)
    record = load_record(directory)
    unsure = [] if of_node else [one for one in wanted.values() if one.node_selector or one.copies]
    record.observe(
        there=there,
        in_use=in_use,
        wanted=set(wanted),
        now=now,
        unsure=frozenset(one.directory for one in unsure),
    )
    room = file_system(directory.root)
    bounds = Bounds(
        high=catalog.watermarks.high_percent,
        low=catalog.watermarks.low_percent,
        grace=catalog.grace_seconds,
        foreign=foreign,
    )
    found = candidates(directory, held, wanted, record, in_use=in_use, keep=keep, refused=refused)
    return Decided(
        plan=plan(found, room, bounds, now=now, needed=needed), file_system=room, record=record
    )


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What should have gone and stayed.

    Because another process is writing it (``busy``), or because the file system refuses (with why).
    """

    busy: list[str] = []
    refused: dict[str, str] = {}


def carry_out(publisher: Publisher, directory: CacheDirectory, decided: Decided) -> Undone:
    """Let go what was decided, and note what was seen; return what stayed.

    Raises CacheError where that cannot be noted.
    """
    undone = evict(publisher, directory, decided.plan)
    note_use(publisher, directory, decided.record)
    return undone


def note_use(publisher: Publisher, directory: CacheDirectory, record: Record) -> None:
    """Keep when each model was used last. After an eviction, as a full disk takes it only then.

    Raises CacheError.
    """
    try:
        save_record(directory, record, publisher.disk)
    except OSError as error:
        raise unwritable(directory.root, error) from error


def evict(publisher: Publisher, directory: CacheDirectory, decided: Plan) -> Undone:
    """Remove what the plan says; return what stayed. One that stays keeps no other from going."""
    undone = Undone()
    for eviction in decided.evictions:
        try:
            with writing(directory, eviction.path, disk=publisher.disk) as held:
                publisher.remove(held)
        except LockHeldError:
            undone.busy.append(eviction.path)
        except CacheError as error:
            undone.refused[eviction.path] = str(error)
    return undone
