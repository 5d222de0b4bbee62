"""Plans on real graphs: exact integers, biases that fit, every kind of layer, clear refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import cxcompress.runtime
from cxcompress import models
from cxcompress.conversion.plans import build_plans
from cxcompress.pipeline.sharing import share_model
from cxcompress.quantization import Compression
from cxcompress.runtime.filling import place_kernel, placed_kernels
from cxcompress.storage import Container, ModelCard, write_container


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Normal kernels, and BatchNormalization with factors of both signs and one of 0."""
    random = np.random.default_rng(seed)
    arrays = models.weights(model)
    for path, array in arrays.items():
        draw = random.normal(size=array.shape)
        if path.endswith("gamma"):
            draw = random.uniform(0.5, 1.5, array.shape) * random.choice([-1, 1], array.shape)
            draw[0] = 0
        elif path.endswith("moving_variance"):
            draw = random.uniform(0.5, 2, array.shape)
        elif array.ndim > 1:
            draw /= np.sqrt(np.prod(array.shape[:-1]))
        else:
            draw *= 0.1
        arrays[path] = draw.astype(array.dtype)
    models.set_weights(model, arrays)
    return model


def every_kind_of_layer() -> keras.Model:
    image = x = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(16, 3, padding="same", name="before_norm")(x)
    x = layers.BatchNormalization()(x)
    x = skip = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(16, 3, padding="same", dilation_rate=2, activation="relu", name="dilated")(x)
    x = layers.BatchNormalization(name="norm_after_activation")(x)
    x = layers.Add()([x, skip])
    x = layers.SeparableConv2D(24, 3, padding="same", name="separable")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2DTranspose(16, 2, strides=2, name="transposed")(x)
    x = layers.Concatenate()([x, skip])
    x = layers.UpSampling2D()(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(32, 3, strides=2, use_bias=False, name="strided")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu6")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(40, name="hidden")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x))


class Planned:
    """A model compressed, converted and written, with what Keras says of some images."""

    def __init__(self, model: keras.Model, path, name: str = "uUQ", k: int = 256, scale=255):
        self.shared = share_model(model, Compression.parse(name, clustercnn=k, clusterfc=k))
        shape = model.inputs[0].shape[1:]
        self.images = np.random.default_rng(1).random((12, *shape), np.float32) * scale
        models.set_weights(model, self.shared.weights())
        self.expected = np.asarray(model(self.images, training=False))
        self.plans = build_plans(model, self.shared, self.images[:8])
        self.path = path / "model.h5"
        write_container(self.path, Container(
            self.shared, models.architecture_json(model), self.plans.graphs, ModelCard()))

    def outputs(self, plan: str) -> np.ndarray:
        return cxcompress.runtime.load(self.path, plan).predict(self.images)

    def interpreter(self, plan: str) -> Interpreter:
        return Interpreter(
            model_content=cxcompress.runtime.flatbuffer(self.path, plan), num_threads=1,
            experimental_preserve_all_tensors=True)


@pytest.fixture(scope="module")
def on_a_grid(tmp_path_factory) -> Planned:
    return Planned(with_random_weights(every_kind_of_layer()), tmp_path_factory.mktemp("uUQ"))


@pytest.fixture(scope="module")
def off_the_grid(tmp_path_factory) -> Planned:
    return Planned(with_random_weights(every_kind_of_layer()), tmp_path_factory.mktemp("uCWS"),
                   "uCWS", 16)


def test_all_plans_of_every_kind_of_layer_are_there(on_a_grid, off_the_grid):
    for planned in (on_a_grid, off_the_grid):
        assert planned.plans.notes == []
        assert list(planned.plans.graphs) == ["float32", "int8", "static_int8"]


def test_float32_equals_keras(on_a_grid, off_the_grid):
    for planned in (on_a_grid, off_the_grid):
        np.testing.assert_allclose(planned.outputs("float32"), planned.expected, rtol=1e-4,
                                   atol=1e-6)


@pytest.mark.parametrize("plan, most", [("int8", 0.03), ("static_int8", 0.06)])
def test_integer_plans_stay_near_keras(on_a_grid, off_the_grid, plan, most):
    for planned in (on_a_grid, off_the_grid):
        assert np.abs(planned.outputs(plan) - planned.expected).max() < most


@pytest.mark.parametrize("plan", ["float32", "int8", "static_int8"])
def test_kernels_read_back_are_the_folded_shared_weights(on_a_grid, plan):
    """Tensor × scale of every kernel, against weights × the factors of the float32 plan."""
    interpreter = on_a_grid.interpreter(plan)
    interpreter.allocate_tensors()
    content = cxcompress.runtime.flatbuffer(on_a_grid.path, plan)
    by_bytes = {}
    for detail in interpreter.get_tensor_details():
        try:
            by_bytes.setdefault(interpreter.get_tensor(detail["index"]).tobytes(), detail)
        except ValueError:
            continue
    factors = {kernel.path: kernel for kernel in placed_kernels(
        on_a_grid.plans.graphs["float32"], on_a_grid.shared)}
    placed = placed_kernels(on_a_grid.plans.graphs[plan], on_a_grid.shared)
    assert len(placed) >= 8
    integers = 0
    for kernel in placed:
        float_kernel = factors[kernel.path]
        weights = on_a_grid.shared.kernel(kernel.path).transpose(kernel.axes)
        folded = weights.reshape(kernel.shape) * float_kernel.factors.reshape(
            [-1 if axis == float_kernel.channel_axis else 1 for axis in range(len(kernel.shape))])
        detail = by_bytes[content[kernel.offset:kernel.offset + kernel.nbytes]]
        stored = interpreter.get_tensor(detail["index"]).astype(np.float64)
        if kernel.dtype == "int8":
            integers += 1
            scales = detail["quantization_parameters"]["scales"].astype(np.float64)
            assert (scales > 0).all()
            sides = [1] * stored.ndim
            sides[detail["quantization_parameters"]["quantized_dimension"]] = len(scales)
            stored = stored * scales.reshape(sides)
        np.testing.assert_allclose(stored, folded, rtol=1e-6, atol=1e-12, err_msg=kernel.path)
    assert integers >= {"float32": 0, "int8": 3, "static_int8": 8}[plan]


def test_static_biases_equal_the_float_ones_within_half_a_unit(on_a_grid):
    from cxcompress.conversion.flatbuffer_graph import FlatbufferGraph

    static, plain = (FlatbufferGraph(cxcompress.runtime.flatbuffer(on_a_grid.path, plan))
                     for plan in ("static_int8", "float32"))

    def by_operator(graph):
        return [operator for operator in graph.subgraph.operators
                if graph.kind(operator) in {3, 4, 9, 67}]

    checked = 0
    for ours, theirs in zip(by_operator(static), by_operator(plain), strict=True):
        if static.bias(ours) is None or plain.bias(theirs) is None:
            continue
        biases = static.model.buffers[static.subgraph.tensors[static.bias(ours)].buffer].data
        floats = plain.model.buffers[plain.subgraph.tensors[plain.bias(theirs)].buffer].data
        scales, _ = static.scales(static.bias(ours))
        kernel_scales, _ = static.scales(ours.inputs[1])
        input_scale = static.activations(ours)[0]
        np.testing.assert_allclose(scales, input_scale * kernel_scales, rtol=1e-6)
        difference = np.abs(biases.view(np.int32) * scales.astype(np.float64)
                            - floats.view(np.float32))
        assert (difference <= 0.5001 * scales).all()
        checked += 1
    assert checked >= 6


def test_a_channel_whose_factor_is_zero_answers_its_bias(on_a_grid):
    """BatchNormalization with gamma = 0 leaves only beta: no scale of 0 may reach the graph."""
    for plan in ("int8", "static_int8"):
        for detail in on_a_grid.interpreter(plan).get_tensor_details():
            assert (detail["quantization_parameters"]["scales"] >= 0).all()
    assert np.isfinite(on_a_grid.outputs("static_int8")).all()


def test_codebooks_without_a_step_are_listed_as_rounded(off_the_grid, on_a_grid):
    assert "strided/kernel" in off_the_grid.plans.graphs["static_int8"].placement["rounded"]
    assert "strided/kernel" not in on_a_grid.plans.graphs["static_int8"].placement["rounded"]


def test_depthwise_kernels_stay_float_where_activations_are(on_a_grid):
    assert "depthwise/kernel" in on_a_grid.plans.graphs["int8"].placement["float"]


def test_graphs_hold_no_kernels(on_a_grid):
    for graph in on_a_grid.plans.graphs.values():
        kernels = sum(kernel.nbytes for kernel in placed_kernels(graph, on_a_grid.shared))
        factors = sum(kernel.factors.nbytes for kernel in placed_kernels(graph, on_a_grid.shared))
        assert len(graph.flatbuffer) == graph.placement["bytes"] - kernels + factors


def test_images_are_needed_for_static_plans_only():
    model = with_random_weights(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(),
                                                  layers.Dense(4)]))
    plans = build_plans(model, share_model(model, Compression.parse("UQ")))
    assert list(plans.graphs) == ["float32", "int8"]
    assert "static_int8 left out" in plans.notes[0]


