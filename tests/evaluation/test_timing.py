"""Laws of interleaved timing."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cxcompress.evaluation.timing import interleaved


def test_variants_are_warmed_up_then_called_in_turns_in_a_rotating_order():
    calls = []
    seconds = interleaved({name: lambda name=name: calls.append(name) for name in "abc"},
                          repeats=3, warm_up=2)
    assert calls[:6] == list("aabbcc")
    assert calls[6:] == list("abc") + list("bca") + list("cab")
    assert all(values.shape == (3,) and (values >= 0).all() for values in seconds.values())


def test_it_measures_what_a_call_takes():
    seconds = interleaved({"sleeping": lambda: time.sleep(0.02), "nothing": lambda: None},
                          repeats=3, warm_up=0)
    assert np.median(seconds["sleeping"]) >= 0.02 > np.median(seconds["nothing"])


def test_no_repeats_are_refused():
    with pytest.raises(ValueError, match="Received: 0"):
        interleaved({"x": lambda: None}, repeats=0)
