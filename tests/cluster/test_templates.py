"""Pods that cannot be read differently are read once, whatever else they differ in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.templates import Templates, template_key
from extender.kube.objects import Pod
from extender.workload.model import LOADER_LABEL
from extender.workload.references import read_workload
from extender.workload.stacks.groups import AIBRIX_LABEL
from extender.workload.stacks.ome import SERVICE_LABEL
from tests.builders import pod
from tests.workload import table

COMPLETION = "batch.kubernetes.io/job-completion-index"


def labelled(one: Pod, labels: dict[str, str]) -> Pod:
    metadata = msgspec.structs.replace(one.metadata, labels=labels)
    return msgspec.structs.replace(one, metadata=metadata)


def of_a_job(index: int, **container: Any) -> Pod:
    main = {"name": "c", "image": "vllm/vllm-openai", "args": ["--model", "/models/a"], **container}
    labels = {COMPLETION: str(index), "apps.kubernetes.io/pod-index": str(index)}
    return pod(f"job-{index}", metadata={"labels": labels}, spec={"containers": [main]})


def test_pods_of_one_indexed_job_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return read_workload(*args)

    monkeypatch.setattr("extender.cluster.templates.read_workload", counted)
    templates = Templates()
    for index in range(20):
        templates.read(of_a_job(index))
    assert count == 1


def test_a_label_that_a_variable_takes_tells_pods_apart() -> None:
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{COMPLETION}']"}}
    taking = {"env": [{"name": "I", "valueFrom": source}], "args": ["--model", "/models/$(I)"]}
    read = [Templates().workload(of_a_job(index, **taking)) for index in range(2)]
    assert [one.references[0].model for one in read] == ["/models/0", "/models/1"]
    assert template_key(of_a_job(0, **taking)) != template_key(of_a_job(1, **taking))


@pytest.mark.parametrize(
    "label",
    [LOADER_LABEL, AIBRIX_LABEL, SERVICE_LABEL, "leaderworkerset.sigs.k8s.io/name"],
)
def test_a_label_that_a_reader_looks_at_tells_pods_apart(label: str) -> None:
    without = of_a_job(0)
    assert template_key(labelled(without, {label: "a"})) != template_key(without)


@pytest.mark.parametrize("entry", table.SPECS.values(), ids=table.SPECS.keys())
def test_pods_with_one_key_are_read_alike_whatever_their_labels(entry: dict[str, Any]) -> None:
    """Take each label away by itself: where the reading is another, so is the key."""
    whole = table.pod(entry)
    reading = read_workload(whole.metadata, whole.spec)
    for label in whole.metadata.labels:
        others = {k: v for k, v in whole.metadata.labels.items() if k != label}
        less = labelled(whole, others)
        if template_key(less) == template_key(whole):
            assert read_workload(less.metadata, less.spec) == reading
