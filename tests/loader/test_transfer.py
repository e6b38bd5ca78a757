"""Downloads that finish: what goes wrong on the way is put up with, or said in words."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from extender.loader.sources import Cause, Credentials, RemoteFile, Source
from extender.loader.sources.opening import source_for
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.transfer.fetching import Fetched, Progressed, fetch
from extender.loader.transfer.journal import Journal
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.worker import Patience
from tests.clock import Clock
from tests.loader.hub import Hub, Repository, Trouble

PART = 64 * 1024
BIG = "model.safetensors"
CONTENT = random.Random(7).randbytes(20 * PART + 17)
FILES = {"config.json": b"{}", "empty.txt": b"", "sub/tokenizer.json": b"t" * 900, BIG: CONTENT}
QUICK = Patience(
    tries=4,
    first_wait=0.01,
    longest_wait=0.02,
    longest_retry_after=1.0,
    stall_seconds=0.5,
    part_bytes=PART,
    span_bytes=4 * PART,
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.repositories["org/name"] = Repository(dict(FILES))
        yield running


class Download:
    """One directory and its journal; ``run`` is one process's attempt at it."""

    def __init__(self, hub: Hub, place: Path) -> None:
        self.hub = hub
        self.into = place / "staging"
        self.journal = place / "journal"
        self.limits = Limits(connections=3)
        self.patience = QUICK
        self.told: list[Progressed] = []

    def run(self) -> Fetched:
        source = source_for(
            "hf://org/name",
            credentials=Credentials(hub_endpoint=self.hub.url),
            stall_seconds=self.patience.stall_seconds,
        )
        return fetch(
            source.list(),
            source,
            self.into,
            journal=self.journal,
            limits=self.limits,
            progress=self.told.append,
            patience=self.patience,
        )

    def is_complete(self) -> bool:
        found = {
            path.relative_to(self.into).as_posix(): path.read_bytes()
            for path in self.into.rglob("*")
            if path.is_file()
        }
        return found == self.hub.repositories["org/name"].files


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    return Download(hub, tmp_path)


def test_every_file_arrives_once_and_a_second_run_fetches_nothing(download: Download) -> None:
    size = sum(map(len, FILES.values()))
    first = download.run()
    assert first == Fetched(files=4, bytes=size, bytes_received=size, bytes_resumed=0)
    assert download.is_complete()
    assert download.hub.bytes_sent() == size
    second = download.run()
    assert second == Fetched(files=4, bytes=size, bytes_received=0, bytes_resumed=size)
    assert download.hub.bytes_sent() == size


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(status=429, headers={"Retry-After": "0"}),
        Trouble(status=503),
        Trouble(status=500, at_hub=True),
        Trouble(status=429, at_hub=True),
        Trouble(status=403),
        Trouble(cut_after=PART + 5),
        Trouble(cut_after=0),
        Trouble(hang_after=PART),
        Trouble(longer=5),
        Trouble(shifted=True),
    ],
    ids=str,
)
def test_what_passes_is_put_up_with(download: Download, trouble: Trouble) -> None:
    download.hub.troubles[BIG] = [trouble]
    download.run()
    assert download.is_complete()
    assert download.hub.troubles[BIG] == []


def test_what_does_not_pass_ends_with_the_cause_after_a_bounded_number_of_tries(
    download: Download,
) -> None:
    download.limits = Limits(connections=1)
    download.hub.troubles[BIG] = [Trouble(status=500)] * 100
    with pytest.raises(TransferError, match=r"500.*tried 4 times") as failed:
        download.run()
    assert failed.value.cause is Cause.SERVER
    assert not failed.value.permanent
    assert len(download.hub.troubles[BIG]) == 96
    download.hub.troubles.clear()
    download.run()
    assert download.is_complete()


def test_a_connection_that_is_always_cut_early_still_ends(download: Download) -> None:
    download.hub.troubles[BIG] = [Trouble(cut_after=10)] * 1000
    with pytest.raises(TransferError) as failed:
        download.run()
    assert failed.value.cause is Cause.UNREACHABLE


