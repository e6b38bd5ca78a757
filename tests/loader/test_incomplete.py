"""A source that does not have the whole model itself: said at once, with what to do, never shown.

A list that somebody vouches for (a commit, SHA256SUMS, a marker) may leave parts out; a place that
just has files in it may be one that somebody is still copying to.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extender.loader.damaged import IncompleteError
from extender.loader.failing import OwnCause, failure_of
from extender.loader.layout import CacheDirectory
from extender.loader.obtaining import Obtainer
from extender.loader.origin import Origin, opener
from extender.loader.publish import Publisher
from extender.loader.sources import Cause, Credentials, Part, SourceError
from extender.loader.transfer.limits import Limits
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import LoaderProcess, catalog, wait_for
from tests.loader.models import contents, put
from tests.loader.origins import FILES, At

SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
ORIGIN = Origin(source="hf://org/small")
SIZE = sum(map(len, FILES.values()))

LACKING = {
    Part.WEIGHTS: {p: d for p, d in FILES.items() if "safetensors" not in p},
    Part.CONFIG: {p: d for p, d in FILES.items() if p != "config.json"},
    Part.TOKENIZER: {p: d for p, d in FILES.items() if p != "tokenizer.json"},
}
SAID = {
    Part.WEIGHTS: "holds no weights in any format that is known",
    Part.CONFIG: "config.json: is not there beside the weights",
    Part.TOKENIZER: "config.json has a vocabulary, and no tokenizer is there",
}


class Counted:
    """An obtainer, and how many bytes came to it."""

    def __init__(self, root: Path, credentials: Credentials) -> None:
        self.cache = CacheDirectory(root)
        self.received = 0
        self._obtainer = Obtainer(
            self.cache,
            Publisher(),
            open_source=opener(credentials),
            limits=Limits(),
            received=self._came,
        )
        self.obtain = self._obtainer.obtain

    def _came(self, count: int) -> None:
        self.received += count

    def refused(self, origin: Origin) -> IncompleteError:
        with pytest.raises(IncompleteError) as refused:
            self.obtain("m", origin)
        assert not self.cache.final("m").exists()
        return refused.value


@pytest.fixture
def counted(hub: Hub, fast: Path) -> Counted:
    return Counted(fast, Credentials(hub_endpoint=hub.url))


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("at", ["https", "s3", "gs", "file"], indirect=True)
def test_what_lacks_a_part_where_nobody_vouches_for_the_list_is_not_shown_unless_it_is_meant(
    at: At, fast: Path, part: Part
) -> None:
    here = Counted(fast, Credentials(endpoint_url=at.endpoint))
    at.replace(LACKING[part])
    refused = here.refused(at.origin)
    assert SAID[part] in str(refused)
    assert f"fill --without {part}" in str(refused)
    assert "wait until all is copied there, or correct the source" in str(refused)
    assert not failure_of(refused).permanent
    if part is not Part.TOKENIZER:  # the names tell
        assert here.received == 0
    meant = Origin(source=at.origin.source, without=(part,))
    marker = here.obtain("m", meant)
    assert contents(here.cache.final("m")) == LACKING[part]
    assert any(SAID[part] in note for note in marker.unchecked)


@pytest.mark.parametrize("at", ["file"], indirect=True)
def test_what_was_still_to_come_is_shown_once_it_is_there(at: At, fast: Path) -> None:
    here = Counted(fast, Credentials())
    at.replace(LACKING[Part.WEIGHTS])
    here.refused(at.origin)
    at.replace(FILES)
    here.obtain("m", at.origin)
    assert contents(here.cache.final("m")) == FILES


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("at", ["https with SHA256SUMS"], indirect=True)
def test_a_file_of_hashes_vouches_for_what_it_does_not_name(at: At, fast: Path, part: Part) -> None:
    at.replace(LACKING[part])
    marker = Counted(fast, Credentials()).obtain("m", at.origin)
    assert any(SAID[part] in note for note in marker.unchecked)


@pytest.mark.parametrize("part", Part)
def test_the_hub_vouches_for_what_a_commit_does_not_have(
    counted: Counted, hub: Hub, part: Part
) -> None:
    hub.repositories["org/small"] = Repository(files=LACKING[part], large=500)
    assert any(SAID[part] in note for note in counted.obtain("m", ORIGIN).unchecked)


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("at", ["https with SHA256SUMS"], indirect=True)
@pytest.mark.parametrize("of_hub", [True, False])
def test_nobody_vouches_for_what_patterns_leave_out_of_a_list(
    at: At, hub: Hub, fast: Path, part: Part, *, of_hub: bool
) -> None:
    """A pattern that is written wrong would leave two small files for a model."""
    here = Counted(fast, Credentials(hub_endpoint=hub.url))
    source = ORIGIN.source if of_hub else at.origin.source
    left_out = tuple(sorted(FILES.keys() - LACKING[part].keys()))
    asked = Origin(source=source, exclude=left_out)
    refused = here.refused(asked)
    assert SAID[part] in str(refused)
    assert f"exclude {list(left_out)} left it out: correct the patterns" in str(refused)
    assert f"fill --without {part}" in str(refused)
    assert failure_of(refused).permanent
    assert here.received <= len(FILES["config.json"]) + len(FILES[INDEX])
    meant = Origin(source=source, exclude=left_out, without=(part,))
    assert any(SAID[part] in note for note in here.obtain("m", meant).unchecked)


def test_what_a_pipeline_names_may_be_left_out_of_a_list_that_somebody_vouches_for(
    counted: Counted, hub: Hub, fast: Path
) -> None:
    """A safety checker that nobody wants; but a directory may be one that is still being copied."""
    files = {
        "model_index.json": b'{"unet": ["diffusers", "U"], "safety_checker": ["d", "S"]}',
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": FILES[SHARD],
        "safety_checker/model.safetensors": FILES[SHARD],
    }
    hub.repositories["org/small"] = Repository(files=files, large=500)
    exclude = ("safety_checker/*",)
    marker = counted.obtain("m", Origin(source="hf://org/small", exclude=exclude))
    said = "safety_checker/: model_index.json names this directory, and no file of it is there"
    assert said in marker.unchecked
    half = put(fast / "half", {p: d for p, d in files.items() if not p.startswith("safety")})
    refused = Counted(fast / "of-a-directory", Credentials()).refused(
        Origin(source=f"file://{half}")
    )
    assert said in str(refused)
    assert "wait until all is copied there" in str(refused)


def test_one_object_that_an_address_names_is_all_that_was_asked_for(hub: Hub, fast: Path) -> None:
    hub.web = {"one.safetensors": FILES[SHARD]}
    marker = Counted(fast, Credentials()).obtain(
        "m", Origin(source=f"{hub.url}/web/one.safetensors")
    )
    assert any(SAID[Part.CONFIG] in note for note in marker.unchecked)


@pytest.mark.parametrize("at", ["file of a filled claim"], indirect=True)
def test_a_file_that_went_since_it_was_proven_at_the_origin_is_missed_there(
    at: At, fast: Path
) -> None:
    here = Counted(fast, Credentials())
    at.replace(LACKING[Part.TOKENIZER])
    with pytest.raises(SourceError, match=r"tokenizer.json: was proven here") as refused:
        here.obtain("m", at.origin)
    assert refused.value.cause is Cause.UNREACHABLE
    here.obtain("m", Origin(source=at.origin.source, exclude=("tokenizer.json",)))


def test_a_shard_that_the_names_show_to_be_missing_is_missed_before_the_first_byte(
    counted: Counted, hub: Hub
) -> None:
    del hub.repositories["org/small"].files[SHARD]
    refused = counted.refused(ORIGIN)
    assert f"{SHARD}: one of 2 shards, it is not there" in str(refused)
    assert str(refused).endswith("to fetch it again does not help: correct the source")
    assert hub.bytes_sent() == 0


def test_a_shard_that_only_the_index_names_is_missed_before_the_first_byte_of_a_weight(
    counted: Counted, hub: Hub
) -> None:
    index = {"weight_map": {"a": SHARD, "b": "rest.safetensors"}}
    files = hub.repositories["org/small"].files
    files[INDEX] = json.dumps(index).encode()
    for _ in range(3):
        refused = counted.refused(ORIGIN)
        assert "rest.safetensors: model.safetensors.index.json names this shard" in str(refused)
        assert str(refused).endswith("to fetch it again does not help: correct the source")
        assert "without" not in str(refused)  # nothing that a model can have none of
    assert hub.bytes_sent() == counted.received == len(files[INDEX]) + len(files["config.json"])
    failure = failure_of(refused)
    assert (failure.cause, failure.permanent) == (OwnCause.INCOMPLETE, True)
    hub.repositories["org/small"] = Repository(files=dict(FILES), large=500)
    counted.obtain("m", ORIGIN)
    assert contents(counted.cache.final("m")) == FILES


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            Origin(source="hf://org/small", exclude=("model-00001*",)),
            "exclude ['model-00001*'] left it out",
        ),
        (
            Origin(source="hf://org/small", exclude=("*.safetensors",)),
            "exclude ['*.safetensors'] left it out",
        ),
        (
            Origin(source="hf://org/small", include=("*.json", "*-00002-*")),
            "include ['*.json', '*-00002-*'] left it out",
        ),
        (Origin(source="hf://org/small", exclude=("vae/b*",)), "exclude ['vae/b*'] left it out"),
    ],
)
def test_what_patterns_leave_out_of_what_an_index_names_is_missed_before_the_first_weight(
    counted: Counted, hub: Hub, wanted: Origin, said: str
) -> None:
    files = hub.repositories["org/small"].files
    names = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    files["vae/model.safetensors.index.json"] = json.dumps(names).encode()
    files |= {f"vae/{name}": FILES[SHARD] for name in names["weight_map"].values()}
    refused = counted.refused(wanted)
    assert f"{said}: correct the patterns (what an index names goes with the index" in str(refused)
    assert "source" not in str(refused)
    assert failure_of(refused).permanent
    assert not any(hub.bytes_sent(path) for path in files if path.endswith(".safetensors"))


def test_what_patterns_leave_out_is_not_missed_where_a_whole_model_remains(
    counted: Counted, hub: Hub
) -> None:
    files = hub.repositories["org/small"].files
    names = {"weight_map": {"a": "consolidated-1.safetensors"}}
    files["consolidated.safetensors.index.json"] = json.dumps(names).encode()
    files["consolidated-1.safetensors"] = FILES[SHARD]
    wanted = Origin(source="hf://org/small", exclude=("consolidated-*.safetensors",))
    marker = counted.obtain("m", wanted)
    assert "consolidated-1.safetensors" not in contents(counted.cache.final("m"))
    assert marker.unchecked == (
        "consolidated.safetensors.index.json: none of its shards is there, safetensors are",
    )


def test_a_config_that_asks_for_a_tokenizer_is_looked_at_before_the_first_weight(
    fast: Path, hub: Hub
) -> None:
    hub.web = {f"m/{path}": data for path, data in LACKING[Part.TOKENIZER].items()}
    here = Counted(fast, Credentials())
    assert SAID[Part.TOKENIZER] in str(here.refused(Origin(source=f"{hub.url}/web/m/")))
    assert here.received == len(FILES["config.json"]) + len(FILES[INDEX])


@pytest.mark.parametrize("path", ["config.json", INDEX, SHARD])
def test_what_cannot_be_read_because_it_came_wrong_is_fetched_again(
    counted: Counted, hub: Hub, path: str
) -> None:
    data = FILES[path]
    files = dict(FILES)
    if path.endswith(".json"):
        files[path] = b" " * len(data) + data  # the byte in the middle is its first bracket
    hub.repositories["org/small"] = Repository(files=files, large=500)
    hub.troubles[path] = [Trouble(flip=True, at_hub=False)]
    counted.obtain("m", ORIGIN)
    assert contents(counted.cache.final("m")) == files
    assert hub.bytes_sent(path) == 2 * len(files[path])


def test_of_a_config_that_is_none_it_is_not_said_that_the_model_may_have_none(
    counted: Counted, hub: Hub
) -> None:
    hub.repositories["org/small"].files["config.json"] = b"<html>"
    refused = counted.refused(ORIGIN)
    assert "config.json: cannot be read" in str(refused)
    assert "without" not in str(refused)


@pytest.mark.parametrize("hashes", [True, False])
def test_a_file_that_was_cut_before_it_came_to_its_source_is_not_fetched_for_ever(
    fast: Path, hub: Hub, *, hashes: bool
) -> None:
    cut = {**FILES, SHARD: FILES[SHARD][:-1]}
    hub.repositories["org/small"] = Repository(files=cut, large=500)
    hub.web = {f"m/{path}": data for path, data in cut.items()}
    here = Counted(fast, Credentials(hub_endpoint=hub.url))
    refused = here.refused(ORIGIN if hashes else Origin(source=f"{hub.url}/web/m/"))
    assert f"{SHARD}: is cut short" in str(refused)
    assert here.received == SIZE - 1 + (0 if hashes else len(cut[SHARD]))


def test_the_loader_says_what_is_missing_and_what_could_not_be_checked(
    hub: Hub, fast: Path
) -> None:
    half = put(fast / "half", LACKING[Part.WEIGHTS])
    single = put(fast / "single", {"one.safetensors": FILES[SHARD]})
    file = fast / "catalog.yaml"
    file.write_text(
        catalog(
            {"name": "half", "source": f"file://{half}"},
            {"name": "single", "source": f"file://{single}", "without": ["config"]},
        )
    )
    with LoaderProcess(file, fast / "cache") as loader:
        wait_for(lambda: loader.models("ready") == 1 and loader.models("failed") == 1)
        [failed] = [e for e in loader.events if e["event"] == "model not obtained"]
        [ready] = [e for e in loader.events if e["event"] == "model ready"]
    assert failed["cause"] == "incomplete"
    assert "without: [weights] in the catalog" in str(failed["error"])
    assert any(SAID[Part.CONFIG] in note for note in ready["not_checked"])  # type: ignore[attr-defined]
