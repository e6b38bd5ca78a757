"""Laws of reading: any pod spec is read, the same way each time, and nothing is refused falsely.

``required`` is what refuses nodes. The law: without an annotation, a reference (or what a memory
volume is filled from) is ``required`` only where

- its bytes lie on a hostPath volume or a claim of the pod, inside of what that volume shows, and
- the pod opens them read-only, or the hostPath must exist, or the pod is told to stay offline, and
- a server whose ways are known opens them, and
- no container of the pod that cannot be read to the end has them mounted writable, nor one whose
  ``postStart`` hook fetches or cannot be read, and
- no other way of the script that opens them does without.

Pods are likely ones, made up from odd pieces, or specs of the table, bent.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from extender.errors import InvalidObjectError, UsageError
from extender.kube.decode import convert
from extender.kube.objects import Container, Pod, Volume, VolumeMount
from extender.workload.model import ANNOTATION_PREFIX, ModelReference, Need, Role, Source, Workload
from extender.workload.references import read_workload
from extender.workload.volumes import is_within, normal
from tests.workload.table import SPECS, pod

LAW = settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.filter_too_much])

# --- odd pieces ------------------------------------------------------------------------------

PATHS = ["/models/a", "/models", "/", "/mnt/models", "/models/../etc", "//models//a/", "models/a"]
PIECES = [
    *PATHS, "", " ", "$", "$$", "$(", "$(A)", "$$(A)", "${A}", "$A", "${A:-/models/a}", "`id`",
    "~", "~/m", ".", "..", "'", '"', "\\", "\0", "\n", "&&", "|", ";", "&", ">", "<<EOF", "(", "{",
    "hf://", "hf://a/b@c", "pvc://", "pvc://c/p", "oci://", "s3://b/k", "file:///models/a", "://",
    "org/name", "gpt2", "a=/models/a", "=", "-", "--", "-c", "-m", "sh", "bash", "-lc", "vllm",
    "serve", "vllm serve /models/a", "vllm serve org/name", "--model", "--model=/models/a",
    "--model=org/name", "--model-path", "--lora-modules", "--speculative-config",
    '{"model": "/models/d"}', '{"model": 3}', "[1]", "{" * 300, "--download-dir", "--download-dir=",
    "python3", "sglang.launch_server", "llama-server", "tritonserver", "--model-repository=/models",
    "trtllm-serve", "ollama", "pull", "hf download org/name --local-dir /models/a", "cp -r /x /y",
    "ray", "start", "--address=x", "aibrix_download", "--model-uri", "--local-dir", "x" * 5000,
    "ünïcode/✓", "a/b/c", "exec", "export A=/models/a", "if true; then", "done", "for i in 1; do",
]  # fmt: skip
IMAGES = [
    "", "vllm/vllm-openai:v0.11.0", "lmsysorg/sglang", "nginx", ":", "@", "a@b:c/d",
    "ghcr.io/huggingface/text-generation-inference", "localhost:5000/x", "nvcr.io/nim/meta/llama",
    "ollama/ollama:latest", "ghcr.io/ggml-org/llama.cpp:server", "kserve/huggingfaceserver",
    "kserve/storage-initializer:v0.15",
]  # fmt: skip
TYPES = ["", "Directory", "DirectoryOrCreate"]
NAMES = ["A", "B", "HOME", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "MODEL_ID", "MODEL_PATH",
         "OLLAMA_MODELS", "STORAGE_URI", "NIM_CACHE_PATH", "XDG_CACHE_HOME", ""]  # fmt: skip


@st.composite
def _texts(draw: st.DrawFn) -> str:
    made: str = draw(
        st.one_of(
            st.sampled_from(PIECES),
            st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join),
            st.text(max_size=30),
        )
    )
    return made


texts = _texts()
references_elsewhere = st.sampled_from(
    [
        {"configMapKeyRef": {"name": "c", "key": "k"}},
        {"fieldRef": {"fieldPath": "metadata.labels['model']"}},
        {"fieldRef": {"fieldPath": "spec.nodeName"}},
        {},
    ]
)
variables = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from(NAMES), "value": texts}),
    st.fixed_dictionaries({"name": st.sampled_from(NAMES), "valueFrom": references_elsewhere}),
)
volume_names = st.sampled_from(["h", "c", "e", "ram", "oci", "none", "gone"])
mounts = st.fixed_dictionaries(
    {"name": volume_names, "mountPath": st.one_of(st.sampled_from(PATHS), texts)},
    optional={"subPath": texts, "subPathExpr": texts, "readOnly": st.booleans()},
)
commands = st.lists(texts, max_size=4)
containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "kserve-container", "ome-container", "modelcar", ""])},
    optional={
        "image": st.sampled_from(IMAGES),
        "command": commands,
        "args": st.lists(texts, max_size=6),
        "workingDir": texts,
        "env": st.lists(variables, max_size=4),
        "volumeMounts": st.lists(mounts, max_size=3),
        "restartPolicy": st.sampled_from(["Always", ""]),
        "lifecycle": st.fixed_dictionaries(
            {},
            optional={
                "postStart": st.fixed_dictionaries(
                    {}, optional={"exec": st.fixed_dictionaries({"command": commands})}
                )
            },
        ),
    },
)
host_paths = st.fixed_dictionaries({"path": texts}, optional={"type": st.sampled_from(TYPES)})
volumes = st.one_of(
    st.fixed_dictionaries({"name": st.just("h"), "hostPath": host_paths}),
    st.just({"name": "c", "persistentVolumeClaim": {"claimName": "store"}}),
    st.just({"name": "e", "emptyDir": {}}),
    st.just({"name": "ram", "emptyDir": {"medium": "Memory"}}),
    st.just({"name": "oci", "image": {"reference": "x/y:1"}}),
    st.just({"name": "none"}),
)
METADATA: list[dict[str, Any]] = [
    {},
    {"labels": {"model": "/models/a", "model.aibrix.ai/name": "x", "ome.io/inferenceservice": "x"}},
    {
        "annotations": {
            "internal.serving.kserve.io/storage-initializer-sourceuri": "pvc://store/x",
            "modelcache.dev/model": "hf://a/b",
        }
    },
]
made_up = st.fixed_dictionaries(
    {
        "metadata": st.sampled_from(METADATA),
        "spec": st.fixed_dictionaries(
            {
                "containers": st.lists(containers, max_size=3),
                "initContainers": st.lists(containers, max_size=2),
                "volumes": st.lists(volumes, max_size=4),
            }
        ),
    }
).map(lambda plain: convert(plain, Pod))


ENGINES: list[dict[str, Any]] = [
    {"image": "vllm/vllm-openai:v0.11.0", "args": ["--model", "/models/a"]},
    {"image": "vllm/vllm-openai:v0.11.0", "args": ["--model", "org/name"]},
    {"image": "x/y:1", "command": ["sh", "-c", "exec vllm serve /models/a"]},
    {"image": "x/y:1", "command": ["sh", "-c", "./prepare; vllm serve /models/a"]},
    {"image": "ollama/ollama", "command": ["sh", "-c", "ollama serve & ollama run qwen3; wait"]},
    {"name": "kserve-container", "image": "x/y:1"},
]
OTHER_WAYS = [
    "vllm serve /models/a || vllm serve org/name",
    "vllm serve /models/a || ./fallback",
    "if [ -d /models/a ]; then vllm serve /models/a; else vllm serve org/name; fi",
    "if [ -d /models/a ]; then exec vllm serve /models/a; fi; exec vllm serve org/name",
    "[ -d /models/a ] || exec ./fallback; exec vllm serve /models/a",
    "case $MODE in a) vllm serve /models/a;; *) vllm serve org/name;; esac",
]
"""Scripts that may serve without the local model."""
ENGINES += [{"image": "x/y:1", "command": ["sh", "-c", script]} for script in OTHER_WAYS]
HOOKS = [["./prepare"], ["sh", "-c", "hf download org/name --local-dir /models/a"]]
"""What ``postStart`` runs, each of which may put the model there."""
FETCHES: list[dict[str, Any]] = [
    {"image": "python:3.12", "command": ["sh", "-c", "hf download org/name --local-dir /models/a"]},
    {"image": "busybox:1.37", "command": ["sh", "-c", "cp -r /node/a /models/"]},
    {"image": "x/fetch:1"},
    {"image": "busybox:1.37", "command": ["sh", "-c", "echo ready"]},
]
likely_mounts = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["h", "c", "e", "ram"]),
        "mountPath": st.sampled_from(
            ["/models", "/models/a", "/node", "/root", "/root/.cache/huggingface", "/mnt/models"]
        ),
        "readOnly": st.booleans(),
    },
    optional={"subPath": st.sampled_from(["", "a", "../a"])},
)


@st.composite
def likely(draw: st.DrawFn) -> Pod:
    """Make a pod that could be real: an engine that opens a model on one volume or another."""
    offline = draw(st.sampled_from([[], [], [{"name": "HF_HUB_OFFLINE", "value": "1"}]]))
    several = st.lists(likely_mounts, min_size=1, max_size=2)
    engine = draw(st.sampled_from(ENGINES))
    ran = draw(st.sampled_from([None, None, None, *HOOKS]))
    hook = {"lifecycle": {"postStart": {"exec": {"command": ran}}}} if ran else {}
    spec = {
        "containers": [{**engine, "env": offline, "volumeMounts": draw(several), **hook}],
        "initContainers": [
            {**fetch, "volumeMounts": draw(several)}
            for fetch in draw(st.lists(st.sampled_from(FETCHES), max_size=1))
        ],
        "volumes": [
            {"name": "h", "hostPath": {"path": "/data", "type": draw(st.sampled_from(TYPES))}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "store"}},
            {"name": "e", "emptyDir": {}},
            {"name": "ram", "emptyDir": {"medium": "Memory"}},
        ],
    }
    return convert({"spec": spec}, Pod)


@st.composite
def bent(draw: st.DrawFn) -> Pod:
    """Take a spec of the table and change a few of its values, wherever they are."""
    entry = copy.deepcopy(SPECS[draw(st.sampled_from(list(SPECS)))])
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(entry.get("manifest") or entry["spec"]))
        assume(places)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["text", "drop", "twice", "readOnly"]))
        if change == "drop":
            del holder[key]
        elif change == "text" and isinstance(holder[key], str):
            holder[key] = draw(texts)
        elif change == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == "readOnly" and isinstance(holder[key], dict) and "mountPath" in holder[key]:
            holder[key]["readOnly"] = draw(st.booleans())
    try:
        return pod(entry)
    except (InvalidObjectError, UsageError):
        assume(False)  # noqa: FBT003
        raise


def _places(plain: Any) -> list[tuple[Any, Any]]:
    items = list(plain.items()) if isinstance(plain, dict) else []
    items = list(enumerate(plain)) if isinstance(plain, list) else items
    return [(plain, key) for key, _ in items] + [
        place for _, value in items for place in _places(value)
    ]


pods = st.one_of(likely(), made_up, bent())


def read(made: Pod) -> Workload:
    return read_workload(made.metadata, made.spec)


# --- the laws --------------------------------------------------------------------------------


@LAW
@given(pods)
def test_any_pod_is_read_and_the_same_way_each_time(made: Pod) -> None:
    assert read(made) == read(msgspec.convert(msgspec.to_builtins(made), Pod))


@LAW
@given(pods)
def test_serving_model_comes_first_and_no_reference_comes_twice(made: Pod) -> None:
    references = read(made).references
    order = [list(Role).index(reference.role) for reference in references]
    assert order == sorted(order)
    assert len(set(references)) == len(references)


@LAW
@given(pods)
def test_reference_that_is_unknown_says_why(made: Pod) -> None:
    for reference in read(made).references:
        unsure = reference.need is Need.UNKNOWN or reference.source is Source.UNKNOWN
        assert not unsure or reference.unknown or _is_named_claim(reference)
        assert reference.unknown != ""


@LAW
@given(pods)
def test_reference_names_fields_that_the_pod_has(made: Pod) -> None:
    for reference in read(made).references:
        for field in reference.read_from:
            assert _exists(made, field), field


@LAW
@given(pods)
def test_required_model_lies_on_a_volume_that_the_pod_opens_and_cannot_fill(made: Pod) -> None:
    for reference in read(made).references:
        if (
            reference.need is Need.REQUIRED
            and "modelcache.dev/need" not in made.metadata.annotations
        ):
            _assert_proved(made, reference)


@LAW
@given(pods)
def test_nothing_is_required_where_an_unreadable_program_may_write_everything(made: Pod) -> None:
    names = dict.fromkeys(volume.name for volume in made.spec.volumes)
    opaque = {
        "name": "opaque",
        "image": "registry.example.com/team/opaque:1",
        "volumeMounts": [
            {"name": name, "mountPath": f"/all/{index}"} for index, name in enumerate(names)
        ],
    }
    spec = msgspec.structs.replace(
        made.spec, init_containers=(*made.spec.init_containers, convert(opaque, Container))
    )
    for reference in _unannotated(msgspec.structs.replace(made, spec=spec)).references:
        assert reference.need is not Need.REQUIRED or not _on_named_volume(reference, set(names))


@LAW
@given(likely(), st.sampled_from(HOOKS))
def test_nothing_writable_is_required_where_a_hook_may_write_it(made: Pod, ran: list[str]) -> None:
    hook = convert({"lifecycle": {"postStart": {"exec": {"command": ran}}}}, Container).lifecycle
    engine = made.spec.containers[0]
    mount = VolumeMount(name="h", mount_path="/models")
    hooked = msgspec.structs.replace(engine, lifecycle=hook, volume_mounts=(mount,))
    spec = msgspec.structs.replace(made.spec, containers=(hooked,), init_containers=())
    for reference in read(msgspec.structs.replace(made, spec=spec)).references:
        assert reference.need is not Need.REQUIRED


CONDITIONS = ["[ -d /models/a ]", '[ "$X" = 1 ]', '[[ -n "$X" ]]', "test -f /a", "grep -q a /b"]
PREPARATIONS = ["", "./prepare; ", "mkdir -p /tmp/x && ", "export A=b; ", "set -ex\n"]
FORMS = [
    "if {condition}; then {one}; else {two}; fi",
    "if {condition}; then exec {one}; else exec {two}; fi",
    "if {condition}\nthen\n  {one}\nelse\n  {two}\nfi",
    "{one} || {two}",
    "{condition} && exec {one}; exec {two}",
    'case "$WAY" in a) {one};; b) {two};; esac',
    "({one}) || ({two})",
    "main() {{ if {condition}; then {one}; else {two}; fi; }}; main",
    "bash -c 'if test -e /a; then {one}; else {two}; fi'",
]
INSTEAD = ["vllm serve org/name", "python3 /app/serve.py", "./serve --all", "vllm serve /models/b"]


@LAW
@given(
    form=st.sampled_from(FORMS),
    condition=st.sampled_from(CONDITIONS),
    before=st.sampled_from(PREPARATIONS),
    instead=st.sampled_from(INSTEAD),
    order=st.permutations([0, 1]),
)
def test_a_script_requires_a_model_just_where_each_of_its_ways_opens_it(
    *, form: str, condition: str, before: str, instead: str, order: list[int]
) -> None:
    for other, need in ((instead, Need.UNKNOWN), ("vllm serve /models/a -q", Need.REQUIRED)):
        ways = ["vllm serve /models/a", other]
        one, two = (ways[place] for place in order)
        script = before + form.format(condition=condition, one=one, two=two)
        mount = {"name": "h", "mountPath": "/models", "readOnly": True}
        spec = {
            "containers": [{"command": ["sh", "-c", script], "volumeMounts": [mount]}],
            "volumes": [{"name": "h", "hostPath": {"path": "/data"}}],
        }
        references = read(convert({"spec": spec}, Pod)).references
        assert [r.need for r in references if r.model == "/models/a"] == [need], script


@LAW
@given(bent())
def test_nothing_is_required_by_a_server_that_is_not_known(made: Pod) -> None:
    """The same flags, variables and mounts, behind an image and a program that nobody knows."""
    strangers = tuple(
        msgspec.structs.replace(
            container, name="stranger", image="registry.example.com/team/app:1",
            command=("/bin/app",), args=_flags(container),
        )
        for container in made.spec.containers
    )  # fmt: skip
    spec = msgspec.structs.replace(made.spec, containers=strangers, init_containers=())
    for reference in _unannotated(msgspec.structs.replace(made, spec=spec)).references:
        assert reference.need is not Need.REQUIRED


@LAW
@given(pods, st.sampled_from(["required", "preferred", "ignore"]))
def test_annotated_need_is_obeyed_by_the_serving_models(made: Pod, need: str) -> None:
    annotations = {**made.metadata.annotations, "modelcache.dev/need": need}
    metadata = msgspec.structs.replace(made.metadata, annotations=annotations)
    for reference in read_workload(metadata, made.spec).references:
        assert reference.role is not Role.MODEL or reference.need.value == need


@pytest.mark.parametrize("entry", SPECS.values(), ids=SPECS.keys())
def test_sidecar_that_mounts_nothing_changes_nothing(entry: dict[str, Any]) -> None:
    made = pod(entry)
    sidecar = convert({"name": "proxy", "image": "istio/proxyv2:1.27.0"}, Container)
    spec = msgspec.structs.replace(made.spec, containers=(*made.spec.containers, sidecar))
    assert read_workload(made.metadata, spec) == read(made)


@pytest.mark.parametrize("entry", SPECS.values(), ids=SPECS.keys())
def test_order_of_volumes_changes_nothing(entry: dict[str, Any]) -> None:
    made = pod(entry)
    spec = msgspec.structs.replace(made.spec, volumes=made.spec.volumes[::-1])
    assert read_workload(made.metadata, spec) == read(made)


# --- what the laws ask -----------------------------------------------------------------------


def _unannotated(made: Pod) -> Workload:
    """Read a pod without what its author says outright."""
    said = made.metadata.annotations.items()
    kept = {key: value for key, value in said if not key.startswith(ANNOTATION_PREFIX)}
    return read_workload(msgspec.structs.replace(made.metadata, annotations=kept), made.spec)


def _bytes(reference: ModelReference) -> ModelReference:
    """Return where the bytes come from: a memory volume's origin, else the reference itself."""
    while reference.source is Source.MEMORY and reference.origin is not None:
        reference = reference.origin
    return reference


