"""The image that the project's own Dockerfile makes: what is in it, and what is not."""

from __future__ import annotations

import json
import re
import tarfile
from typing import Any

import pytest

from controlplane.build import binaries
from e2e import images
from e2e.cluster import NODE, RealCluster
from e2e.objects import ended, pod
from extender import __version__

LARGEST = 450_000_000
"""Bytes of the archive, Debian's Python (176 MB) and the object stores' clients included."""


@pytest.fixture(scope="module")
def archive() -> tarfile.TarFile:
    """Return the image as it was built."""
    (image,) = (one for one in images.images(binaries()) if one.name == images.PRODUCT)
    assert image.archive().stat().st_size < LARGEST
    return tarfile.open(image.archive())


def read(archive: tarfile.TarFile, name: str) -> Any:
    """Return a JSON document of an image archive."""
    file = archive.extractfile(name)
    assert file is not None
    return json.loads(file.read())


def test_it_says_what_it_is_and_runs_as_nobody_in_particular(archive: tarfile.TarFile) -> None:
    (manifest,) = read(archive, "manifest.json")
    config = read(archive, manifest["Config"])["config"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__


LIST = """
import json
from importlib.metadata import distributions
found = {each.metadata["Name"]: each.version for each in distributions()}
print(json.dumps(found))
"""


def test_what_is_installed_is_what_is_locked(cluster: RealCluster, namespace: str) -> None:
    manifest = pod("lister", images.PRODUCT, ["python", "-c", LIST], nodeName=NODE)
    cluster.apply(manifest, namespace)
    cluster.wait_for(lambda: ended(cluster.pod(namespace, "lister")), 120, "the pod's end")
    listed = json.loads(cluster.logs(namespace, "lister"))
    installed = {re.sub(r"[-_.]+", "-", name).lower(): found for name, found in listed.items()}
    assert installed.pop("model-cache-extender") == __version__
    lock = (images.ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = re.findall(r"^([\w.-]+)==(\S+)( ;)?", lock, re.MULTILINE)
    assert installed.items() <= {(name, locked) for name, locked, _ in lines}
    assert {name for name, _, elsewhere in lines if not elsewhere} <= installed.keys()


def test_it_has_both_halves_and_nothing_to_compile_or_install_with(
    cluster: RealCluster, namespace: str
) -> None:
    script = """
set -e
for tool in gcc cc make go git pip; do if command -v $tool; then exit 1; fi; done
test "$(id -u)" = 65532
model-cache-extender serve --help >/dev/null
python -c 'import s3fs, gcsfs, huggingface_hub, httpx2, extender.loader.running'
mkdir /tmp/source && printf '{"model_type": "llama"}' > /tmp/source/config.json
python - <<'END'
header = b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
content = len(header).to_bytes(8, "little") + header + b"1234"
open("/tmp/source/model.safetensors", "wb").write(content)
END
model-cache-extender loader fill file:///tmp/source /tmp/model
cmp /tmp/source/model.safetensors /tmp/model/model.safetensors
"""
    manifest = pod("inside", images.PRODUCT, ["sh", "-c", script], nodeName=NODE)
    cluster.apply(manifest, namespace)
    cluster.wait_for(lambda: ended(cluster.pod(namespace, "inside")), 120, "the pod's end")
    assert ended(cluster.pod(namespace, "inside")) == ("Completed", 0), cluster.logs(
        namespace, "inside"
    )
