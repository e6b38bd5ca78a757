"""What is read of a pod: once as long as it is the same, but where it counts at every question."""

from __future__ import annotations

import pytest

from extender.cluster.templates import Templates
from extender.kube.objects import Pod
from extender.verbs.context import Context
from tests.builders import node, vllm
from tests.placement.situations import cluster


def test_a_pod_that_is_asked_about_again_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    context, read = Context(state=cluster(node("a"))), list[Pod]()
    workload = Templates.workload

    def counted(self: Templates, pod: Pod) -> object:
        read.append(pod)
        return workload(self, pod)

    monkeypatch.setattr(Templates, "workload", counted)
    asker, changed = vllm(), vllm(model="/models/other")
    first = context.request(asker)
    assert context.request(asker) == first
    assert context.request(changed).workload != first.workload
    assert context.request(asker) == first
    assert read == [asker, changed, asker]


def test_a_pod_that_was_bound_in_between_counts_where_it_is() -> None:
    asker = vllm()
    context = Context(state=cluster(node("a")))
    assert context.request(asker).node == ""
    context.state.upsert(vllm(on="a"))
    assert context.request(asker).node == "a"
    assert context.remembered(asker.metadata.uid) == context.request(asker)
