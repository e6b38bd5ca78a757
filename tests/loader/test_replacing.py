"""A new revision and the pods that read the old one: nobody is left with half of either."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.errors import CacheError
from extender.kube.objects import Pod
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.disk import Disk
from extender.loader.layout import CacheDirectory, writing
from extender.loader.mend import condemn
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.placing import InUse, InUseError
from extender.loader.proof.marker import read_marker
from extender.loader.publish import Publisher
from extender.loader.readers import Readers
from extender.loader.running import Cluster, Loader, Settings
from extender.loader.sources import Credentials
from extender.loader.sweep import sweep
from extender.loader.transfer.limits import Limits
from tests.builders import pod, vllm
from tests.loader.cluster import ME, apiserver
from tests.loader.dying import WithoutExchange
from tests.loader.hub import Hub, Repository, sha256_of
from tests.loader.loader_process import catalog
from tests.loader.models import contents, listing, put, small_model

OLD, NEW, NEWEST = (small_model(seed) for seed in (1, 2, 3))
SHARD = "model-00002-of-00002.safetensors"
ORIGIN = Origin(source="hf://org/small")
SERVER, ROLLED = {"uid-1": "ml/server-0"}, {"uid-2": "ml/server-1"}


class Scene:
    """A cache with the old revision, a hub with the new one, and pods that read the old one."""

    def __init__(self, root: Path, hub: Hub, disk: Disk | None = None) -> None:
        self.hub = hub
        self.cache = CacheDirectory(root)
        self.in_use: InUse | CacheError = InUse()
        self.damage: frozenset[str] = frozenset()
        self.publisher = Publisher(disk=disk, uses=self._uses, damage=lambda _: self.damage)
        self.obtainer = Obtainer(
            self.cache,
            self.publisher,
            open_source=opener(Credentials(hub_endpoint=hub.url)),
            limits=Limits(),
        )
        self.at_hub(OLD)
        self.obtain()
        self.at_hub(NEW)
        self.in_use = InUse(SERVER)

    def _uses(self, _: str) -> InUse:
        if isinstance(self.in_use, CacheError):
            raise self.in_use
        return self.in_use

    def at_hub(self, files: dict[str, bytes]) -> None:
        self.hub.repositories["org/small"] = Repository(dict(files), large=500)

    def obtain(self) -> None:
        self.obtainer.obtain("small", ORIGIN)

    def waits(self) -> str:
        with pytest.raises(InUseError) as waiting:
            self.obtain()
        return str(waiting.value)

    def sweep(self, origin: Origin | None = ORIGIN) -> list[str]:
        """Sweep as a loader does whose catalog has the model from there; None: not at all."""
        wanted = {"small": origin.asked} if origin is not None else {}
        return sweep(self.publisher, self.cache, wanted=wanted).completed

    @property
    def final(self) -> Path:
        return self.cache.final("small")

    @property
    def aside(self) -> list[Path]:
        return [entry for entry, _ in self.cache.arrivals("small")]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(params=[Disk, WithoutExchange])
def scene(request: pytest.FixtureRequest, fast: Path, hub: Hub) -> Scene:
    return Scene(fast, hub, request.param())


def test_it_waits_for_the_readers_and_says_for_whom(scene: Scene) -> None:
    assert scene.waits() == (
        "new revision ready, waits for 1 reader of the one before (ml/server-0); let them end, or "
        "set replaceInUse: true"
    )
    assert contents(scene.final) == OLD
    assert scene.sweep() == []
    assert contents(scene.final) == OLD


def test_it_is_fetched_once_however_long_it_waits(scene: Scene) -> None:
    scene.waits()
    scene.hub.served.clear()
    scene.waits()
    assert scene.hub.served == []


@pytest.mark.parametrize("how", [Scene.obtain, Scene.sweep])
def test_it_takes_its_place_once_nobody_reads_the_old_one(
    scene: Scene, how: Callable[[Scene], object]
) -> None:
    scene.waits()
    scene.in_use = InUse()
    scene.hub.served.clear()
    how(scene)
    assert contents(scene.final) == NEW
    assert scene.aside == []
    assert scene.hub.served == []


def test_while_it_cannot_be_known_who_reads_it_waits(scene: Scene) -> None:
    scene.in_use = CacheError("which pods there are cannot be known")
    assert scene.waits() == ("new revision ready, waits: which pods there are cannot be known")
    assert scene.sweep() == []
    assert contents(scene.final) == OLD


def test_a_newer_one_takes_the_place_of_the_one_that_waits(scene: Scene) -> None:
    scene.waits()
    scene.at_hub(NEWEST)
    scene.waits()
    [waiting] = scene.aside
    assert contents(waiting) == NEWEST
    scene.in_use = InUse()
    scene.sweep()
    assert contents(scene.final) == NEWEST


def test_one_that_the_source_has_taken_back_is_forgotten(scene: Scene) -> None:
    scene.waits()
    scene.at_hub(OLD)
    scene.obtain()
    assert scene.aside == []
    assert contents(scene.final) == OLD


def test_one_that_waits_is_forgotten_where_the_catalog_goes_back_to_a_commit(scene: Scene) -> None:
    old = msgspec.structs.replace(ORIGIN, revision=Repository(dict(OLD)).commit)
    scene.at_hub(OLD)
    scene.obtainer.obtain("small", old)
    scene.at_hub(NEW)
    scene.waits()
    scene.at_hub(OLD)
    scene.obtainer.obtain("small", old)
    scene.in_use = InUse()
    scene.sweep()
    assert contents(scene.final) == OLD


def test_one_that_waits_goes_with_its_model(scene: Scene) -> None:
    scene.waits()
    scene.in_use = InUse()
    assert scene.sweep(origin=None) == []
    assert scene.aside == []
    assert contents(scene.final) == OLD


def test_one_that_the_catalog_does_not_ask_for_any_more_is_not_shown(scene: Scene) -> None:
    scene.waits()
    scene.in_use = InUse()
    back = msgspec.structs.replace(ORIGIN, revision=Repository(dict(OLD)).commit)
    assert scene.sweep(back) == []
    assert contents(scene.final) == OLD
    scene.at_hub(OLD)
    scene.obtainer.obtain("small", back)  # who obtains what is asked for decides
    assert scene.aside == []
    assert contents(scene.final) == OLD


def test_while_no_catalog_can_be_asked_none_is_shown_and_none_is_lost(scene: Scene) -> None:
    scene.waits()
    scene.in_use = InUse()
    assert sweep(scene.publisher, scene.cache).completed == []
    assert contents(scene.final) == OLD
    scene.final.rename(scene.cache.replaced("small"))  # killed between two renames
    assert sweep(scene.publisher, scene.cache).completed == ["small"]
    assert contents(scene.final) == NEW


def test_a_loader_that_starts_asks_its_catalog_before_it_shows_what_waits(scene: Scene) -> None:
    scene.waits()
    back = Repository(dict(OLD)).commit
    file = scene.cache.root.parent / "catalog.yaml"
    for revision, shown in ((back, OLD), (None, NEW)):
        pinned = {"revision": revision} if revision else {}
        file.write_text(catalog({"name": "small", "source": "hf://org/small", **pinned}))
        loader = Loader(Settings(catalog=file, directory=scene.cache.root), None)
        loader._sweep()
        assert contents(scene.final) == shown


def test_a_damaged_model_is_replaced_at_once_and_kept_for_those_who_have_it_open(
    scene: Scene,
) -> None:
    with writing(scene.cache, "small") as held:
        condemn(scene.publisher, held, [SHARD])
    scene.obtain()
    assert contents(scene.final) == NEW
    assert len(scene.aside) == 1


SHARING = {**NEW, SHARD: OLD[SHARD]}


def a_shared_file_is_damaged(scene: Scene) -> None:
    """Let a revision wait that shares a file with the old one, and no stat show its damage."""
    scene.at_hub(SHARING)
    scene.waits()
    [waiting] = scene.aside
    shard = scene.final / SHARD
    seen = shard.stat()
    assert seen.st_ino == (waiting / SHARD).stat().st_ino
    with shard.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([OLD[SHARD][-1] ^ 1]))
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def is_marked(scene: Scene) -> None:
    with writing(scene.cache, "small") as held:
        condemn(scene.publisher, held, [SHARD])


def is_known_alone(scene: Scene) -> None:
    """The disk did not take it: the marker calls the model whole."""
    scene.damage = frozenset({SHARD})


def is_removed(scene: Scene) -> None:
    is_marked(scene)
    shutil.rmtree(scene.final)


@pytest.mark.parametrize("how", [Scene.obtain, Scene.sweep])
@pytest.mark.parametrize("known", [is_marked, is_known_alone, is_removed])
def test_a_damaged_file_that_the_new_revision_shares_does_not_come_with_it(
    scene: Scene, known: Callable[[Scene], None], how: Callable[[Scene], object]
) -> None:
    a_shared_file_is_damaged(scene)
    known(scene)
    scene.in_use = InUse()
    how(scene)
    marker = read_marker(scene.final)
    whole = marker is not None and not marker.damaged and not scene.damage
    assert not whole or contents(scene.final) == SHARING
    scene.obtain()
    assert contents(scene.final) == SHARING


def test_what_is_known_to_be_damaged_is_not_shared_with_a_revision_that_comes(
    scene: Scene,
) -> None:
    scene.at_hub(SHARING)
    scene.damage = frozenset({SHARD})
    inode = (scene.final / SHARD).stat().st_ino
    scene.obtain()
    assert contents(scene.final) == SHARING
    assert (scene.final / SHARD).stat().st_ino != inode


def test_to_read_what_waits_is_left_to_who_obtains_it(scene: Scene) -> None:
    """A sweep shows nothing that has to be read first: reading keeps a start waiting."""
    scene.waits()
    is_marked(scene)
    assert scene.sweep() == []
    assert len(scene.aside) == 1
    away = opener(Credentials(hub_endpoint="http://127.0.0.1:9"))
    obtainer = Obtainer(scene.cache, scene.publisher, open_source=away, limits=Limits())
    obtainer.obtain("small", ORIGIN)
    assert contents(scene.final) == NEW


def test_a_pod_that_came_before_its_model_is_not_waited_for(scene: Scene) -> None:
    with writing(scene.cache, "small") as held:
        scene.publisher.remove(held)
    (scene.final / "original").mkdir(parents=True)
    scene.obtain()
    assert contents(scene.final) == NEW


def test_replaced_at_once_the_old_one_is_kept_until_its_readers_have_ended(scene: Scene) -> None:
    scene.in_use = InUse(SERVER, replaced=True)
    before = os.open(scene.final, os.O_RDONLY)
    scene.obtain()
    assert contents(scene.final) == NEW
    for others in ({}, ROLLED):  # who came later reads the new one
        scene.in_use = InUse(SERVER | others)
        scene.sweep()
        shard = os.open(SHARD, os.O_RDONLY, dir_fd=before)  # as a mount of the directory opens it
        assert os.read(shard, 10**6) == OLD[SHARD]
        os.close(shard)
    scene.in_use = CacheError("not known now")
    scene.sweep()
    assert len(scene.aside) == 1
    scene.in_use = InUse(ROLLED)
    scene.sweep()
    assert scene.aside == []
    with pytest.raises(FileNotFoundError):
        os.open(SHARD, os.O_RDONLY, dir_fd=before)
    os.close(before)
    assert contents(scene.final) == NEW


def test_a_mount_of_the_model_sees_the_old_tree_and_a_mount_of_the_cache_the_new_one(
    hub: Hub, fast: Path
) -> None:
    """What the kubelet does for a hostPath, in a mount namespace of its own."""
    scene = Scene(fast / "cache", hub)
    for name in ("model", "cache-root"):
        (fast / name).mkdir()
    script = (
        f"mount --bind {scene.final} {fast}/model && mount --bind {scene.cache.root} "
        f"{fast}/cache-root || exit 77; echo ready; read go; "
        f"cat {fast}/model/{SHARD} | sha256sum; cat {fast}/cache-root/small/{SHARD} | sha256sum"
    )
    with subprocess.Popen(
        ["unshare", "-Urm", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as reader:  # fmt: skip
        assert reader.stdout is not None
        if reader.stdout.readline() != "ready\n":
            pytest.skip("no mount namespace of its own here")
        scene.in_use = InUse(SERVER, replaced=True)
        scene.obtain()
        told, _ = reader.communicate("go\n", timeout=30)
    of_model, of_cache = (line.split()[0] for line in told.splitlines())
    assert of_model == sha256_of(OLD[SHARD])
    assert of_cache == sha256_of(NEW[SHARD])


def test_readers_are_the_pods_of_the_node_that_may_open_it_and_the_catalog_says_what_then() -> None:
    llama = CatalogModel(
        name="llama-3.1-8b-instruct", source="hf://meta-llama/x", replace_in_use=True
    )
    pods: list[Pod] = [vllm(on="n1"), pod()]
    in_force: Catalog | None = None
    readers = Readers(
        lambda: pods, catalog=lambda: in_force, host_directory=lambda: "/var/lib/models"
    )
    metadata = pods[0].metadata
    assert readers(llama.directory).pods == {metadata.uid: f"{metadata.namespace}/{metadata.name}"}
    assert not readers(llama.directory).replaced
    assert readers("another").pods == {}
    in_force = Catalog(models=(llama,))
    assert readers(llama.directory).replaced


def server_pod() -> dict[str, Any]:
    mounts = [{"name": "models", "mountPath": "/models"}]
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "/models/org/small"],
        "volumeMounts": mounts,
    }
    volumes = [{"name": "models", "hostPath": {"path": "/var/lib/models"}}]
    return {
        "metadata": {"namespace": "ml", "name": "server-0", "uid": "uid-1"},
        "spec": {"nodeName": ME.node, "containers": [container], "volumes": volumes},
    }


def test_a_loader_asks_its_cluster_before_another_revision_takes_its_place(
    tmp_path: Path, fast: Path
) -> None:
    settings = Settings(
        catalog=tmp_path / "catalog.yaml", directory=fast, host_directory="/var/lib/models"
    )
    cache, path = CacheDirectory(fast), "org/small"
    with apiserver(tmp_path) as (api, transport):
        publisher = Loader(settings, Cluster(transport, ME))._publisher
        pods = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}}

        def publish(files: dict[str, bytes]) -> None:
            with writing(cache, path) as held:
                put(publisher.begin(held, listing(files)), files)
                publisher.publish(held, listing(files), asked="it")

        publish(OLD)
        assert api.seen == []  # nothing stood there
        api.status, api.body = 200, {**pods, "items": [server_pod()]}
        with pytest.raises(InUseError, match=r"waits for 1 reader .* \(ml/server-0\)"):
            publish(NEW)
        assert contents(cache.final(path)) == OLD
        api.status = 403
        assert sweep(publisher, cache, wanted={path: "it"}).completed == []
        api.status, api.body = 200, {**pods, "items": []}
        assert sweep(publisher, cache, wanted={path: "it"}).completed == [path]
        assert contents(cache.final(path)) == NEW