def test_a_download_whose_every_connection_is_cut_goes_on_from_where_each_was(
    download: Download,
) -> None:
    """No byte that arrived before a cut is asked for again."""
    download.patience = msgspec.structs.replace(QUICK, tries=50)
    download.hub.troubles[BIG] = [Trouble(cut_after=PART // 2) for _ in range(30)]
    fetched = download.run()
    assert download.is_complete()
    assert download.hub.bytes_sent(BIG) == len(CONTENT)
    assert fetched.bytes_received == fetched.bytes


def test_a_retry_after_is_honoured_by_all_connections_and_never_longer_than_the_bound(
    download: Download,
) -> None:
    clock = Clock(1000.0)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    download.limits = Limits(connections=1, clock=clock, sleep=sleep)
    download.patience = msgspec.structs.replace(QUICK, longest_retry_after=300.0)
    download.hub.troubles[BIG] = [Trouble(status=429, headers={"Retry-After": "120"})]
    download.run()
    assert 120 <= clock.now - 1000 < 121
    download.hub.repositories["org/name"].files[BIG] = CONTENT[::-1]
    download.hub.troubles[BIG] = [Trouble(status=429, headers={"Retry-After": "86400"})]
    begun = clock.now
    download.run()
    assert 300 <= clock.now - begun < 301
    assert download.is_complete()


def test_a_server_without_ranges_is_read_in_one_go_and_again_from_the_start(
    download: Download,
) -> None:
    download.hub.ranges = False
    download.hub.troubles[BIG] = [Trouble(), Trouble(), Trouble(cut_after=3 * PART)]
    download.run()
    assert download.is_complete()
    whole = [s for s in download.hub.served if s.path == BIG and s.asked_range is None]
    assert whole
    assert all(s.start == 0 for s in whole)


class Counting:
    """A source that counts how many of its files are being read."""

    def __init__(self, source: Source) -> None:
        self.list = source.list
        self._open = source.open
        self._lock = threading.Lock()
        self._reading = self.most = 0

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int | None) -> Iterator[Iterator[bytes]]:
        with self._lock:
            self._reading += 1
            self.most = max(self.most, self._reading)
        try:
            with self._open(file, start, end) as pieces:
                yield pieces
        finally:
            with self._lock:
                self._reading -= 1


def test_connections_never_exceed_the_bound_over_all_downloads(hub: Hub, tmp_path: Path) -> None:
    hub.delay = 0.002
    limits = Limits(connections=2)
    counting = Counting(source_for("hf://org/name", credentials=Credentials(hub_endpoint=hub.url)))
    listing = counting.list()

    def run(name: str) -> None:
        journal = tmp_path / f"{name}.journal"
        fetch(listing, counting, tmp_path / name, journal=journal, limits=limits, patience=QUICK)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.most == 2
    for name in "abc":
        assert (tmp_path / name / BIG).read_bytes() == CONTENT


def test_bytes_per_second_hold_over_all_connections(download: Download) -> None:
    clock = Clock()
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.now += seconds

    rate = 4 * PART
    download.limits = Limits(connections=4, bytes_per_second=rate, clock=clock, sleep=sleep)
    fetched = download.run()
    # Whoever waits moves the clock for all, so that time passes at most four times as fast.
    assert clock.now >= fetched.bytes / rate - 1


class Dribbling:
    """A source that has one byte every second, for its first ``times`` reads."""

    def __init__(self, source: Source, clock: Clock, times: int) -> None:
        self.list = source.list
        self._open = source.open
        self._clock = clock
        self._times = times

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int | None) -> Iterator[Iterator[bytes]]:
        with self._open(file, start, end) as pieces:
            self._times -= 1
            yield self._slowly(b"".join(pieces)) if self._times >= 0 else pieces

    def _slowly(self, content: bytes) -> Iterator[bytes]:
        for at in range(len(content)):
            self._clock.now += 1
            yield content[at : at + 1]


def test_a_connection_that_dribbles_is_given_up_for_a_new_one(download: Download) -> None:
    clock = Clock()
    source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
    del download.hub.repositories["org/name"].files["sub/tokenizer.json"]
    dribbling = Dribbling(source, clock, times=3)
    limits = Limits(
        connections=1, clock=clock, sleep=lambda s: setattr(clock, "now", clock.now + s)
    )
    fetch(
        dribbling.list(),
        dribbling,
        download.into,
        journal=download.journal,
        limits=limits,
        patience=msgspec.structs.replace(QUICK, stall_seconds=30.0),
    )
    assert download.is_complete()
    assert clock.now < 3 * 40


def test_a_changed_bound_holds_at_once() -> None:
    limits = Limits(connections=1)
    with limits.connection(lambda: False) as first:
        assert first
        limits.adjust(connections=2, bytes_per_second=0, reserve_bytes=0)
        with limits.connection(lambda: False) as second:
            assert second
            with limits.connection(lambda: True) as third:
                assert not third


