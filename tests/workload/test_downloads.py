"""Download commands: which directory holds which model once they have run.

Each row is a container's script as people write it. The tools' own references:
https://huggingface.co/docs/huggingface_hub/guides/cli,
https://docs.aws.amazon.com/cli/latest/reference/s3/, https://github.com/peak/s5cmd,
https://cloud.google.com/storage/docs/gsutil, https://rclone.org/commands/rclone_copy/,
https://learn.microsoft.com/azure/storage/common/storage-use-azcopy-v10,
https://min.io/docs/minio/linux/reference/minio-mc.html, https://git-scm.com/docs/git-clone,
https://www.gnu.org/software/wget/manual/wget.html, https://curl.se/docs/manpage.html,
https://download.samba.org/pub/rsync/rsync.1, https://www.gnu.org/software/coreutils/manual/
"""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.decode import convert
from extender.kube.objects import Container, ObjectMeta
from extender.workload.commands import command_line
from extender.workload.downloads import MOST_FILLS, Fills, downloads
from extender.workload.expand import environment

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
DIR = "/models/llama"
HUB = "models--meta-llama--Llama-3.1-8B-Instruct"
Filled = list[tuple[str | None, str | None]]


def read(container: dict[str, Any]) -> Fills:
    read_container = convert(
        {"volumeMounts": [{"name": "models", "mountPath": "/models"}], **container}, Container
    )
    variables = environment(read_container, ObjectMeta())
    line = command_line(read_container, "containers[0]", variables)
    return downloads(line, image=read_container.image)


def script(text: str, **container: Any) -> Fills:
    return read({"command": ["bash", "-c"], "args": [dedent(text)], **container})


def filled(fills: Fills) -> Filled:
    """Return what is where: directory (or file) and source, in the order of the script."""
    return [(fill.destination, fill.source) for fill in fills.fills]


def env(**variables: str) -> dict[str, Any]:
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


HUGGING_FACE = {
    f"hf download {LLAMA} --local-dir {DIR}": DIR,
    f"hf download {LLAMA} --local-dir={DIR}/": DIR,
    f"hf download --local-dir {DIR} {LLAMA}": DIR,
    f"hf download {LLAMA} config.json model.safetensors --local-dir {DIR}": DIR,
    f"huggingface-cli download {LLAMA} --local-dir {DIR} --local-dir-use-symlinks False": DIR,
    f"hf download {LLAMA} --include '*.safetensors' --exclude 'x' --local-dir {DIR}": DIR,
    f"hf download {LLAMA} --token $HF_TOKEN --local-dir {DIR} --max-workers 8 --quiet": DIR,
    f"/opt/venv/bin/hf download {LLAMA} --local-dir {DIR}": DIR,
    f"timeout 3600 hf download {LLAMA} --local-dir {DIR}": DIR,
    f"HF_HUB_ENABLE_HF_TRANSFER=1 hf download {LLAMA} --local-dir {DIR}": DIR,
    f"env HF_XET_HIGH_PERFORMANCE=1 hf download {LLAMA} --local-dir {DIR}": DIR,
    f"hf download {LLAMA}": f"/root/.cache/huggingface/hub/{HUB}",
    f"hf download {LLAMA} --cache-dir /models/hub": f"/models/hub/{HUB}",
    f"HF_HOME=/models/hf hf download {LLAMA}": f"/models/hf/hub/{HUB}",
    f"export HF_HOME=/models; hf download {LLAMA}": f"/models/hub/{HUB}",
    f"export HF_HUB_CACHE=/models HF_HOME=/x; hf download {LLAMA}": f"/models/{HUB}",
    f"env HF_HOME=/models hf download {LLAMA}": f"/models/hub/{HUB}",
    f"XDG_CACHE_HOME=/models hf download {LLAMA}": f"/models/huggingface/hub/{HUB}",
    f"cd /models && hf download {LLAMA} --local-dir llama": DIR,
    f"cd /models/x && hf download {LLAMA} --local-dir ../llama": DIR,
    f"hf download {LLAMA} --local-dir $UNSET/llama": None,
    f"hf download {LLAMA} --local-dir llama": None,
    f"hf download {LLAMA} --local-dir ~/llama": None,
}  # fmt: skip

