from __future__ import annotations

import json
import pickle
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.models.keras2 import modernised
from cxcompress.representation.types import Codebook, SharedKernel, SharedWeights
from cxcompress.storage import Container, ModelCard, write_container


@pytest.fixture(scope="module")
def model():
    """`small_cxr` with moving statistics that are not the initial ones, compiled."""
    model = models.build("small_cxr", (16, 16, 1), 2, activation="softmax")
    model.compile("adam", "categorical_crossentropy")
    random = np.random.default_rng(1)
    models.set_weights(model, {path: array + random.random(array.shape, np.float32) / 9
                               for path, array in models.weights(model).items()})
    return model


def assert_same(loaded, model):
    assert not loaded.compiled
    expected, found = models.weights(model), models.weights(loaded)
    for array, other in zip(expected.values(), found.values(), strict=True):
        np.testing.assert_array_equal(array, other)
    shape = (2, *model.input_shape[1:])
    images = np.random.default_rng(0).random(shape).astype(np.float32)
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5", "hdf5"])
@pytest.mark.parametrize("name", ["model.{}", "renamed.bin"])
def test_whole_models_of_keras_3(model, tmp_path, suffix, name):
    model.save(tmp_path / f"saved.{suffix}")
    path = (tmp_path / f"saved.{suffix}").rename(tmp_path / name.format(suffix))
    assert_same(models.load_model(path), model)


def test_weights_alone_need_an_architecture(model, tmp_path):
    path = tmp_path / "best.weights.h5"
    model.save_weights(path)
    named = {"architecture": "small_cxr", "input_shape": (16, 16, 1), "classes": 2}
    assert_same(models.load_model(path, **named, activation="softmax"), model)
    other_name = shutil.copy(path, tmp_path / "best.h5")
    assert_same(models.load_model(other_name, **named, activation="softmax"), model)
    with pytest.raises(InputError, match="holds weights but no model"):
        models.load_model(path)
    with pytest.raises(InputError, match=r"do not fit small_cxr \(16x16x1, 14 outputs\)"):
        models.load_model(path, **named | {"classes": 14})
    with h5py.File(other_name, "r+") as file:
        del file["layers/conv2d_3"]
    with pytest.raises(InputError, match="do not fit|no weights for"):
        models.load_model(other_name, **named)


def test_a_whole_model_that_lacks_weights_is_refused(model, tmp_path):
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = write(tmp_path / "w.h5", members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        del file["layers/conv2d_3"]
    members["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(tmp_path / "less.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="less.keras: "):
        models.load_model(tmp_path / "less.keras")


def shared_by_rounding(model):
    """One codebook of 200 values for all kernels."""
    arrays = models.weights(model)
    values = np.linspace(-0.5, 0.5, 200, dtype=np.float32)
    shared = {}
    for kernel in models.kernels(model):
        nearest = np.searchsorted((values[1:] + values[:-1]) / 2, arrays.pop(kernel.path))
        shared[kernel.path] = SharedKernel(nearest.astype(np.uint8), "all")
    return SharedWeights({"all": Codebook(values)}, shared, arrays)


def test_a_container_opens_as_a_keras_model(model, tmp_path):
    shared = shared_by_rounding(model)
    container = Container(shared, models.architecture_json(model), None, ModelCard())
    write_container(tmp_path / "small.h5", container)
    expected = models.model_from_container(container)
    for path, array in models.weights(expected).items():
        np.testing.assert_array_equal(array, shared.weights()[path])
    assert_same(models.load_model(tmp_path / "small.h5"), expected)


def test_architecture_is_reproducible_and_says_nothing_of_training(model):
    text = models.architecture_json(model)
    assert "compile_config" not in text and "adam" not in text
    rebuilt = models.model_from_architecture(text)
    assert models.architecture_json(rebuilt) == text
    with pytest.raises(InputError, match="'f'.*Lambda.*never run"):
        models.architecture_json(
            keras.Sequential([layers.Input((2,)), layers.Lambda(lambda x: x, name="f")])
        )

    class Subclassed(keras.Model):
        def __init__(self, size):
            super().__init__()
            self.dense = layers.Dense(size.stop)

    with pytest.raises(InputError, match="'subclassed'"):
        models.architecture_json(Subclassed(range(3)))


class CustomScale(layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: layers.Lambda(lambda x: x + 1, name="mine"), "'mine' is a Lambda.*never run"),
        (lambda: CustomScale(name="mine"), "'mine' is a custom .*CustomScale.*register"),
    ],
)
def test_layers_that_carry_or_need_code_are_refused_by_name(tmp_path, suffix, layer, message):
    inner = keras.Sequential([layers.Input((3,)), layer()], name="inner")
    path = tmp_path / f"m.{suffix}"
    keras.Sequential([layers.Input((3,)), inner, layers.Dense(2)]).save(path)
    with pytest.raises(InputError, match=f"{path}.*{message}") as caught:
        models.load_model(path)
    assert "\n" not in str(caught.value)


