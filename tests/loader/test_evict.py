"""From what lies on the disk to what goes: names that no model can have, and models in models."""

from __future__ import annotations

from pathlib import Path

import pytest

from extender.kube.times import time_text
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.disk import Disk
from extender.loader.evict import carry_out, decide
from extender.loader.layout import CacheDirectory, writing
from extender.loader.leaving import Leftovers
from extender.loader.publish import Publisher
from extender.loader.stored import stored
from extender.loader.usage import Record, load_record, save_record
from tests.loader.models import contents, listing, put, small_model

FILES = small_model()
GRACE = 10.0


def published(cache: CacheDirectory, *paths: str) -> None:
    publisher = Publisher()
    for path in paths:
        with writing(cache, path) as held:
            put(publisher.begin(held, listing(FILES)), FILES)
            publisher.publish(held, listing(FILES))


def after_grace(cache: CacheDirectory, catalog: Catalog, *, keep: frozenset[str]) -> list[str]:
    """Let what left the catalog go once its grace is over; return what went."""
    for now in (0.0, GRACE * 2):
        decided = decide(cache, catalog, [], host_directory="/models", now=now, keep=keep)
        carry_out(Publisher(), cache, decided)
    return [eviction.path for eviction in decided.plan.evictions]


@pytest.mark.parametrize(("wished", "pin"), [(True, False), (False, True), (False, False)])
def test_a_model_that_left_stays_while_one_of_the_catalog_lies_below_it(
    fast: Path, wished: bool, pin: bool
) -> None:
    cache = CacheDirectory(fast)
    published(cache, "llama", "llama/v2", "llama2")
    model = CatalogModel(name="v2", source="hf://org/small", path="llama/v2", pin=pin)
    keep = frozenset({"llama/v2"}) if wished else frozenset()
    catalog = Catalog(grace_seconds=GRACE, models=(model,))
    assert after_grace(cache, catalog, keep=keep) == ["llama2"]
    assert contents(fast / "llama/v2") == FILES
    assert after_grace(cache, Catalog(grace_seconds=GRACE), keep=frozenset()) == ["llama"]


def test_by_hand_the_grace_of_what_a_node_selector_leaves_out_goes_on(fast: Path) -> None:
    """Only the loader knows the node's labels, and since when they are other ones."""
    cache = CacheDirectory(fast)
    published(cache, "selected", "plain")
    since = {"selected": 5.0, "plain": 5.0}
    save_record(cache, Record(last_used={}, left_at=since), Disk())
    models = (
        CatalogModel(name="selected", source="hf://org/a", node_selector={"gpu": "h100"}),
        CatalogModel(name="plain", source="hf://org/b"),
    )
    catalog = Catalog(grace_seconds=GRACE, models=models)
    decided = decide(cache, catalog, [], host_directory="/m", now=GRACE * 2, of_node=False)
    assert decided.plan.evictions == ()
    carry_out(Publisher(), cache, decided)
    assert load_record(cache).left_at == {"selected": 5.0}


@pytest.mark.parametrize("odd", [".modelcache.old", "\u00e9" * 40, "team/" + "x" * 180])
def test_a_directory_that_no_model_can_have_is_left_alone_and_keeps_nothing_from_going(
    fast: Path,
    odd: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = CacheDirectory(fast)
    published(cache, "small", "other")
    (fast / odd).parent.mkdir(exist_ok=True)
    (fast / "other").rename(fast / odd)
    for _ in range(2):
        assert [model.path for model in stored(cache)] == ["small"]
    assert [left.model.path for left in Leftovers(cache).of(Catalog())] == ["small"]
    assert after_grace(cache, Catalog(grace_seconds=GRACE), keep=frozenset()) == ["small"]
    assert contents(fast / odd) == FILES
    said = "".join(capsys.readouterr())  # to stderr where a test before has set up logging
    assert said.count("no model can have this path") == 1


@pytest.mark.parametrize(("noted", "left_at"), [(1e300, 1_000.0), (-1e300, 0.0)])
def test_a_time_of_leaving_that_no_clock_shows_ends_no_loader(
    fast: Path, noted: float, left_at: float
) -> None:
    cache = CacheDirectory(fast)
    published(cache, "small")
    save_record(cache, Record(left_at={"small": noted}), Disk())
    (left,) = Leftovers(cache, clock=lambda: 1_000.0).of(Catalog(grace_seconds=GRACE))
    assert left.leaves_at == time_text(left_at + GRACE)
