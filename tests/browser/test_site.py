"""The documentation's site in a browser: it asks nobody but its own server, and can be searched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.watching import Watched
from tests.docs.site import build

PAGES = ("index", "tutorial", "how-to/node-cache", "metrics", "reference/http")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of what is asked."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served."""
    folder = build(tmp_path_factory.mktemp("site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_ask_nobody_else_and_have_nothing_to_complain_of(
    browser: Browser, address: str, pictures: Path
) -> None:
    with Watched.open(browser, address) as watched:
        for name in PAGES:
            watched.page.goto(f"/{name}.html")
            expect(watched.page.locator("h1")).to_be_visible()
            watched.page.screenshot(path=pictures / f"site-{name.replace('/', '-')}.png")


def test_a_reason_is_found_by_its_name(browser: Browser, address: str) -> None:
    with Watched.open(browser, address) as watched:
        watched.page.goto("/index.html")
        watched.page.get_by_placeholder("Search").click()
        watched.page.keyboard.type("ClaimFillFailed")
        found = watched.page.locator(".md-search-result__item")
        expect(found.filter(has_text="Reasons")).to_be_visible()