CALL = f"snapshot_download('{LLAMA}', local_dir='{DIR}')"
IMPORT = "from huggingface_hub import snapshot_download"
PYTHON = {
    f'python -c "{IMPORT}; {CALL}"': DIR,
    f'python -c "{IMPORT}; {CALL.replace("(", "(repo_id=")}"': DIR,
    f'python3 -c "import huggingface_hub as hub; hub.{CALL}"': DIR,
    f'python3.12 -uc "{IMPORT} as get; {CALL.replace("snapshot_download", "get")}"': DIR,
    f"python3 - <<'EOF'\n{IMPORT}\n{CALL}\nEOF": DIR,
    f"python <<EOF\n{IMPORT}\n{CALL.replace(DIR, '${D:-/models}/llama')}\nEOF": DIR,
    f'D={DIR}; python -c "{CALL.replace(DIR, "$D")}"': DIR,
    f'export D={DIR}; python -c "{CALL.replace(repr(DIR), "os.environ[`D`]")}"'.replace(
        "`D`", "'D'"
    ): DIR,
    f'cd /models && python -c "{CALL.replace(DIR, "llama")}"': DIR,
    f'bash -c "python -c \\"{CALL}\\""': DIR,
    f"python -c \"snapshot_download('{LLAMA}', cache_dir='/models')\"": f"/models/{HUB}",
    f"cd /models; python -c \"snapshot_download('{LLAMA}', cache_dir='x')\"": f"/models/x/{HUB}",
    f"HF_HOME=/models python -c \"snapshot_download('{LLAMA}')\"": f"/models/hub/{HUB}",
    "python -c \"import os; os.environ['HF_HOME'] = '/models'; "
    f"snapshot_download('{LLAMA}')\"": f"/models/hub/{HUB}",
    f"python -c \"snapshot_download('{LLAMA}', local_dir=unknown)\"": None,
}


@pytest.mark.parametrize(("text", "directory"), [*HUGGING_FACE.items(), *PYTHON.items()])
def test_a_hub_download_fills(text: str, directory: str | None) -> None:
    fills = script(text)
    assert filled(fills) == [(directory, LLAMA)]
    assert not fills.opaque


def test_save_pretrained_fills_a_directory() -> None:
    program = f"m = AutoModel.from_pretrained('{LLAMA}'); m.save_pretrained('{DIR}')"
    assert filled(script(f'python -c "{program}"'))[-1] == (DIR, None)


def test_the_revision_is_kept() -> None:
    text = f"hf download {LLAMA} --revision v1 --local-dir {DIR}"
    text += f"; python -c \"snapshot_download('{LLAMA}', revision='v2', local_dir='{DIR}')\""
    text += f"; git clone -b v3 https://huggingface.co/{LLAMA} {DIR}"
    assert [fill.revision for fill in script(text).fills] == ["v1", "v2", "v3"]


