"""Peak memory is the child's own, not what it inherits from us."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.conversion.peak_memory import peak_memory_bytes
from cxcompress.runtime.measuring import own_peak_bytes


def testown_peak_bytes_sees_what_this_process_held():
    before = own_peak_bytes()
    block = np.ones(before // 8 + 10_000_000)  # more than was ever resident here
    assert own_peak_bytes() > before + 70_000_000
    del block


@pytest.mark.slow
def test_a_child_does_not_inherit_our_peak(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
    model.save(tmp_path / "model.h5")
    block = np.ones(300_000_000)  # 2.4 GB here
    assert 100e6 < peak_memory_bytes("keras", tmp_path / "model.h5") < 1.5e9
    del block


@pytest.mark.slow
def test_a_child_that_fails_says_why(tmp_path):
    (tmp_path / "model.h5").write_text("no model")
    with pytest.raises(RuntimeError, match="not a Keras model"):
        peak_memory_bytes("keras", tmp_path / "model.h5")
