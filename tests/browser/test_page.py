"""The page in a real browser, over 5,000 nodes and 20 models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.fleet import HOSTILE, MODELS, node_name, waiting_pods
from tests.browser.watching import Watched, filter_by_keyboard
from tests.builders import vllm
from tests.serving.running import Running

AGE = re.compile(r"\d+ (s|min|h|days?)")
VIEWS = {
    "nodes": ("/", "Nodes and models"),
    "waiting": ("/?view=waiting", "Waiting pods"),
    "decisions": ("/?view=decisions", "Decisions"),
    "memory": ("/?view=memory&sort=free", "Memory"),
    "groups": ("/?group=topology.kubernetes.io/zone", "Nodes and models"),
}


@pytest.fixture(scope="module")
def decided(fleet: Running) -> Running:
    """Let kube-scheduler's questions be asked about all waiting pods, and about some that fit."""
    names = [node_name(index) for index in range(5_000)]
    for pod in waiting_pods():
        ask(fleet, "/filter", pod, names)
    for number in range(4):
        pod = vllm(f"new-{number}", model=f"/models/{MODELS[number]}")
        passed = ask(fleet, "/filter", pod, names)["NodeNames"]
        assert passed
        ask(fleet, "/prioritize", pod, passed[:200])
    return fleet


def ask(server: Running, verb: str, pod: Any, names: list[str]) -> Any:
    document = {"Pod": msgspec.to_builtins(pod), "Nodes": None, "NodeNames": names}
    return server.post(verb, document).json()


def rows(page: Page) -> Locator:
    return page.locator("tbody").first.locator("tr")


# -- the four views ------------------------------------------------------------------------------


def test_nodes_and_models_are_a_table_of_letters_that_is_read_without_colours(page: Page) -> None:
    page.goto("/")
    expect(rows(page)).to_have_count(50)
    expect(page.get_by_text("1 to 50 of 5,000 nodes")).to_be_visible()
    first = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="gpu-0002"))
    for text in ("ready, verified", "loading, verified", "absent"):
        expect(first.get_by_text(text).first).to_be_attached()
    expect(page.locator("svg.progress").first).to_be_visible()
    expect(page.get_by_text("left", exact=False).first).to_be_visible()


def test_waiting_pods_say_why_and_what_for(page: Page, decided: Running) -> None:
    page.goto("/?view=waiting&q=too-big")
    expect(page.get_by_role("rowheader", name="too-big")).to_be_visible()
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("InsufficientMemory on 5,000 nodes: waits for other pods to leave")
    page.goto("/?view=waiting&reason=ModelAbsent")
    expect(rows(page)).to_have_count(50)
    expect(page.get_by_text("of 61 waiting pods")).to_be_visible()


def test_decisions_show_each_candidates_estimate_and_what_starts_were_like(
    page: Page, decided: Running
) -> None:
    page.goto("/?view=decisions&q=new-")
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_text("estimated").first).to_be_visible()
    more = page.get_by_text("7 more").first
    more.click()
    expect(page.locator("details[open] li").first).to_be_visible()
    kinds = page.get_by_role("region", name="Estimated against actual")
    expect(kinds.get_by_role("row").nth(1)).to_contain_text("node-cache")
    expect(kinds.get_by_role("row").nth(1)).to_contain_text("1.31")


def test_memory_is_a_bar_with_its_figures_in_words(page: Page) -> None:
    page.goto("/?view=memory&sort=free")
    bar = page.get_by_role("img", name="tmpfs").first
    expect(bar).to_be_visible()
    label = bar.get_attribute("aria-label") or ""
    assert label.endswith("of 256.0 GiB")
    least = page.get_by_role("row").nth(1).get_by_role("cell").last.inner_text()
    page.goto("/?view=memory&sort=free&page=100")
    most = page.get_by_role("row").last.get_by_role("cell").last.inner_text()
    assert float(least.split()[0]) < float(most.split()[0])


def test_groups_count_nodes_by_state_and_lead_to_their_nodes(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Group by label").select_option("topology.kubernetes.io/zone")
    page.get_by_role("button", name="Apply").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="zone-b").click()
    expect(page.get_by_text("1 to 50 of 1,667 nodes")).to_be_visible()
    assert "value=zone-b" in page.url


