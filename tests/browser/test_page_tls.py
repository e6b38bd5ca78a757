"""The page over TLS in a real browser: live, and for whom a certificate is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.authority import CLIENT
from tests.browser.watching import Watched
from tests.serving.running import GOOD, Running
from tests.serving.site import Site, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.at(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def for_known(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("server"), site, clients=True) as started:
        yield started


def address(server: Running) -> str:
    assert server.status_address is not None
    return "https://{}:{}".format(*server.status_address)


def test_a_browser_with_a_certificate_follows_what_is_decided(
    browser: Browser, for_known: Running, site: Site
) -> None:
    """The authority of the server is the test's own, which no browser knows."""
    pair, base = site.clients.issue("browser", CLIENT), address(for_known)
    shown = [{"origin": base, "certPath": pair.cert, "keyPath": pair.key}]
    options: dict[str, Any] = {"ignore_https_errors": True, "client_certificates": shown}
    with Watched.open(browser, base, **options) as watched:
        page = watched.page
        page.clock.install()
        page.goto("/?view=decisions")
        expect(page.get_by_text("Nothing was decided yet")).to_be_visible()
        for_known.post("/filter", GOOD)
        page.clock.run_for(5_100)
        expect(page.get_by_role("rowheader", name="good")).to_be_visible()
        assert page.evaluate("location.protocol") == "https:"


def test_a_browser_without_one_is_told_what_is_missing(
    browser: Browser, for_known: Running
) -> None:
    context = browser.new_context(base_url=address(for_known), ignore_https_errors=True)
    page = context.new_page()
    answer = page.goto("/")
    assert answer is not None
    assert answer.status == 403
    expect(
        page.get_by_text("for clients with a certificate of statusTls.clientCaFile")
    ).to_be_visible()
    context.close()
