"""What was ever written is read for ever: containers of every state of the format, Keras files.

`make_containers.py` and `make_keras_models.py` made them, with the releases that their names say.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cxcompress import models
from cxcompress.storage import read_card, read_container, read_sizes
from tests.compatibility.make_keras_models import picture
from tests.compatibility.weights import container as expected_container

HERE = Path(__file__).parent
CONTAINERS = sorted((HERE / "containers").glob("*.h5"))
KERAS_FILES = sorted([*(HERE / "keras_models").glob("*.h5"),
                      *(HERE / "keras_models").glob("*.keras")])


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_containers_of_every_age_hold_what_was_written(path):
    expected, found = expected_container(), read_container(path)
    assert list(found.shared.kernels) == list(expected.shared.kernels)
    for name, array in expected.shared.weights().items():
        other = found.shared.weights()[name]
        assert other.dtype == array.dtype and other.tobytes() == array.tobytes(), name
    assert found.graph == expected.graph and found.architecture == expected.architecture
    assert read_card(path) == found.card == expected.card
    assert read_sizes(path).total == path.stat().st_size


def test_every_age_and_every_coder_is_kept():
    assert {path.stem.split("-")[0] for path in CONTAINERS} == {
        "first", "graphs", "context", "columns", "calibration", "plans", "differences",
        "separable"}
    assert {size.coder for path in CONTAINERS for size in read_sizes(path).kernels.values()} >= {
        "raw", "index_map", "rans", "context", "huffman", "sparse_huffman", "sparse_index_map"}


@pytest.mark.parametrize("path", KERAS_FILES, ids=lambda path: path.name)
def test_keras_files_of_every_release_answer_as_they_did(path):
    model = models.load_model(path)
    found = np.asarray(model(picture(), training=False))
    expected = np.array(json.loads((HERE / "outputs.json").read_text()))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("path", KERAS_FILES, ids=lambda path: path.name)
def test_their_kernels_are_found_whatever_their_release_called_them(path):
    kernels = models.kernels(models.load_model(path))
    assert [kernel.family for kernel in kernels] == ["conv", "depthwise", "conv", "dense"]