S3, GS, AZ = "s3://b/llama", "gs://b/llama", "https://a.blob.core.windows.net/c/llama"
BUCKETS = {
    f"aws s3 cp --recursive {S3} {DIR}": (DIR, S3),
    f"aws s3 cp {S3}/ {DIR}/ --recursive --no-sign-request": (DIR, f"{S3}/"),
    f"aws s3 sync {S3} {DIR}": (DIR, S3),
    f"aws s3 sync --exclude '*' --include '*.json' {S3} {DIR} --only-show-errors": (DIR, S3),
    f"aws --endpoint-url http://minio:9000 s3 sync {S3} {DIR}": (DIR, S3),
    f"aws s3 sync {S3} {DIR} --cli-read-timeout 0": (DIR, S3),
    f"aws s3 sync {S3} {DIR} --some-new-option 7": (DIR, S3),
    f"aws s3 cp {S3}.gguf {DIR}.gguf": (f"{DIR}.gguf", f"{S3}.gguf"),
    f"aws s3 cp {S3}.gguf /models": ("/models/llama.gguf", f"{S3}.gguf"),
    f"aws s3 cp {S3}.gguf /models/": ("/models/llama.gguf", f"{S3}.gguf"),
    f"cd /models; aws s3 cp {S3}.gguf .": ("/models/llama.gguf", f"{S3}.gguf"),
    f"s5cmd cp '{S3}/*' {DIR}/": (DIR, f"{S3}/*"),
    f"s5cmd --no-sign-request --numworkers 64 sync {S3}/ {DIR}": (DIR, f"{S3}/"),
    f"gsutil -m cp -r {GS}/* {DIR}": (DIR, f"{GS}/*"),
    f"gsutil -m cp -r {GS} /models": (DIR, GS),
    f"gsutil -m cp -r {GS} /models/": (DIR, GS),
    f"gsutil -m rsync -r {GS} {DIR}": (DIR, GS),
    f"gsutil -o GSUtil:parallel_process_count=1 -m rsync -r {GS} {DIR}": (DIR, GS),
    f"gcloud storage cp -r {GS} /models/": (DIR, GS),
    f"gcloud storage cp --recursive '{GS}/*' {DIR} --project p": (DIR, f"{GS}/*"),
    f"gcloud storage rsync -r {GS} {DIR}": (DIR, GS),
    f"rclone copy remote:b/llama {DIR} --transfers 16 -P": (DIR, "remote:b/llama"),
    f"rclone sync :s3:b/llama {DIR} --s3-provider AWS --s3-env-auth": (DIR, ":s3:b/llama"),
    "rclone --config /x copy r:b/x.gguf /models": ("/models/x.gguf", "r:b/x.gguf"),
    f"rclone copyto r:b/x.gguf {DIR}.gguf": (f"{DIR}.gguf", "r:b/x.gguf"),
    f"azcopy copy '{AZ}?sv=x&sig=y' /models --recursive": (DIR, f"{AZ}?sv=x&sig=y"),
    f"azcopy copy '{AZ}/*' {DIR} --recursive=true": (DIR, f"{AZ}/*"),
    f"azcopy sync {AZ} {DIR}": (DIR, AZ),
    f"mc cp --recursive minio/b/llama/ {DIR}/": (DIR, "minio/b/llama/"),
    f"mc mirror --overwrite minio/b/llama {DIR}": (DIR, "minio/b/llama"),
}  # fmt: skip

