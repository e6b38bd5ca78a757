"""A cluster from a file: every way in which kubectl and people write one; one bad object at most
costs itself.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.source import state_from_snapshot
from extender.cluster.kept import KeptDraft
from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.errors import UsageError
from extender.kube.objects import KubeObject, Node, Pod
from extender.snapshot import fill, parse_documents, read_documents, taken_at

Objects = dict[type[KubeObject], list[KubeObject]]


def node(name: str, **status: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


A, B = node("a", allocatable={"memory": "64Gi"}), node("b", allocatable={"memory": "32Gi"})
LIST = {"apiVersion": "v1", "kind": "List", "items": [A, B], "metadata": {"resourceVersion": ""}}
BARE = [{key: value for key, value in one.items() if key != "kind"} for one in (A, B)]
NODE_LIST = {"apiVersion": "v1", "kind": "NodeList", "items": BARE}


class Kept:
    """Keeps what a state is given."""

    def __init__(self) -> None:
        self.objects: Objects = {}
        self._state = ClusterState(clock=time.time)

    def listing(self, kind: type[KubeObject]) -> KeptDraft:
        draft = self._state.listing(kind)
        return KeptDraft(draft, lambda objects: self.objects.update({kind: [*objects]}))

    def names(self, kind: type[KubeObject]) -> list[str]:
        return [obj.metadata.name for obj in self.objects[kind]]


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "cluster.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def kept(path: Path) -> tuple[Kept, list[str]]:
    sink, problems = Kept(), []  # type: tuple[Kept, list[str]]
    documents = read_documents(path, problems)
    return sink, problems + fill(sink, documents)


def state_of(path: Path) -> ClusterState:
    return state_from_snapshot(ExtenderConfiguration(), path).state


# -- forms ---------------------------------------------------------------------------------------

FORMS: dict[str, str | bytes] = {
    "YAML list": yaml.safe_dump(LIST),
    "JSON list": json.dumps(LIST, indent=4),
    "typed list, items without kind": json.dumps(NODE_LIST),
    "several YAML documents": yaml.safe_dump_all([A, B], explicit_start=True),
    "documents and lists": yaml.safe_dump_all([{**LIST, "items": [A]}, B]),
    "empty documents": f"---\n---\n{yaml.safe_dump(A)}---\n# nothing\n---\n{yaml.safe_dump(B)}",
    "JSON array": json.dumps([A, B], indent="\t"),
    "JSON after white space": "\n\n  " + json.dumps(LIST),
    "flow style": yaml.safe_dump(LIST, default_flow_style=True),
    "Windows line ends": yaml.safe_dump(LIST).replace("\n", "\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(LIST).encode(),
    "UTF-16, as PowerShell redirects": yaml.safe_dump(LIST).encode("utf-16"),
    "JSON as UTF-16": json.dumps(LIST).encode("utf-16"),
    "anchors": (
        "- &a {kind: Node, metadata: {name: a}, status: {allocatable: {memory: 64Gi}}}\n"
        "- {<<: *a, metadata: {name: b}, status: {allocatable: {memory: 32Gi}}}\n"
    ),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_every_form_of_a_dump_gives_the_same_cluster(tmp_path: Path, content: str | bytes) -> None:
    state = state_of(write(tmp_path, content))
    view = state.view()
    assert {name: one.allocatable for name, one in view.nodes.items()} == {
        "a": 64 * 2**30,
        "b": 32 * 2**30,
    }
    assert state.problems() == {}


def test_times_stay_the_texts_that_the_api_sends(tmp_path: Path) -> None:
    (document,) = parse_documents(b"at: 2026-01-01T00:00:00Z\nday: 2026-01-01\nnever: 2026-99-99")
    assert document == {"at": "2026-01-01T00:00:00Z", "day": "2026-01-01", "never": "2026-99-99"}


def test_kinds_that_decide_nothing_are_skipped_without_a_word(tmp_path: Path) -> None:
    others = [{"kind": "Service", "spec": 5}, {"kind": "Node2"}, {"kind": None}, {"kind": ["Pod"]}]
    sink, problems = kept(write(tmp_path, json.dumps([*others, A, {}])))
    assert (sink.names(Node), problems) == (["a"], [])


# -- one bad object ------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    "metadata is a text": ({"kind": "Node", "metadata": "x"}, "Node (no metadata): "),
    "name is a number": ({"kind": "Node", "metadata": {"name": 5}}, "Node 5: "),
    "labels are a list": (
        {"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": ["a"]}},
        "Pod n/p: ",
    ),
    "containers are a mapping": (pod("p", containers={"a": 1}), "Pod n/p: "),
    "args hold a list": (pod("p", containers=[{"args": [["a"]]}]), "Pod n/p: "),
    "images are a text": (node("x", images="all"), "Node x: "),
    "a node has no name": ({"kind": "Node", "metadata": {}}, "Node (no name): metadata.name is"),
    "a node has no metadata": ({"kind": "Node", "metadata": None}, "Node (no name): metadata.name"),
    "an item is a text": ("hello", "object 2 is text, not an object of a cluster"),
    "an item is a number": (5, "object 2 is a number, not an object of a cluster"),
    "an item is null": (None, "object 2 is null, not an object of a cluster"),
    "an item is a list": ([A], "object 2 is a list, not an object of a cluster"),
}


@pytest.mark.parametrize(("bad", "named"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("form", ["JSON", "YAML"])
def test_one_bad_object_is_named_and_left_out_and_the_others_stay(
    tmp_path: Path, bad: Any, named: str, form: str
) -> None:
    items = {"kind": "List", "items": [A, bad, B]}
    content = json.dumps(items) if form == "JSON" else yaml.safe_dump(items)
    sink, problems = kept(write(tmp_path, content))
    assert sink.names(Node) == ["a", "b"]
    assert sink.names(Pod) == []
    (problem,) = problems
    assert problem.startswith(named)


@pytest.mark.parametrize(
    "text",
    [
        "!!timestamp 2026-01-01",
        "!!binary aGk=",
        "!!set {a, b}",
        "!!omap [a: b]",
        "2026",
        "{~: 1}",
        "{1: 2}",
    ],
)
def test_values_that_only_yaml_has_spoil_no_other_object(tmp_path: Path, text: str) -> None:
    content = f"- {{kind: Node, metadata: {{name: bad, uid: {text}}}}}\n- {json.dumps(A)}\n"
    sink, problems = kept(write(tmp_path, content))
    assert sink.names(Node) == ["a"]
    (problem,) = problems
    assert problem.startswith("Node bad: ")


def test_a_pod_with_a_preferred_affinity_is_read(tmp_path: Path) -> None:
    terms = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
    items = [pod("p", affinity={"nodeAffinity": terms})]
    sink, problems = kept(write(tmp_path, json.dumps(items)))
    assert (sink.names(Pod), problems) == (["p"], [])


# -- quantities ----------------------------------------------------------------------------------

HUGE: dict[str, str] = {
    "many digits": "9" * 20_000,
    "many digits, quoted": '"' + "9" * 20_000 + '"',
    "infinity": ".inf",
    "not a number": ".nan",
    "hexadecimal": "0x" + "f" * 10_000,
    "sixty thousand suffixes": "1" + "Gi" * 30_000,
    "negative": "-5Gi",
    "words": "a lot",
}


@pytest.mark.parametrize("quantity", HUGE.values(), ids=HUGE)
def test_a_quantity_that_cannot_be_read_costs_its_node_its_memory_and_is_named(
    tmp_path: Path, quantity: str
) -> None:
    bad = (
        f"{{kind: Node, metadata: {{name: bad}}, status: {{allocatable: {{memory: {quantity}}}}}}}"
    )
    path = write(tmp_path, f"- {bad}\n- {json.dumps(A)}\n")
    read = state_from_snapshot(ExtenderConfiguration(), path)
    assert {name: one.allocatable for name, one in read.state.view().nodes.items()} == {
        "a": 64 * 2**30,
        "bad": 0,
    }
    (problem,) = read.problems
    assert problem.startswith("Node bad: ")
    assert len(problem) < 500


# -- the whole file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "---\n", "# nothing here\n", "null", "[]", '{"kind": "List", "items": []}'],
    ids=repr,
)
def test_a_file_without_objects_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, content: str
) -> None:
    """It is what a kubectl that failed leaves behind."""
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match="holds no object; make a dump with: kubectl get nodes,"):
        state_from_snapshot(ExtenderConfiguration(), path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[1, 2]", r" \(object 1 is a number, not an object of a cluster\)"),
        ("hello", r" \(object 1 is text, not an object of a cluster\)"),
        ("a: 1", ""),
        ("kind: 5", ""),
    ],
)
def test_a_file_of_other_things_is_refused_too(tmp_path: Path, content: str, why: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=f"holds no object{why}; make a dump with: kubectl"):
        state_from_snapshot(ExtenderConfiguration(), path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", r"neither YAML nor JSON: [^()]*\(as JSON: "),
        (b'{"kind": "List", "items": [', "neither YAML nor JSON"),
        (b"a: [1, 2", "line 1"),
        (b"a: 1\n b: 2\n", "line 2"),
        (b"a: *nobody", "undefined alias"),
        (b"a: &a [*a]", "stands for a value that holds it"),
        (b"a: \x00", "neither YAML nor JSON"),
        (b"\x80\x81", "neither YAML nor JSON"),
        (b"[" * 100_000, "neither YAML nor JSON"),
        (b"- " * 100_000, "neither YAML nor JSON"),
        (b"a: !!bool maybe", "neither YAML nor JSON"),
        (b'a: !!int ""', "neither YAML nor JSON"),
        (b"a: !!timestamp x", "neither YAML nor JSON"),
        (b"a: 1" + b":1" * 400 + b".5", "neither YAML nor JSON"),
        (b"a: !!python/name:os.system x", "neither YAML nor JSON"),
        (b"? {a: b}\n: c", "neither YAML nor JSON"),
    ],
    ids=repr,
)
def test_a_file_that_is_neither_is_refused_by_name_and_place(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=said) as caught:
        read_documents(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yaml: cannot be read: No such file"):
        read_documents(tmp_path / "missing.yaml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_documents(tmp_path)


def test_aliases_that_people_write_are_read(tmp_path: Path) -> None:
    """A thousand pods of one template are a few values each; a bomb is billions."""
    spec = (
        "&spec {containers: [" + ", ".join("{name: c, args: [a, b, c]}" for _ in range(10)) + "]}"
    )
    pods = [
        f"- {{kind: Pod, metadata: {{name: p{number}, uid: u{number}}}, "
        f"spec: {spec if number == 0 else '*spec'}}}"
        for number in range(1000)
    ]
    sink, problems = kept(write(tmp_path, "\n".join(pods)))
    assert (len(sink.objects[Pod]), problems) == (1000, [])


# -- when it was taken ---------------------------------------------------------------------------


def test_a_dumps_time_is_the_latest_that_it_speaks_of(tmp_path: Path) -> None:
    """Else a dump that is a day old would show every loader that is not Ready as long stale."""
    beat = {"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:05:00Z"}
    items = [
        {"kind": "Node", "metadata": {"name": "a"}, "status": {"conditions": [beat]}},
        {"kind": "Node", "metadata": {"name": "b", "creationTimestamp": "2025-01-01T00:00:00Z"}},
        {"kind": "Node", "metadata": {"name": "c", "annotations": {"readTime": "no time"}}},
    ]
    state = state_of(write(tmp_path, json.dumps(items)))
    assert 0 <= state.now() - 1_767_225_900 < 60


def test_a_dump_without_times_is_of_now(tmp_path: Path) -> None:
    state = state_of(write(tmp_path, json.dumps([{"kind": "Node", "metadata": {"name": "a"}}])))
    assert abs(state.now() - time.time()) < 60


_NOON = 1_772_366_400.0  # 2026-03-01T12:00:00Z


def _heartbeat(name: str, moment: str) -> dict[str, Any]:
    return node(name, conditions=[{"type": "Ready", "lastHeartbeatTime": moment}])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            {
                **pod("drains"),
                "metadata": {
                    "namespace": "n",
                    "name": "drains",
                    "deletionTimestamp": "2026-03-01T13:00:00Z",
                    "deletionGracePeriodSeconds": 3600,
                },
            },
            id="a pod that may take an hour to go",
        ),
        pytest.param(
            {
                **pod("says"),
                "metadata": {
                    "namespace": "n",
                    "name": "says",
                    "annotations": {"my/Time": "2026-03-02T00:00:00Z"},
                },
            },
            id="an annotation",
        ),
        pytest.param(
            {
                "kind": "Lease",
                "metadata": {"namespace": "n", "name": "mine"},
                "spec": {"renewTime": "2026-03-02T00:00:00.000000Z"},
            },
            id="somebody's own Lease",
        ),
        pytest.param(
            {**pod("odd"), "status": {"startTime": "2090-01-01T00:00:00Z"}}, id="what is to come"
        ),
    ],
)
def test_a_dump_is_as_old_as_what_its_cluster_says_has_been(other: dict[str, Any]) -> None:
    before = _heartbeat("a", "2026-03-01T12:00:00Z")
    assert taken_at([before, other], _NOON + 30 * 86_400) == _NOON


def _nodes_lease(name: str, moment: str) -> dict[str, Any]:
    return {
        "kind": "Lease",
        "metadata": {"namespace": "kube-node-lease", "name": name},
        "spec": {"renewTime": f"2026-03-01T{moment}.000000Z"},
    }


def test_a_nodes_lease_tells_its_time_to_the_second() -> None:
    objects = [_heartbeat("a", "2026-03-01T12:00:00Z"), _nodes_lease("a", "12:00:10")]
    assert taken_at(objects, _NOON + 60) == _NOON + 10


def test_a_node_whose_clock_is_ahead_does_not_tell_when_a_dump_was_made() -> None:
    ahead = {**pod("early"), "status": {"startTime": "2026-03-01T12:03:00Z"}}
    leases = [_nodes_lease(*one) for one in (("a", "12:00:01"), ("b", "12:00:04"))]
    objects = [_heartbeat("c", "2026-03-01T12:03:00Z"), *leases, _nodes_lease("c", "12:03:10")]
    assert taken_at([*objects, ahead], _NOON + 600) == _NOON + 4
    assert taken_at([*objects[1:3], _nodes_lease("c", "11:00:00")], _NOON + 600) == _NOON + 1


def test_what_was_created_later_was_there_when_a_dump_was_made() -> None:
    made = {**pod("new"), "metadata": {"name": "new", "creationTimestamp": "2026-03-01T12:00:20Z"}}
    assert taken_at([_nodes_lease("a", "12:00:00"), made], _NOON + 600) == _NOON + 20


def test_nodes_that_died_do_not_tell_when_a_dump_was_made() -> None:
    dead = [
        node(name, conditions=[{"type": "Ready", "status": "Unknown"}]) for name in ("a", "b", "c")
    ]
    leases = [_nodes_lease(name, "07:00:00") for name in ("a", "b", "c")]
    alive = _nodes_lease("d", "12:00:00")
    assert taken_at([*dead, *leases, alive], _NOON + 60) == _NOON
    assert taken_at([*dead, *leases], _NOON + 60) == _NOON - 5 * 3600


def test_names_that_are_no_text_are_no_reason_to_fail() -> None:
    odd = {"kind": "Node", "metadata": {"name": ["a"]}, "status": {"conditions": [1, {"type": []}]}}
    lease = {**_nodes_lease("a", "12:00:00"), "spec": {"renewTime": {"Time": "12"}}}
    assert taken_at([odd, lease, {"kind": "Lease", "metadata": 1}], _NOON) is None
