"""The names of images: what a pod writes, and what its node lists."""

from __future__ import annotations

import posixpath


def image_names(image: str) -> tuple[str, ...]:
    """Return the names under which a node may list an image, as the kubelet normalizes them.

    ``nginx`` is ``docker.io/library/nginx:latest``. A digest stays as it is and takes the place of
    a tag beside it: nodes list ``name:tag`` and ``name@digest``, never both in one name.
    """
    repository, at, digest = image.partition("@")
    last = posixpath.basename(repository)
    if at and ":" in last:
        image = f"{posixpath.join(posixpath.dirname(repository), last.split(':', 1)[0])}@{digest}"
        last = posixpath.basename(image)
    tagged = image if ":" in last or "@" in image else f"{image}:latest"
    first = tagged.split("/", 1)[0]
    if "/" in tagged and ("." in first or ":" in first or first == "localhost"):
        return (tagged,)
    hosted = f"docker.io/{tagged}" if "/" in tagged else f"docker.io/library/{tagged}"
    return (tagged, hosted)
