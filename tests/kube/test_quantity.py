"""Quantities: apimachinery's grammar, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import InvalidQuantityError
from extender.kube.quantity import MAX_VALUE, format_bytes, format_quantity, parse_quantity

# Values as Quantity.Value() gives them (apimachinery pkg/api/resource/quantity_test.go's cases).
READABLE = {
    "0": 0,
    "1": 1,
    "+1": 1,
    "1.": 1,
    ".5": 1,
    "0.5Gi": 512 * 2**20,
    "1Ki": 1024,
    "1Mi": 2**20,
    "1.5Gi": 1536 * 2**20,
    "1Ti": 2**40,
    "1Pi": 2**50,
    "7Ei": 7 * 2**60,
    "1k": 1000,
    "1M": 10**6,
    "1G": 10**9,
    "1T": 10**12,
    "1P": 10**15,
    "9E": 9 * 10**18,
    "100m": 1,
    "1500m": 2,
    "1n": 1,
    "1u": 1,
    "1e3": 1000,
    "1E3": 1000,
    "12e6": 12_000_000,
    "1.5e3": 1500,
    "128974848": 128974848,
    "129e6": 129_000_000,
    "1e-3": 1,
    "0e300": 0,
}

UNREADABLE = [
    "", " ", "1 Gi", "Gi", "1gi", "1KI", "1ki", "1Kb", "1GB", "--1", "1e", "1e3Gi", "0x10", "1,5Gi",
    "NaN", "Infinity", "١Gi", "-1", "-5Gi",
    "9" * 65, "1Gi\n", "1_000",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READABLE.items())
def test_quantity_is_read_exactly(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", UNREADABLE)
def test_nonsense_and_negative_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(InvalidQuantityError, match="quantity"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["8Ei", "9223372036854775808", "10E", "1e400"])
def test_what_is_larger_than_64_bits_is_the_largest_number(text: str) -> None:
    """As in apimachinery's ParseQuantity, so that the apiserver lets such objects in."""
    assert parse_quantity(text) == MAX_VALUE


def test_numbers_of_yaml_are_quantities_too() -> None:
    assert parse_quantity(1024) == 1024
    assert parse_quantity(0.5) == 1


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = parse_quantity(text)
    except InvalidQuantityError:
        return
    assert 0 <= value <= MAX_VALUE


@given(
    st.decimals(min_value=0, max_value=10**6, places=4, allow_nan=False),
    st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]),
)
def test_suffixes_scale_and_round_up(number: Decimal, suffix: str) -> None:
    scale = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[suffix]
    exact = number * scale
    value = parse_quantity(f"{number:f}{suffix}")
    assert 0 <= value - exact < 1


@given(st.integers(min_value=0, max_value=MAX_VALUE))
def test_a_printed_quantity_reads_back_as_itself(value: int) -> None:
    assert parse_quantity(format_quantity(value)) == value


def test_bytes_are_printed_for_people() -> None:
    assert format_bytes(512) == "512 B"
    assert format_bytes(8 * 2**30) == "8.0 GiB"