WEB = "https://host/x/llama.gguf"
OTHERS = {
    "git clone https://huggingface.co/org/llama": (DIR, "https://huggingface.co/org/llama"),
    f"git clone https://hf.co/{LLAMA} {DIR}": (DIR, f"https://hf.co/{LLAMA}"),
    "git lfs install && git clone --depth 1 https://host/llama.git": (DIR, "https://host/llama.git"),
    f"git lfs clone https://host/llama {DIR}": (DIR, "https://host/llama"),
    "git -C /models clone https://host/llama.git": (DIR, "https://host/llama.git"),
    f"git clone https://h/m {DIR} && cd {DIR} && git lfs pull": (DIR, "https://h/m"),
    f"wget {WEB}": ("/models/llama.gguf", WEB),
    f"wget -P {DIR} {WEB}": (f"{DIR}/llama.gguf", WEB),
    f"wget -P{DIR} {WEB}?download=true": (f"{DIR}/llama.gguf", f"{WEB}?download=true"),
    f"wget -q --directory-prefix={DIR} --header 'A: x' {WEB}": (f"{DIR}/llama.gguf", WEB),
    f"wget -O {DIR}.gguf {WEB}": (f"{DIR}.gguf", WEB),
    f"wget -qO {DIR}.gguf {WEB}": (f"{DIR}.gguf", WEB),
    f"wget -c -nc -O{DIR}.gguf {WEB}": (f"{DIR}.gguf", WEB),
    f"wget -O - {WEB} > {DIR}.gguf": (f"{DIR}.gguf", WEB),
    f"wget -r -np -P {DIR} https://host/x/": (None, "https://host/x/"),
    f"curl -LO {WEB}": ("/models/llama.gguf", WEB),
    f"curl -L -o {DIR}.gguf {WEB}": (f"{DIR}.gguf", WEB),
    f"curl -fsSLo {DIR}.gguf {WEB}": (f"{DIR}.gguf", WEB),
    f"curl -L --output {DIR}.gguf --retry 5 {WEB}": (f"{DIR}.gguf", WEB),
    f"curl -L {WEB} --output-dir {DIR} --create-dirs -O": (f"{DIR}/llama.gguf", WEB),
    f"curl --url {WEB} -o{DIR}.gguf -H 'Authorization: Bearer x'": (f"{DIR}.gguf", WEB),
    f"curl -L {WEB} > {DIR}.gguf 2>/dev/null": (f"{DIR}.gguf", WEB),
    f"curl -OJL {WEB}": (None, WEB),
    f"cp -r /nfs/llama {DIR}": (DIR, "/nfs/llama"),
    "cp -r /nfs/llama /models": (DIR, "/nfs/llama"),
    f"cp -a /nfs/llama/. {DIR}/": (DIR, "/nfs/llama"),
    f"cp -r /nfs/llama/* {DIR}": (DIR, "/nfs/llama"),
    "cp -rT /nfs/llama /models/x": ("/models/x", "/nfs/llama"),
    "cp -rt /models /nfs/llama": (DIR, "/nfs/llama"),
    "cp -r --target-directory=/models /nfs/llama": (DIR, "/nfs/llama"),
    "mkdir -p /models/hub && cp -r /nfs/llama /models/hub": ("/models/hub/llama", "/nfs/llama"),
    f"cd /nfs && cp -r llama {DIR}": (DIR, "/nfs/llama"),
    f"rsync -a --info=progress2 /nfs/llama/ {DIR}/": (DIR, "/nfs/llama"),
    "rsync -a /nfs/llama /models": (DIR, "/nfs/llama"),
    f"rsync -avz -e 'ssh -p 22' store@host:/x/llama/ {DIR}": (DIR, "store@host:/x/llama/"),
    f"modelscope download --model Qwen/Qwen3-8B --local_dir {DIR}": (DIR, "Qwen/Qwen3-8B"),
    f"modelscope download --model=Qwen/Qwen3-8B --local_dir={DIR}": (DIR, "Qwen/Qwen3-8B"),
    "modelscope download --model Qwen/Qwen3-8B": (None, "Qwen/Qwen3-8B"),
    "OLLAMA_MODELS=/models ollama pull llama3.1:8b": ("/models", "llama3.1:8b"),
    "ollama pull llama3.1": ("/root/.ollama/models", "llama3.1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [*BUCKETS.items(), *OTHERS.items()])
def test_a_copy_fills(text: str, expected: tuple[str | None, str | None]) -> None:
    fills = script(text, workingDir="/models")
    assert filled(fills) == [expected]
    assert not fills.opaque


class TestScripts:
    """Downloads within the shell's own constructs."""

    @pytest.mark.parametrize(
        "text",
        [
            f"if [ ! -f {DIR}/config.json ]; then hf download a/b --local-dir {DIR}; fi",
            f"[ -f {DIR}/config.json ] || hf download a/b --local-dir {DIR}",
            f"test -d {DIR} && exit 0; hf download a/b --local-dir {DIR}",
            f"if [ -f {DIR}/x ]; then echo cached; exit 0; fi\nhf download a/b --local-dir {DIR}",
            f"if [ -f {DIR}/x ]; then echo cached; else hf download a/b --local-dir {DIR}; fi",
            f"until hf download a/b --local-dir {DIR}; do sleep 5; done",
            f"set -ex; pip install -U 'huggingface_hub[cli]' && hf download a/b --local-dir {DIR}",
            f"apt-get update && apt-get install -y git\nhf download a/b --local-dir {DIR} && sync",
            f"hf download a/b --local-dir {DIR} && touch {DIR}/.done; sleep infinity",
            f"hf download a/b \\\n  --local-dir \\\n  {DIR}  # the model",
            f"fetch() {{ hf download $1 --local-dir $2; }}; fetch a/b {DIR}",
            "(cd /models; hf download a/b --local-dir llama)",
            f"hf download a/b --local-dir {DIR} > /proc/1/fd/1 2>&1 & wait",
            f"hf download a/b --local-dir {DIR} 2>&1 | tee /tmp/log",
            f"hf auth login --token $HF_TOKEN; hf download a/b --local-dir {DIR}",
            f"flock /models/.lock hf download a/b --local-dir {DIR}; chmod -R a+r {DIR}",
            f"sh -c 'exec hf download a/b --local-dir {DIR}'",
            f"bash -ec 'hf download \"$1\" --local-dir {DIR}' bash a/b",
            f"case x in x) hf download a/b --local-dir {DIR};; esac",
            f"bash <<'EOF'\nhf download a/b --local-dir {DIR}\nEOF",
            f"hf download a/b --local-dir {DIR}.tmp && mv {DIR}.tmp {DIR}",
            f"hf download a/b --local-dir /tmp/x && mkdir {DIR} && mv /tmp/x/* {DIR}/",
            "hf download a/b --local-dir /tmp/llama && mv /tmp/llama /models/",
        ],
    )  # fmt: skip
    def test_one_download(self, text: str) -> None:
        fills = script(text)
        assert filled(fills) == [(DIR, "a/b")]

    def test_a_loop_over_models(self) -> None:
        text = """
            MODELS="org/one org/two"
            for m in $MODELS; do
              hf download "$m" --local-dir "/models/${m##*/}"
            done
        """
        assert filled(script(text)) == [("/models/one", "org/one"), ("/models/two", "org/two")]

    def test_a_loop_over_an_environment_variable(self) -> None:
        text = 'for m in $MODELS; do hf download "$m" --local-dir "/models/$m"; done'
        assert filled(script(text, **env(MODELS="org/one org/two"))) == [
            ("/models/org/one", "org/one"),
            ("/models/org/two", "org/two"),
        ]

    def test_a_table_in_a_here_document(self) -> None:
        text = """
            while read -r repo dir; do
              hf download $repo --local-dir /models/$dir
            done <<EOF
            org/one a
            org/two b
            EOF
        """
        assert filled(script(text)) == [("/models/a", "org/one"), ("/models/b", "org/two")]

    def test_variables_of_the_spec(self) -> None:
        text = 'hf download "$MODEL" --local-dir "${ROOT}/$(basename $MODEL)"'
        assert filled(script(text, **env(MODEL="org/one", ROOT="/models"))) == [
            ("/models/one", "org/one")
        ]

    def test_variables_from_elsewhere_are_unknown(self) -> None:
        source = {"configMapKeyRef": {"name": "settings", "key": "model"}}
        text = "hf download $MODEL --local-dir /models/$MODEL; hf download $MODEL --local-dir /m"
        fills = script(text, env=[{"name": "MODEL", "valueFrom": source}])
        assert filled(fills) == [(None, None), ("/m", None)]

    def test_a_copy_of_a_download_is_the_same_model(self) -> None:
        text = "hf download a/b --revision v1 --local-dir /tmp/x; cp -r /tmp/x /models/x"
        copied = script(text).fills[-1]
        assert (copied.destination, copied.source, copied.revision) == ("/models/x", "a/b", "v1")

    @pytest.mark.parametrize(
        "link",
        [
            "ln -s /models/v1 /models/llama",
            "cd /models && ln -sfn v1 llama",
            "ln -sf v1 /models/llama",
        ],
    )  # fmt: skip
    def test_a_link_to_a_download_is_the_same_model(self, link: str) -> None:
        fills = script(f"hf download a/b --local-dir /models/v1; {link}")
        assert filled(fills)[1:] == [(DIR, "a/b")]

    def test_several_sources_land_below_their_destination(self) -> None:
        assert filled(script("cp -r /nfs/one /nfs/two /models/x")) == [
            ("/models/x/one", "/nfs/one"),
            ("/models/x/two", "/nfs/two"),
        ]

    def test_curl_pairs_urls_and_files(self) -> None:
        assert filled(script("cd /models; curl http://h/a -o x http://h/b -O http://h/c")) == [
            ("/models/x", "http://h/a"),
            ("/models/b", "http://h/b"),
        ]

    def test_the_field_is_told(self) -> None:
        (fill,) = script(f"hf download a/b --local-dir {DIR}").fills
        assert fill.read_from == ("containers[0].args[0]",)


class TestWithoutShell:
    def test_a_command_and_its_arguments(self) -> None:
        fills = read({"command": ["hf", "download"], "args": ["a/b", "--local-dir", DIR]})
        assert filled(fills) == [(DIR, "a/b")]

    def test_kubernetes_fills_in_its_own_variables(self) -> None:
        args = ["download", "$(MODEL)", "--local-dir", "/models/$(NAME)"]
        fills = read({"command": ["hf"], "args": args, **env(MODEL="a/b", NAME="llama")})
        assert filled(fills) == [(DIR, "a/b")]

    def test_a_python_program(self) -> None:
        program = f"snapshot_download('a/b', local_dir='{DIR}')"
        assert filled(read({"command": ["python3", "-c", program]})) == [(DIR, "a/b")]

    @pytest.mark.parametrize(
        ("image", "args"),
        [
            ("amazon/aws-cli:2.17.0", ["s3", "sync", S3, DIR]),
            ("public.ecr.aws/aws-cli/aws-cli", ["s3", "sync", S3, DIR]),
            ("rclone/rclone:1.68", ["sync", S3, DIR]),
            ("peakcom/s5cmd@sha256:0", ["cp", f"{S3}/*", DIR]),
            ("minio/mc", ["mirror", S3, DIR]),
            ("alpine/git", ["clone", S3, DIR]),
            ("curlimages/curl", ["-o", DIR, S3]),
        ],
    )
    def test_an_image_that_is_a_tool(self, image: str, args: list[str]) -> None:
        fills = read({"image": image, "args": args})
        assert [fill.destination for fill in fills.fills] == [DIR]
        assert not fills.opaque

    @pytest.mark.parametrize("container", [{}, {"args": ["--model", "a/b"]}, {"args": ["x"]}])
    def test_an_image_that_is_not_known_is_opaque(self, container: dict[str, Any]) -> None:
        assert read({"image": "example/loader", **container}) == Fills((), opaque=True)

    def test_a_pause_image_does_nothing(self) -> None:
        assert read({"image": "registry.k8s.io/pause:3.10"}) == Fills()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo 'hf download a/b --local-dir /models'",
        "# hf download a/b --local-dir /models",
        "apt-get update && apt-get install -y curl git && rm -rf /var/lib/apt/lists/*",
        "pip install --no-cache-dir -U huggingface_hub hf_transfer",
        "python3 -m pip install huggingface_hub; python --version",
        "sleep infinity",
        "while true; do sleep 3600 & wait $!; done",
        "trap 'exit 0' TERM; tail -f /dev/null & wait",
        "curl -sf http://localhost:8000/health",
        "curl -s -o /dev/null -w '%{http_code}' http://localhost:8000/health",
        "until curl -s http://localhost/health 2>/dev/null; do sleep 1; done",
        "curl -X POST -d '{}' http://host/notify > /dev/null",
        "wget -q --spider http://localhost:8000/health",
        "wget -qO- http://localhost:8000/health",
        "wget -O /dev/null http://localhost:8000/health",
        "hf auth whoami; huggingface-cli login --token x",
        "aws s3 ls s3://b; aws configure set default.s3.max_concurrent_requests 20; aws --version",
        "aws s3 cp /models/x s3://b/x; aws s3 sync /models s3://b",
        "aws s3 cp s3://b/x -",
        "aws s3 sync --dryrun s3://b/x /models/x; aws s3 cp s3://b/x /models/x --dryrun",
        "gsutil -m rsync -n -r gs://b/x /models/x; gsutil rsync -rn gs://b/x /models/x",
        "gcloud storage rsync -r gs://b/x /models/x --dry-run",
        "s5cmd --dry-run cp 's3://b/x/*' /models/x/; mc mirror --dry-run m/b/x /models/x",
        "rclone copy --dry-run r:b/x /models/x; rclone sync -n r:b/x /models/x",
        "rsync -n -a /nfs/x/ /models/x; rsync -avn /nfs/x /models; rsync --dry-run -a /x /models",
        "azcopy copy https://a/c/x /models --recursive --dry-run; azcopy sync h /m --dry-run=true",
        "hf download a/b --local-dir /models/x --dry-run",
        "hf download a/b --local-dir /models/x; rm -rf /models/x",
        "hf download a/b --local-dir /models/x; rm -rf /models",
        "hf download a/b --local-dir /models/x; rm -rf /models/*",
        "gsutil cp -r /models gs://b; rclone copy /models r:b; rsync -a /models user@host:/x",
        "gsutil ls gs://b; gcloud auth list; rclone lsd r:; mc alias set m http://h",
        "git config --global user.name x; git lfs install",
        "ls -la /models && du -sh /models; df -h; nvidia-smi",
        "mkdir -p /models/x && chmod 777 /models/x && chown -R 1000:1000 /models",
        "rm -rf /models/old; find /models -name '*.tmp' -print",
        "ollama serve",
        "mv /tmp/x /models/x",
        "ln -s /usr/lib/x /models/x",
    ],
)  # fmt: skip
def test_what_fetches_nothing_fills_nothing_and_hides_nothing(text: str) -> None:
    assert script(text) == Fills()


