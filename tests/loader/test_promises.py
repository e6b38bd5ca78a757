"""Free space is promised once: of two downloads that it is too small for, one finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from extender.loader.layout import CacheDirectory
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.proof.reading import ReadingStoppedError
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.space import FileSystem
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.promises import Promises
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.models import contents, small_model

SHARD = "model-00001-of-00002.safetensors"


def test_who_came_first_is_counted_by_who_came_later_and_not_the_other_way() -> None:
    promises = Promises()
    with promises.promise() as one, promises.promise() as other:
        other.expect(10)
        one.expect(5)
        assert (other.before(), one.before()) == (0, 10)


def test_what_was_written_is_promised_no_more_and_the_end_frees_the_rest() -> None:
    promises, left = Promises(), 10
    with promises.promise() as later:
        with promises.promise() as first:
            first.expect(10)
            later.expect(1)
            first.left = lambda: left
            assert later.before() == 10
            left = 4
            assert later.before() == 4
        assert later.before() == 0


def test_more_than_was_promised_waits_for_what_was_promised_since() -> None:
    promises = Promises()
    with promises.promise() as one, promises.promise() as other:
        one.expect(5)
        other.expect(10)
        one.expect(4)
        assert one.before() == 0
        one.expect(6)
        assert (one.before(), other.before()) == (10, 0)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        for seed, name in enumerate(("one", "other")):
            running.repositories[f"org/{name}"] = Repository(
                small_model(seed, size=400_000), large=500
            )
        yield running


def obtainer(hub: Hub, root: Path, limits: Limits) -> Obtainer:
    credentials = Credentials(hub_endpoint=hub.url)
    return Obtainer(
        CacheDirectory(root), Publisher(), open_source=opener(credentials), limits=limits
    )


def test_a_download_does_not_begin_on_what_another_one_has_still_to_write(
    hub: Hub, fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one and a half: the one on its way finishes, the other says what it lacks.

    The file system is one of its own: what other tests write meanwhile takes no room of it.
    """

    def of_its_own(_: Path, **_more: object) -> FileSystem:
        used = 0
        for file in fast.rglob("*"):
            with suppress(FileNotFoundError):
                used += file.lstat().st_blocks * 512
        return FileSystem(total=1 << 30, free=(1 << 30) - used)

    monkeypatch.setattr("extender.loader.transfer.plan.file_system", of_its_own)
    limits = Limits()
    both = obtainer(hub, fast, limits)
    begun, may_go_on = Event(), Event()

    def hold() -> None:
        begun.set()
        may_go_on.wait(30)

    hub.troubles[SHARD] = [Trouble(meanwhile=hold, at_hub=False)]
    first = Thread(target=both.obtain, args=("one", Origin(source="hf://org/one")), daemon=True)
    first.start()
    assert begun.wait(30)
    asked: list[int] = []
    limits.reserve_bytes = of_its_own(fast).free - 1_200_000
    with pytest.raises(TransferError, match="of it for other downloads") as refused:
        both.obtain(
            "other",
            Origin(source="hf://org/other"),
            make_room=lambda needed, _: asked.append(needed),
        )
    assert refused.value.cause is LocalCause.NO_SPACE
    assert asked[0] > 1_200_000, "room is made for both of them"
    may_go_on.set()
    first.join(30)
    assert contents(fast / "one") == hub.repositories["org/one"].files
    limits.reserve_bytes = 0
    both.obtain("other", Origin(source="hf://org/other"))
    assert contents(fast / "other") == hub.repositories["org/other"].files


@pytest.mark.parametrize("end", ["stopped", "refused"])
def test_a_download_that_ends_early_lets_go_of_its_promise(hub: Hub, fast: Path, end: str) -> None:
    limits = Limits()
    both = obtainer(hub, fast, limits)
    stop: Callable[[], bool] = (lambda: True) if end == "stopped" else (lambda: False)
    if end == "refused":
        hub.troubles["config.json"] = [Trouble(status=404)]
    # A small model may be there whole before its threads are asked to stop; then the proof is.
    with pytest.raises((TransferError, ReadingStoppedError)):
        both.obtain("one", Origin(source="hf://org/one"), stop=stop)
    with limits.promises.promise() as next_one:
        next_one.expect(1)
        assert next_one.before() == 0