@pytest.mark.slow
def test_recurrent_models_convert_where_the_converter_can(tmp_path):
    model = with_random_weights(keras.Sequential([
        keras.Input((12, 6)), layers.LSTM(8, name="recurrent"), layers.Dense(64),
        layers.Dense(3, activation="softmax")]))
    planned = Planned(model, tmp_path, scale=1)
    assert {"float32", "int8"} <= planned.plans.graphs.keys()
    np.testing.assert_allclose(planned.outputs("float32"), planned.expected, rtol=1e-4, atol=1e-6)
    assert np.abs(planned.outputs("int8") - planned.expected).max() < 0.03
    if "static_int8" not in planned.plans.graphs:
        assert "static_int8 unavailable: layer recurrent (LSTM)" in planned.plans.notes[0]


def test_what_cannot_be_converted_is_named_and_the_file_still_opens(tmp_path):
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, name="fine")(image)
    x = layers.Flatten()(x)
    x = layers.Dense(32, name="also_fine")(x)
    x = layers.CategoryEncoding(num_tokens=4, output_mode="multi_hot", name="no_kernel")(x)
    model = with_random_weights(keras.Model(image, layers.Dense(16)(x)))
    shared = share_model(model, Compression.parse("uUQ"))
    plans = build_plans(model, shared, names=["float32"])
    if not plans.graphs:
        assert "layer no_kernel" in plans.notes[-1]
    path = tmp_path / "model.h5"
    write_container(path, Container(shared, models.architecture_json(model), plans.graphs))
    assert models.load_model(path).count_params() == model.count_params()