def test_a_registered_custom_layer_is_welcome(tmp_path):
    @keras.saving.register_keras_serializable("test_loading")
    class Doubling(layers.Layer):
        def call(self, x):
            return 2 * x

    model = keras.Sequential([layers.Input((3,)), Doubling(), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    assert_same(models.load_model(tmp_path / "m.keras"), model)


def write(path, content):
    path.write_bytes(content)
    return path


def hdf5(path, **attributes):
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        file["something"] = np.zeros(3)
    return path


def zipped(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return path


def saved_model(path):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"x")
    return path


UNUSABLE = {
    "missing file": (lambda d: d / "no.h5", "no such file"),
    "folder": (lambda d: d, "a folder"),
    "SavedModel": (lambda d: saved_model(d / "sm"), "SavedModel folder"),
    "empty": (lambda d: write(d / "m.h5", b""), "empty file"),
    "text": (lambda d: write(d / "m.h5", b"<html>404</html>"), r"starts with b'<html>40'"),
    "pickle": (lambda d: write(d / "m.h5", pickle.dumps([np.zeros(3)])),
               "pickle of weight lists.*never unpickled"),
    "PyTorch, old": (lambda d: write(d / "m.pt", b"\x80\x02abc"), "PyTorch"),
    "PyTorch": (lambda d: zipped(d / "m.pt", "archive/data.pkl"), "PyTorch"),
    "other zip": (lambda d: zipped(d / "m.keras", "readme.txt"), "no config.json"),
    "broken zip": (lambda d: write(d / "m.keras", b"PK\x03\x04garbage"), "damaged or truncated"),
    "damaged keras": (lambda d: zipped(d / "m.keras", "config.json", "model.weights.h5"),
                      "model description is damaged"),
    "LiteRT": (lambda d: write(d / "m.tflite", b"\x1c\0\0\0TFL3" + bytes(20)), "LiteRT"),
    "other HDF5": (lambda d: hdf5(d / "m.h5"), r"neither a Keras model.*something"),
    "no description": (lambda d: hdf5(d / "m.h5", model_config="[1, 2]"), "description is not"),
    "nested description": (lambda d: hdf5(d / "m.h5", model_config="[" * 20_000),
                           "description is damaged"),
    "no weights": (lambda d: hdf5(d / "m.h5", model_config=json.dumps(
        {"class_name": "Sequential", "config": {"name": "s", "layers": [
            {"class_name": "Dense", "config": {"units": 2, "batch_input_shape": [None, 3]}}]}})),
        "cannot read"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_get_one_clear_line(case, tmp_path):
    make, message = UNUSABLE[case]
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        models.load_model(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_truncated_and_altered_files_never_escape_as_another_error(model, tmp_path, suffix):
    model.save(tmp_path / f"m.{suffix}")
    content = (tmp_path / f"m.{suffix}").read_bytes()
    random = np.random.default_rng(2)
    for trial in range(12):
        part = bytearray(content)
        if trial < 6:
            part = part[: len(part) * trial // 6]
        else:
            for position in random.integers(len(part), size=200):
                part[position] ^= 255
        path = write(tmp_path / f"bad.{suffix}", bytes(part))
        try:
            models.load_model(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 600


# What Keras 2 wrote, as Keras 2 wrote it: depthwise convolution with groups, a slash in a name,
# a nested model whose call is number 1, a list of one axis, a Policy, single outputs in lists.
KERAS2 = {
    "class_name": "Functional",
    "config": {
        "name": "old", "trainable": True,
        "layers": [
            {"class_name": "InputLayer", "name": "in", "inbound_nodes": [], "config": {
                "batch_input_shape": [None, 8, 8, 3], "dtype": "float32", "sparse": False,
                "ragged": False, "name": "in"}},
            {"class_name": "DepthwiseConv2D", "name": "a/dw", "inbound_nodes": [[["in", 0, 0, {}]]],
             "config": {"name": "a/dw", "trainable": True, "dtype": {
                 "class_name": "Policy", "config": {"name": "float32"}}, "kernel_size": [3, 3],
                 "strides": [1, 1], "padding": "same", "groups": 1, "use_bias": False,
                 "depth_multiplier": 1, "activation": "linear"}},
            {"class_name": "Functional", "name": "body", "inbound_nodes": [
                [["a/dw", 0, 0, {"training": False}]]], "config": {
                    "name": "body", "layers": [
                        {"class_name": "InputLayer", "name": "i", "inbound_nodes": [], "config": {
                            "batch_input_shape": [None, 8, 8, 3], "name": "i"}},
                        {"class_name": "BatchNormalization", "name": "a/bn", "inbound_nodes": [
                            [["i", 0, 0, {}]]], "config": {"name": "a/bn", "axis": [3]}}],
                    "input_layers": [["i", 0, 0]], "output_layers": [["a/bn", 0, 0]]}},
            {"class_name": "Flatten", "name": "f", "inbound_nodes": [[["body", 1, 0, {}]]],
             "config": {"name": "f"}},
            {"class_name": "Dense", "name": "d", "inbound_nodes": [[["f", 0, 0, {}]]],
             "config": {"name": "d", "units": 2, "activation": "softmax"}},
        ],
        "input_layers": [["in", 0, 0]], "output_layers": [["d", 0, 0]],
    },
}


def test_a_description_of_keras_2_is_respelled_and_its_weights_found(tmp_path):
    before = json.dumps(KERAS2)
    model = keras.Model.from_config(modernised(KERAS2)["config"])
    assert json.dumps(KERAS2) == before
    assert [kernel.path for kernel in models.kernels(model)] == ["a_dw/kernel", "d/kernel"]
    random = np.random.default_rng(0)
    models.set_weights(model, {path: random.random(array.shape).astype(np.float32)
                               for path, array in models.weights(model).items()})
    path = tmp_path / "old.hdf5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = before
        file.attrs["keras_version"] = "2.4.0"
    loaded = models.load_model(path)
    assert_same(loaded, model)
    assert isinstance(loaded.output, keras.KerasTensor)


def test_an_operation_of_keras_2_is_refused_by_name(tmp_path):
    description = json.dumps({"class_name": "Functional", "config": {"name": "m", "layers": [
        {"class_name": "TFOpLambda", "name": "tf.math.truediv", "inbound_nodes": [],
         "config": {"name": "tf.math.truediv", "function": "math.truediv"}}]}})
    path = hdf5(tmp_path / "m.h5", model_config=description)
    with pytest.raises(InputError, match="'tf.math.truediv' is the bare TensorFlow operation"):
        models.load_model(path)


def keras2_models():
    keras2 = pytest.importorskip("tf_keras")
    old = keras2.layers
    images = old.Input((12, 12, 3))
    x = old.Conv2D(6, 3, strides=2, use_bias=False, name="Conv/1")(images)
    x = old.ReLU(6.0)(old.BatchNormalization(name="Conv/bn")(x))
    body = keras2.Model(images, old.DepthwiseConv2D(3)(old.ZeroPadding2D()(x)), name="body_0.35")
    images = old.Input((12, 12, 3))
    x = body(old.Rescaling(1 / 127.5, offset=-1)(images), training=False)
    x = old.Dropout(0.2)(old.GlobalAveragePooling2D()(x))
    transfer = keras2.Model(images, old.Dense(2, activation="softmax")(x))
    mixed = keras2.Sequential([
        old.Input((8, 8, 3)), old.Conv2DTranspose(4, 3), old.SeparableConv2D(3, 3),
        old.LeakyReLU(0.2), old.PReLU(), old.BatchNormalization(), old.UpSampling2D(),
        old.TimeDistributed(old.Dense(3)), old.Reshape((-1, 3)), old.Bidirectional(old.LSTM(2)),
        old.Dense(2),
    ])
    inner = keras2.Sequential([old.Input((8, 8, 1)), old.Conv2D(4, 3), old.Flatten()])
    images = old.Input((8, 8, 1))
    twice = old.Add()([inner(old.ReLU()(images)), inner(old.Activation("tanh")(images))])
    return {"transfer": transfer, "mixed": mixed, "twice": keras2.Model(images, twice)}


def test_models_that_keras_2_saved_give_the_same_outputs(tmp_path):
    for name, model in keras2_models().items():
        shape = (2, *model.input_shape[1:])
        images = np.random.default_rng(3).random(shape).astype(np.float32)
        for suffix in ("h5", "keras"):
            path = tmp_path / f"{name}.{suffix}"
            model.save(path)
            loaded = models.load_model(path)
            np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5, atol=1e-6)
            found = sorted(array.sum(dtype=float) for array in models.weights(loaded).values())
            expected = sorted(array.sum(dtype=float) for array in model.get_weights())
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_published_model_of_keras_2(shared_data):
    path = shared_data / "covid_cxr_keras2.h5"
    model = models.load_model(path)
    assert model.count_params() == 228_898 and len(models.kernels(model)) == 7
    with h5py.File(path) as file:
        stored = file["model_weights/conv2d_3/conv2d_3/kernel:0"][()]
    np.testing.assert_array_equal(models.weights(model)["conv2d_3/kernel"], stored)


def network_of_operations() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(images / 255.0)
    x = keras.ops.mean(keras.ops.relu(x) * 2.0 - 1.0, axis=(1, 2))
    inner = keras.Model(images, keras.layers.Dense(2)(x))
    outside = keras.Input((8, 8, 3))
    both = keras.layers.Add()([inner(outside + 1.0), inner(outside)])  # the layer, not `+`
    return keras.Model(outside, keras.layers.Softmax()(both))


@pytest.mark.parametrize("network", [
    network_of_operations, lambda: models.build("mobilenetv3", (32, 32, 3), 2)])
def test_hdf5_files_of_models_with_bare_operations(network, tmp_path):
    """Keras 3 cannot read its own: it takes `x + 3.0` for the layer Add."""
    model = network()
    images = np.random.default_rng(0).random((2, *model.input_shape[1:]), np.float32)
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "keras.h5")
    with pytest.raises(ValueError, match="positional arguments|Unknown|Could not locate"):
        keras.models.load_model(tmp_path / "keras.h5", compile=False)
    models.save_model(model, tmp_path / "ours.h5")
    for read in (models.load_model(tmp_path / "keras.h5"), models.load_model(tmp_path / "ours.h5"),
                 keras.models.load_model(tmp_path / "ours.h5", compile=False)):
        np.testing.assert_array_equal(read.predict(images, verbose=0), expected)
