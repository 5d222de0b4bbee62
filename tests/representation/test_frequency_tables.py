"""Laws of the frequency tables: they always sum to the whole and come back from their bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxcompress.representation.entropy import entropy_bits, histogram, histogram_bits
from cxcompress.representation.frequency_tables import (
    MAX_TABLE_LEVELS,
    FrequencyTable,
    fit_table,
    frequencies,
    read_tables,
    share_tables,
    write_tables,
)

histograms = hnp.arrays(np.int64, st.integers(1, 300), elements=st.integers(0, 10**6)).filter(
    lambda counts: counts.sum() > 0)
codes = hnp.arrays(np.uint8, st.integers(1, MAX_TABLE_LEVELS),
                   elements=st.integers(0, 160)).filter(np.any)


@given(codes, st.sampled_from([14, 16]))
@settings(max_examples=100)
def test_every_table_that_can_be_written_sums_to_the_whole(codes, precision):
    shares = frequencies(codes, precision)
    assert shares.sum() == 1 << precision
    assert ((shares > 0) == (codes > 0)).all()


@given(histograms)
@settings(max_examples=100)
def test_a_fitted_table_codes_what_occurs_close_to_the_entropy(counts):
    table = fit_table(counts)
    assert ((table.frequencies > 0) == (counts > 0)).all()
    # A level that occurs less than once in 65,536 costs the others at most its smallest share.
    floor = 1.4427 * counts.sum() * np.count_nonzero(counts * 65_536 < counts.sum()) / 65_536
    assert table.bits(counts) <= 1.004 * histogram_bits(counts) + floor + 64


@given(st.lists(histograms, max_size=5))
@settings(max_examples=50)
def test_tables_come_back_from_their_bytes(counts):
    tables = [fit_table(each) for each in counts]
    found = read_tables(write_tables(tables), [table.codes.size for table in tables])
    for one, other in zip(tables, found, strict=True):
        assert one.precision == other.precision
        np.testing.assert_array_equal(one.codes, other.codes)


@given(st.lists(histograms, min_size=1, max_size=8))
@settings(max_examples=30)
def test_every_kernel_gets_a_table_that_codes_it(counts):
    tables, numbers = share_tables(counts)
    assert sorted(set(numbers)) == list(range(len(tables)))
    for each, number in zip(counts, numbers, strict=True):
        assert tables[number].codes.size == each.size
        assert np.isfinite(tables[number].bits(each))


def test_a_table_takes_about_a_byte_a_level_at_most():
    counts = histogram(np.clip(np.random.default_rng(0).normal(128, 20, 200_000), 0, 255)
                       .astype(np.uint8), 256)
    assert write_tables([fit_table(counts)]).size < 160


@pytest.mark.parametrize(("body", "levels"), [
    (bytes([14, 0, 0]), [2]),           # no level in use
    (bytes([14, 200]), [1]),            # no such code
    (bytes([12, 9]), [1]),              # no such precision
    (bytes([14, 9]), [2]),              # too short
    (bytes([14, 9, 9]), [1]),           # too long
    (bytes([14, *[9] * 5000]), [5000]), # too many levels
    (bytes(10**7), [1]),                # inflates to more than announced
])
def test_tables_that_no_writer_makes_are_refused(body, levels):
    with pytest.raises(ValueError):
        read_tables(np.frombuffer(zlib.compress(body), np.uint8), levels)


def test_a_table_that_is_no_zlib_stream_is_refused():
    with pytest.raises(ValueError, match="frequency tables"):
        read_tables(np.uint8([1, 2, 3]), [1])


def test_shares_of_a_known_table():
    """By hand: 14 bits, codes 1, 9, 0, 17 → weights 4096 · (1, 2, 0, 4)."""
    shares = frequencies(np.uint8([1, 9, 0, 17]), 14)
    # floor(1 + w · 16381 / 7) = 2341, 4681, 9361; the remaining 1 goes to the largest.
    assert shares.tolist() == [2341, 4681, 0, 9362]
    assert FrequencyTable(np.uint8([0, 5]), 14).frequencies.tolist() == [0, 16384]


def test_entropy_of_known_maps():
    assert entropy_bits(np.uint8([0, 1, 2, 3]), 4) == 2
    assert entropy_bits(np.uint8([1, 1, 1]), 4) == 0
    assert entropy_bits(np.empty(0, np.uint8), 4) == 0
    assert entropy_bits(np.uint8([[0, 0], [0, 1]]), 2) == pytest.approx(0.8112781)