def _is_named_claim(reference: ModelReference) -> bool:
    """Tell a claim that only a URI names: its volume is not part of the pod."""
    return reference.source is Source.CLAIM and reference.volume is None


def _on_named_volume(reference: ModelReference, names: set[str]) -> bool:
    return _bytes(reference).volume in names


def _assert_proved(made: Pod, reference: ModelReference) -> None:
    at = _bytes(reference)
    assert at.source in {Source.HOST_PATH, Source.CLAIM}
    volume = next((v for v in made.spec.volumes if v.name == at.volume), Volume())
    everyone = (*made.spec.containers, *made.spec.init_containers)
    assert not any(c.command[-1:] and c.command[-1] in OTHER_WAYS for c in everyone)
    mounted = [m for c in everyone for m in c.volume_mounts if m.name == at.volume]
    if at.source is Source.CLAIM:
        assert volume.persistent_volume_claim is not None
        assert volume.persistent_volume_claim.claim_name == at.claim
        return
    assert volume.host_path is not None
    assert at.host_path is not None
    assert is_within(at.host_path, normal(volume.host_path.path))
    must_exist = volume.host_path.type in {"Directory", "File"}
    offline = "OFFLINE" in repr(everyone)
    assert must_exist or offline or any(mount.read_only for mount in mounted)