@pytest.mark.parametrize(
    "text",
    [
        "./download.sh",
        "python /scripts/load.py",
        "python -m loader",
        "/usr/local/bin/loader --all",
        "source /etc/loader.env",
        'eval "$LOADER"',
        "$LOADER a/b",
        "curl -sL http://h/x.tar.gz | tar xz -C /models",
        "wget -qO- http://h/x.tar | tar x -C /models",
        "tar xf /nfs/x.tar -C /models",
        "cat /nfs/part* > /models/x.gguf",
        "find /nfs -name '*.gguf' -exec cp {} /models ;",
        "ls /list | xargs -n1 hf download",
        "aws s3api get-object --bucket b --key k /models/x",
        "wget -i /list",
        "curl -K /etc/curlrc",
        "hf upload a/b",
        "nsenter -t 1 -m -- bash -c 'hf download a/b --local-dir /models'",
        "chroot /host sh -c 'hf download a/b --local-dir /models'",
        "kubectl exec loader -- bash -c 'hf download a/b --local-dir /models'",
        "( " * 100 + "hf download a/b",
        "python - < /scripts/load.py",
    ],
)  # fmt: skip
def test_what_may_fetch_anything_is_opaque(text: str) -> None:
    fills = script(text)
    assert fills.opaque
    assert not fills.fills


