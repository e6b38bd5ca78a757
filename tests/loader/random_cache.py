"""A cache directory under loaders that do everything at once, beside the truth about it.

The real loop, looks, readings, downloads and evictions of one or two loaders run under ``Turns`` on
one model (the receiving of bytes is one turn), while what happens to a node happens: files rot, are
cut, or are removed by somebody; the source moves, fails, or goes away; the disk fills; pods come
and go; the catalog changes; a process is killed. ``Cache.check`` compares what is said with the
bytes that lie there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from extender.errors import ExtenderError
from extender.kube.times import time_text
from extender.loader.catalog_file import CatalogFile
from extender.loader.guarding import Guard
from extender.loader.keeping import Keeper
from extender.loader.layout import MARKER, CacheDirectory
from extender.loader.leaving import Leftovers
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.obtaining import Obtainer
from extender.loader.origin import opener
from extender.loader.placing import InUse
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.publish import Publisher
from extender.loader.reporting import essence
from extender.loader.sources import Credentials
from extender.loader.transfer.fetching import fetch
from extender.loader.transfer.limits import Limits
from extender.report import ReportedModel, ReportedState, Wanted, WantedModel
from tests.builders import vllm
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import catalog
from tests.loader.models import small_model
from tests.loader.turns import Actor, Turns, stepping

NAME = "small"
HOST = "/var/lib/models"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BEGAN = 1_700_000_000.0

READS_MARKERS = ("looking", "rereading", "obtaining", "mend", "placing", "publish", "stored")

BASE = {"name": NAME, "source": "hf://org/small", "replaceForeign": True}
FULL = {"highPercent": 0.0001, "lowPercent": 0.00001, "reserve": 0}

Injected = tuple[str, int]
"""A file that is not as it should be, and the number of the event since which it is."""


def revisions() -> list[dict[str, bytes]]:
    """Return three revisions; the second shares a shard with the first."""
    first, second = small_model(), small_model(seed=1)
    return [first, first | {SHARDS[1]: second[SHARDS[1]]}, second]


class _NoWait(Event):
    """Of a thread that never has to wait: its clock is the test's."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class Loader:
    """One process: all of it but its threads, which ``Cache`` begins under turns."""

    def __init__(self, world: Cache, number: int) -> None:
        turns = world.turns
        self.world, self.number = world, number
        self.known: set[Injected] = set()
        self.damage, self.damage_told = "", 0
        self.looked_after = -1
        self.saw: Marker | None = None
        self.disk = turns.disk()
        self.table = turns.table()
        publisher = Publisher(
            disk=self.disk,
            clock=world.now,
            uses=world.uses,
            damage=lambda path: guard.damage(path),  # noqa: PLW0108 - made below
        )
        limits = Limits()
        metrics = LoaderMetrics(self.table, world.directory.root, catalog_error=lambda: "")
        room = RoomMaker(
            world.directory, publisher, self.table, metrics,
            pods=world.pods, host_directory=lambda: HOST, clock=world.now, ticks=world.clock,
            random=Random(0), notice=turns.step,
        )  # fmt: skip
        guard = Guard(
            world.directory, publisher, self.table, metrics, room,
            name=f"loader-{number}", clock=world.clock, look_seconds=1.0, round_seconds=1.0,
        )  # fmt: skip
        self.keeper = Keeper(
            "node-1",
            catalog=CatalogFile(world.catalog_file),
            table=self.table,
            obtainer=Obtainer(
                world.directory,
                publisher,
                open_source=opener(Credentials(hub_endpoint=world.hub.url)),
                limits=limits,
            ),
            guard=guard,
            room=room,
            leftovers=Leftovers(world.directory, clock=world.now, ticks=world.clock),
            limits=limits,
            metrics=metrics,
            nodes=lambda *, every: {"node-1": {}} if not every else {},
            wanted=lambda: world.wanted,
            random=Random(number),
        )
        self.guard = guard
        guard._stopping = _NoWait()
        guard._threads = []
        for locked, name in ((guard._looker, "_saying"), (room, "_lock")):
            setattr(locked, name, turns.lock())
        room.changed = self.keeper._workers_again
        guard.start(
            self.keeper._workers.works_on, self.keeper._workers_again, self.keeper._workers.failed
        )
        self.kinds: Mapping[str, Callable[[], None]] = {
            "loop": self._loop, "looking": self._look, "rereading": guard.read_around,
        }  # fmt: skip

    def said(self) -> ReportedModel | None:
        """Return what the report says of the model; None: nothing."""
        report = self.table.report(HOST, None, self.guard.has_looked_at)
        return next((model for model in report.models if model.path == NAME), None)

    def knows(self, bad: set[Injected]) -> set[Injected]:
        """Return what of this it says is damaged, and began to say when it was so already."""
        damage = "".join(row.reason for row in self.table.all() if row.damaged)
        if damage != self.damage:
            self.damage, self.damage_told = damage, self.world.events
        return {one for one in bad if one[0] in damage and one[1] <= self.damage_told}

    def _loop(self) -> None:
        try:
            self.keeper.turn()
        except ExtenderError:
            return

    def _look(self) -> None:
        began, before = self.world.events, self.world.marker()
        self.guard.look_around()
        if self.world.marker() == before:  # or another look tells
            self.looked_after, self.saw = began, before


