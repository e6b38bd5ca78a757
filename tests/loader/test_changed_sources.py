"""A file that is replaced at its source is noticed, also under the same name with as many bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from extender.loader.layout import CacheDirectory, writing
from extender.loader.obtaining import Obtainer
from extender.loader.origin import opener
from extender.loader.proof.marker import Marker, marker_text, read_marker
from extender.loader.proof.verify import verify
from extender.loader.publish import Publisher
from extender.loader.sources import Credentials
from extender.loader.transfer.limits import Limits
from tests.loader.models import contents, put, small_model
from tests.loader.origins import FILES as OLD
from tests.loader.origins import At

SHARD = "model-00001-of-00002.safetensors"
NEW = {**OLD, SHARD: small_model(2)[SHARD]}
assert {path: len(data) for path, data in OLD.items()} == {p: len(d) for p, d in NEW.items()}


@contextmanager
def serving(place: Path) -> Iterator[str]:
    """Serve a directory as Python's own web server does: without ETags, and without ranges."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Scene:
    """A cache directory that holds what a source has, and what was fetched of it since."""

    def __init__(self, root: Path, at: At) -> None:
        self.at = at
        self.cache = CacheDirectory(root)
        self.received = 0
        self.obtainer = Obtainer(
            self.cache,
            Publisher(),
            open_source=opener(Credentials(endpoint_url=at.endpoint)),
            limits=Limits(),
            received=self._came,
        )
        self.obtain()
        self.received = 0

    def _came(self, count: int) -> None:
        self.received += count

    def obtain(self) -> Marker:
        return self.obtainer.obtain("m", self.at.origin)

    @property
    def final(self) -> Path:
        return self.cache.final("m")


@pytest.fixture
def scene(fast: Path, at: At) -> Scene:
    return Scene(fast, at)


def test_what_was_replaced_with_as_many_bytes_is_fetched_and_the_rest_kept(scene: Scene) -> None:
    scene.at.replace(NEW)
    scene.obtain()
    assert contents(scene.final) == NEW
    assert scene.received == len(NEW[SHARD])


def test_what_is_as_it_was_costs_no_byte(scene: Scene) -> None:
    scene.obtain()
    scene.at.replace(OLD)
    scene.obtain()
    assert scene.received == 0


def test_a_marker_without_versions_is_taken_as_it_is_and_has_them_from_then_on(
    scene: Scene,
) -> None:
    """As an earlier release wrote it."""
    marker = scene.obtain()
    bare = tuple(msgspec.structs.replace(file, version="") for file in marker.files)
    before = msgspec.structs.replace(marker, files=bare, asked="")
    (scene.final / ".modelcache.json").write_bytes(marker_text(before))
    assert read_marker(scene.final) == before
    assert scene.obtain() == marker == read_marker(scene.final)
    assert scene.received == 0
    scene.at.replace(NEW)
    scene.obtain()
    assert contents(scene.final) == NEW


def test_a_proof_that_is_renewed_keeps_what_the_source_said(scene: Scene) -> None:
    marker = scene.obtain()
    os.utime(scene.final / SHARD, ns=(1, 1))
    with writing(scene.cache, "m") as held:
        Publisher().renew(held, marker, verify(scene.final))
    scene.obtain()
    assert scene.received == 0


def test_a_server_without_etags_says_when_a_file_changed(fast: Path) -> None:
    old, new = b"GGUF" + bytes(2000), b"GGUF" + bytes(1999) + b"!"
    place = put(fast / "served", {"model.gguf": old})
    os.utime(place / "model.gguf", (10**9, 10**9))
    with serving(place) as url:
        scene = Scene(fast / "cache", At(f"{url}/model.gguf", lambda _: None))
        put(place, {"model.gguf": new})
        scene.obtain()
        assert (scene.final / "model.gguf").read_bytes() == new
        scene.received = 0
        scene.obtain()
        assert scene.received == 0
