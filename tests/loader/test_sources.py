"""Sources: what each of them lists, how it reads ranges, and what it says when it cannot."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from extender.loader.origin import opener
from extender.loader.sources import Cause, Credentials, Listing, RemoteFile, Source, SourceError
from extender.loader.sources.opening import source_for
from extender.loader.sources.ranges import retry_after
from extender.loader.sources.urls import locate
from tests.authority import Pair, self_signed
from tests.loader.hub import TOKEN, Hub, Repository, Trouble, git_oid
from tests.loader.objects import ObjectStore
from tests.loader.origins import FILES as MODEL
from tests.loader.origins import SOURCES, At
from tests.loader.serving import Handler, Serving

BIG = random.Random(3).randbytes(5000)
FILES = {
    "config.json": b"{}",
    "model.safetensors": BIG,
    "original/params.json": b"[]",
    "a b#c?d%.txt": b"odd",
}


def read(source: Source, file: RemoteFile, start: int, end: int | None) -> bytes:
    with source.open(file, start, end) as pieces:
        return b"".join(pieces)


def by_path(listing: Listing) -> dict[str, RemoteFile]:
    return {file.path: file for file in listing.files}


def refusal(source: Source, file: RemoteFile | None = None) -> SourceError:
    with pytest.raises(SourceError) as refused:
        _ = source.list() if file is None else read(source, file, 0, file.size)
    return refused.value


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with Hub() as running:
        running.repositories["org/name"] = Repository(dict(FILES))
        yield running


@pytest.mark.parametrize("at", SOURCES, indirect=True)
def test_the_loaders_own_files_are_no_models_wherever_they_were_copied(at: At) -> None:
    """What a filled directory is mirrored to has its marker, too."""
    at.replace({**MODEL, ".modelcache.json": b"{}", "sub/.modelcache/locks/x.lock": b""})
    source = opener(Credentials(endpoint_url=at.endpoint))(at.origin)
    assert set(by_path(source.list())) == set(MODEL)


class TestHub:
    @staticmethod
    def source(hub: Hub, token_file: str | None = None, **more: object) -> Source:
        credentials = Credentials(hub_endpoint=hub.url, hub_token_file=token_file)
        return source_for("hf://org/name", credentials=credentials, **more)  # type: ignore[arg-type]

    def test_a_listing_has_every_file_of_all_pages_with_size_and_hash(self, hub: Hub) -> None:
        listing = self.source(hub).list()
        assert listing.source == "hf://org/name"
        assert listing.revision == hub.repositories["org/name"].commit
        files = by_path(listing)
        assert {path: file.size for path, file in files.items()} == {
            path: len(content) for path, content in FILES.items()
        }
        assert files["model.safetensors"].sha256 == hashlib.sha256(BIG).hexdigest()
        assert files["config.json"].git_oid == git_oid(b"{}")
        assert sum("/tree/" in path for path, _ in hub.asked) == 2

    def test_ranges_of_small_and_large_files_are_the_bytes_asked_for(self, hub: Hub) -> None:
        source = self.source(hub)
        for path, file in by_path(source.list()).items():
            content = FILES[path]
            assert read(source, file, 0, len(content)) == content
            assert read(source, file, 1, 2) == content[1:2]
            assert read(source, file, 1, None) == content[1:]

    def test_include_and_exclude_choose_files(self, hub: Hub) -> None:
        chosen = self.source(hub, include=["*.json"], exclude=["original/"]).list()
        assert set(by_path(chosen)) == {"config.json"}
        nothing = refusal(self.source(hub, include=["*.bin"]))
        assert nothing.cause is Cause.INVALID
        assert "leave none of its 4 files" in str(nothing)

    def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(
        self, hub: Hub, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        hub.repositories["org/name"].private = True
        source = self.source(hub, str(tmp_path / "token"))
        read(source, by_path(source.list())["model.safetensors"], 0, 10)
        at_hub = [headers for path, headers in hub.asked if not path.startswith("/cdn/")]
        elsewhere = [headers for path, headers in hub.asked if path.startswith("/cdn/")]
        assert all(headers["authorization"] == f"Bearer {TOKEN}" for headers in map(lower, at_hub))
        assert elsewhere
        assert all("authorization" not in lower(headers) for headers in elsewhere)

    def test_a_token_that_is_renewed_in_its_file_is_used_from_then_on(
        self, hub: Hub, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("hf_old")
        source = self.source(hub, str(file))
        assert refusal(source).cause is Cause.UNAUTHORIZED
        file.write_text(TOKEN)
        assert source.list().files

    def test_private_missing_gated_and_unknown_revisions_are_told_apart(
        self, hub: Hub, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(TOKEN)
        token = str(tmp_path / "token")
        repository = hub.repositories["org/name"]
        file = by_path(self.source(hub).list())["config.json"]
        repository.private = True
        private = refusal(self.source(hub))
        assert (private.cause, private.permanent) == (Cause.NOT_FOUND, True)
        assert "does not exist, or is private, then give a token" in str(private)
        repository.private, repository.gated = False, True
        gated = refusal(self.source(hub), file)
        assert gated.cause is Cause.GATED
        assert "config.json: the repository is gated; give a token" in str(gated)
        gated = refusal(self.source(hub, token), file)
        assert f"accept its terms at {hub.url}/org/name" in str(gated)
        revision = refusal(self.source(hub, revision="v9"))
        assert revision.cause is Cause.NOT_FOUND
        assert "has no revision 'v9'" in str(revision)
        del hub.repositories["org/name"]
        missing = refusal(self.source(hub, token))
        assert missing.cause is Cause.NOT_FOUND
        assert "or is private, and the token may not read it" in str(missing)

    def test_no_message_holds_the_token_or_a_signature(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(TOKEN)
        source = self.source(hub, str(tmp_path / "token"))
        file = by_path(source.list())["model.safetensors"]
        for trouble in (Trouble(status=403), Trouble(status=500), Trouble(status=404)):
            hub.troubles["model.safetensors"] = [trouble]
            said = str(refusal(source, file))
            assert TOKEN not in said
            assert "Signature" not in said
        said = str(refusal(self.source(hub, str(tmp_path / "absent"))))
        assert "the token file" in said

    @pytest.mark.parametrize("more", ["\nsecond", "\x01", " x", "\u00e9"])
    def test_what_is_no_token_is_refused_and_not_quoted(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
    ) -> None:
        (tmp_path / "token").write_text(TOKEN + more)
        file = by_path(self.source(hub).list())["config.json"]
        source = self.source(hub, str(tmp_path / "token"))
        in_file = [refusal(source), refusal(source, file)]
        monkeypatch.setenv("HF_TOKEN", TOKEN + more)
        in_environment = refusal(self.source(hub))
        for refused in (*in_file, in_environment):
            assert refused.cause is Cause.UNAUTHORIZED
            assert TOKEN not in str(refused)
            assert "write the token alone" in str(refused)
        assert f"the token file {tmp_path / 'token'}" in str(in_file[0])
        assert "HF_TOKEN" in str(in_environment)

    def test_a_listing_is_never_tried_again_in_secret_and_says_how_long_to_wait(
        self, hub: Hub
    ) -> None:
        for kind in ("info", "tree"):
            hub.troubles[kind] = [Trouble(status=429, headers={"Retry-After": "77"})]
            refused = refusal(self.source(hub))
            assert (refused.cause, refused.retry_after) == (Cause.THROTTLED, 77)
            assert not refused.permanent
            hub.troubles[kind] = [Trouble(status=502)]
            assert refusal(self.source(hub)).cause is Cause.SERVER

    def test_a_hub_that_is_not_there_is_unreachable(self) -> None:
        credentials = Credentials(hub_endpoint="http://127.0.0.1:9")
        refused = refusal(source_for("hf://org/name", credentials=credentials))
        assert (refused.cause, refused.permanent) == (Cause.UNREACHABLE, False)
        assert str(refused).startswith("source hf://org/name: 127.0.0.1 cannot be reached")

    def test_a_mirror_that_says_less_than_the_hub_is_understood(self, hub: Hub) -> None:
        """No error codes, and ETags of its own making."""
        source = self.source(hub)
        file = by_path(source.list())["config.json"]
        hub.troubles["config.json"] = [Trouble(headers={"ETag": f'"{"a" * 40}"'})]
        assert read(source, file, 0, 2) == b"{}"
        hub.troubles["config.json"] = [Trouble(status=404)]
        assert refusal(source, file).cause is Cause.NOT_FOUND
        hub.troubles["info"] = [Trouble(status=404)]
        assert refusal(source).cause is Cause.NOT_FOUND

    def test_a_server_that_is_no_hub_is_told_from_one(self, hub: Hub) -> None:
        credentials = Credentials(hub_endpoint=f"{hub.url}/web")
        hub.web["api/models/org/name/revision/main"] = b"<html>"
        refused = refusal(source_for("hf://org/name", credentials=credentials))
        assert refused.cause is Cause.INVALID
        assert "does not answer as the hub does" in str(refused)

    def test_mirrors_are_taken_from_the_environment(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.repositories["org/name"].private = True
        assert source_for("hf://org/name", credentials=Credentials()).list().files

    @pytest.mark.parametrize("endpoint", ["hub.internal", "ftp://hub", "hub:8080"])
    def test_a_mirror_that_is_no_address_is_named(
        self, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(SourceError, match=f"endpoint '{endpoint}' is no address; write https"):
            source_for("hf://org/name", credentials=Credentials())

    def test_a_path_that_leads_out_is_refused_unless_it_is_left_out(self, hub: Hub) -> None:
        hub.repositories["org/name"].files["../../etc/cron.d/x"] = b"!"
        refused = refusal(self.source(hub))
        assert refused.cause is Cause.INVALID
        assert "source hf://org/name: ../../etc/cron.d/x: is not a plain path" in str(refused)
        assert "or exclude it" in str(refused)
        assert set(by_path(self.source(hub, exclude=["*cron*"]).list())) == set(FILES)

    def test_bytes_that_come_compressed_though_nobody_asked_are_refused(self, hub: Hub) -> None:
        hub.troubles["config.json"] = [Trouble(headers={"Content-Encoding": "gzip"})]
        source = self.source(hub)
        refused = refusal(source, by_path(source.list())["config.json"])
        assert "config.json: comes encoded (gzip)" in str(refused)
        assert refused.cause is Cause.INVALID


class _Elsewhere(Handler):
    def respond(self) -> None:
        self.answer(302, {"Location": self.server.state.leads_to})


class _File(Handler):
    def respond(self) -> None:
        self.answer(200, {}, BIG)


class Redirecting(Serving):
    """A server that sends everybody to one address; with a ``pair`` it speaks TLS."""

    def __init__(self, pair: Pair | None, leads_to: str) -> None:
        super().__init__(_Elsewhere, tls=pair)
        self.leads_to = leads_to


class TestWeb:
    @staticmethod
    def source(hub: Hub, path: str, **more: object) -> Source:
        return source_for(f"{hub.url}/web/{path}", credentials=Credentials(), **more)  # type: ignore[arg-type]

    def test_an_address_is_one_file(self, hub: Hub) -> None:
        hub.web["m/model.gguf"] = BIG
        source = self.source(hub, "m/model.gguf?key=secret")
        listing = source.list()
        assert "secret" not in listing.source
        (file,) = listing.files
        assert (file.path, file.size) == ("model.gguf", len(BIG))
        assert read(source, file, 7, 99) == BIG[7:99]
        hub.web["m/model.gguf"] = BIG[::-1]
        assert refusal(source, file).cause is Cause.CHANGED
        hub.web.clear()
        assert refusal(source).cause is Cause.NOT_FOUND

    def test_an_address_of_https_leads_nowhere_where_bytes_can_be_changed_on_the_way(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = self_signed(tmp_path, "127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
        hub.web["m/model.gguf"] = BIG
        with Redirecting(pair, f"{hub.url}/web/m/model.gguf") as other:
            source = source_for(f"{other.urls[0]}/model.gguf", credentials=Credentials())
            refused = refusal(source)
        assert "model.gguf: leads to http://127.0.0.1, where it can be changed" in str(refused)
        assert refused.cause is Cause.INVALID

    def test_nor_does_it_by_way_of_such_a_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = self_signed(tmp_path, "127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
        with (
            Serving(_File, tls=pair) as last,
            Redirecting(None, f"{last.urls[0]}/model.gguf") as middle,
            Redirecting(pair, f"{middle.urls[0]}/model.gguf") as first,
        ):
            source = source_for(f"{first.urls[0]}/model.gguf", credentials=Credentials())
            refused = refusal(source)
        assert "model.gguf: leads to http://127.0.0.1, where it can be changed" in str(refused)

    def test_sums_tell_what_a_directory_holds(self, hub: Hub) -> None:
        hub.index_page = False
        hub.web = {f"m/{path}": content for path, content in FILES.items()}
        listed = {**FILES, "SHA256SUMS": b""}  # `sha256sum * > SHA256SUMS` lists itself
        hub.web["m/SHA256SUMS"] = "".join(
            f"{hashlib.sha256(content).hexdigest()}  ./{path}\n" for path, content in listed.items()
        ).encode()
        source = self.source(hub, "m/")
        files = by_path(source.list())
        assert set(files) == set(FILES)
        for path, file in files.items():
            assert file.sha256 == hashlib.sha256(FILES[path]).hexdigest()
            assert read(source, file, 1, len(FILES[path])) == FILES[path][1:]
        hub.web["m/SHA256SUMS"] = b"<html>not found</html>"
        assert "is not as sha256sum writes it" in str(refusal(source))

    def test_without_sums_the_page_of_the_directory_tells(self, hub: Hub) -> None:
        hub.web = {"m/config.json": b"{}", "m/sub/x.bin": BIG, "m2/other": b"no"}
        source = self.source(hub, "m/")
        files = by_path(source.list())
        assert {path: file.size for path, file in files.items()} == {
            "config.json": 2,
            "sub/x.bin": len(BIG),
        }
        hub.index_page = False
        assert "write SHA256SUMS with sha256sum" in str(refusal(source))

    def test_a_range_is_not_taken_from_a_server_that_has_none(self, hub: Hub) -> None:
        hub.web["x"] = BIG
        source = self.source(hub, "x")
        (file,) = source.list().files
        hub.ranges = False
        with pytest.raises(SourceError) as refused:
            read(source, file, 10, 20)
        assert refused.value.cause is Cause.NO_RANGES
        assert read(source, file, 0, len(BIG)) == BIG


class TestObjects:
    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with ObjectStore() as running:
            # As FSSPEC_GS_TOKEN=anon in the environment of the process does.
            monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
            running.buckets["models"] = {f"llama/{p}": content for p, content in FILES.items()}
            running.buckets["models"] |= {"llama/": b"", "llama-2/x": b"no", "one.gguf": BIG}
            yield running

    @staticmethod
    def source(store: ObjectStore, address: str = "s3://models/llama") -> Source:
        return source_for(address, credentials=Credentials(endpoint_url=store.url))

    @pytest.mark.parametrize(
        "address", ["s3://models/llama", "s3://models/llama/", "gs://models/llama"]
    )
    def test_a_prefix_lists_the_objects_below_it(self, store: ObjectStore, address: str) -> None:
        source = self.source(store, address)
        files = by_path(source.list())
        assert {path: file.size for path, file in files.items()} == {
            path: len(content) for path, content in FILES.items()
        }
        for path, file in files.items():
            assert read(source, file, 0, file.size) == FILES[path]
            assert read(source, file, 1, 2) == FILES[path][1:2]

    @pytest.mark.parametrize("address", ["s3://models/one.gguf", "gs://models/one.gguf"])
    def test_an_address_may_be_one_object(self, store: ObjectStore, address: str) -> None:
        source = self.source(store, address)
        (file,) = source.list().files
        assert (file.path, read(source, file, 3, 44)) == ("one.gguf", BIG[3:44])

    @pytest.mark.parametrize("address", ["s3://models/llama", "gs://models/llama"])
    def test_an_object_that_was_replaced_since_is_noticed(
        self, store: ObjectStore, address: str
    ) -> None:
        source = self.source(store, address)
        file = by_path(source.list())["model.safetensors"]
        store.buckets["models"]["llama/model.safetensors"] = BIG[::-1] + b"more"
        assert refusal(source, file).cause is Cause.CHANGED

    def test_an_object_with_the_name_of_a_folder_is_said(self, store: ObjectStore) -> None:
        store.buckets["models"] |= {"llama/original": b"an object"}
        refused = refusal(self.source(store))
        assert "original is a file, and original/params.json" in str(refused)
        assert refused.cause is Cause.INVALID

    def test_refusals_are_told_apart(self, store: ObjectStore) -> None:
        source = self.source(store)
        file = by_path(source.list())["model.safetensors"]
        store.statuses = [403]
        assert refusal(source, file).cause is Cause.UNAUTHORIZED
        store.statuses = [403]
        google = self.source(store, "gs://models/llama")
        at_google = by_path(google.list())["model.safetensors"]
        assert refusal(google, at_google).cause is Cause.UNAUTHORIZED
        del store.buckets["models"]["llama/model.safetensors"]
        assert refusal(source, file).cause is Cause.NOT_FOUND
        assert refusal(self.source(store, "s3://absent/x")).cause is Cause.NOT_FOUND
        assert refusal(self.source(store, "s3://models/absent")).cause is Cause.NOT_FOUND

    @pytest.mark.parametrize("scheme", ["s3", "gs"])
    @pytest.mark.parametrize(
        ("status", "asks", "expected"),
        [
            (503, "77", (Cause.THROTTLED, 77.0)),
            (429, "77", (Cause.THROTTLED, 77.0)),
            (503, "", (Cause.THROTTLED, None)),
            (500, "9", (Cause.SERVER, 9.0)),
        ],
    )
    def test_a_store_that_asks_to_wait_is_asked_once_and_says_how_long(
        self, store: ObjectStore, scheme: str, status: int, asks: str, expected: object
    ) -> None:
        source = self.source(store, f"{scheme}://models/llama")
        file = by_path(source.list())["model.safetensors"]
        store.statuses, store.retry_after = [status] * 20, asks
        refused = refusal(source, file)
        assert (refused.cause, refused.retry_after) == expected
        assert not refused.permanent
        assert store.refused == 1
        store.statuses = []
        assert read(source, file, 0, file.size) == BIG

    def test_a_store_that_is_not_there_is_unreachable(self, store: ObjectStore) -> None:
        credentials = Credentials(endpoint_url="http://127.0.0.1:9")
        refused = refusal(source_for("s3://models/x", credentials=credentials))
        assert (refused.cause, refused.permanent) == (Cause.UNREACHABLE, False)


class TestLocal:
    @staticmethod
    def source(place: Path) -> Source:
        return source_for(f"file://{place}", credentials=Credentials())

    def test_a_directory_is_walked_but_for_what_is_not_of_the_model(self, tmp_path: Path) -> None:
        for path, content in FILES.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        (tmp_path / ".modelcache.json").write_text("{}")
        (tmp_path / ".cache").mkdir()
        (tmp_path / ".cache" / "x.metadata").write_text("")
        source = self.source(tmp_path)
        files = by_path(source.list())
        assert set(files) == set(FILES)
        file = files["model.safetensors"]
        assert read(source, file, 5, 4000) == BIG[5:4000]
        assert read(source, file, 5, None) == BIG[5:]
        (tmp_path / "model.safetensors").write_bytes(b"other")
        assert refusal(source, file).cause is Cause.CHANGED

    def test_a_cache_of_the_hub_is_read_at_its_ref_with_the_hashes_in_its_names(
        self, tmp_path: Path
    ) -> None:
        place, commit = tmp_path / "models--org--name", "a" * 40
        snapshot = place / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (place / "blobs").mkdir()
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        names = {"config.json": git_oid(b"{}"), "m.safetensors": hashlib.sha256(BIG).hexdigest()}
        for path, blob in names.items():
            (place / "blobs" / blob).write_bytes(BIG if "m." in path else b"{}")
            (snapshot / path).symlink_to(f"../../blobs/{blob}")
        for address in (place, snapshot):
            listing = self.source(address).list()
            files = by_path(listing)
            assert listing.revision == commit
            assert files["m.safetensors"].sha256 == names["m.safetensors"]
            assert files["config.json"].git_oid == names["config.json"]
            assert read(self.source(address), files["m.safetensors"], 0, 9) == BIG[:9]

    def test_a_download_of_somebody_elses_that_has_not_ended_is_no_origin_yet(
        self, tmp_path: Path
    ) -> None:
        """Small files come first: without a look at what is unfinished they would be a model."""
        (tmp_path / "config.json").write_text("{}")
        left = tmp_path / ".cache" / "huggingface" / "download" / "Zk3.abc.incomplete"
        left.parent.mkdir(parents=True)
        left.write_bytes(BIG[:9])
        refused = refusal(self.source(tmp_path))
        assert "Zk3.abc.incomplete: a download that has not ended; wait for it" in str(refused)
        assert (refused.cause, refused.permanent) == (Cause.UNREACHABLE, False)
        left.unlink()
        assert set(by_path(self.source(tmp_path).list())) == {"config.json"}

    def test_a_cache_of_the_hub_whose_blobs_have_not_all_come_is_no_origin_yet(
        self, tmp_path: Path
    ) -> None:
        snapshot = tmp_path / "models--org--name" / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        blobs = tmp_path / "models--org--name" / "blobs"
        blobs.mkdir()
        (blobs / git_oid(b"{}")).write_bytes(b"{}")
        (snapshot / "config.json").symlink_to(f"../../blobs/{git_oid(b'{}')}")
        (blobs / f"{'b' * 64}.incomplete").write_bytes(BIG[:9])
        assert "has not ended" in str(refusal(self.source(snapshot)))

    def test_what_huggingface_hub_began_and_did_again_is_no_unfinished_download(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "config.json").write_text("{}")
        download = tmp_path / ".cache" / "huggingface" / "download"
        download.mkdir(parents=True)
        (download / "config.json.metadata").write_text(f"{'a' * 40}\n{git_oid(b'{}')}\n1.0\n")
        left = download / f"Zk3.{git_oid(b'{}')}.x1.incomplete"
        left.write_bytes(b"{")
        assert set(by_path(self.source(tmp_path).list())) == {"config.json"}
        left.rename(left.with_name(f"Zk3.{'b' * 40}.x1.incomplete"))
        assert "has not ended" in str(refusal(self.source(tmp_path)))

    def test_a_directory_is_walked_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "config.json").write_text("{}")
        walks = []
        walk = os.walk

        def counted(top: Path, **more: Any) -> Any:
            walks.append(top)
            return walk(top, **more)

        monkeypatch.setattr(os, "walk", counted)
        self.source(tmp_path).list()
        assert walks == [tmp_path]

    @pytest.mark.parametrize("kind", ["leads out", "leads nowhere", "pipe"])
    def test_what_is_no_file_of_the_directory_is_refused_unless_it_is_left_out(
        self, tmp_path: Path, kind: str
    ) -> None:
        """Opening a pipe would wait for its writer for ever."""
        place = tmp_path / "model"
        place.mkdir()
        (place / "config.json").write_text("{}")
        if kind == "pipe":
            os.mkfifo(place / "odd")
        else:
            (place / "odd").symlink_to("/etc/passwd" if kind == "leads out" else place / "gone")
        refused = refusal(self.source(place))
        assert f"file://{place}: odd: " in str(refused)
        assert refused.cause is (Cause.NOT_FOUND if kind == "leads nowhere" else Cause.INVALID)
        left = source_for(f"file://{place}", exclude=["odd"], credentials=Credentials())
        assert set(by_path(left.list())) == {"config.json"}

    def test_what_is_not_there_or_empty_is_said(self, tmp_path: Path) -> None:
        assert "mount it" in str(refusal(self.source(tmp_path / "absent")))
        assert "holds no files" in str(refusal(self.source(tmp_path)))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 0 "}, 0),
        (
            {
                "Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT",
                "Date": "Fri, 31 Dec 1999 23:59:29 GMT",
            },
            30,
        ),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"Retry-After": "soon", "Date": "Fri, 31 Dec 1999 23:59:29 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "\u0661"}, None),
        ({}, None),
    ],
)
def test_a_date_to_wait_for_is_read_against_the_servers_own_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    """So that a node whose clock is wrong waits neither years nor not at all."""
    assert retry_after(headers) == seconds


def test_the_revision_may_be_written_into_the_address_of_a_repository() -> None:
    assert locate("hf://org/name@v1.0") == locate("hf://org/name", "v1.0")
    assert locate("hf://org/name", "main").revision == "main"
    assert locate("hf://gpt2").place == "gpt2"


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