def test_another_label_is_grouped_by_without_the_value_of_the_one_before(page: Page) -> None:
    page.goto("/?group=topology.kubernetes.io/zone&value=zone-b")
    label = "node.kubernetes.io/instance-type"
    page.get_by_label("Group by label").select_option(label)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("1 to 3 of 3 groups")).to_be_visible()
    page.get_by_role("link", name="gpu-8x").click()
    expect(page.get_by_text(f"{label} = gpu-8x")).to_be_visible()
    page.get_by_role("searchbox", name="Node").fill("gpu-00")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"{label} = gpu-8x")).to_be_visible()


def test_nodes_are_found_by_the_model_that_they_lack(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("list", name="Legend")).to_contain_text("absent")
    page.get_by_role("searchbox", name="Model").fill("phi-4")
    page.get_by_role("combobox", name="State").select_option("absent")
    page.get_by_role("button", name="Apply").click()
    expect(rows(page)).to_have_count(50)
    expect(page.locator("tbody .mark")).to_have_count(50)
    expect(page.locator("tbody .mark.absent")).to_have_count(50)


def test_a_pod_that_no_node_passes_in_tree_is_shown_with_what_kube_scheduler_says(
    page: Page,
) -> None:
    page.goto("/?view=waiting&reason=kube-scheduler")
    expect(rows(page).first).to_be_attached()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="no-gpu"))
    expect(row).to_contain_text("1500 Insufficient nvidia.com/gpu")


# -- filters, pages, addresses -------------------------------------------------------------------


def ageless_rows(page: Page) -> list[list[str]]:
    """Return the rows' lines but for ages, which go on between two looks."""
    texts = page.locator("tbody tr").all_inner_texts()
    return [[line for line in text.splitlines() if not AGE.fullmatch(line)] for text in texts]


def test_a_filter_is_an_address_that_can_be_passed_on(page: Page) -> None:
    page.goto("/")
    page.get_by_role("searchbox", name="Node").fill("GPU-49")
    page.get_by_role("searchbox", name="Model").fill("phi-4")
    page.get_by_role("combobox", name="State").select_option("failed")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("thead th")).to_have_count(2)
    shown = ageless_rows(page)
    assert 0 < len(shown) < 10
    page.goto(page.url)
    assert ageless_rows(page) == shown
    assert page.locator("thead th").count() == 2
    expect(page.get_by_role("searchbox", name="Model")).to_have_value("phi-4")


def test_pages_are_turned_by_links(page: Page) -> None:
    page.goto("/?size=25")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("26 to 50 of 5,000 nodes")).to_be_visible()
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_text("1 to 25 of 5,000 nodes")).to_be_visible()


# -- live ----------------------------------------------------------------------------------------


def test_a_new_refusal_shows_by_itself_and_nothing_that_is_held_is_lost(
    page: Page, decided: Running
) -> None:
    page.clock.install()
    page.goto("/?view=decisions")
    page.locator("summary").first.click()
    key = page.locator("summary").first.get_attribute("data-key")
    expect(page.get_by_role("rowheader", name="just-now")).to_have_count(0)
    ask(decided, "/filter", {"metadata": {"name": "just-now", "uid": "just-now"}}, ["gpu-0001"])
    page.clock.run_for(5_100)
    expect(page.get_by_role("rowheader", name="just-now")).to_be_visible()
    assert page.evaluate("document.activeElement.dataset.key") == key
    expect(page.locator("details[open]")).to_have_count(1)


def test_what_is_renewed_all_the_time_is_not_read_out(page: Page, decided: Running) -> None:
    """A region that is read out when it changes is none that changes with every age in it."""
    page.goto("/")
    content = page.locator("#content")
    assert content.locator("[role=alert], [role=status], [aria-live]").count() == 0
    expect(page.get_by_role("alert")).to_have_text("")


def test_it_can_be_paused(page: Page, decided: Running) -> None:
    page.clock.install()
    page.goto("/?view=decisions")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused")).to_be_visible()
    ask(decided, "/filter", {"metadata": {"name": "unseen", "uid": "unseen"}}, ["gpu-0001"])
    page.clock.run_for(30_000)
    expect(page.get_by_role("rowheader", name="unseen")).to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("rowheader", name="unseen")).to_be_visible()


