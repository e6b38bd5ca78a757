"""Fixtures: a headless Chromium, and a real server with the dump of a large cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.fleet import write_dump
from tests.browser.watching import CHROMIUM, FLAGS, Watched
from tests.serving.running import Running, running

NODES = 5_000

expect.set_options(timeout=60_000)  # other tests run beside, on the same two cores


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. In CI its absence is an error."""
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is not there; `make browser` installs it, or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.exit(f"no browser to test with: {missing}", returncode=2)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The extender with 5,000 nodes and 20 models, as `serve --snapshot` shows them."""
    folder = tmp_path_factory.mktemp("fleet")
    write_dump(folder / "dump.json", NODES)
    with running(folder, "--snapshot", folder / "dump.json", patience=120) as started:
        yield started


@pytest.fixture
def watched(browser: Browser, fleet: Running) -> Iterator[Watched]:
    """A page of its own, whose console has to stay silent."""
    with Watched.open(browser, "http://{}:{}".format(*fleet.address)) as page:
        yield page


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go: build/ is no part of the tree."""
    folder = Path(__file__).resolve().parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
