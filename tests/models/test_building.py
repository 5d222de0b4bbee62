from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.models.published import PUBLISHED


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)


# (total, trainable, shared kernels by family) with 1000 classes at 3 channels: the published
# counts; ResNet50 is Keras' own, with convolution biases; VGG16 is without its 4096-wide head.
COUNTS = {
    "densenet121": (8_062_504, 7_978_856, (120, 0, 1)),
    "densenet169": (14_307_880, 14_149_480, (168, 0, 1)),
    "densenet201": (20_242_984, 20_013_928, (200, 0, 1)),
    "efficientnetb0": (5_330_564, 5_288_548, (65, 16, 1)),
    "efficientnetb1": (7_856_232, 7_794_184, (92, 23, 1)),
    "efficientnetb2": (9_177_562, 9_109_994, (92, 23, 1)),
    "efficientnetb3": (12_320_528, 12_233_232, (104, 26, 1)),
    "efficientnetb4": (19_466_816, 19_341_616, (128, 32, 1)),
    # 17,216 scales of BatchNormalization fewer than the published 23,834,568.
    "inceptionv3": (23_851_784, 23_834_568 - 17_216, (94, 0, 1)),
    "inceptionv4": (42_742_984, 42_679_816, (149, 0, 1)),
    "mnasnet": (4_421_232, 4_383_312, (35, 17, 1)),
    "mobilenetv2": (3_538_984, 3_504_872, (35, 17, 1)),
    # The published 5,483,032 have a hidden layer of 1,280 in the head; here 960 features go to it.
    "mobilenetv3": (3_957_352, 5_483_032 - 2_511_080 + 961_000, (47, 15, 1)),
    "resnet101": (44_707_176, 44_601_832, (104, 0, 1)),
    "resnet18": (11_699_112, 11_689_512, (20, 0, 1)),
    "resnet34": (21_814_696, 21_797_672, (36, 0, 1)),
    "resnet50": (25_636_712, 25_583_592, (53, 0, 1)),
    "vgg16": (14_714_688 + 513_000, 14_714_688 + 513_000, (13, 0, 1)),
}

LARGE = ("densenet121", "densenet169", "densenet201", "efficientnetb1", "efficientnetb2",
         "efficientnetb3", "efficientnetb4", "inceptionv3", "inceptionv4", "resnet101", "resnet50")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow)
     if name in LARGE else name for name in COUNTS],
)
def test_parameter_counts_are_the_published_ones(name):
    side = 75 if name.startswith("inception") else 32
    model = models.build(name, (side, side, 3), 1000)
    total, expected, families = COUNTS[name]
    assert model.count_params() == total
    assert trainable(model) == expected
    found = [kernel.family for kernel in models.kernels(model)]
    assert tuple(found.count(family) for family in ("conv", "depthwise", "dense")) == families
    # Flat models: our paths are Keras' own.
    assert list(models.variables_by_path(model)) == [weight.path for weight in model.weights]


def test_what_was_published_is_what_is_built_or_a_note_says_why_not():
    assert len(PUBLISHED) == 16 and set(PUBLISHED) <= set(COUNTS)
    for name, published in PUBLISHED.items():
        assert (COUNTS[name][1] == published.parameters) == (not published.note), name
        assert 69 < published.top1 < 83 and published.source


def test_pathonet_is_the_published_network():
    model = models.build("pathonet", (32, 48, 3), 3)
    assert model.count_params() == 3_236_907
    assert trainable(model) == 3_228_603
    kernels = models.kernels(model)
    assert len(kernels) == 46 and {kernel.family for kernel in kernels} == {"conv"}
    assert sum(int(np.prod(kernel.shape)) for kernel in kernels) == 3_220_296
    dilated = [layer for layer in model.layers if getattr(layer, "dilation_rate", None) == (4, 4)]
    assert len(dilated) == 16
    maps = model(np.random.default_rng(0).random((2, 32, 48, 3), np.float32)).numpy()
    assert maps.shape == (2, 32, 48, 3) and (maps >= 0).all()


@pytest.mark.parametrize("name", ["small_cxr", "resnet18", "efficientnetb0", "mobilenetv3",
                                  pytest.param("inceptionv3", marks=pytest.mark.slow)])
def test_the_same_call_gives_the_same_description(name):
    side = 75 if name == "inceptionv3" else 32
    first, second = (models.build(name, (side, side, 1), 2) for _ in range(2))
    assert models.architecture_json(first) == models.architecture_json(second)


@pytest.mark.parametrize("side", [16, 28, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_cxr_takes_any_size(side, channels):
    model = models.build("small_cxr", (side, side, channels), 14, activation="sigmoid")
    assert 100_000 < model.count_params() < 300_000
    scores = model(np.ones((1, side, side, channels), np.float32)).numpy()
    assert scores.shape == (1, 14) and (0 < scores).all() and (scores < 1).all()


def test_tiny_cxr_does_an_eighth_of_small_cxrs_work():
    model = models.build("tiny_cxr", (64, 64, 1), 20, activation="sigmoid")
    assert model.count_params() == 62_308
    work = {name: sum(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
                      for layer in models.build(name, (64, 64, 1), 20).layers
                      if hasattr(layer, "kernel") and len(layer.kernel.shape) == 4)
            for name in ("tiny_cxr", "small_cxr")}
    assert work["tiny_cxr"] < work["small_cxr"] / 7


def test_outputs_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.build("small_cxr", (16, 16, 1), 2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert {array.dtype for array in models.weights(model).values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet51", (32, 32, 1), 2), "densenet121, .*resnet50.*vgg16"),
        (("pathonet", (40, 32, 3), 3), "divisible by 16, not 40x32"),
        (("resnet50", (28, 28, 1), 2), "at least 32x32 pixels, not 28x28"),
        (("inceptionv4", (64, 64, 1), 2), "at least 75x75 pixels, not 64x64"),
        (("resnet50", (28, 28), 2), "height, width and channels"),
        (("resnet50", (None, None, 3), 2), "positive whole numbers"),
        (("resnet50", (32, 32, 3), 0), "classes must be"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message):
        models.build(*arguments)


def test_published_weights_from_a_file_and_refusals(tmp_path):
    source = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    source.save_weights(tmp_path / "notop.weights.h5")
    model = models.build("efficientnetb0", (32, 32, 3), 2, weights=tmp_path / "notop.weights.h5")
    for layer in ("stem_conv", "block3b_dwconv", "top_bn"):
        for got, expected in zip(model.get_layer(layer).get_weights(),
                                 source.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)
    # Preprocessing is the caller's, with published weights too.
    assert not [layer for layer in model.layers
                if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)]
    with pytest.raises(InputError, match="cannot be loaded into mobilenetv2"):
        models.build("mobilenetv2", (32, 32, 3), 2, weights=tmp_path / "notop.weights.h5")
    with pytest.raises(InputError, match="need 3 channels, not 1"):
        models.build("vgg16", (32, 32, 1), 2, weights="imagenet")
    with pytest.raises(InputError, match="no published weights"):
        models.build("small_cxr", (32, 32, 3), 2, weights="imagenet")
    with pytest.raises(InputError, match="no such weights file"):
        models.build("vgg16", (32, 32, 3), 2, weights=tmp_path / "absent.h5")
