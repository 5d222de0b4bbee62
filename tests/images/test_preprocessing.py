"""One picture, a batch, an array or a file: always the same bits; and the published ranges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.images.preprocessing import PRESETS, RESIZE_METHODS

pictures = st.one_of([
    arrays.arrays(dtype, st.tuples(st.integers(1, 20), st.integers(1, 20)) if colours is None
                  else st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(colours)))
    for dtype in (np.uint8, np.uint16) for colours in (None, 1, 3)])
preprocessings = st.builds(
    Preprocessing.preset, st.sampled_from(PRESETS),
    st.tuples(st.integers(1, 12), st.integers(1, 12)), st.sampled_from([1, 3]),
    st.sampled_from(sorted(RESIZE_METHODS)))


@settings(max_examples=150)
@given(preprocessings, pictures)
def test_shape_type_and_range(preprocessing, image):
    result = preprocessing(image)
    assert result.dtype == np.float32
    assert result.shape == (*preprocessing.size, preprocessing.channels)
    ends = (np.array(preprocessing.value_range)[:, None] - preprocessing.mean) / preprocessing.std
    slack = 1e-5 * np.abs(ends).max()
    assert (result >= ends[0] - slack).all() and (result <= ends[1] + slack).all()


@settings(max_examples=100)
@given(preprocessings, arrays.arrays(st.sampled_from([np.uint8, np.uint16]),
                                     st.tuples(st.integers(1, 3), st.integers(1, 12),
                                               st.integers(1, 12), st.sampled_from([1, 3]))))
def test_batch_gives_the_bits_of_single_calls(preprocessing, images):
    single = np.stack([preprocessing(image) for image in images])
    np.testing.assert_array_equal(preprocessing.batch(images), single)
    np.testing.assert_array_equal(preprocessing.batch(list(images)), single)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(PRESETS), st.sampled_from([1, 3]))
def test_the_path_without_resizing_gives_the_same_bits(data, preset, channels):
    shape = (2, 5, 4) + data.draw(st.sampled_from([(), (1,), (3,)]))
    images = data.draw(arrays.arrays(np.uint8, shape))
    preprocessing = Preprocessing.preset(preset, (5, 4), channels)
    single = np.stack([preprocessing(image) for image in images])
    np.testing.assert_array_equal(preprocessing.batch(images), single)


def test_pillow_images_and_arrays_agree():
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    preprocessing = Preprocessing.preset("imagenet", 8, 3)
    np.testing.assert_array_equal(preprocessing(image), preprocessing(Image.fromarray(image)))


@pytest.mark.parametrize("name, black, white", [
    ("0-1", 0, 1), ("-1-1", -1, 1), ("xrv", -1024, 1024), ("none", 0, 255)])
def test_black_and_white_are_exact(name, black, white):
    for dtype in (np.uint8, np.uint16):
        image = np.array([[0, np.iinfo(dtype).max]], dtype)
        for channels in (1, 3):
            result = Preprocessing.preset(name, (1, 2), channels)(image)
            assert (result[0, 0] == black).all() and (result[0, 1] == white).all()


def test_imagenet_normalisation_is_the_published_one():
    image = np.full((1, 1, 3), (255, 0, 51), np.uint8)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(Preprocessing.preset("imagenet", 1, 3)(image)[0, 0], expected,
                               rtol=1e-6)
    grey = Preprocessing.preset("imagenet", 1, 1)(np.full((1, 1), 255, np.uint8))
    np.testing.assert_allclose(grey[0, 0], (1 - 0.449) / 0.226, rtol=1e-6)


def test_sixteen_bits_are_finer_not_different():
    image = np.random.default_rng(1).integers(0, 256, (9, 9), np.uint8)
    preprocessing = Preprocessing.preset("0-1", 4)
    np.testing.assert_allclose(preprocessing(image.astype(np.uint16) * 257), preprocessing(image),
                               atol=1e-6)


def test_grey_is_copied_and_colour_becomes_luminance():
    grey = np.random.default_rng(2).integers(0, 256, (6, 6), np.uint8)
    copied = Preprocessing.preset("0-1", 6, 3)(grey)
    assert (copied == copied[..., :1]).all()
    back = Preprocessing.preset("none", 6, 1)(np.repeat(grey[..., None], 3, -1))
    np.testing.assert_allclose(back[..., 0], grey, atol=1e-3)
    red = Preprocessing.preset("none", 1, 1)(np.array([[[255, 0, 0]]], np.uint8))
    np.testing.assert_allclose(red.ravel(), 255 * 0.299, rtol=1e-6)


def test_shrinking_averages():
    """Antialias: a fine checkerboard becomes grey, and the mean is kept, save with nearest."""
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    for method in ("bilinear", "bicubic", "area"):
        result = Preprocessing.preset("0-1", 8, resize=method)(board.astype(np.uint8))
        np.testing.assert_allclose(result, 0.5, atol=0.06)
    nearest = Preprocessing.preset("0-1", 8, resize="nearest")(board.astype(np.uint8))
    assert set(np.unique(nearest)) <= {0.0, 1.0}
    photo = np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)
    area = Preprocessing.preset("none", 16, resize="area")(photo)[..., 0]
    np.testing.assert_allclose(area, photo.reshape(16, 4, 16, 4).mean((1, 3)), atol=1e-3)


@given(preprocessings)
def test_the_card_gives_the_same_preprocessing(preprocessing):
    text = json.dumps(preprocessing.to_dict())
    assert Preprocessing.from_dict(json.loads(text)) == preprocessing


@pytest.mark.parametrize("change", [
    {"size": [0, 5]}, {"size": 5}, {"channels": 2}, {"std": [0.0]}, {"mean": [1, 2]},
    {"value_range": [0]}, {"value_range": [0, float("nan")]}, {"resize": "lanczos"}, {"extra": 1}])
def test_a_bad_card_is_one_line(change):
    card = Preprocessing.preset("0-1", 8, 3).to_dict() | change
    with pytest.raises(InputError, match="preprocessing cannot be read"):
        Preprocessing.from_dict(card)


def test_unknown_names_and_wrong_arrays_are_refused():
    with pytest.raises(InputError, match="'caffe' is unknown"):
        Preprocessing.preset("caffe", 8)
    preprocessing = Preprocessing.preset("0-1", 8)
    for image in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8),
                  np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="Received"):
            preprocessing(image)
