"""Headers of safetensors files: what the real reader takes is taken, nothing cut short ever is."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from extender.loader.proof.beginnings import HeaderError
from extender.loader.proof.safetensors import MAX_HEADER_BYTES, Header, read_header
from tests.loader.models import safetensors

DTYPES = ("float32", "float16", "int8", "uint8", "int64", "bool", "uint16", "float64", "int32")


def written(data: bytes) -> Path:
    with tempfile.NamedTemporaryFile(suffix=".safetensors", delete=False) as file:
        file.write(data)
    return Path(file.name)


def accepted(data: bytes) -> bool:
    return header_of(data) is not None


def header_of(data: bytes) -> Header | None:
    path = written(data)
    try:
        return read_header(path)
    except HeaderError:
        return None
    finally:
        path.unlink()


def as_good_as_the_real_reader(data: bytes) -> bool:
    """Refused here, or accepted there too; a type that only a newer reader can know is said."""
    header = header_of(data)
    return header is None or bool(header.unknown) or really_accepted(data)


def really_accepted(data: bytes) -> bool:
    """What the reader that vLLM and transformers use says."""
    path = written(data)
    try:
        with safe_open(path, framework="numpy") as reader:
            reader.keys()
    except (SafetensorError, OSError):
        return False
    finally:
        path.unlink()
    return True


tensors = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.builds(
        lambda dtype, shape: np.zeros(shape, dtype),
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=5,
)


@given(tensors, st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_what_the_real_library_writes_is_accepted(
    parts: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    assert accepted(save(parts, metadata))


@given(tensors, st.integers(0, 200), st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_refused(
    parts: dict[str, Any], padding: int, where: float
) -> None:
    whole = save({**parts, "last": np.zeros(1 + padding, "uint8")})
    assert not accepted(whole[: int(len(whole) * where)])


@given(tensors, st.data())
def test_a_file_with_changed_header_bytes_is_accepted_only_where_the_real_reader_does(
    parts: dict[str, Any], data: st.DataObject
) -> None:
    changed = bytearray(save({**parts, "last": np.zeros(8, "uint8")}))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 9))
        changed[at] = data.draw(st.integers(0, 255))
    assert as_good_as_the_real_reader(bytes(changed))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=14), inner),
    max_leaves=20,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4", "F99"]) | json_values,
        "shape": st.lists(st.integers(-1, 2**70), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 2**70), max_size=3) | json_values,
    }
)


@given(
    st.dictionaries(st.text(max_size=12), entries | json_values, max_size=3) | json_values,
    st.binary(max_size=40),
    st.integers(-3, 3),
)
@example({"a": {"dtype": "U8", "shape": [2**62] * 64, "data_offsets": [0, 0]}}, b"", 0)
@example({"a": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"abc", 0)
@example({"a": {"dtype": "U8", "shape": [0], "data_offsets": [3, 3]}}, b"", 0)
def test_a_hostile_header_is_refused_in_words_or_as_good_as_the_real_reader_says(
    content: Any, rest: bytes, off: int
) -> None:
    header = json.dumps(content).encode()
    data = max(0, len(header) + off).to_bytes(8, "little") + header + rest
    assert as_good_as_the_real_reader(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_in_words_or_as_good_as_the_real_reader_says(data: bytes) -> None:
    assert as_good_as_the_real_reader(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"1234567", "fewer than any"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{", "above the format's bound"),
        ((2**64 - 1).to_bytes(8, "little") + b"{", "above the format's bound"),
        ((100).to_bytes(8, "little") + b"{}", "ends inside of its header"),
        ((2).to_bytes(8, "little") + b"[]", "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (safetensors({"a": b"1234"})[:-1], "is cut short"),
        (safetensors({"a": b"1234"}) + b"x", "bytes after its last tensor"),
        ((10_000).to_bytes(8, "little") + b'{"a":' * 2_000, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(HeaderError, match=told):
        read_header(path)


def test_a_type_that_is_not_known_is_said_and_not_failed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"a": b"1234"}).replace(b'"U8"', b'"Q8"'))
    assert read_header(path).unknown == {"Q8"}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HeaderError, match="cut short"):
        read_header(path)
