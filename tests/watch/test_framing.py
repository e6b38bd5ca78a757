"""Bytes into lines, wherever the network cuts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.watch.framing import LineTooLongError, split_lines

streams = st.lists(
    st.sampled_from([b"{}", b'{"a":1}', b"", b" ", b"\n", b"x\ny", b"\n\n", b"long"])
)


@given(streams)
def test_the_lines_do_not_depend_on_where_the_bytes_are_cut(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    lines = [line for line in whole.split(b"\n") if line.strip()]
    assert list(split_lines(chunks)) == lines
    assert list(split_lines([whole])) == lines
    assert list(split_lines(bytes([byte]) for byte in whole)) == lines


def test_a_line_is_given_as_soon_as_it_is_whole() -> None:
    taken: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate((b"a\nb", b"c\n", b"d")):
            taken.append(number)
            yield chunk

    lines = split_lines(chunks())
    assert next(lines) == b"a"
    assert taken == [0]
    assert next(lines) == b"bc"
    assert taken == [0, 1]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_without_end_is_given_up(size: int) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * size

    with pytest.raises(LineTooLongError):
        list(split_lines(endless(), max_line=1000))


def test_many_lines_together_may_be_longer_than_one_may_be() -> None:
    chunks = [b"x" * 900 + b"\n"] * 10
    assert len(list(split_lines(chunks, max_line=1000))) == 10
