"""The page without a browser: where it is served, its headers, what an address means, escaping."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.holdings import Holding
from extender.cluster.inventory import Inventory
from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.placement.progress import in_words
from extender.placement.reasons import TEXTS, Reason
from extender.serving.app import create_app
from extender.serving.knowledge import FileKnowledge
from extender.serving.page.asked import VIEWS, Asked, asked, cut
from extender.serving.page.holdings import KEPT_SECONDS, Holdings
from extender.serving.page.nodes import Memory, listing
from extender.serving.scope import status_scope
from extender.serving.service import Service
from extender.verbs.context import Context
from tests.builders import claim, gated, node, unplaced, vllm
from tests.clock import Clock
from tests.serving.conftest import demo_service
from tests.serving.running import Running

PATHS = ("/", "/page.css", "/page.js")
TEXT = st.text(max_size=30)


class Inline(HTMLParser):
    """Collects what a strict content security policy would not let happen."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [key for key in given if key == "style" or key.startswith("on")]
        if tag in {"style", "iframe", "object", "base"} or (tag == "script" and "src" not in given):
            self.found.append(tag)


# -- where it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_both_listeners_have_it_on_loopback(server: Running, path: str) -> None:
    for address in (server.address, server.status_address):
        assert server.ask("GET", path, at=address).status == 200


