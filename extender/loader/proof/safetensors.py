"""The header of a safetensors file, read as if an enemy had written it.

A file is: N (8 bytes, little endian), N bytes of JSON, the tensors' bytes. The JSON maps names to
``{"dtype", "shape", "data_offsets": [begin, end]}``, with offsets counted from the end of the JSON,
and ``__metadata__`` to texts. The tensors lie side by side: no hole, no overlap, and the last one
ends where the file ends (https://github.com/huggingface/safetensors#format). So the header alone
tells whether the file is cut short, at the cost of reading its first kilobytes.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec

from extender.loader.disk import regular_file
from extender.loader.proof.beginnings import HeaderError, check_beginning

MAX_HEADER_BYTES = 100_000_000
"""The reader's own bound (MAX_HEADER_SIZE in safetensors/src/tensor.rs)."""

_LENGTH_BYTES = 8
_MAX_OFFSET = 2**63

_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits of one element (Dtype in safetensors/src/tensor.rs)."""


class Header(msgspec.Struct, frozen=True):
    """``tensors`` counts them; ``unknown`` are data types that this program does not know."""

    tensors: int
    unknown: frozenset[str]


class _Tensor(msgspec.Struct, frozen=True, gc=False):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_tensor = msgspec.json.Decoder(_Tensor)


def read_header(path: Path) -> Header:
    """Read and check one file's header. Raises HeaderError, and OSError where it cannot be read."""
    descriptor = regular_file(path)
    try:
        size = os.fstat(descriptor).st_size
        first = os.pread(descriptor, 64, 0)
        length = _length(first, size)
        text = _read(descriptor, length)
    finally:
        os.close(descriptor)
    return _checked(text, size - _LENGTH_BYTES - length)


def _length(first: bytes, size: int) -> int:
    check_beginning(first)
    if len(first) < _LENGTH_BYTES:
        raise HeaderError(f"has {size} bytes, fewer than any safetensors file")
    length = int.from_bytes(first[:_LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(
            f"its header claims {length} bytes, above the format's bound of {MAX_HEADER_BYTES}"
        )
    if _LENGTH_BYTES + length > size:
        raise HeaderError(f"has {size} bytes and ends inside of its header of {length}")
    return length


def _read(descriptor: int, length: int) -> bytes:
    parts = []
    at = _LENGTH_BYTES
    while at < _LENGTH_BYTES + length:
        part = os.pread(descriptor, _LENGTH_BYTES + length - at, at)
        if not part:
            raise HeaderError("became shorter while it was read")
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _checked(text: bytes, data_bytes: int) -> Header:
    if not text.startswith(b"{"):
        raise HeaderError("its header does not begin with '{': not a safetensors file")
    tensors = _tensors(text)
    unknown = set()
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, until = tensor.data_offsets
        if begin != end or until < begin or until > _MAX_OFFSET:
            raise HeaderError(
                f"tensor {name[:80]!r} lies at {begin} to {until}, but the one before ends at {end}"
            )
        end = until
        bits = _BITS.get(tensor.dtype)
        if bits is None:
            unknown.add(tensor.dtype[:20])
        elif _bits(name, tensor, bits) != 8 * (until - begin):
            raise HeaderError(
                f"tensor {name[:80]!r} of type {tensor.dtype} and shape {list(tensor.shape)[:8]} "
                f"does not take {until - begin} bytes"
            )
    if end != data_bytes:
        what = "is cut short" if data_bytes < end else "has bytes after its last tensor"
        raise HeaderError(
            f"{what}: its header tells of {end} bytes of tensors, {data_bytes} follow"
        )
    return Header(len(tensors), frozenset(unknown))


def _tensors(text: bytes) -> dict[str, _Tensor]:
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = entries.pop("__metadata__", None)
        if metadata is not None:
            msgspec.json.decode(metadata, type=dict[str, str] | None)
        return {name: _tensor.decode(raw) for name, raw in entries.items()}
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise HeaderError(f"its header cannot be read: {error}") from error


def _bits(name: str, tensor: _Tensor, bits: int) -> int:
    if len(tensor.shape) > 64 or any(not 0 <= side <= _MAX_OFFSET for side in tensor.shape):
        raise HeaderError(f"tensor {name[:80]!r} has a shape that cannot be")
    return math.prod(tensor.shape) * bits
