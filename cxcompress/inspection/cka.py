"""Centred kernel alignment: how alike two layers represent the same images, 0 to 1.

    found = similarity(dense, pruned, batches)
    found.values[i, j]       # layer found.layers[0][i] of `dense`, found.layers[1][j] of `pruned`

Linear kernel, minibatches, and the unbiased estimator HSIC₁: for a batch of n images and the
activations X `(n, p)` of a layer, K = X Xᵀ is U-centred,

    K̃_ij = K_ij − Σ_l K_il / (n−2) − Σ_l K_lj / (n−2) + Σ_kl K_kl / ((n−1)(n−2)),  K̃_ii = 0,

with K_ii = 0 in the sums; then HSIC₁(K, L) = Σ K̃_ij L̃_ij / (n(n−3)), averaged over batches, and
CKA = HSIC₁(K, L) / √(HSIC₁(K, K) HSIC₁(L, L)). So a batch needs four images. Two unrelated layers
come out around 0, a little below at times.

References: Nguyen et al. (2021), "Do wide and deep networks learn the same things?", section 3;
Song et al. (2012), equation 5, for HSIC₁; Kornblith et al. (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.runs import progress

LEAST_BATCH = 4
SKIPPED = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.Flatten,
           keras.layers.Reshape, keras.layers.ZeroPadding2D)
"""Layers that show nothing which the layer before did not."""


@dataclass(frozen=True)
class Similarity:
    """CKA of every layer of one model with every layer of another.

    Args:
        values: float64 `(layers of the first, layers of the second)`.
        layers: Names of both models' layers, in network order.
        images: Images that it rests on.
        batch_size: Images a batch.
    """

    values: NDArray[np.float64]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    images: int
    batch_size: int


def similarity(
    one: keras.Model, other: keras.Model | None, batches: Sequence[NDArray],
    layers: Sequence[str] | None = None, other_layers: Sequence[str] | None = None,
) -> Similarity:
    """CKA between layers of two models, or within one.

    Args:
        one: Functional or sequential; its activations in inference mode.
        other: The second model; None compares `one` with itself.
        batches: Inputs `(n, …)`, n ≥ 4, which both models see; a last one of fewer is left out.
        layers: Names of layers of `one`; default `layers_to_compare`.
        other_layers: Of `other`; default `layers` where given, else its `layers_to_compare`.

    Raises:
        InputError: If a batch has under four images, a layer is not there, the models take
            different inputs, or an activation is not a number.
    """
    names = _checked(one, layers)
    extractor = _extractor(one, names)
    second = None
    if other is not None:
        if other.inputs[0].shape != one.inputs[0].shape:
            raise InputError(f"model {one.name!r} takes inputs {tuple(one.inputs[0].shape[1:])}, "
                             f"model {other.name!r} takes {tuple(other.inputs[0].shape[1:])}; CKA "
                             "compares what two models make of the same images")
        other_names = _checked(other, other_layers or layers)
        second = _extractor(other, other_names)
    batches = _whole(batches)
    sums = np.zeros((len(names), len(other_names) if second else len(names)))
    own, others = np.zeros(len(names)), np.zeros(sums.shape[1])
    for inputs in progress(batches, "CKA", total=len(batches)):
        inputs = tf.convert_to_tensor(inputs)
        a = _centred(extractor(inputs), names)
        b = a if second is None else _centred(second(inputs), other_names)
        n = len(inputs)
        scale = 1 / (n * (n - 3))
        sums += scale * a @ b.T
        own += scale * np.einsum("ij,ij->i", a, a)
        others += scale * np.einsum("ij,ij->i", b, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = sums / np.sqrt(np.outer(own, others))
    # A layer that says the same of every image has no similarity with anything.
    values[~np.isfinite(values)] = 0.0
    return Similarity(values, (tuple(names), tuple(other_names if second else names)),
                      sum(map(len, batches)), len(batches[0]))


def layers_to_compare(model: keras.Model) -> list[str]:
    """Layers whose output is more than a copy of another's, in network order.

    Dropout and reshaping are left out; of a layer with BatchNormalization and ReLU behind it all
    three are shown.
    """
    return [layer.name for layer in model.layers if not isinstance(layer, SKIPPED)]


def hsic1(one: NDArray, other: NDArray) -> float:
    """Unbiased HSIC₁ of two kernel matrices `(n, n)`, n ≥ 4; their diagonals do not count.

    Raises:
        InputError: If n is under 4.
    """
    n = len(one)
    if n < LEAST_BATCH:
        raise InputError(_too_few(n))
    return float((u_centred(one) * u_centred(other)).sum() / (n * (n - 3)))


def u_centred(kernel: NDArray) -> NDArray[np.float64]:
    """K̃ of a kernel matrix `(…, n, n)`."""
    kernel = np.array(kernel, np.float64)
    n = kernel.shape[-1]
    diagonal = np.arange(n)
    kernel[..., diagonal, diagonal] = 0
    rows = kernel.sum(axis=-1)
    centred = (kernel - rows[..., :, None] / (n - 2) - rows[..., None, :] / (n - 2)
               + rows.sum(axis=-1)[..., None, None] / ((n - 1) * (n - 2)))
    centred[..., diagonal, diagonal] = 0
    return centred


def _extractor(model: keras.Model, names: Sequence[str]):
    """Inputs to one Gram matrix `(n, n)` a layer, in one graph that keeps no activation longer
    than it must."""
    inner = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])

    @tf.function(reduce_retracing=True)
    def grams(inputs):
        found = inner(inputs, training=False)
        matrices = []
        for activation in (found if isinstance(found, list) else [found]):
            x = tf.reshape(tf.cast(activation, tf.float32), [tf.shape(inputs)[0], -1])
            # U-centring takes means away exactly; doing so before the product keeps digits.
            x -= tf.reduce_mean(x, axis=0, keepdims=True)
            matrices.append(tf.matmul(x, x, transpose_b=True))
        return tf.stack(matrices)

    return grams


def _centred(grams: tf.Tensor, names: Sequence[str]) -> NDArray[np.float64]:
    """U-centred kernel matrices as rows, float64 `(layers, n²)`."""
    array = grams.numpy()
    for name, matrix in zip(names, array, strict=True):
        if not np.isfinite(matrix).all():
            raise InputError(f"layer {name}: its activations hold NaN or infinite numbers; check "
                             "the model and --preprocessing")
    return u_centred(array).reshape(len(names), -1)


def _checked(model: keras.Model, names: Sequence[str] | None) -> list[str]:
    known = [layer.name for layer in model.layers]
    chosen = list(names) if names is not None else layers_to_compare(model)
    for name in chosen:
        if name not in known:
            raise InputError(f"--layers {name}: model {model.name!r} has no such layer; it has "
                             f"{', '.join(known[:8])}{', …' if len(known) > 8 else ''}")
    if not chosen:
        raise InputError(f"model {model.name!r}: has no layer to compare")
    return chosen


def _whole(batches: Sequence[NDArray]) -> list[NDArray]:
    batches = list(batches)
    if not batches or len(batches[0]) < LEAST_BATCH:
        raise InputError(_too_few(len(batches[0]) if batches else 0))
    return [batch for batch in batches if len(batch) >= LEAST_BATCH]


def _too_few(count: int) -> str:
    return (f"a batch of {count} images: unbiased CKA needs at least {LEAST_BATCH} a batch; give a "
            "larger --batch_size, or more images")