@pytest.mark.parametrize(("chosen", "status"), [(False, 404), (True, 200)])
def test_where_the_network_reaches_it_there_is_a_page_only_by_choice(
    service: Service, chosen: bool, status: int
) -> None:
    scope = status_scope("10.1.2.3", page=chosen)
    network = create_app(service, scope_at=lambda _: scope).test_client()
    assert {network.get(path).status_code for path in PATHS} == {status}
    assert network.get("/api/v1/decisions").status_code == 404
    assert network.post("/bind", json={}).status_code == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_answered(client: FlaskClient, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 405
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_the_browser_is_told_to_allow_nothing_else(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_has_script_or_style_inside(client: FlaskClient, view: str) -> None:
    inline = Inline()
    inline.feed(client.get(f"/?view={view}").text)
    assert inline.found == []


# -- what an address means -----------------------------------------------------------------------


@given(
    st.builds(
        Asked, view=st.sampled_from(VIEWS), q=TEXT.map(str.strip), model=TEXT.map(str.strip),
        group=st.text(min_size=1).map(str.strip).filter(bool), value=TEXT,
        page=st.integers(1, 10**6), sort=st.sampled_from(["name", "free"]),
    )
)  # fmt: skip
def test_an_address_asks_for_what_it_was_made_of(question: Asked) -> None:
    query = dict(parse_qsl(urlsplit(question.url()).query, keep_blank_values=True))
    assert asked(query) == question


@given(st.dictionaries(st.sampled_from(Asked.__struct_fields__), st.text(max_size=400)))
def test_any_address_is_answered(client: FlaskClient, query: dict[str, str]) -> None:
    answer = client.get("/", query_string=query)
    assert answer.status_code == 200
    inline = Inline()
    inline.feed(answer.text)
    assert inline.found == []


@given(st.integers(0, 700), st.integers(1, 50), st.sampled_from([25, 50, 100, 200]))
def test_pages_hold_every_row_once_and_none_is_beyond_the_last(
    total: int, number: int, size: int
) -> None:
    everything = list(range(total))
    page = cut(everything, Asked(page=number, size=size), lambda row: row)
    assert page.number == min(number, page.pages)
    assert list(page.rows) == everything[page.first - 1 : page.last] if total else not page.rows
    pages = [
        cut(everything, Asked(page=n + 1, size=size), lambda row: row).rows
        for n in range(page.pages)
    ]
    assert [row for rows in pages for row in rows] == everything


def test_the_value_of_a_label_is_left_behind_where_another_is_grouped_by() -> None:
    """As in the form of a page of one group, in which another label is chosen."""
    of_one = Asked(group="zone", value="a")
    carried = of_one.hidden | {"group": "zone"}
    assert asked(carried).value == "a"
    assert asked(carried | {"group": "kind"}) == Asked(group="kind")
    assert asked(carried | {"group": ""}) == Asked()


# -- colours -------------------------------------------------------------------------------------


INK = ("ink", "quiet", "accent", "failed")
MARKS = ("ready", "loading", "failed", "stale", "absent")
READ = [(text, ground) for text in INK for ground in ("ground", "sheet", "soft")]
READ += [(mark, f"{mark}-soft") for mark in MARKS]
SEEN = [("edge", "sheet"), ("edge", "ground"), ("focus", "sheet"), ("focus", "ground")]
SEEN += [(part, "track") for part in ("requests", "tmpfs", "reserved")]


def luminance(colour: str) -> float:
    """Return the relative luminance of #RRGGBB (www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_read_and_what_is_aimed_at_stands_out_from_its_ground(
    client: FlaskClient, theme: str
) -> None:
    """By the figures of WCAG 2.2, level AA: 4.5 for text, 3 for controls and drawings."""
    light, dark = re.findall(r":root \{(.*?)\}", client.get("/page.css").text, re.DOTALL)
    text = light if theme == "light" else dark
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    faint = {pair: contrast(*pair) for pair in READ if contrast(*pair) < 4.5}
    faint |= {pair: contrast(*pair) for pair in SEEN if contrast(*pair) < 3}
    assert faint == {}


# -- what is shown -------------------------------------------------------------------------------


HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}"


def test_a_name_is_escaped_wherever_it_stands(client: FlaskClient) -> None:
    plain = vllm(model=f"/models/{HOSTILE}")
    pod = msgspec.to_builtins(plain)
    pod["metadata"] |= {"name": HOSTILE, "namespace": HOSTILE, "uid": HOSTILE}
    client.post("/filter", json={"Pod": pod, "NodeNames": ["gpu-1", HOSTILE]})
    client.post("/prioritize", json={"Pod": pod, "NodeNames": ["gpu-1"]})
    for view in VIEWS:
        text = client.get("/", query_string={"view": view, "q": HOSTILE, "model": HOSTILE}).text
        assert "<img" not in text
        assert "alert(1)&gt;" in text
        assert "{{7*7}}" in text


@given(*[st.integers(0, 2**50)] * 4)
def test_a_bar_is_never_longer_than_it_may_be(
    allocatable: int, requests: int, tmpfs: int, reserved: int
) -> None:
    memory = Memory(allocatable=allocatable, requests=requests, tmpfs=tmpfs, reserved=reserved)
    end = 0.0
    for _, begin, width in memory.bars:
        assert begin == pytest.approx(end, abs=0.02)
        end = begin + width
    assert end <= 100.05


def test_what_all_nodes_hold_is_looked_up_once_in_a_few_seconds() -> None:
    looked = []

    class Counted(Inventory):
        def holdings(self) -> dict[str, list[object]]:  # type: ignore[override]
            looked.append(self)
            return {}

    clock = Clock()
    holdings = Holdings(clock)
    first, second = Counted(), Counted()
    for inventory in (first, first, second, second):
        holdings.all(inventory)
    assert looked == [first]
    clock.now = KEPT_SECONDS
    holdings.all(second)
    holdings.all(second)
    assert looked == [first, second]


LLAMA = "llama-3.1-8b-instruct"


def rows_of(client: FlaskClient, **query: str) -> list[str]:
    text = client.get("/", query_string=query).text
    return re.findall(r'<tr><th scope="row"><span class="node">([\w-]+)', text)


@pytest.mark.parametrize("view", ["nodes", "memory"])
def test_a_filter_that_nothing_passes_is_told_from_a_cluster_without_nodes(
    client: FlaskClient, view: str
) -> None:
    assert "No node matches." in client.get(f"/?view={view}&q=nothing").text
    state = ClusterState(clock=Clock())
    empty = Service(Context(state=state), FileKnowledge(), ExtenderConfiguration())
    assert "No node is known." in create_app(empty).test_client().get(f"/?view={view}").text


def test_a_label_that_tells_single_nodes_apart_is_offered_where_it_is_asked_for() -> None:
    """Or the form would leave it behind with the next filter."""
    service = demo_service(ExtenderConfiguration())
    client = create_app(service).test_client()
    for number in range(9):
        name = f"own-{number}"
        service.context.state.upsert(node(name, labels={"kubernetes.io/hostname": name}))
    hostname = '<option value="kubernetes.io/hostname"'
    assert hostname not in client.get("/").text
    assert f"{hostname} selected" in client.get("/?group=kubernetes.io/hostname").text


def test_absent_is_a_state_like_the_others(client: FlaskClient) -> None:
    """The legend has its letter, cells show it, and nodes are found by it."""
    text = client.get("/").text
    legend = text[text.index('aria-label="Legend"') : text.index("</ul>", text.index("Legend"))]
    assert '<span class="mark absent">A</span> absent' in legend
    assert "<option>absent</option>" in text
    held = rows_of(client, model=LLAMA)
    lacking = rows_of(client, model=LLAMA, state="absent")
    assert (held, lacking) == (["gpu-1", "gpu-2", "gpu-3", "gpu-4"], ["gpu-5"])
    one = client.get("/", query_string={"model": LLAMA, "state": "absent"}).text
    assert '<span class="mark absent" aria-hidden="true">A</span>' in one


def test_groups_count_the_nodes_that_lack_a_model(client: FlaskClient) -> None:
    query = {"group": "topology.kubernetes.io/zone", "model": LLAMA}
    zone_b = client.get("/", query_string=query).text.partition(">b</bdi>")[2]
    counts = re.findall(r'title="(\w+)">(\w) (\d)<', zone_b)
    assert counts == [("loading", "L", "1"), ("failed", "F", "1"), ("absent", "A", "1")]


def test_no_more_groups_are_made_than_a_page_has() -> None:
    """A label of as many values as there are nodes: thousands of groups of all models."""
    looked: list[str] = []

    class Held(dict[str, list[Holding]]):
        def get(self, name: str, otherwise: Any = None) -> Any:
            looked.append(name)
            return super().get(name, otherwise)

    class Kept(Holdings):
        def all(self, inventory: Inventory) -> Held:
            return Held(inventory.holdings())

    state = ClusterState(clock=Clock())
    for number in range(200):
        name = f"n-{number:03}"
        baked = {"modelcache.dev/provides": "/models/baked"}
        state.upsert(node(name, labels={"name": name}, annotations=baked))
    question = Asked(group="name", size=25, page=2)
    groups = listing(question, state.view(), Kept(Clock())).groups
    assert groups is not None
    assert (groups.total, groups.pages) == (200, 8)
    assert looked == [group.value for group in groups.rows] == [f"n-{n:03}" for n in range(25, 50)]


def test_a_warning_stands_apart_from_what_changes_all_the_time(client: FlaskClient) -> None:
    """Or a screen reader reads it out with every refresh of the table."""
    text = client.get("/").text
    assert text.count('role="alert"') == 1
    assert text.index('id="warning" data-live role="alert"') < text.index('id="content" data-live')


def test_a_pod_that_was_not_refused_here_is_on_the_page(
    client: FlaskClient, service: Service
) -> None:
    """kube-scheduler asks an extender only where a node has passed all else. The API says so."""
    said = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."
    state = service.context.state
    now = state.view().now
    state.upsert(claim("filled", phase="Pending", selected_node="gpu-2", volumeName=""))
    reads = vllm("volume", volume={"persistentVolumeClaim": {"claimName": "filled"}})
    unplaced_pods = [
        unplaced(vllm("no-gpu"), at=now - 300, says=said),
        unplaced(vllm("new"), at=now - 5),
        unplaced(vllm("unseen"), at=now - 300),
        unplaced(vllm("chosen"), at=now - 300, nominated="gpu-1"),
        unplaced(reads, at=now - 300),
        unplaced(vllm("elsewhere"), at=now - 300, says=said, scheduler="default-scheduler"),
    ]
    for found in unplaced_pods:
        state.upsert(found)
    text = client.get("/?view=waiting").text
    by_itself = '<b>Unschedulable</b> <span class="quiet">kube-scheduler:</span>'
    assert f'{by_itself} <bdi class="name">{said}</bdi>' in text
    assert '<b>NotTriedYet</b> <bdi class="name">not tried yet' in text
    silent = '<b>SchedulerSilent</b> <bdi class="name">no scheduler has looked at it; explain says'
    assert text.count(silent) == 1
    assert "it is meant for gpu-1 (status.nominatedNodeName)" in text
    assert "5 pods of model-cache-scheduler wait" in text
    listed = {one["pod"]: one for one in api_waiting(client)}
    keys = ("why", "refusedBy", "message", "chosen", "unseen")
    assert {name: tuple(one[key] for key in keys) for name, one in listed.items()} == {
        "no-gpu": (["Unschedulable"], "kube-scheduler", said, None, False),
        "new": (["NotTriedYet"], None, None, None, False),
        "unseen": (["SchedulerSilent"], None, None, None, True),
        "chosen": (["NodeChosen"], None, None, {"node": "gpu-1", "claim": ""}, False),
        "volume": (["NodeChosen"], None, None, {"node": "gpu-2", "claim": "filled"}, False),
    }
    waited = {name: now - one["since"] for name, one in listed.items()}
    assert waited == {name: pytest.approx(5 if name == "new" else 300, abs=1) for name in listed}
    assert "elsewhere" not in text

    def shown(reason: str) -> list[str]:
        page = client.get("/", query_string={"view": "waiting", "reason": reason}).text
        return [name for name in (*listed, "elsewhere") if f'class="name">{name}<' in page]

    assert sorted(shown("kube-scheduler")) == sorted(listed)
    assert shown("ModelAbsent") == []
    assert shown("Unschedulable") == ["no-gpu"]
    assert shown("SchedulerSilent") == ["unseen"]
    assert sorted(shown("NodeChosen")) == ["chosen", "volume"]
    for found in unplaced_pods:
        state.delete(found)
    nobody = client.get("/?view=waiting").text
    assert "0 pods of model-cache-scheduler wait<" in nobody
    assert "No pod of model-cache-scheduler waits. Pods of other schedulers" in nobody


def test_a_pod_that_a_scheduling_gate_holds_back_is_on_the_page(
    client: FlaskClient, service: Service
) -> None:
    """Nobody has refused it. Its scheduler is the one that would."""
    state = service.context.state
    says = "Scheduling is blocked due to non-empty scheduling gates"
    let_go = unplaced(vllm("held"), at=state.now() - 300, says=says, reason="SchedulingGated")
    state.upsert(gated(let_go))
    text = client.get("/?view=waiting&reason=SchedulingGated").text
    assert "<b>SchedulingGated</b>" in text
    assert "its spec.schedulingGates hold it back" in text
    (listed,) = api_waiting(client)
    assert (listed["why"], listed["message"]) == (["SchedulingGated"], None)
    state.upsert(let_go)
    text = client.get("/?view=waiting").text
    assert "<b>NotTriedYet</b>" in text
    assert says not in text
    state.delete(let_go)


@pytest.mark.parametrize(
    ("says", "refused_by", "token"),
    [
        ("0/5 nodes are available: 5 Too many pods.", "kube-scheduler", "Unschedulable"),
        (f"0/5 nodes are available: 5 {TEXTS[Reason.MODEL_ABSENT]}.", "extender", "ModelAbsent"),
        ("", None, "SchedulerSilent"),
    ],
)
def test_after_a_restart_who_refused_a_pod_is_told_by_what_kube_scheduler_wrote(
    says: str, refused_by: str | None, token: str
) -> None:
    service = demo_service(ExtenderConfiguration())
    client, state = create_app(service).test_client(), service.context.state
    state.upsert(unplaced(vllm("before"), at=state.now() - 300, says=says))
    context = service.context
    service.waiting.recover(state, context.schedulers, context.request_of)
    (listed,) = api_waiting(client)
    assert (listed["refusedBy"], listed["message"]) == (refused_by, says or None)
    assert f"<b>{token}</b>" in client.get("/?view=waiting").text
    assert "before" in client.get(f"/?view=waiting&reason={token}").text


def api_waiting(client: FlaskClient) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = msgspec.json.decode(client.get("/api/v1/waiting").data)[
        "waiting"
    ]
    return listed


def test_the_demo_clusters_views_say_what_is_there(client: FlaskClient) -> None:
    nodes = client.get("/").text
    assert re.search(r"ready, declared", nodes)
    assert "5 nodes" in nodes
    assert "12.0 GiB" in client.get("/?view=memory").text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (120, "2 min"), (5400, "1.5 h"), (172_700, "48.0 h"),
     (259_200, "3 days"), (28_512_360, "330 days")],
)  # fmt: skip
def test_a_time_is_said_in_the_unit_that_people_would(seconds: float, said: str) -> None:
    assert in_words(seconds) == said