def test_an_extender_that_does_not_answer_is_said(browser: Browser, fleet: Running) -> None:
    base = "http://{}:{}".format(*fleet.address)
    context = browser.new_context(base_url=base)
    page = context.new_page()
    page.clock.install()
    page.goto("/")
    context.set_offline(True)
    page.clock.run_for(5_100)
    expect(page.get_by_text("no answer; what is shown is old")).to_be_visible()
    context.set_offline(False)
    page.clock.run_for(20_000)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    context.close()


def test_without_scripts_every_view_is_whole(browser: Browser, decided: Running) -> None:
    with Watched.open(
        browser, "http://{}:{}".format(*decided.address), java_script_enabled=False
    ) as watched:
        for path, _ in VIEWS.values():
            watched.page.goto(path)
            expect(rows(watched.page).first).to_be_attached()
            expect(watched.page.get_by_role("button", name="Pause")).to_be_hidden()


# -- for everyone --------------------------------------------------------------------------------


def test_a_keyboard_is_enough(page: Page) -> None:
    filter_by_keyboard(page, "gpu-4999")
    page.get_by_role("link", name="Skip to the table").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    region = page.get_by_role("region", name="Models by node")
    expect(region).to_be_focused()


@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name_that_can_be_read_out(
    page: Page, decided: Running, view: str
) -> None:
    path, title = VIEWS[view]
    page.goto(path)
    assert page.title() == f"{title} - model cache"
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("[aria-current=page]").count() == 1
    expect(page.get_by_role("status")).to_contain_text("5,000 nodes")
    unnamed = """[...document.querySelectorAll('input:not([type=hidden]), select, button, a')]
        .filter(one => !(one.labels?.length || one.textContent.trim())).length"""
    assert page.evaluate(unnamed) == 0
    names = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(names) == len(set(names))


@pytest.mark.parametrize("width", [1440, 390])
def test_a_wide_table_is_moved_within_the_page_and_not_with_it(
    page: Page, decided: Running, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for path, _ in VIEWS.values():
        page.goto(path)
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0, path


@pytest.mark.parametrize("view", ["waiting", "decisions"])
def test_on_a_telephone_all_of_a_pod_is_seen_without_moving_the_table(
    page: Page, decided: Running, view: str
) -> None:
    """Its cells stand below each other, and it is a table still for who hears it read out."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/?view={view}&q=waits-1")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="waits-1")).first
    for shown in (row.get_by_role("rowheader"), row.get_by_text("ModelAbsent")):
        box = shown.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    expect(row.get_by_role("cell").first).to_be_visible()
    expect(page.get_by_role("columnheader", name="Pod")).to_be_attached()


@pytest.mark.parametrize("path", ["/", "/?view=memory", "/?group=topology.kubernetes.io/zone"])
@pytest.mark.parametrize("width", [1440, 390])
def test_a_long_name_leaves_room_for_what_stands_beside_it(
    page: Page, path: str, width: int
) -> None:
    """The first column stays while the others move: it must not cover them."""
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(path)
    first = page.locator(".node").first
    first.evaluate("one => { one.textContent = 'ip-10-0-123-234.eu-central-1.compute.internal' }")
    box = page.get_by_role("rowheader").first.bounding_box()
    assert box is not None
    assert box["width"] < width / 2


def test_a_hostile_name_is_a_name(page: Page, decided: Running) -> None:
    for path in ("/?q=gpu-0000", "/?view=waiting&q=hostile", "/?view=decisions&q=hostile"):
        page.goto(path)
        expect(page.get_by_text("<script>document.title", exact=False).first).to_be_attached()
        assert page.title().endswith("model cache")
        assert page.locator("img").count() == 0
    page.goto(f"/?view=decisions&q={HOSTILE}&model={HOSTILE}&group={HOSTILE}")
    expect(page.get_by_role("searchbox", name="Pod")).to_have_value(HOSTILE)
    assert page.locator("img").count() == 0
    assert page.title().endswith("model cache")


# -- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_drawn(
    browser: Browser, decided: Running, pictures: Path, scheme: str
) -> None:
    base = "http://{}:{}".format(*decided.address)
    with Watched.open(browser, base, color_scheme=scheme) as watched:
        grounds = set()
        for name, (path, _) in VIEWS.items():
            watched.page.goto(path)
            watched.page.screenshot(path=pictures / f"{name}-{scheme}.png")
            grounds.add(watched.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == {{"light": "rgb(247, 248, 250)", "dark": "rgb(17, 21, 27)"}[scheme]}
