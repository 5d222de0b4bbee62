"""Ratios are ours / original, everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.evaluation.ratios import Ratio, Ratios

POSITIVE = st.floats(1e-6, 1e12)


@given(POSITIVE, POSITIVE)
def test_below_one_is_better_and_the_inverse_is_its_inverse(ours, original):
    ratio = Ratio(ours, original, "bytes")
    assert (ratio.value < 1) == (ours < original) or ratio.value == pytest.approx(1)
    assert ratio.value * ratio.inverse == pytest.approx(1)


def test_all_ratios_of_a_model():
    ratios = Ratios.of(container_bytes=61_000, parameters=228_898, file_bytes=2_800_000,
                       memory_bytes=(100, 800), seconds=0.02, seconds_compiled=0.08,
                       seconds_predict=0.2)
    assert ratios.to_dict() == pytest.approx({
        "space_ratio": 61_000 / (4 * 228_898), "space_ratio_inverse": 4 * 228_898 / 61_000,
        "file_ratio": 61 / 2800, "file_ratio_inverse": 2800 / 61,
        "memory_ratio": 0.125, "memory_ratio_inverse": 8,
        "time_ratio": 0.25, "time_ratio_inverse": 4,
        "time_ratio_predict": 0.1, "time_ratio_predict_inverse": 10,
    })
    lines = ratios.summary()
    assert lines[1].endswith("(45.90 times as small: 61,000 of 2,800,000 bytes)")
    assert len(lines) == 5
    assert lines[3] == "time_ratio 0.2500 (4.00 times as fast: 0.02 of 0.08 seconds)"


def test_what_was_not_measured_is_left_out():
    ratios = Ratios.of(container_bytes=1000, parameters=1000, seconds=1.0)
    assert set(ratios.to_dict()) == {"space_ratio", "space_ratio_inverse"}
    assert ratios.time_ratio is None and len(ratios.summary()) == 1


@pytest.mark.parametrize("ours, original", [(0, 1), (1, 0), (-1, 1)])
def test_nothing_is_no_quantity(ours, original):
    with pytest.raises(ValueError, match="positive"):
        Ratio(ours, original, "bytes")
