"""What whoever may create a pod can write: reading it ends, and what is made of it is bounded.

Times are limits for what would otherwise take minutes, hours or all memory; they measure nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Container, ObjectMeta, PodSpec
from extender.workload.budget import MOST_CONTAINERS
from extender.workload.expand import environment
from extender.workload.model import Workload
from extender.workload.references import read_workload

DOUBLING = [
    {"name": "A0", "value": "x" * 64},
    *({"name": f"A{n}", "value": f"$(A{n - 1})$(A{n - 1})"} for n in range(1, 64)),
]
OPENED = r"""
$( $(( ${ ${A:- ` " "$( ' ( (( { a=$(b; $(echo a&& a| a|| a; cat<<EOF_ f(){ a\_ {a,b} $A > < # [[
$' \ x=( ${A[ ${#A} ${A// & (# $(# $[ <( eval_ !_ $(a "$(" $(' "${ } ) a) ~/ * $$ $(A
""".split()
"""Each ``_`` is the end of a line."""


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
        "the scripts and variables of containers[0] take too long to be read to their end: a model "
        "that they ask for is not known; name it by annotation modelcache.dev/model"
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


def test_no_more_than_so_many_containers_are_read() -> None:
    models = [{"args": ["--model", f"/models/{index}"]} for index in range(MOST_CONTAINERS + 5)]
    workload = read(models)
    assert len(workload.references) == MOST_CONTAINERS
    assert [one.message.partition(":")[0] for one in workload.warnings] == [
        "of 69 containers the first 64 are read"
    ]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("token", OPENED)
def test_what_is_opened_again_and_again_is_read_to_its_end(token: str) -> None:
    text = token.replace("_", "\n") * (60_000 // len(token))
    workload = read([{"command": ["sh", "-c", text]}, {"args": ["--model", text]}])
    assert all(reference.host_path is None for reference in workload.references)