def test_what_has_to_come_again_is_told_as_lost(download: Download) -> None:
    """Without ranges a cut costs all that had come; with them nothing."""
    download.hub.troubles[BIG] = [Trouble(cut_after=PART + 5)]
    download.run()
    assert download.told[-1].bytes_lost == 0
    (download.into / BIG).unlink()
    download.hub.ranges = False
    download.limits = Limits(connections=1)
    download.hub.troubles[BIG] = [Trouble(), Trouble(cut_after=PART + 5)]
    fetched = download.run()
    assert download.is_complete()
    assert download.told[-1].bytes_lost == fetched.bytes_received - len(CONTENT) > 0


def test_a_file_that_was_replaced_since_it_was_listed_is_noticed(download: Download) -> None:
    """The listing is of a commit; a mirror serves another content under it."""
    repository = download.hub.repositories["org/name"]
    source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
    listing = source.list()
    repository.claimed_commit = repository.commit
    repository.files[BIG] = CONTENT[::-1]
    with pytest.raises(TransferError, match="was replaced since it was listed") as failed:
        fetch(
            listing, source, download.into,
            journal=download.journal, limits=download.limits, patience=QUICK,
        )  # fmt: skip
    assert failed.value.cause is Cause.CHANGED
    assert failed.value.permanent
    repository.claimed_commit = ""
    download.run()
    assert download.is_complete()


def test_of_a_new_revision_only_the_files_that_changed_are_fetched(download: Download) -> None:
    download.run()
    before = download.hub.bytes_sent()
    download.hub.repositories["org/name"].files["config.json"] = b'{"new": 1}'
    fetched = download.run()
    assert download.is_complete()
    assert fetched.bytes_received == len(b'{"new": 1}') == download.hub.bytes_sent() - before


def test_a_file_that_was_removed_or_replaced_in_staging_is_fetched_anew(
    download: Download,
) -> None:
    download.run()
    (download.into / "config.json").unlink()
    big = download.into / BIG
    big.unlink()
    big.write_bytes(b"somebody else's")
    fetched = download.run()
    assert download.is_complete()
    assert fetched.bytes_received == len(CONTENT) + 2


def test_a_file_that_lost_bytes_though_they_were_synced_is_fetched_anew(
    download: Download,
) -> None:
    download.run()
    os.truncate(download.into / BIG, PART)
    download.run()
    assert download.is_complete()


