"""What lets one read a model is no part of its name, and is said nowhere."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.explain.inventory import inventory
from extender.kube.objects import Pod
from extender.verbs.bind import Answer, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import BindArgs, ExtenderArgs, write_filter_result
from extender.workload.names import without_credentials
from extender.workload.references import read_workload
from tests.builders import READY, loader, loader_pod, node, pod, vllm

SECRETS = ("hunter2", "SECRETSIG")
BARE = "https://x.example/llama.gguf"
SIGNED = "https://user:hunter2@x.example/llama.gguf?X-Amz-Signature=SECRETSIG#SECRETSIG"
OTHER = SIGNED.replace("x.example", "y.example")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (SIGNED, BARE),
        (f" {SIGNED}", f" {BARE}"),
        ("HTTPS://hunter2@x.example/m", "HTTPS://x.example/m"),
        ("https:/user:hunter2@x.example/m", "https:/x.example/m"),
        ("https://user:hunt@hunter2@x.example/m@1", "https://x.example/m@1"),
        ("s3://key:hunter2@bucket/m?versionId=SECRETSIG", "s3://bucket/m"),
        ("hf://gpt2@v1?token=SECRETSIG", "hf://gpt2@v1"),
        ("huggingface://org/name@v1", "huggingface://org/name@v1"),
        ("org/name@v1", "org/name@v1"),
        ("/models/a?b#c@d", "/models/a?b#c@d"),
        ("file:///models/a?b#c@d", "file:///models/a?b#c@d"),
        ("pvc://claim/a?b#c@d", "pvc://claim/a?b#c@d"),
        ("oci://image@sha256:abc", "oci://image@sha256:abc"),
    ],
)
def test_a_name_is_said_without_what_lets_one_read_it(written: str, said: str) -> None:
    assert without_credentials(written) == said


def filled(script: str) -> Pod:
    """Build a server whose init container fills its scratch volume."""
    mounts = [{"name": "models", "mountPath": "/models"}]
    served = msgspec.to_builtins(
        vllm(volume={"emptyDir": {"medium": "Memory"}}, model="/models/llama.gguf").spec
    )
    first = {"name": "fetch", "image": "curlimages/curl", "command": ["sh", "-c", script]}
    return pod(spec={**served, "initContainers": [{**first, "volumeMounts": mounts}]})


def serving(model: str) -> Pod:
    return vllm("p", model=model)


SCRIPTS = ("curl -L -o /models/llama.gguf '{}'", "wget -O /models/llama.gguf '{}'")
PODS = [
    serving(SIGNED),
    *(filled(script.format(SIGNED)) for script in SCRIPTS),
    filled(SCRIPTS[0].format(SIGNED.removeprefix("https://"))),
    filled(f"{SCRIPTS[0].format(SIGNED)} || {SCRIPTS[1].format(OTHER)}"),
]


class Apiserver:
    """The sent Binding's annotations; it takes them."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}

    def create(self, args: BindArgs, annotations: dict[str, str], _: Callable[[], str]) -> Answer:
        assert args.name
        self.annotations = annotations
        return Answer(Sent.DONE)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        raise AssertionError((namespace, name))


@pytest.mark.parametrize("asker", PODS)
def test_no_answer_decision_annotation_or_document_says_it(asker: Pod) -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a"))
    state.upsert(asker)
    context = Context(state=state)
    args = ExtenderArgs(pod=asker, names=("a",), nodes=None)
    result, filtered = filter_nodes(args, context)
    _, ranked = prioritize_nodes(args, context)
    apiserver = Apiserver()
    meta = asker.metadata
    bound = bind(
        BindArgs(namespace=meta.namespace, name=meta.name, uid=meta.uid, node="a"),
        context,
        apiserver,
    )
    said = [
        bytes(write_filter_result(result, args)).decode(),
        msgspec.json.encode((filtered, ranked, bound)).decode(),
        str(apiserver.annotations),
        msgspec.json.encode(explain(asker, context)).decode(),
        str(read_workload(meta, asker.spec)),
    ]
    assert apiserver.annotations
    assert "x.example/llama.gguf" in said[-1]
    assert not [secret for secret in SECRETS if secret in "".join(said)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_inventory_names_what_a_loader_fetches_without_it(script: str) -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a"))
    state.upsert(loader(script=script.format(SIGNED)))
    state.upsert(loader_pod("a", READY, script=script.format(SIGNED)))
    (held,) = inventory(state.view())["nodes"]
    assert [model["model"] for model in held["models"]] == [BARE]


def test_addresses_that_differ_in_credentials_alone_are_one_model() -> None:
    signed, bare = (serving(address) for address in (SIGNED, BARE))
    assert read_workload(signed.metadata, signed.spec) == read_workload(bare.metadata, bare.spec)
