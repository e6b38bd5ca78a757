"""What whoever may create a pod can write: reading it ends, and what is made of it is bounded.

Times are limits for what would otherwise take minutes, hours or all memory; they measure nothing.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Container, DaemonSet, ObjectMeta, PodSpec
from extender.workload import fills
from extender.workload.budget import MOST_CONTAINERS, MOST_MODELS, Budget
from extender.workload.expand import environment
from extender.workload.loaders import read_loader
from extender.workload.model import MODELS_ANNOTATION, LoaderTemplate, Need, Workload
from extender.workload.references import read_workload
from extender.workload.shell import _Walker
from tests.workload import table

DOUBLING = [
    {"name": "A0", "value": "x" * 64},
    *({"name": f"A{n}", "value": f"$(A{n - 1})$(A{n - 1})"} for n in range(1, 64)),
]
OPENED = r"""
$( $(( ${ ${A:- ` " "$( ' ( (( { a=$(b; $(echo a&& a| a|| a; cat<<EOF_ f(){ a\_ {a,b} $A > < # [[
$' \ x=( ${A[ ${#A} ${A// & (# $(# $[ <( eval_ !_ $(a "$(" $(' "${ } ) a) ~/ * $$ $(A
""".split()
"""Each ``_`` is the end of a line."""
READ_ONLY = {"name": "models", "mountPath": "/models", "readOnly": True}


def read(containers: list[dict[str, Any]]) -> Workload:
    mount = {"name": "models", "mountPath": "/models"}
    spec = {
        "containers": [
            {"name": f"c{index}", "image": "vllm/vllm-openai", "volumeMounts": [mount], **container}
            for index, container in enumerate(containers)
        ],
        "volumes": [{"name": "models", "hostPath": {"path": "/var/lib/models"}}],
    }
    return read_workload(ObjectMeta(name="p", namespace="n"), convert(spec, PodSpec))


def test_variables_that_double_one_another_are_unknown_from_some_point_on() -> None:
    known = environment(convert({"env": DOUBLING}, Container), ObjectMeta())
    assert known["A5"] == "x" * 64 * 32
    assert known["A63"] is None
    assert sum(len(value) for value in known.values() if value is not None) < 3_000_000


PLAIN = {"env": [{"name": "A0", "value": "a"}], "args": ["--model", "/models/$(A0)"]}
TOO_LONG = {"env": DOUBLING, "args": ["--model", "/models/$(A0)"]}
SAID = "the pod's variables are too long to be filled in"


def test_a_container_that_costs_too_much_leaves_the_others_their_share() -> None:
    workload = read([TOO_LONG, TOO_LONG, TOO_LONG, PLAIN])
    *long, plain = workload.references
    assert plain.host_path == "/var/lib/models/a"
    assert {one.unknown for one in long} == {SAID}
    assert [one.reason for one in workload.warnings] == ["SpecTooLong"] * 3
    assert workload.warnings[0].message == (
        "the scripts, variables and arguments of containers[0] take too long to be read to their "
        "end: a model that they ask for is not known; name it by annotation modelcache.dev/model"
    )


def test_all_containers_of_a_pod_share_what_filling_in_may_cost() -> None:
    before, *others = read([PLAIN, *[TOO_LONG] * 20, PLAIN]).references
    assert before.host_path == "/var/lib/models/a"
    assert {other.unknown for other in others} == {SAID}


@pytest.mark.parametrize("lines", [400, 800])
def test_long_scripts_beside_an_engine_keep_its_model_from_nobody(lines: int) -> None:
    step = "for i in 1 2 3; do curl -fsS http://127.0.0.1/ready && break; sleep 1; done\n"
    long = {"command": ["sh", "-c", step * lines]}
    engine = {"command": ["sh", "-c", "exec vllm serve /models/llama"]}
    references = read([long, long, long, engine]).references
    assert [one.host_path for one in references] == ["/var/lib/models/llama"]


def test_an_argument_that_names_a_long_variable_again_and_again_is_unknown() -> None:
    long = {"name": "A", "value": "x" * 1000}
    references = read([{"env": [long], "args": ["--model", "/models/" + "$(A)" * 10_000]}])
    assert [one.unknown for one in references.references] == [SAID]


@pytest.mark.timeout(120)
def test_scripts_of_many_containers_cost_no_more_than_one_pod_may() -> None:
    loops = "".join(f"for i{level} in 1 2 3 4 5 6 7 8 9 10; do " for level in range(12))
    script = f"{loops} hf download a/b$i1 --local-dir /models/$i1; {'done; ' * 12}"
    program = "for a in range(10**9):\n for b in range(10**9):\n  snapshot_download('a/b')"
    many = [{"command": ["sh", "-c", script]}, {"command": ["python3", "-c", program]}] * 300
    assert len(read([{"args": ["--model", "/models/a"]}, *many]).references) == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "program",
    [
        ["vllm", "serve"],
        ["python3", "-m", "sglang.launch_server"],
        ["llama-server"],
    ],
)
def test_a_program_that_is_named_again_and_again_is_read_in_part(program: list[str]) -> None:
    words = [*program, "--model", "/models/a"]
    few = read([{"command": words * 5, "volumeMounts": [READ_ONLY]}])
    assert [one.need for one in few.references] == [Need.REQUIRED]
    assert not few.warnings
    many = read([{"command": words * 1_500, "volumeMounts": [READ_ONLY]}])
    assert {one.need for one in many.references} == {Need.UNKNOWN}
    assert any("arguments of containers[0] take too long" in one.message for one in many.warnings)


def test_of_a_container_that_is_not_read_to_its_end_nothing_is_surely_needed() -> None:
    engine = "vllm serve /models/llama\n"
    whole = read([{"command": ["sh", "-c", engine], "volumeMounts": [READ_ONLY]}])
    assert [one.need for one in whole.references] == [Need.REQUIRED]
    loops = "".join(f"for i{level} in 1 2 3 4 5 6 7 8 9 10; do " for level in range(12))
    long = f"{engine}{loops} true; {'done; ' * 12}"
    cut = read([{"command": ["sh", "-c", long], "volumeMounts": [READ_ONLY]}])
    assert [one.need for one in cut.references] == [Need.UNKNOWN]
    assert [one.reason for one in cut.warnings] == ["SpecTooLong"]


def test_all_scripts_of_a_pod_take_few_thousand_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    node = _Walker._node

    def counted(self: _Walker, *args: Any) -> None:
        nonlocal count
        count += 1
        node(self, *args)

    monkeypatch.setattr(_Walker, "_node", counted)
    loops = "".join(f"for i{level} in 1 2 3 4 5 6 7 8 9 10; do " for level in range(12))
    read([{"command": ["sh", "-c", f"{loops} true; {'done; ' * 12}"]}] * 60)
    assert 1_000 < count <= 8_000


def test_what_stacks_document_takes_a_hundredth_of_what_may_be_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Budget(steps=80, characters=4_000)
    monkeypatch.setattr("extender.workload.stacks.view.budget_of_pod", lambda: copy(small))
    for entry in table.SPECS.values():
        assert "SpecTooLong" not in {one.reason for one in table.read(entry).warnings}


def test_no_more_than_so_many_containers_are_read_and_models_looked_for() -> None:
    models = [{"args": ["--model", f"/models/{index}"]} for index in range(MOST_CONTAINERS + 5)]
    workload = read(models)
    assert [one.host_path for one in workload.references] == [
        f"/var/lib/models/{index}" for index in range(MOST_MODELS)
    ]
    assert [one.message.partition(":")[0] for one in workload.warnings] == [
        "of 69 containers the first 64 are read",
        "of 64 models that it asks for the first 32 are looked for; whether a node has the others "
        "is not known",
    ]


def test_of_more_models_than_are_looked_for_the_served_one_comes_first() -> None:
    adapters = [f"a{index}=/models/a{index}" for index in range(3_000)]
    workload = read(
        [{"args": ["--lora-modules", *adapters, "--enable-lora", "--model", "/models/base"]}]
    )
    assert len(workload.references) == MOST_MODELS
    assert workload.references[0].host_path == "/var/lib/models/base"
    assert [one.reason for one in workload.warnings] == ["SpecTooLong"]


@pytest.mark.timeout(120)
def test_mounts_beside_many_models_cost_no_more_than_one_pod_may() -> None:
    mounts = [{"name": "other", "mountPath": f"/o/{index}"} for index in range(1_500)]
    adapters = [f"a{index}=/models/a{index}" for index in range(MOST_MODELS)]
    engine = {
        "args": ["--model", "/models/base", "--lora-modules", *adapters],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    sidecars = [{"image": "busybox", "volumeMounts": mounts}] * 10
    workload = read([engine, *sidecars])
    assert workload.references[0].need is Need.REQUIRED
    assert workload.references[-1].need is Need.UNKNOWN  # some of what writes was not looked at
    said = workload.references[-1].unknown or ""
    assert said.startswith("container c1, c10, c2, c3")
    assert said.endswith("may write it, and what it does cannot be read")


def test_what_many_models_share_with_many_scripts_is_looked_through_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 0
    overlaps = fills._overlaps

    def counted(*args: Any) -> bool:
        nonlocal count
        count += 1
        return overlaps(*args)

    monkeypatch.setattr(fills, "_overlaps", counted)
    downloads = "\n".join(f"hf download a/b{n} --local-dir /models/{n}" for n in range(50))
    scripts = [{"image": "busybox", "command": ["sh", "-c", downloads]}] * 30
    engines = [{"args": ["--model", f"/models/{index}"]} for index in range(MOST_MODELS)]
    assert len(read([*engines, *scripts]).references) == MOST_MODELS
    assert 1_000 < count <= 21_000


@pytest.mark.timeout(120)
def test_mounts_of_a_loader_are_looked_through_once() -> None:
    mounts = [
        {"name": f"v{index}", "mountPath": f"/m/{index}", "readOnly": index > 0}
        for index in range(8_000)
    ]
    script = "\n".join(f"hf download a/b --local-dir /m/0/{index}" for index in range(300))
    spec = {
        "containers": [
            {"name": "c", "command": ["sh", "-c", script + "; sleep 9"], "volumeMounts": mounts}
        ],
        "volumes": [
            {"name": mount["name"], "hostPath": {"path": f"/var/lib/{mount['name']}"}}
            for mount in mounts
        ],
    }
    template = read_loader(convert({"spec": {"template": {"spec": spec}}}, DaemonSet))
    assert template is not None
    assert template.directories == ("/var/lib/v0",)
    assert len(template.models) == 300


def test_an_annotation_with_more_paths_than_anybody_reads_leaves_the_others_unknown() -> None:
    spec = {
        "containers": [
            {"name": f"c{index}", "volumeMounts": [{"name": "m", "mountPath": "/models"}]}
            for index in range(MOST_CONTAINERS)
        ],
        "volumes": [{"name": "m", "hostPath": {"path": "/var/lib/models"}}],
    }
    names = [f"/elsewhere/{index}" for index in range(5_000)]

    def template(*paths: str) -> LoaderTemplate:
        metadata = {"annotations": {MODELS_ANNOTATION: "\n".join(paths)}}
        found = read_loader(
            convert({"spec": {"template": {"metadata": metadata, "spec": spec}}}, DaemonSet)
        )
        assert found is not None
        return found

    few = template("/models/a", *names[:100], "/models/b")
    assert [model.path for model in few.models] == ["/var/lib/models/a", "/var/lib/models/b"]
    assert not few.opaque
    many = template("/models/a", *names, "/models/b")
    assert [model.path for model in many.models] == ["/var/lib/models/a"]
    assert many.opaque


@pytest.mark.timeout(120)
@pytest.mark.parametrize("token", OPENED)
def test_what_is_opened_again_and_again_is_read_to_its_end(token: str) -> None:
    text = token.replace("_", "\n") * (60_000 // len(token))
    workload = read([{"command": ["sh", "-c", text]}, {"args": ["--model", text]}])
    assert all(reference.host_path is None for reference in workload.references)
