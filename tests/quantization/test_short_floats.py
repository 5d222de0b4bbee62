"""Floats of fewer bits: nearest, even on ties, and as bfloat16 where that is asked for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxcompress.quantization.short_floats import rounded

FLOATS = hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32))


@given(FLOATS)
def test_8_bits_are_those_of_bfloat16(array):
    expected = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    kept = ~np.isfinite(expected)  # infinities, NaN and what would overflow stay as they are
    np.testing.assert_array_equal(rounded(array, 8), np.where(kept, array, expected))


@given(FLOATS, st.integers(2, 24))
def test_so_many_bits_are_left_and_the_error_is_at_most_half_a_unit(array, bits):
    found = rounded(array, bits)
    np.testing.assert_array_equal(rounded(found, bits), found)
    normal = np.isfinite(array) & (np.abs(array) >= np.finfo(np.float32).tiny) & (
        np.abs(array) < 2.0**127)
    wide = array[normal].astype(np.float64)
    assert (np.abs(found[normal] - wide) <= 2.0**-bits * np.abs(wide)).all()
    assert not (found[normal].view(np.uint32) % (1 << (24 - bits))).any()
    assert (np.signbit(found) == np.signbit(array)).all()


def test_shape_and_input_stay():
    array = np.full((2, 3, 4), 1 / 3, np.float32)[:, ::2]
    found = rounded(array, 8)
    assert found.shape == (2, 2, 4) and found.dtype == np.float32
    assert (array == np.float32(1 / 3)).all()


@pytest.mark.parametrize("bits", [1, 25])
def test_impossible_numbers_of_bits(bits):
    with pytest.raises(ValueError, match="between 2 and 24"):
        rounded(np.zeros(1, np.float32), bits)
