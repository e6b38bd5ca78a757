"""Killed at every step, refused at every step: after a restart a model is whole or not there.

The disk that ends its process stands between the loader and the kernel, so that every single step
is the last one once. ``KILLS`` is how often a process that verifies, publishes, mends and evicts is
killed at a random moment (``make test-kills``); ``KILL_SEED`` repeats a run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from extender.errors import CacheError
from extender.loader.disk import Disk
from extender.loader.layout import IN_PLACE, CacheDirectory, Writing, writing
from extender.loader.mend import condemn, mend, missing
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.placing import InUse
from extender.loader.proof.marker import read_marker
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.sweep import sweep
from extender.loader.transfer.limits import Limits
from tests.loader.dying import WithoutExchange, dying, in_child, refusing
from tests.loader.models import contents, listing, put, small_model

SHARD = "model-00001-of-00002.safetensors"
OLD, NEW = small_model(1), small_model(2)
FOREIGN = {"config.json": b"{}", "half.safetensors": b"x"}
PATH = "org/small"
Before = Callable[[Path], None]
Work = Callable[[Path, Disk], None]
States = set[str | None]

FINAL = {"whole old": OLD, "whole new": NEW}


def stage(publisher: Publisher, held: Writing, files: dict[str, bytes]) -> None:
    """Write what is not there yet, as a transfer that goes on does."""
    staging = publisher.begin(held, listing(files))
    put(staging, {n: d for n, d in files.items() if not (staging / n).is_file()})


def publish(root: Path, files: dict[str, bytes], disk: Disk) -> None:
    publisher = Publisher(disk=disk)
    with writing(CacheDirectory(root), PATH, disk=disk) as held:
        stage(publisher, held, files)
        publisher.publish(held, listing(files))


def replace(root: Path, disk: Disk) -> None:
    publish(root, NEW, disk)


def replace_under_readers(root: Path, disk: Disk) -> None:
    """As where the operator wants it: pods read the old one, which is kept for them."""
    in_use = InUse({"uid-1": "ml/server"}, replaced=True)
    publisher = Publisher(disk=disk, uses=lambda _: in_use)
    with writing(CacheDirectory(root), PATH, disk=disk) as held:
        if contents_of(held.final) != NEW:
            stage(publisher, held, NEW)
            publisher.publish(held, listing(NEW))


def contents_of(final: Path) -> dict[str, bytes]:
    return contents(final) if final.exists() else {}


def replace_damaged(root: Path, disk: Disk) -> None:
    publisher = Publisher(disk=disk)
    with writing(CacheDirectory(root), PATH, disk=disk) as held:
        marker = read_marker(held.final)
        assert marker is not None
        verdict = verify(held.final, level=Level.CONTENT)
        if marker.damaged or not verdict.ok:
            condemn(publisher, held, {p.file for p in verdict.problems} | set(marker.damaged))
            wanted = {file.path for file in missing(held, listing(OLD)).files}
            put(held.directory.mending(PATH), {name: OLD[name] for name in wanted})
            mend(publisher, held, listing(OLD))


def evict(root: Path, disk: Disk) -> None:
    with writing(CacheDirectory(root), PATH, disk=disk) as held:
        Publisher(disk=disk).remove(held)


def adopt(root: Path, disk: Disk) -> None:
    with writing(CacheDirectory(root), PATH, disk=disk) as held:
        Publisher(disk=disk).adopt(held)


def nothing(root: Path) -> None:
    """Leave the cache empty."""


def old(root: Path) -> None:
    publish(root, OLD, Disk())


def foreign(root: Path) -> None:
    put(root / PATH, FOREIGN)


def foreign_whole(root: Path) -> None:
    put(root / PATH, OLD)


def damaged(root: Path) -> None:
    old(root)
    (root / PATH / SHARD).write_bytes(b"damaged")


Case = tuple[Before, Work, States, str | None]
WORK: dict[str, Case] = {
    "published first": (nothing, replace, {None, "whole new"}, "whole new"),
    "replaced": (old, replace, {"whole old", "whole new"}, "whole new"),
    "replaced under its readers": (
        old,
        replace_under_readers,
        {"whole old", "whole new"},
        "whole new",
    ),
    "put over foreign files": (foreign, replace, {"unmarked", "whole new"}, "whole new"),
    "mended": (damaged, replace_damaged, {"told as damaged", "whole old"}, "whole old"),
    "evicted": (old, evict, {None, "whole old"}, None),
    "adopted": (foreign_whole, adopt, {"unmarked", "whole old"}, "whole old"),
}


def state(root: Path) -> str | None:
    """What a reader of the final path and its marker would believe, checked byte by byte."""
    final = root / PATH
    if not final.exists():
        return None
    if read_marker(final) is None:
        return "unmarked"
    if not verify(final, level=Level.CONTENT).ok:
        return "told as damaged"
    there = contents(final)
    return next((name for name, files in FINAL.items() if files == there), "wrong content")


def begun(fast: Path, step: int, before: Before) -> Path:
    """Return a cache directory of its own for each step."""
    root = fast / str(step)
    root.mkdir()
    before(root)
    return root


@pytest.mark.parametrize("base", [Disk, WithoutExchange])
@pytest.mark.parametrize("case", WORK.values(), ids=WORK)
def test_killed_before_any_step_and_started_again_nothing_half_done_is_seen(
    fast: Path, base: type[Disk], case: Case
) -> None:
    before, work, between, after = case
    step = 0
    while True:
        root = begun(fast, step, before)
        ended = in_child(partial(work, root, dying(base, step)))
        seen = state(root)
        assert seen in between | ({None} if base is WithoutExchange else set()), (step, seen)
        sweep(Publisher(), CacheDirectory(root))
        assert state(root) in between, step
        work(root, base())
        assert state(root) == after
        if ended:
            break
        step += 1
    assert step > 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("case", WORK.values(), ids=WORK)
def test_refused_at_any_step_it_says_so_and_goes_on_once_it_can(
    fast: Path, code: int, case: Case
) -> None:
    before, work, between, after = case
    step = 0
    while True:
        root = begun(fast, step, before)
        try:
            work(root, refusing(Disk, step, code))
        except CacheError as error:
            assert os.strerror(code) in str(error), step
            assert "writable" in str(error)
        else:
            break
        assert state(root) in between, step
        sweep(Publisher(), CacheDirectory(root))
        work(root, Disk())
        assert state(root) == after
        step += 1
    assert state(root) == after
    assert step > 2  # with the rename into the trash it is gone; what is refused then is for sweep


def fill(root: Path, files: dict[str, bytes], disk: Disk) -> None:
    """Publish in a mount point of its own, where no rename can help."""
    publisher = Publisher(disk=disk)
    with writing(CacheDirectory(root), IN_PLACE, disk=disk) as held:
        put(publisher.begin(held, listing(files)), files)
        publisher.publish(held, listing(files))


def test_in_place_too_a_marker_only_ever_stands_beside_a_whole_model(fast: Path) -> None:
    # The second revision has other files, so that what is left of the first one shows.
    other = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": NEW[SHARD]}
    step, ended = 0, False
    while not ended:
        root = begun(fast, step, lambda at: fill(at, OLD, Disk()))
        ended = in_child(partial(fill, root, other, dying(Disk, step)))
        if read_marker(root) is not None:
            assert verify(root, level=Level.CONTENT).ok, step
            assert contents(root) in (OLD, other), step
        fill(root, other, Disk())
        assert contents(root) == other
        step += 1
    assert step > 10


def obtain_in_place(root: Path, source: Path, disk: Disk) -> None:
    """Fill a mount point as ``loader fill`` does."""
    opened = opener(Credentials())
    obtainer = Obtainer(
        CacheDirectory(root), Publisher(disk=disk), open_source=opened, limits=Limits()
    )
    obtainer.obtain(IN_PLACE, Origin(source=f"file://{source}"))


def test_in_place_what_a_kill_left_is_never_taken_for_another_program_s(fast: Path) -> None:
    source = put(fast / "source", OLD)
    step, ended = 0, False
    while not ended:
        put(source, OLD)
        root = begun(fast, step, lambda at: obtain_in_place(at, source, Disk()))
        put(source, NEW)
        ended = in_child(partial(obtain_in_place, root, source, dying(Disk, step)))
        obtain_in_place(root, source, Disk())
        assert contents(root) == NEW, step
        step += 1
    assert step > 10


def churn(root: Path, seed: int) -> None:
    """Verify, publish, mend and evict for as long as the process lives."""
    random = Random(seed)
    directory, publisher = CacheDirectory(root), Publisher()
    sweep(publisher, directory)
    while True:
        chosen = random.choice(LARGE)
        with writing(directory, PATH) as held:
            put(publisher.begin(held, listing(chosen)), chosen)
            publisher.publish(held, listing(chosen))
            assert verify(held.final, level=Level.CONTENT).ok
            condemn(publisher, held, [SHARD])
            put(directory.mending(PATH), {SHARD: chosen[SHARD]})
            mend(publisher, held, listing(chosen))
            if random.random() < 0.5:
                publisher.remove(held)


LARGE = [small_model(seed, size=500_000) for seed in (1, 2)]
"""Large enough for a kill to fall inside of every phase."""


def test_killed_at_random_moments_it_never_shows_a_partial_model(tmp_path: Path) -> None:
    kills = int(os.environ.get("KILLS", "12"))
    seed = int(os.environ.get("KILL_SEED", "1"))
    random = Random(seed)
    final = tmp_path / PATH
    for number in range(kills):
        moment = random.uniform(0, 0.3)
        assert not in_child(partial(churn, tmp_path, seed + number), kill_after=moment), (
            f"KILL_SEED={seed}, kill {number}"
        )
        if final.exists():
            marker = read_marker(final)
            assert marker is not None, f"KILL_SEED={seed}, kill {number}: shown without proof"
            if not marker.damaged:
                assert contents(final) in LARGE, f"KILL_SEED={seed}, kill {number}"
    sweep(Publisher(), CacheDirectory(tmp_path), wanted={})
    publish(tmp_path, LARGE[0], Disk())
    assert contents(final) == LARGE[0]
    assert not list(tmp_path.glob(".modelcache/trash/*"))