def test_a_link_in_staging_is_never_written_through(download: Download, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep me")
    download.into.mkdir()
    (download.into / "config.json").symlink_to(outside)
    download.run()
    assert outside.read_bytes() == b"keep me"
    assert download.is_complete()


def test_a_journal_that_is_cut_short_or_garbled_costs_only_what_it_no_longer_says(
    download: Download,
) -> None:
    download.run()
    lines = download.journal.read_bytes()
    download.journal.write_bytes(lines[: len(lines) // 2] + b"\xff{[\n" + lines[-20:])
    download.run()
    assert download.is_complete()


class TestStopping:
    def stop_after(
        self, download: Download, seconds: float, *, once: Callable[[], bool] = lambda: True
    ) -> tuple[TransferError, float]:
        begun = time.monotonic()
        source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
        listing = source.list()
        with pytest.raises(TransferError) as stopped:
            fetch(
                listing,
                source,
                download.into,
                journal=download.journal,
                limits=download.limits,
                stop=lambda: time.monotonic() - begun > seconds and once(),
            )
        return stopped.value, time.monotonic() - begun - seconds

    def test_a_stop_ends_it_though_the_server_is_silent_and_nothing_is_written_after(
        self, download: Download
    ) -> None:
        download.hub.troubles[BIG] = [Trouble(hang_after=2 * PART + 1) for _ in range(9)]
        stopped, late = self.stop_after(download, 0.5)
        assert stopped.cause is LocalCause.STOPPED
        assert late < 5  # a bound against hanging for the stall timeout; it is a second when calm
        before = (download.into / BIG).stat()
        download.hub.ended.set()  # the silent connections end, and the threads that waited wake
        time.sleep(0.2)
        after = (download.into / BIG).stat()
        assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)

    def test_what_had_arrived_before_a_stop_is_kept(self, download: Download) -> None:
        download.hub.delay = 0.05
        journal = download.journal  # a line is there once its bytes are
        self.stop_after(download, 0.7, once=lambda: bool(journal.read_bytes()))
        download.hub.delay = 0.0
        sent = download.hub.bytes_sent()
        fetched = download.run()
        assert download.is_complete()
        assert fetched.bytes_resumed > 0
        in_flight = download.limits.connections * (download.hub.piece + PART)
        assert download.hub.bytes_sent() <= fetched.bytes + in_flight
        assert sent > 0


class TestSpace:
    def test_too_little_is_said_before_the_first_byte(self, download: Download) -> None:
        download.limits = Limits(reserve_bytes=2**62)
        with pytest.raises(TransferError, match="free space, or lower the reserve") as failed:
            download.run()
        assert failed.value.cause is LocalCause.NO_SPACE
        assert download.hub.served == []

    def test_what_is_there_already_needs_no_space_again(self, download: Download) -> None:
        download.run()
        download.limits = Limits(reserve_bytes=2**62)
        assert download.run().bytes_received == 0

    def test_the_reserve_is_kept_while_others_fill_the_disk(self, download: Download) -> None:
        """Free space shrinks by more than this download writes."""
        looks = iter([10**9, 10**9, 10**9] + [1] * 1000)

        def statvfs(path: Path) -> os.statvfs_result:
            real = list(os.statvfs(path))
            real[1], real[4] = 1, next(looks)  # f_frsize, f_bavail
            return os.statvfs_result(real)

        source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
        with pytest.raises(TransferError) as failed:
            fetch(
                source.list(), source, download.into, journal=download.journal,
                limits=Limits(connections=1, reserve_bytes=5), patience=QUICK, statvfs=statvfs,
            )  # fmt: skip
        assert failed.value.cause is LocalCause.NO_SPACE
        assert download.hub.bytes_sent() < len(CONTENT)
        download.run()
        assert download.is_complete()

    @pytest.mark.parametrize("pages", [0, 1, 4, 17, 60, 200, 320])
    def test_a_disk_that_is_full_at_any_moment_loses_nothing(
        self, download: Download, pages: int
    ) -> None:
        """A tmpfs with room for so many pages beside what is on it from the start."""
        with tmpfs(download.into.parent / "small", pages) as small:
            download.into, download.journal = small / "staging", small / "journal"
            with pytest.raises(TransferError) as failed:
                fetch_ignoring_free_space(download)
            assert failed.value.cause is LocalCause.NO_SPACE
            assert "free space" in str(failed.value)
            subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
            kept = sum(b - a for r in Journal(download.journal).read().values() for a, b in r)
            fetched = download.run()
            assert download.is_complete()
            assert fetched.bytes_resumed == kept
            assert fetched.bytes_received == fetched.bytes - kept

    def test_a_read_only_file_system_is_named(self, download: Download) -> None:
        with tmpfs(download.into.parent / "small", 100) as small:
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
            download.into, download.journal = small / "staging", small / "journal"
            with pytest.raises(TransferError, match="mount it for writing") as failed:
                download.run()
            assert failed.value.cause is LocalCause.READ_ONLY

    def test_a_directory_that_may_not_be_written_is_named(self, download: Download) -> None:
        """As the unprivileged user that the loader is; root may write everywhere."""
        source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
        listing = source.list()
        download.into.parent.chmod(0o555)
        with unprivileged(), pytest.raises(TransferError, match="may not write there") as failed:
            fetch(
                listing,
                source,
                download.into,
                journal=download.journal,
                limits=download.limits,
            )
        assert failed.value.cause is LocalCause.DENIED


def fetch_ignoring_free_space(download: Download) -> Fetched:
    """Fetch while statvfs promises room that is not there, as a quota or a thin volume does."""

    def statvfs(path: Path) -> os.statvfs_result:
        real = list(os.statvfs(path))
        real[4] = 2**40
        return os.statvfs_result(real)

    source = source_for("hf://org/name", credentials=Credentials(hub_endpoint=download.hub.url))
    return fetch(
        source.list(), source, download.into, journal=download.journal,
        limits=download.limits, patience=QUICK, statvfs=statvfs,
    )  # fmt: skip


@contextmanager
def tmpfs(place: Path, pages: int) -> Iterator[Path]:
    """Mount a tmpfs with room for ``pages`` pages of 4 KiB; skipped where that is not allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(1, pages) * 4}k", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as nobody where this runs as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