class Cache:
    """The world of one seed. ``loaders``: how many processes are at the directory."""

    def __init__(
        self, root: Path, hub: Hub, seed: int, monkeypatch: pytest.MonkeyPatch, *, loaders: int
    ) -> None:
        self.random = Random(seed)
        self.turns = Turns(self.random)
        self.hub = hub
        self.files = revisions()
        self.by_commit = {Repository(files, large=500).commit: files for files in self.files}
        self.directory = CacheDirectory(root / "cache")
        self.directory.root.mkdir()
        self.catalog_file = root / "catalog.yaml"
        self.wanted = Wanted()
        self.reader = False
        self.events = 0
        self.injected: dict[str, int] = {}
        self.told: list[str] = []
        self._seconds = 0.0
        for module in READS_MARKERS:
            name = f"extender.loader.{module}.read_marker"
            monkeypatch.setattr(name, stepping(self.turns, read_marker))
        monkeypatch.setattr("extender.loader.downloading.fetch", self.turns.whole(fetch))
        monkeypatch.setattr("extender.loader.workers.Thread", self._thread)
        monkeypatch.setattr("extender.loader.keeping.monotonic", self.clock)
        monkeypatch.setattr("extender.loader.layout.time", self)
        self.source_moves(0)
        self.catalog()
        self.loaders = [Loader(self, number) for number in range(loaders)]

    # Time, as ``time`` has it for who waits for a lock.

    def clock(self) -> float:
        return self._seconds

    def now(self) -> float:
        return BEGAN + self._seconds

    def monotonic(self) -> float:
        self._seconds += 0.05
        return self._seconds

    def sleep(self, _: float) -> None:
        self.turns.step()

    # What the loaders ask.

    def uses(self, _: str) -> InUse:
        return InUse({"uid": "ml/server"} if self.reader else {})

    def pods(self) -> list[Any]:
        self.turns.step()
        return [vllm(model=f"/models/{NAME}", on="node-1")] if self.reader else []

    def _thread(self, *, target: Any, args: Any, name: str, daemon: bool) -> Actor:
        (owner,) = (actor.owner for actor in self.turns.actors if actor.is_current)
        return Actor(self.turns, name, lambda: target(*args), owner)

    # What happens.

    def catalog(self, model: dict[str, Any] | None = None, **more: Any) -> None:
        models = [BASE if model is None else model] if model != {} else []
        self.catalog_file.write_text(catalog(*models, **({"refreshSeconds": 20} | more)))

    def source_moves(self, to: int) -> None:
        self.hub.repositories["org/small"] = Repository(dict(self.files[to]), large=500)
        self.hub.repositories["org/other"] = Repository(dict(self.files[2 - to]), large=500)

    def source_fails(self, status: int | None) -> None:
        fails = [] if status is None else [Trouble(status=status) for _ in range(10_000)]
        self.hub.troubles["info"] = fails

    @property
    def final(self) -> Path:
        return self.directory.final(NAME)

    def marker(self) -> Marker | None:
        try:
            return read_marker(self.final)
        except MarkerError:
            return None

    def bad(self, marker: Marker) -> set[Injected]:
        """Return which files are not what their revision has, and since when."""
        wanted = self.by_commit[marker.revision or ""]
        found = set()
        for name, content in wanted.items():
            file = self.final / name
            if not file.is_file() or file.read_bytes() != content:
                found.add((name, self.injected.get(name, 0)))
        return found

    def happens(self) -> None:
        """Let one thing happen, drawn by the seed."""
        self.events += 1
        happenings: list[Callable[[], object]] = [
            *[self._rots] * 4, *[self._rots_on_a_full_disk] * 2, *[self._is_cut] * 2,
            self._loses_a_file, self._is_removed,
            self._loses_its_marker, *[self._source_moves] * 3, *[self._source_fails] * 2,
            *[self._disk_fills] * 2, *[self._reader_comes_or_goes] * 2,
            *[self._catalog_changes] * 3, self._pod_waits_or_not, self._dies,
        ]  # fmt: skip
        happening = self.random.choice(happenings)
        self.told.append(f"{self.events} {getattr(happening, '__name__', '')}")
        happening()

    def _shard(self) -> Path | None:
        name = self.random.choice(SHARDS)
        file = self.final / name
        if not file.is_file() or file.stat().st_size < 100:
            return None
        self.injected[name] = self.events
        return file

    def _rots(self) -> None:
        """Change a byte, so that no stat shows it or so that one does."""
        file = self._shard()
        if file is None:
            return
        before = file.stat()
        with file.open("r+b") as opened:
            opened.seek(-self.random.randint(1, 50), os.SEEK_END)
            opened.write(bytes([self.random.randrange(256)]))
        if self.random.random() < 0.6:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _rots_on_a_full_disk(self) -> None:
        for loader in self.loaders:
            loader.disk.full = True
        self._rots()

    def _is_cut(self) -> None:
        file = self._shard()
        if file is not None:
            os.truncate(file, 50)

    def _loses_a_file(self) -> None:
        file = self._shard()
        if file is not None:
            file.unlink()

    def _is_removed(self) -> None:
        shutil.rmtree(self.final, ignore_errors=True)

    def _loses_its_marker(self) -> None:
        marker = self.final / MARKER
        if not marker.exists():
            return
        if self.random.random() < 0.5:
            marker.unlink()
        else:
            marker.write_bytes(b"not a marker")

    def _source_moves(self) -> None:
        self.source_moves(self.random.randrange(3))

    def _source_fails(self) -> None:
        self.source_fails(self.random.choice([None, None, 503, 404, 401]))

    def _disk_fills(self) -> None:
        full = self.random.random() < 0.4
        for loader in self.loaders:
            loader.disk.full = full

    def _reader_comes_or_goes(self) -> None:
        self.reader = not self.reader

    def _catalog_changes(self) -> None:
        commit = self.random.choice(list(self.by_commit))
        choices: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (BASE, {}), (BASE, {}), (BASE | {"revision": commit}, {}),
            (BASE | {"source": "hf://org/other"}, {}), ({}, {"graceSeconds": 0}),
            ({}, {"graceSeconds": 3600}), (BASE | {"onDemand": True}, {"watermarks": FULL}),
            (BASE | {"replaceForeign": False}, {}), (BASE | {"replaceInUse": True}, {}),
        ]  # fmt: skip
        model, more = self.random.choice(choices)
        self.catalog(model, **more)

    def _pod_waits_or_not(self) -> None:
        until = time_text(self.now() + 60)
        wish = WantedModel(path=NAME, until=until, pod="ml/server")
        self.wanted = Wanted() if self.wanted.models else Wanted(models=(wish,))

    def _dies(self) -> None:
        """Kill one process where it stands, and start it again."""
        dead = self.random.choice(self.loaders)
        for actor in [one for one in self.turns.actors if one.owner is dead]:
            actor.kill()
        fresh = Loader(self, dead.number)
        fresh.disk.full = dead.disk.full
        self.loaders[dead.number] = fresh

    # How it goes on.

    def begin_something(self) -> None:
        """Let one of the loaders' own threads begin its next round, where it is not in one."""
        loader = self.random.choice(self.loaders)
        self._begin(loader, self.random.choice(list(loader.kinds)))

    def _begin(self, loader: Loader, kind: str) -> None:
        name = f"{kind}-{loader.number}"
        if all(actor.name != name for actor in self.turns.actors):
            self._seconds += 0.5
            Actor(self.turns, name, loader.kinds[kind], loader).start()

    def one_step(self) -> None:
        self.turns.give()
        for actor in self.turns.ended:
            if actor.failure is not None:
                raise actor.failure
        self.turns.ended.clear()
        self.check(at_rest=False)

    def round(self, seconds: float = 2.0) -> None:
        """Let all that is under way end, and everybody have a round more."""
        self._run_out()
        for kind in ("looking", "loop", "rereading", "looking"):
            self._seconds += seconds / 4
            for loader in self.loaders:
                self._begin(loader, kind)
            self._run_out()

    def _run_out(self) -> None:
        for _ in range(100_000):
            if not self.turns.actors:
                return
            self.one_step()
        raise AssertionError(f"no end: {[actor.name for actor in self.turns.actors]}")

    def essence(self) -> list[Any]:
        """Return what is news where it changes."""
        return [essence(loader.table.report(HOST, None)) for loader in self.loaders]

    # What has to be true.

    def check(self, *, at_rest: bool) -> None:
        """Compare what each loader says with what lies there.

        ``at_rest``: nobody is in the middle of something, so that all of it has to agree.
        """
        marker = self.marker()
        bad = self.bad(marker) if marker is not None and marker.revision else set()
        for loader in self.loaders:
            said = loader.said()
            if said is None:
                continue
            told = f"{said}\n{marker and (marker.source, marker.revision, marker.damaged)} {bad}"
            if said.state is ReportedState.READY:
                assert not bad & loader.known, f"ready, and known to be damaged: {told}"
            loader.known |= loader.knows(bad)
            if not at_rest or loader.looked_after < self.events or loader.saw != marker:
                continue  # the other loader may have changed it since
            mine = marker is not None and marker.source == said.model
            if said.state is ReportedState.READY:
                assert marker is not None, f"ready, and not there: {told}"
                assert mine, f"ready, and another model: {told}"
                assert marker.revision == said.revision, f"ready, and another revision: {told}"
                assert not marker.damaged, f"ready, and marked as damaged: {told}"
            elif mine and marker is not None and not marker.damaged and not bad:
                raise AssertionError(f"whole, and not ready: {told}")

    def heal(self) -> None:
        """Take away all that stands in the way; the loaders have to come to rest with the model."""
        self.events += 1
        self.source_fails(None)
        self.reader, self.wanted = False, Wanted()
        for loader in self.loaders:
            loader.disk.full = False
        self.catalog()

    def leftover(self) -> list[str]:
        """Return what lies in the work area of downloads, mending and going."""
        area = self.directory.work_area
        rooms = ("staging", "incoming", "mending", "journals", "trash")
        return [str(file.relative_to(area)) for room in rooms for file in (area / room).glob("*")]

    def is_healed(self) -> bool:
        marker = self.marker()
        commit = self.hub.repositories["org/small"].commit
        said = [loader.said() for loader in self.loaders]
        return (
            marker is not None
            and (marker.source, marker.revision, marker.damaged) == ("hf://org/small", commit, ())
            and not self.bad(marker)
            and not self.leftover()
            and all(
                one is not None
                and (one.state, one.revision, one.reason) == (ReportedState.READY, commit, "")
                for one in said
            )
        )
