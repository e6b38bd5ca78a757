"""Asking loaders over real HTTP: what is written, with which version, and what refusals come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from extender.kube.objects import Lease
from extender.report import ReportedState, Wanted, WantedModel, read
from extender.serving.fetching import MOST_SLOW, REFUSED_SECONDS, WRITES, Fetching
from extender.waiting.wake import MISSED_RETRY_SECONDS
from extender.watch.client import connect
from tests.builders import (
    READY,
    loader_lease,
    namespace,
    node,
    our_loader,
    reported,
    reporting_pod,
    vllm,
)
from tests.serving.answering import Apiserver, answering, kubeconfig
from tests.waiting.room import Room

PATH = "/apis/coordination.k8s.io/v1/namespaces/inference/leases/loader.a"
RENEWED = "1970-01-01T00:16:40Z"  # the time in the room


NOT_WAITED_FOR = Wanted(
    models=(
        WantedModel(path="m", until="1970-01-01T00:26:40Z", pod="tenant/gone", asked_at=RENEWED),
    )
)


def lease(wanted: Wanted | None = None, on: str = "a", of: str = "inference") -> Lease:
    plain = loader_lease(on, RENEWED, namespace=of, wanted=wanted)
    metadata = msgspec.structs.replace(plain.metadata, resource_version="7")
    return msgspec.structs.replace(plain, metadata=metadata)


class Asking(Room):
    """One node, one pod that waits, and the thread's work, done by hand."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__()
        report = reported(ReportedState.ABSENT, on_demand=True)
        for obj in (our_loader(), node("a"), reporting_pod("a", READY, report), lease()):
            self.state.upsert(obj)
        self.leads = True
        self.results: Counter[str] = Counter()
        self.fetching = Fetching(
            self.context,
            self.pods,
            connect(str(kubeconfig(url, folder))),
            leads=lambda: self.leads,
            count=lambda result: self.results.update([result]),
        )


@pytest.fixture
def apiserver() -> Iterator[Apiserver]:
    with answering() as made:
        made.status = 200
        yield made


@pytest.fixture
def asking(apiserver: Apiserver, tmp_path: Path) -> Asking:
    made = Asking(apiserver.url, tmp_path)
    made.refuse(vllm(), "a")
    return made


def test_a_wish_is_written_over_the_version_that_was_seen(
    apiserver: Apiserver, asking: Asking
) -> None:
    asking.fetching.look()
    ((method, path, sent),) = apiserver.seen
    assert (method, path) == ("PATCH", PATH)
    assert sent["metadata"]["resourceVersion"] == "7"
    (wish,) = read(sent["metadata"]["annotations"]["modelcache.dev/wanted"], Wanted).models
    assert (wish.path, wish.pod) == ("llama-3.1-8b-instruct", "inference/llama")
    assert sent.keys() == {"metadata"}
    assert asking.results == {"written": 1}


def test_what_is_asked_for_already_is_not_written_again(
    apiserver: Apiserver, asking: Asking
) -> None:
    asking.fetching.look()
    text = apiserver.seen[0][2]["metadata"]["annotations"]["modelcache.dev/wanted"]
    asking.state.upsert(lease(read(text, Wanted)))
    asking.fetching.look()
    assert len(apiserver.seen) == 1


def test_a_wish_that_nobody_waits_for_is_taken_off(apiserver: Apiserver, asking: Asking) -> None:
    asking.fetching.look()
    text = apiserver.seen[0][2]["metadata"]["annotations"]["modelcache.dev/wanted"]
    asking.state.upsert(lease(read(text, Wanted)))
    asking.state.upsert(vllm(on="a"))
    asking.fetching.look()
    assert apiserver.seen[1][2]["metadata"]["annotations"] == {"modelcache.dev/wanted": None}


@pytest.mark.parametrize("known", [True, False])
def test_a_wish_ends_with_its_pod_though_nobody_else_looks_at_who_waits(
    apiserver: Apiserver, asking: Asking, known: bool
) -> None:
    asking.fetching.look()
    text = apiserver.seen[0][2]["metadata"]["annotations"]["modelcache.dev/wanted"]
    asking.state.delete(vllm())
    if not known:
        asking.pods.drop("uid-llama")
        asking.refuse(vllm(), "a", known=False)  # deleted before the watch showed it
    for _ in range(3):
        asking.state.upsert(lease(read(text, Wanted)))
        asking.fetching.look()
        asking.state.upsert(lease())
        asking.fetching.look()
    written = [sent["metadata"]["annotations"] for _, _, sent in apiserver.seen[1:]]
    assert written == [{"modelcache.dev/wanted": None}] * 3
    assert len(asking.pods) == (0 if known else 1)