def test_what_is_read_beside_something_opaque_still_counts() -> None:
    fills = script(f"hf download a/b --local-dir {DIR}; ./convert.sh")
    assert (filled(fills), fills.opaque) == ([(DIR, "a/b")], True)


@pytest.mark.parametrize(
    "text",
    [
        f"rm -rf {DIR}; hf download a/b --local-dir {DIR}",
        f"hf download a/b --local-dir {DIR} || rm -rf {DIR}",
        f"hf download a/b --local-dir {DIR}; [ -f {DIR}/config.json ] || rm -rf {DIR}",
        f"until hf download a/b --local-dir {DIR}; do rm -rf {DIR}; done",
        f"hf download a/b --local-dir {DIR}; rm -rf {DIR}/.cache {DIR}.tmp /models/x*",
        f"hf download a/b --local-dir {DIR}; rm -rf $OLD",
        f"trap 'rm -rf {DIR}' ERR; hf download a/b --local-dir {DIR}",
        f"rclone copy r:b/a {DIR} --dry-run=false; mv {DIR} /tmp/a; rm -rf {DIR}; mv /tmp/a {DIR}",
        f"gsutil cp -n -r gs://b/a/ {DIR}",
    ],
)
def test_what_is_not_surely_deleted_afterwards_stays(text: str) -> None:
    assert [fill.destination for fill in script(text).fills] == [DIR]


