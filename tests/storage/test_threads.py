"""Files are written and read while other threads open and let go of HDF5 files."""

from __future__ import annotations

import gc
import io
import threading

import h5py
import numpy as np
import pytest

from cxcompress.storage import small_hdf5


@pytest.fixture
def disturbance(tmp_path):
    """A thread that makes garbage of HDF5 objects and collects it, over and over."""
    path, over = tmp_path / "other.h5", threading.Event()
    with h5py.File(path, "w") as file:
        for number in range(50):
            file[f"d{number}"] = np.arange(10)

    def disturb():
        while not over.is_set():
            file = h5py.File(path)
            for number in range(50):
                cycle = [file[f"d{number}"]]
                cycle.append(cycle)
            gc.collect()

    gc.freeze()  # else every collection walks over all of TensorFlow's objects
    thread = threading.Thread(target=disturb)
    thread.start()
    yield
    over.set()
    thread.join()
    gc.unfreeze()


def written() -> bytes:
    """A file of forty vectors, half of them deflated."""
    image = io.BytesIO()
    with small_hdf5.create_file(image, 512) as file:
        for number in range(20):
            group = small_hdf5.create_group(file, f"g{number}")
            small_hdf5.write_array(group, "zeros", np.zeros(5000, np.float32))
            small_hdf5.write_array(group, "drawn", np.random.default_rng(number).random(300))
    return image.getvalue()


def test_a_file_is_the_same_whatever_other_threads_do(disturbance):
    first = written()
    for _ in range(30):
        image = written()
        assert image == first
        with h5py.File(io.BytesIO(image)) as file:
            for number in range(20):
                group = file[f"g{number}"]
                zeros = small_hdf5.read_array(group, "zeros", np.float32, 1 << 20)
                assert zeros.shape == (5000,) and not zeros.any()
                assert small_hdf5.read_array(group, "drawn", np.float64, 1 << 20).shape == (300,)
