"""The journal of a download: what it says is on the disk, and what a crash can leave of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from extender.loader.transfer.journal import Entry, Journal, gaps, merged

SIZE = 60
RANGES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted).map(tuple))


@given(RANGES)
def test_what_is_covered_and_what_is_missing_are_each_others_rest(
    ranges: list[tuple[int, int]],
) -> None:
    covered = {at for start, end in ranges for at in range(start, end)}
    union = merged(ranges)
    assert {at for start, end in union for at in range(start, end)} == covered
    assert all(one[1] < two[0] for one, two in pairwise(union))
    missing = {at for start, end in gaps(union, SIZE) for at in range(start, end)}
    assert missing == set(range(SIZE)) - covered


def written(path: Path, *entries: Entry) -> Journal:
    journal = Journal(path)
    journal.begin(entries)
    return journal


def test_a_new_journal_begins_with_what_is_still_true(tmp_path: Path) -> None:
    path = tmp_path / "work" / "journal"
    journal = written(path, Entry("a", "sha 9", 1, 0, 5))
    journal.add(Entry("a", "sha 9", 1, 5, 9))
    journal.add(Entry("a", "other 9", 1, 0, 9))
    journal.close()
    journal.add(Entry("a", "sha 9", 1, 9, 12))
    assert Journal(path).read() == {("a", "sha 9", 1): ((0, 9),), ("a", "other 9", 1): ((0, 9),)}
    written(path).close()
    assert Journal(path).read() == {}


def test_a_file_that_was_begun_anew_has_nothing_though_it_got_the_same_inode(
    tmp_path: Path,
) -> None:
    journal = written(tmp_path / "journal", Entry("a", "sha 9", 1, 0, 9))
    journal.add(Entry("a", "sha 9", 1, 0, 0))
    assert journal.read() == {}
    journal.add(Entry("a", "sha 9", 1, 4, 6))
    assert journal.read() == {("a", "sha 9", 1): ((4, 6),)}


def test_a_line_that_was_cut_short_says_nothing_and_hides_nothing(tmp_path: Path) -> None:
    """A kill or a full disk ends a line anywhere; the next one stands by itself."""
    whole, after = b'\n["a","sha 9",1,0,5]\n', b'\n["a","sha 9",1,5,9]\n'
    for cut in range(len(whole) - 2):
        (tmp_path / "journal").write_bytes(whole[:cut] + after)
        assert Journal(tmp_path / "journal").read() == {("a", "sha 9", 1): ((5, 9),)}
