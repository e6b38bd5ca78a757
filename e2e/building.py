"""Builds the images of ``make e2e`` without a Docker engine.

buildah makes them (chroot isolation, plain copies as storage, no daemon) on a base that debootstrap
makes. The builds mount things: ``python -m e2e.building BINARIES PLACE`` runs in namespaces of its
own (``apart``), and whatever it leaves unfinished lies in PLACE.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from controlplane.build import say
from e2e.images import BASE_PACKAGES, SUITE, Base, Image, folder, images
from e2e.inside import place as put_in_place

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class ImageError(Exception):
    """An image cannot be built; the message says what was said."""


def build(binaries: Path, place: Path) -> None:
    """Build what the cache lacks, with a folder for what is unfinished.

    An image's archive is looked for once the image that it stands on is there: its name tells.
    """
    put_in_place(place / "lib", "/var/lib")  # where buildah keeps what it knows of layers
    buildah = Buildah(place)
    for image in images(binaries):
        if isinstance(image.base, Base) and image.base.found() is None:
            strap(image.base, place)
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
        # It makes the folder of networks, and a lock in it, though no build here asks for one.
        networks = f'[network]\nnetwork_config_dir = "{place / "networks"}"\n'
        self.configuration = place / "containers.conf"
        self.configuration.write_text(networks, encoding="utf-8")

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
        words = ["buildah", *storage, "--storage-driver=vfs", *command]
        run(what, words, CONTAINERS_CONF=str(self.configuration))


def strap(base: Base, place: Path) -> None:
    """Make the base, with a folder for what is unfinished."""
    say(f"==> making the base image of Debian {SUITE} with debootstrap (about a minute, once)")
    root, unfinished = place / "root", place / "base.tar"
    command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}"]
    run("make the base image", [*command, SUITE, str(root), *mirror()])
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / waste)
    run("pack the base image", ["tar", "-C", str(root), "-cf", str(unfinished), "."])
    with unfinished.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    unfinished.replace(folder() / f"{base.stem()}-{content}.tar")


def mirror() -> list[str]:
    """Return where this machine's apt has the suite from; nothing leaves it to debootstrap."""
    indexes = ["--format", "$(SITE)", "Created-By: Packages", f"Codename: {SUITE}"]
    command = ["apt-get", "indextargets", *indexes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[:1] if done.returncode == 0 else []


def forget(image: Image) -> None:
    """Remove the archives of an image's former contents."""
    stem = image.archive().name.rpartition("-")[0]
    for old in folder().glob(f"{stem}-????????????.tar"):
        old.unlink()


def run(what: str, command: list[str], **variables: str) -> None:
    """Run a command with more variables of the environment; raise with the end of what it said."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-4000:].strip()
        raise ImageError(f"cannot {what}: {command[0]} said:\n{tail}")


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]))
    except (ImageError, OSError) as error:
        sys.exit(f"error: {error}")