@pytest.mark.parametrize("name", [
    name if name == "small_cxr" else pytest.param(name, marks=pytest.mark.slow)
    for name in models.names()])
def test_every_builder(name, tmp_path):
    """With a dead channel in every BatchNormalization, whose bias takes hundreds of millions of
    units in static_int8."""
    side = {"pathonet": 256, "inceptionv3": 96, "inceptionv4": 96}.get(name, 64)
    model = models.build(name, input_shape=(side, side, 3), classes=3)
    planned = Planned(with_random_weights(model), tmp_path, scale=1)
    assert planned.plans.notes == []
    scale = np.abs(planned.expected).max()
    assert np.abs(planned.outputs("float32") - planned.expected).max() <= 1e-4 * scale


@pytest.mark.slow
def test_kernels_that_are_alike_keep_their_own_biases(tmp_path):
    """Dead kernels, of which one graph may hold a single copy and the other two."""
    image = x = keras.Input((12, 12, 16))
    for name in ("a", "b", "c"):
        x = layers.Conv2D(16, 3, padding="same", name=name)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Add()([x, image])
    model = with_random_weights(keras.Model(image, layers.Dense(4)(layers.Flatten()(x))))
    arrays = models.weights(model)
    for path in ("a/kernel", "c/kernel"):
        arrays[path] = np.zeros_like(arrays[path])
    for path in arrays:
        if path.endswith("gamma"):  # a zero times a negative factor would be another zero
            arrays[path] = np.abs(arrays[path]) + np.float32(0.1)
    models.set_weights(model, arrays)
    planned = Planned(model, tmp_path, scale=1)
    assert planned.plans.notes == []
    scale = np.abs(planned.expected).max()
    assert np.abs(planned.outputs("float32") - planned.expected).max() <= 1e-4 * scale
    for plan in ("int8", "static_int8"):
        # On the images that gave the ranges: elsewhere outputs may be cut off at their ends.
        difference = np.abs(planned.outputs(plan) - planned.expected)[:8]
        assert difference.max() <= 0.02 * scale


def test_place_kernel_rounds_and_turns():
    from cxcompress.representation import Codebook, SharedKernel, SharedWeights
    from cxcompress.runtime.filling import PlacedKernel

    indices = np.arange(12, dtype=np.uint8).reshape(2, 6) % 4
    shared = SharedWeights({"dense": Codebook(np.array([-1.0, 0.0, 0.5, 1.0], np.float32))},
                           {"d/kernel": SharedKernel(indices, "dense")}, {})
    kernel = PlacedKernel("d/kernel", 0, (1, 0), (6, 2), 0, "int8",
                          np.array([2, -2, 4, 200, -200, 0], np.float32))
    target = np.zeros(12, np.uint8)
    place_kernel(kernel, shared, target)
    expected = np.clip(np.rint(shared.kernel("d/kernel").T * kernel.factors[:, None]), -127, 127)
    np.testing.assert_array_equal(target.view(np.int8).reshape(6, 2), expected)
