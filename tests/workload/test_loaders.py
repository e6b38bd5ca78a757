"""Which DaemonSets put models on nodes, where, and whether Ready means that they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.decode import convert
from extender.kube.objects import DaemonSet
from extender.workload.loaders import read_loader
from extender.workload.model import LoaderTemplate

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
ARTICLE = """\
set -e
if [ ! -f /models/llama-3.1-8b-instruct/config.json ]; then
  pip install huggingface_hub
  python -c "from huggingface_hub import snapshot_download; \
snapshot_download('meta-llama/Llama-3.1-8B-Instruct', local_dir='/models/llama-3.1-8b-instruct')"
fi
"""
PAUSE = {"name": "pause", "image": "registry.k8s.io/pause:3.10"}
MODELS = {"name": "models", "mountPath": "/models"}
Spec = dict[str, Any]


def download(script: str = ARTICLE, **container: Any) -> Spec:
    return {
        "name": "download",
        "image": "python:3.12-slim",
        "command": ["bash", "-c"],
        "args": [script],
        "volumeMounts": [MODELS],
        **container,
    }


def spec(
    *,
    init: list[Spec] | None = None,
    main: list[Spec] | None = None,
    host: str = "/mnt/models",
    volumes: list[Spec] | None = None,
) -> Spec:
    return {
        "initContainers": [download()] if init is None else init,
        "containers": [PAUSE] if main is None else main,
        "volumes": [{"name": "models", "hostPath": {"path": host}}, *(volumes or [])],
    }


def read(template: Spec, **metadata: Any) -> LoaderTemplate | None:
    body = {"spec": {"template": {"metadata": metadata, "spec": template}}}
    return read_loader(convert(body, DaemonSet))


def loaded(template: Spec, **metadata: Any) -> LoaderTemplate:
    loader = read(template, **metadata)
    assert loader is not None
    return loader


def held(loader: LoaderTemplate) -> list[tuple[str, str | None]]:
    return [(model.path, model.model) for model in loader.models]


class TestTheArticle:
    def test_its_daemonset_is_a_loader(self) -> None:
        loader = loaded(spec())
        assert loader.directories == ("/mnt/models",)
        assert held(loader) == [
            ("/mnt/models/llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct")
        ]
        assert (loader.opaque, loader.ready_means_done) == (False, True)
        assert loader.models[0].read_from == ("initContainers[0].args[0]",)

    def test_the_shipped_example_is_a_loader(self) -> None:
        documents = yaml.safe_load_all((EXAMPLES / "node-cache.yaml").read_text())
        (body,) = (d for d in documents if d["kind"] == "DaemonSet")
        loader = read_loader(convert(body, DaemonSet))
        assert loader == LoaderTemplate(
            directories=("/var/lib/models",), models=loader.models if loader else ()
        )
        assert held(loader) == [
            ("/var/lib/models/llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct")
        ]


@pytest.mark.parametrize(
    ("container", "template", "expected"),
    [
        pytest.param(
            download(
                "hf download a/b --local-dir /models/b; hf download a/c --local-dir /models/c"
            ),
            {},
            [("/mnt/models/b", "a/b"), ("/mnt/models/c", "a/c")],
            id="two models",
        ),
        pytest.param(
            download("hf download a/b", env=[{"name": "HF_HOME", "value": "/models"}]),
            {},
            [("/mnt/models/hub/models--a--b", "a/b")],
            id="a hub cache",
        ),
        pytest.param(
            download(
                "hf download a/b --local-dir /m/b", volumeMounts=[{**MODELS, "mountPath": "/m"}]
            ),
            {},
            [("/mnt/models/b", "a/b")],
            id="another mount path",
        ),
        pytest.param(
            download(
                "hf download a/b --local-dir /models/b", volumeMounts=[{**MODELS, "subPath": "v1"}]
            ),
            {},
            [("/mnt/models/v1/b", "a/b")],
            id="a subPath",
        ),
        pytest.param(
            download("cd /models && hf download a/b --local-dir b"),
            {"host": "/data/models/"},
            [("/data/models/b", "a/b")],
            id="a host path with a slash at its end",
        ),
        pytest.param(
            download(
                "cp -r /nfs/llama /models/",
                volumeMounts=[MODELS, {"name": "nfs", "mountPath": "/nfs", "readOnly": True}],
            ),
            {"volumes": [{"name": "nfs", "persistentVolumeClaim": {"claimName": "store"}}]},
            [("/mnt/models/llama", "/nfs/llama")],
            id="copied from a shared volume",
        ),
        pytest.param(
            {
                "image": "amazon/aws-cli",
                "args": ["s3", "sync", "s3://b/x", "/models/x"],
                "volumeMounts": [MODELS],
            },
            {},
            [("/mnt/models/x", "s3://b/x")],
            id="an image that is a tool",
        ),
        pytest.param(
            download(
                "hf download a/b --local-dir /host/mnt/cache/b",
                volumeMounts=[{**MODELS, "mountPath": "/host"}],
            ),
            {"host": "/"},
            [("/mnt/cache/b", "a/b")],
            id="the whole host mounted",
        ),
        pytest.param(
            download("hf download a/b --local-dir /models/b"),
            {"host": "/dev/shm/models"},
            [("/dev/shm/models/b", "a/b")],
            id="the node's memory",
        ),
    ],
)
def test_a_loader_is_known_by_what_it_fetches_onto_the_host(
    container: Spec, template: Spec, expected: list[tuple[str, str]]
) -> None:
    loader = loaded(spec(init=[container], **template))
    assert held(loader) == expected
    assert not loader.opaque


def test_one_who_mounts_the_whole_host_owns_only_where_its_models_lie() -> None:
    script = "hf download a/b --local-dir /host/mnt/cache/b"
    container = download(script, volumeMounts=[{**MODELS, "mountPath": "/host"}])
    assert loaded(spec(init=[container], host="/")).directories == ("/mnt/cache",)


def test_nobody_owns_a_whole_node() -> None:
    container = download("cp -r /a /host/x", volumeMounts=[{**MODELS, "mountPath": "/host"}])
    assert read(spec(init=[container], host="/")) is None


def py(place: str) -> str:
    """Return a program that downloads what a variable of its own says."""
    program = (
        "import os, sys; from huggingface_hub import snapshot_download; m = sys.argv[1]; "
        f"snapshot_download(m, {place})"
    )
    return f'python3 -c "{program}"'


FROM_CONFIG = {"valueFrom": {"configMapKeyRef": {"name": "settings", "key": "model"}}}
UNREADABLE = {
    "a variable": "hf download $MODEL --local-dir /models/$MODEL",
    "a variable, as one word": "hf download $MODEL --local-dir=/models/$MODEL",
    "a variable of a variable": 'D="/models/${MODEL##*/}"; hf download $MODEL --local-dir "$D"',
    "a variable of the env": "D=/models/; D+=$MODEL; hf download $MODEL --local-dir $D",
    "a command's output": "hf download $(cat /cfg/m) --local-dir /models/$(cat /cfg/m)",
    "a working directory": "cd /models && git clone https://huggingface.co/$MODEL",
    "git's own option": "git -C /models clone $MODEL",
    "a staging directory": "hf download a/b --local-dir /models/.t && mv /models/.t /models/$MODEL",
    "a staging place": "hf download a/b --local-dir /tmp/m; mv /tmp/m /models/$MODEL",
    "a cache": "hf download $MODEL --cache-dir /models",
    "the cache of the environment": "export HF_HOME=/models; hf download $MODEL",
    "lines of a file": "while read m; do hf download $m --local-dir /models/$m; done < /cfg/list",
    "a file's content": "for m in $(cat /cfg/l); do hf download $m --local-dir /models/$m; done",
    "a glob": "for f in /cfg/*; do hf download $(cat $f) --local-dir /models/$(basename $f); done",
    "xargs": "echo a/b c/d | xargs -n1 -I{} hf download {} --local-dir /models/{}",
    "xargs with its marker": "xargs -I % aws s3 sync s3://b/% /models/% < /cfg/list",
    "xargs without a marker": "cd /models; cat /cfg/list | xargs -n 1 git clone",
    "xargs and a shell": "cat /l | xargs -I{} sh -c 'hf download {} --local-dir /models/{}'",
    "an archive from a pipe": "mkdir /models/x; curl -L http://h/x.tgz | tar xz -C /models/x",
    "an archive that is unpacked twice": "curl -L http://h/x | zstd -d | tar x -C /models",
    "an archive from a bucket": "aws s3 cp s3://b/x.tar - | tar x -C /models",
    "an archive in the directory": "cd /models && wget -qO- http://h/x.tgz | tar xz",
    "an archive in a file": "curl -o /tmp/x.tgz http://h/x.tgz; tar xzf /tmp/x.tgz -C /models",
    "an archive of another kind": "wget -O /tmp/x.zip http://h/x; unzip /tmp/x.zip -d /models",
    "a bucket": "aws s3 sync s3://b/$MODEL /models/$MODEL",
    "a whole bucket": "aws s3 sync s3://b/models /models",
    "a bucket's files": "s5cmd cp 's3://b/*' /models/",
    "a file of the web": "curl -L -o /models/$MODEL.gguf http://h/$MODEL.gguf",
    "a file with the server's name": "cd /models; curl -LOJ http://h/x",
    "a mirror": "wget -r -np -P /models http://h/models/",
    "python": py("local_dir='/models/' + os.environ['M']"),
    "python with a path": py("local_dir=os.path.join('/models', m)"),
    "python with a format": py("local_dir=f'/models/{m}'"),
    "python with a Path": py("local_dir=Path('/models') / m"),
    "python with a cache": py("cache_dir='/models'"),
}  # fmt: skip


@pytest.mark.parametrize("script", UNREADABLE.values(), ids=UNREADABLE)
def test_a_loader_whose_target_cannot_be_read_owns_the_directory(script: str) -> None:
    loader = loaded(spec(init=[download(script, env=[{"name": "MODEL", **FROM_CONFIG}])]))
    assert loader == LoaderTemplate(directories=("/mnt/models",), opaque=True)


def test_kubernetes_variables_from_elsewhere_are_no_different() -> None:
    words = ["hf", "download", "$(MODEL)", "--local-dir", "/models/$(MODEL)"]
    container = download(command=words, args=[], envFrom=[{"configMapRef": {"name": "settings"}}])
    assert loaded(spec(init=[container])) == LoaderTemplate(
        directories=("/mnt/models",), opaque=True
    )


def test_on_a_whole_host_an_unreadable_target_owns_only_what_it_surely_lies_in() -> None:
    script = "hf download $MODEL --local-dir /host/mnt/cache/$MODEL"
    container = download(script, volumeMounts=[{**MODELS, "mountPath": "/host"}])
    loader = loaded(spec(init=[container], host="/"))
    assert (loader.directories, loader.opaque) == (("/mnt/cache",), True)


class TestWhatIsNotDeclared:
    """What a script puts under names that it does not show is ``assumed`` at most."""

    @pytest.mark.parametrize(
        "more",
        [
            "cp -r /baked/* /models/",
            "cp -r /baked/. /models/",
            "cp -r /baked/* /models/others/",
            "rsync -a /baked/ /models/",
            "aws s3 sync s3://b /models",
            "gsutil -m rsync -r gs://b/all /models",
            "for f in /baked/*; do cp -r $f /models/$(basename $f); done",
        ],
    )
    def test_what_has_no_name(self, more: str) -> None:
        loader = loaded(spec(init=[download(f"hf download a/b --local-dir /models/b; {more}")]))
        assert held(loader) == [("/mnt/models/b", "a/b")]
        assert loader.opaque

    @pytest.mark.parametrize(
        "script",
        [
            "s5cmd cp 's3://b/llama/*' /models/llama/",
            "cp -r /nfs/llama/* /models/llama",
            "aws s3 sync s3://b/v1 /models/llama",
            "hf download a/b --local-dir /tmp/x && cp -r /tmp/x/* /models/llama/",
        ],
    )
    def test_a_directory_that_is_filled_with_one_of_its_name_is_declared(self, script: str) -> None:
        loader = loaded(spec(init=[download(script)]))
        assert [model.path for model in loader.models] == ["/mnt/models/llama"]
        assert not loader.opaque

    def test_a_model_right_in_the_mount_is_declared_there(self) -> None:
        loader = loaded(spec(init=[download("hf download a/b --local-dir /models")]))
        assert held(loader) == [("/mnt/models", "a/b")]

    def test_files_right_in_the_mount_are_declared_by_their_names(self) -> None:
        script = "hf download a/b q4.gguf sub/q8.gguf --local-dir /models"
        loader = loaded(spec(init=[download(script)]))
        assert held(loader) == [("/mnt/models/q4.gguf", "a/b"), ("/mnt/models/sub/q8.gguf", "a/b")]

    @pytest.mark.parametrize(
        "script",
        [
            "hf download a/b --local-dir /models/b; rm -rf /models/b",
            "hf download a/b --local-dir /models/b; rm -r /models/*",
            "hf download a/b --local-dir /models/x/b; cd /models && rm -rf x",
            "aws s3 sync --dryrun s3://b/b /models/b",
            "hf download --dry-run a/b --local-dir /models/b",
        ],
    )
    def test_what_is_not_there_in_the_end(self, script: str) -> None:
        assert read(spec(init=[download(script)])) is None


def test_a_hook_is_done_before_its_pod_is_ready() -> None:
    ran = {
        "postStart": {"exec": {"command": ["hf", "download", "a/b", "--local-dir", "/models/b"]}}
    }
    main = {**PAUSE, "volumeMounts": [MODELS], "lifecycle": ran}
    loader = loaded(spec(init=[], main=[main]))
    assert held(loader) == [("/mnt/models/b", "a/b")]
    assert loader.ready_means_done


NOT_WRITTEN = {
    "read-only mount": spec(init=[download(volumeMounts=[{**MODELS, "readOnly": True}])]),
    "not mounted": spec(init=[download("hf download a/b --local-dir /elsewhere/b")]),
    "emptyDir": {**spec(), "volumes": [{"name": "models", "emptyDir": {}}]},
    "claim": {
        **spec(),
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "c"}}],
    },
    "unknown place": spec(init=[download("hf download a/b --local-dir $WHERE")]),
    "a server": spec(
        init=[],
        main=[
            {
                "image": "vllm/vllm-openai",
                "args": ["--model", "/models/x"],
                "volumeMounts": [MODELS],
            }
        ],
    ),
    "no containers": spec(init=[], main=[]),
}


@pytest.mark.parametrize("template", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_what_writes_no_model_to_the_host_is_no_loader(template: Spec) -> None:
    assert read(template) is None


def agent(
    name: str,
    hosts: dict[str, str],
    *,
    script: str = "",
    init: str = "",
    **container: Any,
) -> Any:
    """Build a node agent with host directories; its containers run scripts, or their image."""
    mounts = [{"name": f"v{i}", "mountPath": path} for i, path in enumerate(hosts.values())]
    volumes = [{"name": f"v{i}", "hostPath": {"path": path}} for i, path in enumerate(hosts)]
    main: Spec = {"name": "agent", "image": f"example/{name}", "volumeMounts": mounts, **container}
    if script:
        main |= {"command": ["sh", "-c", script]}
    before = [{**main, "command": ["sh", "-ec", init]}] if init else []
    body = {"initContainers": before, "containers": [main], "volumes": volumes}
    return pytest.param(body, id=name)


CNI = {"/opt/cni/bin": "/hostbin", "/etc/cni/net.d": "/host/etc/cni/net.d"}
KUBELET = {"/var/lib/kubelet": "/var/lib/kubelet", "/dev": "/dev"}


@pytest.mark.parametrize(
    "template",
    [
        agent(
            "calico-node",
            {**CNI, "/var/lib/calico": "/var/lib/calico"},
            init="/opt/cni/bin/install",
        ),
        agent(
            "cilium",
            {**CNI, "/sys/fs/cgroup": "/run/cilium/cgroupv2"},
            init="cp /usr/bin/cilium-mount /hostbin/cilium-mount\n"
            "nsenter --cgroup=/hostproc/1/ns/cgroup /hostbin/cilium-mount /x\n"
            "rm /hostbin/cilium-mount",
        ),
        agent("flannel", CNI, init="cp -f /flannel /hostbin/flannel"),
        agent(
            "flannel-conf", CNI, init="cp -f /etc/kube-flannel/cni-conf.json /host/etc/cni/net.d/"
        ),
        agent("multus", {"/opt": "/host/opt"}, init="cp /usr/src/multus /host/opt/cni/bin/multus"),
        agent("cni-plugins", CNI, init="curl -sL https://h/cni.tgz | tar xz -C /hostbin"),
        agent("cni-wget", CNI, init="wget -O /hostbin/loopback https://h/loopback"),
        agent("fluent-bit", {"/var/log": "/var/log", "/var/lib/docker/containers": "/c"}),
        agent("promtail", {"/var/log/pods": "/var/log/pods", "/run/promtail": "/run/promtail"}),
        agent("vector", {"/var/lib/vector": "/vector"}, args=["--config-dir", "/etc/vector/"]),
        agent("nvidia-device-plugin", {"/var/lib/kubelet/device-plugins": "/dp"}),
        agent("nvidia-driver-installer", {"/home/kubernetes/bin/nvidia": "/nv", "/dev": "/dev"}),
        agent("nvidia-toolkit", {"/usr/local/nvidia": "/nv", "/run/nvidia": "/run/nvidia"}),
        agent("node-exporter", {"/": "/host", "/proc": "/host/proc"}, args=["--path.rootfs=/host"]),
        agent(
            "kube-proxy", {"/run/xtables.lock": "/run/xtables.lock", "/lib/modules": "/lib/modules"}
        ),
        agent("csi-node", {**KUBELET, "/etc/x": "/etc/x"}, args=["--endpoint=$(CSI_ENDPOINT)"]),
        agent("csi-registrar", {"/var/lib/kubelet/plugins_registry": "/registration"}),
        agent("node-problem-detector", {"/var/log": "/var/log", "/dev/kmsg": "/dev/kmsg"}),
        agent(
            "image-prepuller",
            {"/run/containerd": "/run/containerd"},
            init="crictl pull vllm/vllm-openai:v0.11.0; ctr -n k8s.io images pull docker.io/x/y",
            script="sleep infinity",
        ),
        agent("sysctl", {"/": "/host"}, script="cp /config/99.conf /host/etc/sysctl.d/; sleep inf"),
        agent("registry-mirror", {"/etc/containerd": "/c"}, init="cp /conf/hosts.toml /c/certs.d/"),
        agent(
            "credential-provider", {"/": "/h"}, init="curl -Lo /h/usr/local/bin/ecr https://h/ecr"
        ),
        agent("falco", {"/boot": "/host/boot", "/usr": "/host/usr", "/etc": "/host/etc"}),
        agent(
            "local-path", {"/opt/local-path": "/data"}, script="mkdir -p /data && sleep infinity"
        ),
        agent("cleaner", {"/mnt/models": "/models"}, script="rm -rf /models/tmp; sleep 3600"),
        agent(
            "smart", {"/var/lib/models": "/m"}, script="while true; do du -sh /m; sleep 60; done"
        ),
        agent("backup", {"/mnt/models": "/m"}, script="aws s3 sync /m s3://backup"),
        agent("plugins", {"/opt/x": "/x"}, init="tar xf /plugins.tar -C /x"),
        agent("plugins-after-health", {"/opt/x": "/x"}, init="curl h/ready; tar xf /p.tar -C /x"),
        agent("configured", {"/opt/x": "/x"}, init="cp /config/$NAME /x/$NAME"),
        agent("any-cni", CNI, init="for p in $PLUGINS; do curl -o /hostbin/$p h/$p; done"),
        agent("log-rotation", {"/mnt/logs": "/l"}, script="ls /l | xargs -n1 -I{} mv {} /l/old/{}"),
    ],
)
def test_a_node_agent_is_no_loader(template: Spec) -> None:
    assert read(template) is None


PROBE: Any = {"exec": {"command": ["test", "-f", "/models/.done"]}}


class TestReadiness:
    """A pod that is Ready has run its init containers; of its main ones a probe has to tell."""

    def done(self, **template: Any) -> bool:
        return loaded(spec(**template)).ready_means_done

    def test_an_init_container_has_run_before_the_pod_is_ready(self) -> None:
        assert self.done()

    def test_a_main_container_may_still_fetch(self) -> None:
        assert not self.done(init=[], main=[download(f"{ARTICLE}; sleep infinity")])

    @pytest.mark.parametrize("probe", ["readinessProbe", "startupProbe"])
    def test_a_main_container_with_a_probe_is_believed(self, probe: str) -> None:
        assert self.done(init=[], main=[download(ARTICLE, **{probe: PROBE})])

    def test_a_liveness_probe_tells_nothing(self) -> None:
        assert not self.done(init=[], main=[download(livenessProbe=PROBE)])

    def test_a_sidecar_may_still_fetch(self) -> None:
        assert not self.done(init=[download(restartPolicy="Always")])

    def test_a_sidecar_with_a_probe_is_believed(self) -> None:
        assert self.done(init=[download(restartPolicy="Always", startupProbe=PROBE)])

    def test_a_main_container_that_only_waits_changes_nothing(self) -> None:
        assert self.done(main=[download("sleep infinity")])

    def test_one_that_fetches_more_does(self) -> None:
        more = download("hf download a/b --local-dir /models/b; sleep infinity")
        assert not self.done(main=[more])

    def test_one_that_cannot_be_read_does(self) -> None:
        loader = loaded(spec(main=[download("/refresh.sh")]))
        assert (loader.ready_means_done, loader.opaque) == (False, True)

    def test_one_that_cannot_write_does_not(self) -> None:
        reader = download("/serve.sh", volumeMounts=[{**MODELS, "readOnly": True}])
        loader = loaded(spec(main=[reader]))
        assert (loader.ready_means_done, loader.opaque) == (True, False)


class TestOpaque:
    @pytest.mark.parametrize(
        "more", ["/scripts/more.sh", "hf download $X --local-dir $Y", "curl http://h/x.tar | tar x"]
    )
    def test_a_loader_that_may_load_more_says_so(self, more: str) -> None:
        loader = loaded(spec(init=[download(f"{ARTICLE}\n{more}")]))
        assert loader.opaque
        assert len(loader.models) == 1

    def test_a_script_that_cannot_be_read_at_all_makes_no_loader(self) -> None:
        assert read(spec(init=[download("python /scripts/load.py")])) is None


OPAQUE = spec(init=[download("python /scripts/load.py")])
LABEL = {"modelcache.dev/loader": "true"}


class TestMarks:
    """``modelcache.dev/loader`` and ``modelcache.dev/models`` speak for what cannot be read."""

    @pytest.mark.parametrize("value", ["true", "True"])
    def test_the_label_makes_a_loader(self, value: str) -> None:
        loader = loaded(OPAQUE, labels={"modelcache.dev/loader": value})
        assert loader == LoaderTemplate(directories=("/mnt/models",), opaque=True)

    def test_the_label_takes_one_out(self) -> None:
        assert read(spec(), labels={"modelcache.dev/loader": "false"}) is None

    def test_the_label_needs_a_host_directory(self) -> None:
        assert read({"containers": [PAUSE]}, labels=LABEL) is None

    def test_system_directories_beside_the_cache_are_not_owned(self) -> None:
        system = ["/", "/dev", "/var/log", "/var/lib/kubelet/pods", "/etc/ssl", "/run/containerd"]
        mounts = [{"name": f"s{i}", "mountPath": f"/s{i}"} for i in range(len(system))]
        volumes = [{"name": f"s{i}", "hostPath": {"path": path}} for i, path in enumerate(system)]
        container = download("/load.sh", volumeMounts=[MODELS, *mounts])
        loader = loaded(spec(init=[container], volumes=volumes), labels=LABEL)
        assert loader.directories == ("/mnt/models",)

    def test_the_label_keeps_what_the_script_says(self) -> None:
        loader = loaded(spec(), labels=LABEL)
        assert len(loader.models) == 1
        assert not loader.opaque

    @pytest.mark.parametrize("path", ["/mnt/models/llama", "/models/llama", "/models/llama/"])
    def test_the_annotation_names_paths_of_the_node_or_of_the_container(self, path: str) -> None:
        loader = loaded(OPAQUE, annotations={"modelcache.dev/models": f"\n  {path}\n"})
        assert held(loader) == [("/mnt/models/llama", None)]
        assert not loader.opaque
        assert loader.models[0].read_from == ("metadata.annotations[modelcache.dev/models]",)

    def test_the_annotation_names_one_path_a_line(self) -> None:
        lines = "/models/a\n\nnot-a-path\n/models/b\n/elsewhere/c"
        loader = loaded(OPAQUE, annotations={"modelcache.dev/models": lines})
        assert held(loader) == [("/mnt/models/a", None), ("/mnt/models/b", None)]

    def test_an_annotation_that_names_nothing_leaves_the_loader_opaque(self) -> None:
        loader = loaded(OPAQUE, annotations={"modelcache.dev/models": "llama"})
        assert (loader.models, loader.opaque) == ((), True)


COMMANDS = st.lists(
    st.sampled_from(
        ["bash", "-c", "hf download a/b --local-dir /models/b", "cp", "-r", "/x", "/models", "$(X)"]
    )
    | st.text(max_size=12),
    max_size=5,
)
PATHS = st.sampled_from(
    ["/", "/mnt/models", "/models", "/var", "relative", "", "/dev/shm", "/a/../b"]
)


@given(
    command=COMMANDS,
    args=COMMANDS,
    host=PATHS,
    path=PATHS,
    label=st.sampled_from(["", "true", "false"]),
    declared=st.text(max_size=20),
)
def test_no_daemonset_is_refused(
    *, command: list[str], args: list[str], host: str, path: str, label: str, declared: str
) -> None:
    container = {"command": command, "args": args, "volumeMounts": [{**MODELS, "mountPath": path}]}
    marks = {"modelcache.dev/models": declared}
    loader = read(
        spec(init=[container], host=host),
        labels={"modelcache.dev/loader": label},
        annotations=marks,
    )
    assert loader is None or loader.directories
    if loader is not None:
        assert all(d.startswith("/") and d != "/" for d in loader.directories)
        assert all(model.path.startswith("/") for model in loader.models)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ([], ["loader", "run", "--catalog", "/c.yaml", "--directory", "/models"]),
        (["model-cache-extender"], ["loader", "run", "--directory=/models"]),
        (["python", "-m", "extender", "loader", "run", "--directory", "/models"], []),
        (["sh", "-c", "exec model-cache-extender loader run --directory /models"], []),
    ],
)
def test_our_own_loader_is_known_by_what_it_runs_and_reports(
    command: list[str], args: list[str]
) -> None:
    image = "model-cache-extender:1"
    container = {"image": image, "command": command, "args": args, "volumeMounts": [MODELS]}
    loader = loaded(spec(init=[], main=[container]))
    assert loader == LoaderTemplate(
        directories=("/mnt/models",), ready_means_done=False, init_means_done=False, reports=True
    )


def test_another_command_of_ours_is_no_loader() -> None:
    args = ["loader", "gc", "/models"]
    container = {"image": "model-cache-extender:1", "args": args, "volumeMounts": [MODELS]}
    assert read(spec(init=[], main=[container])) is None