@pytest.mark.parametrize(("status", "result"), [(409, "conflict"), (500, "failed"), (0, "failed")])
def test_what_could_not_be_written_is_tried_again(
    apiserver: Apiserver, asking: Asking, status: int, result: str
) -> None:
    apiserver.status = status
    asking.fetching.look()
    assert asking.results == {result: 1}
    apiserver.status = 200
    asking.fetching.look()
    assert asking.results == {result: 1, "written": 1}


@pytest.mark.parametrize("status", [200, 403, 0])
def test_a_pod_that_nobody_has_asked_about_since_the_start_is_touched_once(
    apiserver: Apiserver, asking: Asking, status: int
) -> None:
    apiserver.status = status
    asking.pods.drop("uid-llama")
    asking.refuse(vllm())  # as after a restart: not known where it was refused
    for _ in range(3):
        asking.fetching.look()
    touched = {path for _, path, _ in apiserver.seen}
    assert touched == {"/api/v1/namespaces/inference/pods/llama/status"}
    ((_, _, sent), *_) = apiserver.seen
    assert sent["metadata"]["uid"] == "uid-llama"
    (waiting,) = asking.pods.all()
    assert (waiting.touches, waiting.misses) == ((1, 0) if status == 200 else (0, 1))


@pytest.mark.parametrize("status", [200, 403])
def test_a_pod_that_could_not_be_touched_is_woken_once_its_model_is_there(
    apiserver: Apiserver, asking: Asking, status: int
) -> None:
    """One that was touched is asked about, and then waits by what filter says of it."""
    apiserver.status = status
    asking.pods.drop("uid-llama")
    asking.refuse(vllm())
    asking.fetching.look()
    asking.now += MISSED_RETRY_SECONDS
    asking.state.upsert(reporting_pod("a", READY, reported()))
    assert asking.woken() == ([] if status == 200 else ["llama"])


def test_a_pod_that_is_gone_is_forgotten_by_whoever_would_touch_it(
    apiserver: Apiserver, asking: Asking
) -> None:
    apiserver.status = 404
    asking.pods.drop("uid-llama")
    asking.refuse(vllm())
    asking.fetching.look()
    assert len(asking.pods) == 0


def test_only_the_leader_asks(apiserver: Apiserver, asking: Asking) -> None:
    asking.leads = False
    asking.fetching.look()
    assert apiserver.seen == []


