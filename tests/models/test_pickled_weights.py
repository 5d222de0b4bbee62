"""Laws of pickled weights: arrays come back exactly, and nothing else is ever called."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.models.pickled_weights import read_pickled_weights


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_come_back_exactly(tmp_path, protocol):
    rng = np.random.default_rng(protocol)
    weights = [rng.normal(size=shape).astype(kind) for shape, kind in (
        ((3, 3, 2, 4), np.float32), ((5,), np.float64), ((), np.float32), ((0, 2), np.float16))]
    weights += [np.asfortranarray(rng.normal(size=(4, 3))), weights[0].astype(">f4")]
    path = tmp_path / "weights.h5"
    path.write_bytes(pickle.dumps(weights, protocol))
    found = read_pickled_weights(path)
    assert len(found) == len(weights)
    for one, other in zip(found, weights, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == other.shape and one.dtype == other.dtype


def test_names_of_the_old_numpy_are_known(tmp_path):
    """Pickles of NumPy 1 name `numpy.core`, those of NumPy 2 `numpy._core`."""
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3)]
    text = pickle.dumps(weights, 0)
    path = tmp_path / "weights.h5"
    for name in (b"numpy.core.", b"numpy._core."):
        path.write_bytes(text.replace(b"numpy._core.", name))
        np.testing.assert_array_equal(read_pickled_weights(path)[0], weights[0])


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_nothing_else_is_called(tmp_path):
    marker = tmp_path / "called"
    path = tmp_path / "weights.h5"
    array = np.zeros(3, np.float32)
    for crafted in (Calls(os.system, f"touch {marker}"), Calls(eval, "1"), Calls(open, "x", "w"),
                    [array, Calls(os.mkdir, str(marker))], Calls(np.load, "x"),
                    Calls(getattr, array, "tofile"), np.memmap):
        path.write_bytes(pickle.dumps(crafted))
        with pytest.raises(InputError, match="weights.h5"):
            read_pickled_weights(path)
        assert not marker.exists()


@pytest.mark.parametrize("content", [
    [], {}, None, "text", [1.0], [np.array([object()])], [np.array(["a"])], [np.arange(3)],
    [np.zeros(2, [("x", np.float32)])], [np.zeros(2, np.complex64)]])
def test_what_is_no_list_of_float_arrays_is_refused(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="weights.h5") as error:
        read_pickled_weights(path)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200), st.integers(0, 10**6))
def test_damaged_files_are_one_clear_error(tmp_path_factory, noise, place):
    path = tmp_path_factory.mktemp("damaged") / "weights.h5"
    content = bytearray(pickle.dumps([np.ones((4, 4), np.float32)]))
    place %= len(content)
    content[place:place + len(noise)] = noise
    path.write_bytes(content)
    try:
        found = read_pickled_weights(path)
    except InputError:
        return
    assert all(isinstance(array, np.ndarray) for array in found)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_pickled_weights(tmp_path / "nowhere.h5")