def test_scripts_in_scripts_are_bounded_together() -> None:
    """A thousand shells that each run a thousand commands are not read to the end."""
    inner = "a;" * 1000
    fills = script(f"for i in {'x ' * 1000}; do bash -c '{inner}'; done")
    assert fills.opaque


def test_no_more_than_so_many_fills_are_followed() -> None:
    fills = script("cp -r /nfs/x /models/y\n" * (MOST_FILLS + 1))
    assert (len(fills.fills), fills.opaque) == (MOST_FILLS, True)


def test_programs_in_scripts_are_bounded_together() -> None:
    loops = "\n".join(f"{' ' * depth}for x in {list('1234567')}:" for depth in range(9))
    program = f"{loops}\n{' ' * 9}pass"
    assert script(f"for i in {'x ' * 500}; do python3 - <<'E'\n{program}\nE\ndone").opaque


FILL = "model-cache-extender loader fill"


@pytest.mark.parametrize(
    ("command", "where", "source", "revision", "nearer"),
    [
        (f"{FILL} hf://{LLAMA} {DIR}", DIR, LLAMA, None, ()),
        (f"{FILL} hf://{LLAMA}@v1 {DIR}/ --exclude 'original/*'", DIR, LLAMA, "v1", ()),
        (f"{FILL} --revision v2 hf://{LLAMA} {DIR}", DIR, LLAMA, "v2", ()),
        (f"{FILL} --from=/cache/llama hf://{LLAMA} {DIR}", DIR, LLAMA, None, ("/cache/llama",)),
        (f"{FILL} s3://b/x {DIR} --from /a --from /b", DIR, "s3://b/x", None, ("/a", "/b")),
        (f"{FILL} file:///nfs/llama {DIR}", DIR, "/nfs/llama", None, ()),
        (f"{FILL} hf://{LLAMA} $UNSET/llama", None, LLAMA, None, ()),
        (f"cd /models && {FILL} hf://{LLAMA} llama", DIR, LLAMA, None, ()),
    ],
)
def test_our_own_loader_fills(
    command: str, where: str | None, source: str, revision: str | None, nearer: tuple[str, ...]
) -> None:
    (fill,) = script(command).fills
    assert (fill.destination, fill.source) == (where, source)
    assert (fill.revision, fill.nearer) == (revision, nearer)


