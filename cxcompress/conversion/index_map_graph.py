"""A Keras model whose kernels stay in memory as index maps and are expanded at each call.

    graph = IndexMapGraph(container.architecture, container.shared, batch_size=1)
    outputs = graph(images)                  # what the Keras model gives, to float rounding
    graph.weight_bytes                       # bytes held: indices, codebooks, unshared weights

The TensorFlow graph runs the real Keras layers (dilation, strides, padding and all), with each
kernel replaced by an expansion of its index map: `codebook[indices]`, or, where the codebook is
an integer grid, `step * integers`, which also takes one byte a weight and is cheaper. Indices,
codebooks and the rest are TensorFlow *variables*: constants would be folded back to float32
kernels at the first call. Expansions wait for their turn, so that the float copies of a few
layers live at a time, not those of the whole model.
"""

from __future__ import annotations

from collections import deque

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models.kernels import variables_by_path
from cxcompress.models.loading import model_from_architecture
from cxcompress.representation.types import Codebook, SharedWeights

# A kernel is expanded when the layer this many kernels before it is about to run. With 0 or 1
# TensorFlow often fuses the operation waited for (padding, the other branch of an addition)
# with the very layer that waits, which is a cycle.
_AHEAD = 2


class IndexMapGraph:
    """A callable model that holds shared weights in their compact form.

    Args:
        model: A Keras model with one input, or its architecture as Keras JSON
            (`Container.architecture`). Its weights are not used and no reference is kept.
        shared: All weights of the model, by path.
        batch_size: Fixed number of images a call, or None for any.

    Attributes:
        weight_bytes: Bytes of all weights held in memory.

    Raises:
        InputError: If the model has several inputs, or `shared` does not fit it.
    """

    def __init__(
        self,
        model: keras.Model | str,
        shared: SharedWeights,
        *,
        batch_size: int | None = None,
    ):
        if isinstance(model, str):
            model = model_from_architecture(model)
        if len(model.inputs) != 1:
            raise InputError(
                f"model {model.name!r} has {len(model.inputs)} inputs; index maps in a graph "
                "need a model with one input"
            )
        self._held: list[tf.Variable] = []
        with tf.init_scope():
            expansions = self._expansions(model, shared)
        self.weight_bytes = sum(
            variable.dtype.size * variable.shape.num_elements() for variable in self._held
        )
        images = model.inputs[0]
        signature = tf.TensorSpec([batch_size, *images.shape[1:]], images.dtype)
        self._dtype = signature.dtype
        self._function = _concrete(model, expansions, signature, in_turn=True)
        try:
            self(np.zeros([size or 1 for size in signature.shape], signature.dtype.as_numpy_dtype))
        except tf.errors.InvalidArgumentError:
            # TensorFlow fused operations across a waiting expansion (a cycle), or unknown sides
            # of 1 are too small for the model: let every expansion run when it likes.
            self._function = _concrete(model, expansions, signature, in_turn=False)

    def __call__(self, images: NDArray) -> NDArray:
        """The model's outputs for images `(n, height, width, channels)`, without dropout.

        Returns:
            An array, or the structure of arrays that the model returns.
        """
        outputs = self._function(tf.convert_to_tensor(images, self._dtype))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)

    def _hold(self, array: NDArray) -> tf.Variable:
        variable = tf.Variable(array, trainable=False)
        self._held.append(variable)
        return variable

    def _expansions(self, model: keras.Model, shared: SharedWeights) -> dict:
        """By variable id: the function that gives its value, and whether that is a kernel's."""
        # Two kernels of one codebook share its one variable.
        codebooks = {
            name: self._hold(np.float32(codebook.step) if _on_exact_grid(codebook)
                             else codebook.values)
            for name, codebook in shared.codebooks.items()
            if any(kernel.codebook == name for kernel in shared.kernels.values())
        }
        expansions = {}
        for path, variable in variables_by_path(model).items():
            if path in shared.kernels:
                kernel = shared.kernels[path]
                codebook, array = shared.codebooks[kernel.codebook], kernel.indices
                level = codebooks[kernel.codebook]
                if _on_exact_grid(codebook):
                    expand = _scaled(self._hold(codebook.grid_integers[array]), level)
                else:
                    expand = _gathered(self._hold(array), level)
            elif path in shared.unshared:
                array = np.asarray(shared.unshared[path])
                expand = self._hold(array).read_value
            else:
                raise InputError(f"model {model.name!r}: no weights for {path}")
            if tuple(array.shape) != tuple(variable.shape):
                raise InputError(
                    f"model {model.name!r}: {path} has shape {tuple(variable.shape)}, "
                    f"the weights given have {tuple(array.shape)}"
                )
            expansions[id(variable)] = expand, path in shared.kernels
        return expansions


def _concrete(model: keras.Model, expansions: dict, signature: tf.TensorSpec, *, in_turn: bool):
    """The traced graph alone: a `tf.function` would keep the model, with its float kernels."""

    def call(images):
        with _ExpandingScope(expansions, in_turn=in_turn):
            return model(images, training=False)

    return tf.function(call, autograph=False).get_concrete_function(signature)


class _ExpandingScope(keras.StatelessScope):
    """Inside it, a layer that reads a variable gets that variable's expansion."""

    def __init__(self, expansions: dict, *, in_turn: bool):
        super().__init__()
        self._expansions = expansions
        self._in_turn = in_turn
        self._marks: deque[tf.Operation] = deque(maxlen=_AHEAD + 1)

    def get_current_value(self, variable):
        value = super().get_current_value(variable)  # one that a layer has just updated
        if value is not None or id(variable) not in self._expansions:
            return value
        expand, is_kernel = self._expansions[id(variable)]
        if not (is_kernel and self._in_turn):
            return tf.cast(expand(), variable.dtype)
        self._marks.append(tf.compat.v1.get_default_graph().get_operations()[-1])
        waited_for = [self._marks[0]] if len(self._marks) > _AHEAD else []
        with tf.control_dependencies(waited_for):
            return tf.cast(expand(), variable.dtype)


def _on_exact_grid(codebook: Codebook) -> bool:
    """Whether `step * integers` gives the codebook's values to the last bit."""
    integers = codebook.grid_integers
    return integers is not None and np.array_equal(
        integers.astype(np.float32) * np.float32(codebook.step), codebook.values
    )


def _gathered(indices: tf.Variable, values: tf.Variable):
    return lambda: tf.gather(values.read_value(), tf.cast(indices.read_value(), tf.int32))


def _scaled(integers: tf.Variable, step: tf.Variable):
    return lambda: tf.cast(integers.read_value(), tf.float32) * step.read_value()
