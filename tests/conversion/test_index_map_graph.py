from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.conversion.index_map_graph import IndexMapGraph
from cxcompress.errors import InputError
from cxcompress.representation.types import Codebook, SharedKernel, SharedWeights, index_dtype

LARGEST_CONSTANT = 4096  # bytes: shapes and paddings are small, a baked kernel would not be


def codebook(spread, kind):
    if kind == "grid":
        step = np.float32(spread / 40)
        return Codebook(np.arange(-127, 128, dtype=np.float32) * step, None, float(step))
    if kind == "inexact grid":  # within the tolerance of the grid, but not step * integer exactly
        values = np.arange(-127, 128, dtype=np.float32) * np.float32(0.0113)
        return Codebook(np.nextafter(values, np.float32(9)), None, 0.0113)
    k = {"8 bit": 256, "16 bit": 300}[kind]
    return Codebook(np.sort(np.random.default_rng(k).normal(0, spread, k)).astype(np.float32))


def shared_weights(model, kind="8 bit", scope="unified"):
    arrays = {path: array + 0.01 if "moving" in path else array  # as after training
              for path, array in models.weights(model).items()}
    codebooks, kernels = {}, {}
    for kernel in models.kernels(model):
        array = arrays.pop(kernel.path)
        name = kernel.family if scope == "unified" else kernel.path
        values = codebooks.setdefault(name, codebook(float(array.std()), kind)).values
        nearest = np.searchsorted((values[1:] + values[:-1]) / 2, array)
        kernels[kernel.path] = SharedKernel(nearest.astype(index_dtype(len(values))), name)
    return SharedWeights(codebooks, kernels, arrays)


def every_layer():
    """Strided, dilated, grouped, transposed, depthwise, separable, dense, attention; nested."""
    images = keras.Input((16, 16, 4), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
    inner = keras.Sequential([layers.Input((8, 8, 8)), layers.Conv2D(8, 3, padding="same"),
                              layers.BatchNormalization(), layers.Dropout(0.5)], name="inner")
    x = layers.Add()([inner(x), inner(layers.ReLU()(x))])
    x = layers.Conv2D(8, 3, dilation_rate=4, padding="same", groups=2)(x)
    x = layers.Conv2DTranspose(6, 3, strides=2)(x)
    x = layers.SeparableConv2D(6, 3)(layers.DepthwiseConv2D(3, strides=2)(x))
    x = layers.MultiHeadAttention(1, 4)(x, x)
    return keras.Model(images, layers.Dense(3)(layers.Flatten()(x)))


MODELS = {
    "every layer": every_layer,
    "small_cxr": lambda: models.build("small_cxr", (16, 16, 1), 2, activation="sigmoid"),
}


def assert_equal_to_keras(model, shared, graph, batch=2):
    images = np.random.default_rng(0).random((batch, *model.input_shape[1:]), np.float32)
    models.set_weights(model, shared.weights())
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(graph(images), expected, rtol=1e-4, atol=1e-5)


def assert_holds_index_maps_only(graph, shared):
    constants = [node.name for node in graph._function.graph.as_graph_def().node
                 if node.op == "Const" and node.ByteSize() > LARGEST_CONSTANT]
    assert constants == []
    captured = sum(variable.dtype.size * variable.shape.num_elements()
                   for variable in graph._function.graph.variables)
    assert captured == graph.weight_bytes
    indices = sum(kernel.indices.nbytes for kernel in shared.kernels.values())
    unshared = sum(array.nbytes for array in shared.unshared.values())
    codebooks = sum(book.values.nbytes for book in shared.codebooks.values())
    assert indices + unshared < graph.weight_bytes <= indices + unshared + codebooks


@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "grid", "inexact grid"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_keras_and_nothing_is_baked(name, kind):
    model = MODELS[name]()
    shared = shared_weights(model, kind, scope="layer" if kind == "8 bit" else "unified")
    graph = IndexMapGraph(model, shared)
    assert_holds_index_maps_only(graph, shared)
    assert_equal_to_keras(model, shared, graph)


@pytest.mark.slow
def test_pathonet_from_its_description_alone():
    model = models.build("pathonet", (32, 32, 3), 3)
    shared = shared_weights(model, "grid")
    graph = IndexMapGraph(models.architecture_json(model), shared, batch_size=1)
    assert_holds_index_maps_only(graph, shared)
    assert graph.weight_bytes < 1.05 * sum(k.indices.size for k in shared.kernels.values())
    assert_equal_to_keras(model, shared, graph, batch=1)


def test_expansions_wait_for_their_turn():
    model = models.build("resnet18", (32, 32, 1), 2)
    graph = IndexMapGraph(model, shared_weights(model), batch_size=1)
    reads = [op for op in graph._function.graph.get_operations()
             if op.type == "ReadVariableOp" and op.outputs[0].dtype == "uint8"]
    assert len(reads) == 21
    assert [bool(read.control_inputs) for read in reads] == [False] * 2 + [True] * 19


def test_the_float_model_is_freed():
    model = MODELS["small_cxr"]()
    kernel = weakref.ref(models.kernels(model)[3].variable)
    graph = IndexMapGraph(model, shared_weights(model))
    del model
    gc.collect()
    assert kernel() is None
    assert graph(np.zeros((1, 16, 16, 1), np.float32)).shape == (1, 2)


def test_weights_that_do_not_fit_are_refused():
    model = MODELS["small_cxr"]()
    shared = shared_weights(model)
    lacking = dict(shared.unshared)
    del lacking["stem_bn/gamma"]
    with pytest.raises(InputError, match="no weights for stem_bn/gamma"):
        IndexMapGraph(model, SharedWeights(shared.codebooks, shared.kernels, lacking))
    other = models.build("small_cxr", (16, 16, 3), 2)
    with pytest.raises(InputError, match="stem/kernel has shape"):
        IndexMapGraph(other, shared)
    first, second = keras.Input((2,)), keras.Input((2,))
    two = keras.Model([first, second], layers.Dense(1)(layers.Add()([first, second])))
    with pytest.raises(InputError, match="2 inputs"):
        IndexMapGraph(two, shared_weights(two))