def test_our_own_image_needs_arguments_alone() -> None:
    image = "registry.example.com/tools/model-cache-extender:0.1.0"
    fills = read({"image": image, "args": ["loader", "fill", f"hf://{LLAMA}", DIR]})
    assert (filled(fills), fills.opaque) == ([(DIR, LLAMA)], False)


@pytest.mark.parametrize(
    ("command", "opaque"),
    [("loader verify /models", False), ("serve", False), ("loader run", True), (FILL[21:], True)],
)
def test_our_other_commands_fetch_nothing_that_their_arguments_tell(
    command: str, opaque: bool
) -> None:
    fills = script(f"model-cache-extender {command}")
    assert (fills.fills, fills.opaque) == ((), opaque)


TOOLS = st.sampled_from(
    "model-cache-extender hf huggingface-cli modelscope aws s5cmd gsutil gcloud rclone azcopy mc "
    "rsync cp mv ln git wget curl ollama python3 bash mkdir timeout env exec sudo tee".split()
)
WORDS = st.sampled_from(
    "loader fill run --from --from=/a hf://o/n hf://o/n@r "
    "download s3 storage cp sync copy clone pull lfs mirror -c -O -o -P -qO- -r -t -T - -- -x= --x "
    "--local-dir --local-dir= --cache-dir --model -C -m -J --url --output-dir /models /models/ . "
    ".. /models/* a/b s3://b/x r:x https://h/x? $X $SECRET '' /x.gguf -b && ; | > 60".split()
) | st.text(max_size=6)


@given(st.lists(st.tuples(TOOLS, st.lists(WORDS, max_size=6)), max_size=4), st.booleans())
def test_no_command_is_refused(calls: list[tuple[str, list[str]]], shell: bool) -> None:
    variables = [{"name": "X", "value": "y"}, {"name": "SECRET", "valueFrom": {"fieldRef": {}}}]
    words = [word for tool, rest in calls for word in (tool, *rest, ";")]
    command = ["sh", "-c", " ".join(words)] if shell else words
    fills = read({"command": command, "env": variables, "workingDir": "/w"})
    for fill in fills.fills:
        assert fill.destination is None or fill.destination.startswith("/")
