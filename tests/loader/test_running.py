"""``loader run`` as a process: it follows the catalog, tells what it holds, and mends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loader.hub import TOKEN, Hub, Repository
from tests.loader.loader_process import LoaderProcess, catalog, wait_for
from tests.loader.models import contents, small_model

SMALL = {"name": "small", "source": "hf://org/small"}
OTHER = {"name": "other", "source": "hf://org/other", "path": "team/other"}
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.repositories["org/small"] = Repository(files=small_model(), large=500)
        running.repositories["org/other"] = Repository(files=small_model(seed=1), large=500)
        yield running


@pytest.fixture
def place(fast: Path) -> Path:
    return fast


def loader(place: Path, hub: Hub, *options: str) -> LoaderProcess:
    return LoaderProcess(
        place / "catalog.yaml", place / "cache", "--hub-endpoint", hub.url, *options
    )


def test_a_changed_catalog_takes_effect_and_a_bad_one_does_not(place: Path, hub: Hub) -> None:
    file = place / "catalog.yaml"
    file.write_text(catalog(SMALL))
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1)
        assert process.get("/readyz") == (200, "ok\n")
        assert process.get("/healthz") == (200, "ok\n")
        file.write_text(catalog(SMALL, OTHER, colour="red"))
        wait_for(lambda: "colour" in process.log)
        refused = "model_cache_extender_loader_catalog_refused 1.0"
        wait_for(lambda: refused in process.get("/metrics")[1])
        assert process.models("ready") == 1
        file.write_text(catalog(SMALL, OTHER))
        wait_for(lambda: process.models("ready") == 2)
        assert contents(place / "cache" / "team/other") == small_model(seed=1)


def test_a_restart_fetches_nothing_again(place: Path, hub: Hub) -> None:
    (place / "catalog.yaml").write_text(catalog(SMALL))
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1)
    sent = hub.bytes_sent()
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1)
    assert hub.bytes_sent() == sent


def test_of_two_loaders_on_one_directory_one_fetches_and_both_end_ready(
    place: Path, hub: Hub
) -> None:
    hub.delay = 0.05
    (place / "catalog.yaml").write_text(catalog(SMALL))
    other = LoaderProcess(
        place / "catalog.yaml", place / "cache", "--hub-endpoint", hub.url, log=place / "other.log"
    )
    with loader(place, hub) as one, other as two:
        wait_for(lambda: one.models("ready") == two.models("ready") == 1)
    assert contents(place / "cache" / "small") == small_model()
    assert hub.bytes_sent() == sum(map(len, small_model().values()))


def test_what_is_ready_stays_ready_while_its_source_is_out_of_reach(place: Path, hub: Hub) -> None:
    (place / "catalog.yaml").write_text(catalog(SMALL))
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1)
    with LoaderProcess(
        place / "catalog.yaml", place / "cache", "--hub-endpoint", "http://127.0.0.1:9"
    ) as process:
        wait_for(lambda: "model not obtained" in process.log)
        assert process.models("ready") == 1


def test_a_shard_that_was_damaged_while_the_loader_was_away_is_mended_alone(
    place: Path, hub: Hub
) -> None:
    (place / "catalog.yaml").write_text(catalog(SMALL))
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1)
    shard = place / "cache" / "small" / SHARD
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    hub.served.clear()
    with loader(place, hub) as process:
        wait_for(lambda: process.models("ready") == 1 and "model damaged" in process.log)
    assert {one.path for one in hub.served} == {SHARD}
    assert contents(place / "cache" / "small") == small_model()


def test_the_token_is_used_and_never_told(place: Path, hub: Hub) -> None:
    hub.repositories["org/small"].private = True
    (place / "catalog.yaml").write_text(catalog(SMALL, OTHER | {"source": "hf://org/nothing"}))
    (place / "token").write_text(f"{TOKEN}\n")
    options = ("--hub-token-file", str(place / "token"), "--log-level", "DEBUG")
    with loader(place, hub, *options) as process:
        wait_for(lambda: process.models("ready") == 1 and process.models("failed") == 1)
        told = process.log + process.get("/metrics")[1]
    assert TOKEN not in told
    assert "Signature" not in told  # of the store that the hub redirects to


def test_without_a_cluster_or_its_pod_it_says_what_is_missing(place: Path, hub: Hub) -> None:
    (place / "catalog.yaml").write_text(catalog(SMALL))
    bare = {key: value for key, value in os.environ.items() if not key.startswith("POD_")}
    with LoaderProcess(
        place / "catalog.yaml", place / "cache", standalone=False, environment=bare
    ) as process:
        assert process.process.wait(60) == 2
        assert "POD_NAME (fieldRef metadata.name)" in process.log
