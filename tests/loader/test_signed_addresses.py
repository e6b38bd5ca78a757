"""The query of an address may be a signature that lets anybody read it: nothing ever says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from extender.addresses import shown
from extender.errors import InvalidConfigurationError
from extender.loader.catalog import CatalogModel, load_catalog
from extender.loader.layout import MARKER
from extender.loader.sources import Credentials, SourceError
from extender.loader.sources.opening import source_for
from extender.loader.sources.urls import locate
from extender.loader.table import ModelTable
from tests.loader.hub import Hub, Trouble, sha256_of
from tests.loader.loader_process import LoaderProcess, catalog, wait_for
from tests.loader.models import contents, small_model
from tests.loader.test_filling import Process

SECRET = "X-Amz-Signature=c0ffee"
FILES = small_model()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"htps://host/model?{SECRET}", "htps://host/model"),
        (f"host/model?{SECRET}", "host/model"),
        (f"https:///model?{SECRET}", "https:///model"),
        (f"https://[host/model?{SECRET}", "https://[host/model"),
        (f"https://host/model?{SECRET}#part", "https://host/model"),
        (f"https://host/model#{SECRET}", "https://host/model"),
        (f"https://{SECRET}@host/model", "https://host/model"),
        (f"ftp://me:{SECRET}@host/model", "ftp://host/model"),
        (f"s3://bucket/model?{SECRET}", "s3://bucket/model"),
        (f"hf://org/name?{SECRET}", "hf://org/name"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_query(
    tmp_path: Path, address: str, said: str
) -> None:
    with pytest.raises(SourceError) as refused:
        locate(address)
    assert f"{said!r}" in str(refused.value)
    assert "c0ffee" not in str(refused.value)
    file = tmp_path / "catalog.yaml"
    file.write_text(catalog({"name": "m", "source": address}))
    with pytest.raises(InvalidConfigurationError, match=r"models\[m\].source") as wrong:
        load_catalog(file)
    assert "c0ffee" not in str(wrong.value)


def test_a_catalog_that_is_no_yaml_is_refused_without_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(f"models:\n- name: m\n  source: https://host/model?{SECRET}: no\n")
    with pytest.raises(InvalidConfigurationError, match="not YAML: line 3") as wrong:
        load_catalog(file)
    assert "c0ffee" not in str(wrong.value)


def test_a_revision_of_a_repository_is_no_account() -> None:
    assert shown("hf://gpt2@v1.0") == "hf://gpt2@v1.0"


def test_credentials_that_a_store_cannot_use_are_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Google's library takes a text that names no file for a token, and asks who gave it."""
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "ya29.c0ffee"})  # FSSPEC_GS_TOKEN
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="credentials cannot be used") as refused:
        source_for("gs://bucket/model", credentials=Credentials())
    assert "c0ffee" not in str(refused.value)


@pytest.fixture
def web() -> Iterator[Hub]:
    with Hub() as running:
        running.web = {f"m/{path}": data for path, data in FILES.items()}
        sums = (f"{sha256_of(data)}  {path}\n" for path, data in FILES.items())
        running.web["m/SHA256SUMS"] = "".join(sums).encode()
        yield running


def test_a_directory_that_cannot_be_listed_is_said_without_its_query(web: Hub) -> None:
    web.web["bare/model.gguf"] = b"GGUF"
    for address in (f"{web.url}/web/bare/?{SECRET}", f"http://127.0.0.1:9/m/?{SECRET}"):
        with pytest.raises(SourceError) as refused:
            source_for(address, credentials=Credentials()).list()
        assert "c0ffee" not in str(refused.value)


def test_a_directory_behind_a_signature_is_listed(web: Hub) -> None:
    listed = source_for(f"{web.url}/web/m/?{SECRET}", credentials=Credentials()).list()
    assert {file.path for file in listed.files} == set(FILES)


def test_what_was_signed_anew_is_the_model_that_is_there() -> None:
    table = ModelTable()
    table.follow([CatalogModel(name="m", source=f"https://host/m/?{SECRET}")], [])
    table.ready("m", revision=None, size=1, proven_at="2026-01-01T00:00:00Z")
    before = table.get("m")
    table.follow([CatalogModel(name="m", source="https://host/m/?X-Amz-Signature=new")], [])
    after = table.get("m")
    assert before is not None
    assert after is not None
    assert after.state is before.state


def test_neither_log_nor_marker_of_a_fill_has_it_and_a_copy_nearby_is_found(
    web: Hub, fast: Path
) -> None:
    address = f"{web.url}/web/m/?{SECRET}"
    web.troubles["m/config.json"] = [Trouble(), Trouble(status=503)]  # the list, then the content
    first = Process(web, fast / "near", source=address)
    assert first.ended() == 0, first.log
    web.asked.clear()
    second = Process(web, fast / "far", "--from", str(fast / "near"), source=address)
    assert second.ended() == 0, second.log
    assert "copied from nearby" in second.log
    assert web.asked == []
    assert contents(fast / "far") == FILES
    marker = (fast / "far" / MARKER).read_text()
    assert "c0ffee" not in first.log + second.log + marker


def test_neither_log_nor_metrics_of_a_loader_have_it(web: Hub, fast: Path) -> None:
    file = fast / "catalog.yaml"
    file.write_text(
        catalog(
            {"name": "gone", "source": f"https://127.0.0.1:9/gone?{SECRET}"},
            {"name": "s3", "source": "s3://bucket/model"},
        )
    )
    with LoaderProcess(file, fast / "cache") as process:
        wait_for(lambda: process.models("failed") >= 1)
        file.write_text(catalog({"name": "m", "source": f"https://h/m?{SECRET}#x"}))
        wait_for(lambda: "catalog refused" in process.log)
        metrics = process.get("/metrics")[1]
    assert "https://127.0.0.1:9/gone" in process.log
    assert "c0ffee" not in process.log + metrics