def path_of(tenant: str, on: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{tenant}/leases/loader.{on}"


def ask_in_vain(asking: Asking, nodes: int, *, tenant: str = "a-tenant") -> None:
    """Write into a namespace's Leases that its loaders are asked for what no pod waits for."""
    asking.state.upsert(our_loader(namespace=tenant))
    for number in range(nodes):
        name = f"n{number:04}"
        asking.state.upsert(node(name))
        asking.state.upsert(reporting_pod(name, READY, reported(), namespace=tenant))
        asking.state.upsert(lease(NOT_WAITED_FOR, name, tenant))


def paths(apiserver: Apiserver) -> list[str]:
    return [path for _, path, _ in apiserver.seen]


@pytest.mark.parametrize("missing", ["its loader", "its node"])
def test_a_lease_without_a_loader_on_a_node_is_left_as_it_is(
    apiserver: Apiserver, asking: Asking, missing: str
) -> None:
    """Whoever may write Leases somewhere would have this program write as many."""
    ask_in_vain(asking, 1)
    if missing == "its loader":
        asking.state.delete(reporting_pod("n0000", READY, None, namespace="a-tenant"))
    else:
        asking.state.delete(node("n0000"))
    asking.fetching.look()
    assert paths(apiserver) == [PATH]


def test_what_pods_wait_for_is_written_before_what_nobody_waits_for_is_taken_off(
    apiserver: Apiserver, asking: Asking
) -> None:
    ask_in_vain(asking, 2)
    asking.fetching.look()
    assert paths(apiserver) == [PATH, path_of("a-tenant", "n0000"), path_of("a-tenant", "n0001")]


def test_namespaces_take_turns_and_a_look_writes_so_much_at_most(
    apiserver: Apiserver, asking: Asking
) -> None:
    asking.pods.drop("uid-llama")
    ask_in_vain(asking, WRITES + 10)
    ask_in_vain(asking, 2, tenant="b-tenant")
    asking.fetching.look()
    first = paths(apiserver)
    assert len(first) == WRITES
    assert first[:4] == [
        path_of(f"{tenant}-tenant", on) for on in ("n0000", "n0001") for tenant in "ab"
    ]


def test_what_stays_as_it_is_keeps_nothing_else_from_being_written(
    apiserver: Apiserver, asking: Asking
) -> None:
    """Whatever keeps these Leases from being written: those that were not tried come first."""
    asking.pods.drop("uid-llama")
    ask_in_vain(asking, WRITES + 10)
    apiserver.status = 409
    asking.fetching.look()
    asking.now += 2
    asking.fetching.look()
    tried = paths(apiserver)
    assert len(set(tried)) == WRITES + 10
    assert len(tried) == 2 * WRITES


def test_a_namespace_whose_leases_may_not_be_written_is_left_alone_for_a_minute(
    apiserver: Apiserver, asking: Asking, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its Leases may be thousands. That is said once, not each minute."""
    ask_in_vain(asking, 5)
    for number in range(5):
        apiserver.at[path_of("a-tenant", f"n{number:04}")] = (403, {"message": "is forbidden"})
    for _ in range(2):
        asking.fetching.look()
    assert paths(apiserver) == [PATH, path_of("a-tenant", "n0000"), PATH]
    asking.now += REFUSED_SECONDS
    asking.fetching.look()
    assert paths(apiserver)[3:] == [PATH, path_of("a-tenant", "n0001")]
    said = capsys.readouterr()
    assert (said.out + said.err).count("loaders of a namespace not asked") == 1


def test_one_that_may_be_written_again_is_written_whole(
    apiserver: Apiserver, asking: Asking
) -> None:
    ask_in_vain(asking, 3)
    asking.pods.drop("uid-llama")
    apiserver.status = 403
    asking.fetching.look()
    apiserver.status = 200
    asking.now += REFUSED_SECONDS
    asking.fetching.look()
    assert len(set(paths(apiserver))) == 3
    assert asking.results == {"failed": 1, "written": 3}


def test_so_many_pods_are_touched_at_one_look_and_namespaces_take_turns(
    apiserver: Apiserver, asking: Asking
) -> None:
    asking.pods.drop("uid-llama")
    for number in range(WRITES + 10):
        asking.refuse(vllm(f"p{number:04}", memory=f"{number + 1}Mi"))
    asking.state.upsert(namespace("inference", trusted=True))
    asking.refuse(vllm("other", namespace="other"))
    asking.fetching.look()
    assert len(apiserver.seen) == WRITES
    assert "/api/v1/namespaces/other/pods/other/status" in paths(apiserver)
    asking.fetching.look()
    assert len(set(paths(apiserver))) == len(apiserver.seen) == WRITES + 11


def takes_five_seconds(asking: Asking, *where: str) -> Callable[[str], None]:
    """Have writes in some namespaces take so long, as behind a webhook that does not answer."""

    def takes(path: str) -> None:
        if any(f"/namespaces/{namespace}/" in path for namespace in where):
            asking.now += 5.0

    return takes


def test_slow_writes_of_some_namespaces_hold_up_nobody_else(
    apiserver: Apiserver, asking: Asking, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = [f"{letter}-tenant" for letter in "abcdef"]
    for tenant in slow:
        ask_in_vain(asking, 20, tenant=tenant)
    ask_in_vain(asking, 20, tenant="quick")
    asking.pods.drop("uid-llama")
    apiserver.meanwhile = takes_five_seconds(asking, *slow)
    begun = asking.now
    for _ in range(3):
        asking.fetching.look()
        asking.now += 2.0
    assert asking.now - begun <= 3 * (MOST_SLOW * 5.0 + 2.0)
    quick = [path for path in paths(apiserver) if "/quick/" in path]
    assert len(set(quick)) == 20
    for _ in range(30):
        asking.fetching.look()
        asking.now += 2.0
    tried = Counter(path.split("/")[-3] for path in paths(apiserver))
    assert min(tried[tenant] for tenant in slow) >= 3, "they take turns"
    said = capsys.readouterr()
    assert (said.out + said.err).count("loaders of a namespace not asked") == len(slow)


def test_pods_whose_touches_are_slow_hold_up_no_other(apiserver: Apiserver, asking: Asking) -> None:
    asking.pods.drop("uid-llama")
    for number in range(20):
        asking.refuse(vllm(f"slow{number:02}", memory=f"{number + 1}Mi"))
    asking.state.upsert(namespace("inference", trusted=True))
    for number in range(20):
        asking.refuse(vllm(f"quick{number:02}", memory=f"{number + 1}Mi", namespace="other"))
    apiserver.meanwhile = takes_five_seconds(asking, "inference")
    asking.fetching.look()
    touched = [path.split("/")[-2] for path in paths(apiserver)]
    assert sum(name.startswith("slow") for name in touched) == 1
    assert sum(name.startswith("quick") for name in touched) == 20