_MODULES = {
    module
    for entry in SPECS.values()
    for container in pod(entry).spec.containers
    for flag, module in pairwise((*container.command, *container.args))
    if flag == "-m"
}
"""Programs that Python runs: where the ``-m`` before one was bent, it looks like a value."""


def _flags(container: Container) -> tuple[str, ...]:
    """Return the options with the word after each, and no program."""
    words = (*container.command, *container.args, "")
    options = (pair for pair in pairwise(words) if pair[0].startswith("--"))
    return tuple(word for pair in options for word in pair if word not in _MODULES)


_FIELD = re.compile(
    r"(?P<kind>containers|initContainers)\[(?P<n>\d+)\]"
    r"\.(?:(?P<part>args|command|env|lifecycle\.postStart\.exec\.command|volumeMounts)"
    r"(?:\[(?P<m>\d+)\](?P<value>\.value|\.mountPath)?)?|(?P<image>image))"
)


def _exists(made: Pod, field: str) -> bool:
    annotation = re.fullmatch(r"metadata\.annotations\[(.+)\]", field)
    if annotation is not None:
        return annotation[1] in made.metadata.annotations
    place = _FIELD.fullmatch(field)
    if place is None:
        return False
    kind = made.spec.containers if place["kind"] == "containers" else made.spec.init_containers
    container = kind[int(place["n"])]
    if place["image"]:
        return bool(container.image)
    hook = container.lifecycle.post_start if container.lifecycle else None
    parts: dict[str, Sequence[object]] = {
        "args": container.args,
        "command": container.command,
        "env": container.env,
        "volumeMounts": container.volume_mounts,
        "lifecycle.postStart.exec.command": hook.exec.command if hook and hook.exec else (),
    }
    return place["m"] is None or int(place["m"]) < len(parts[place["part"]])
