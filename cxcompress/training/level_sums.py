"""The two inner loops of training shared values, as TensorFlow graphs over whole kernels.

    sums = sum_by_level(gradient, levels, k)         # float32 (k,): one sum a shared value
    levels = nearest_level(weights, values)          # which shared value is nearest to each weight

Both give the same bits whenever they are given the same bits, whatever the number of threads.
"""

from __future__ import annotations

import tensorflow as tf

ROW = 1 << 15
"""Weights summed one after another; rows run in parallel and are added up at the end."""
FEW_LEVELS = 16
"""Up to here, comparing with every threshold beats looking the interval up."""
BUCKETS = 1 << 14
"""Equal parts that the look-up cuts the range of the thresholds into."""


def level_dtype(k: int) -> str:
    """Type of a variable that holds the levels 0 … k − 1 of a kernel."""
    return "uint8" if k <= 256 else "int32"


def sum_by_level(gradient: tf.Tensor, levels: tf.Tensor, k: int) -> tf.Tensor:
    """Sums of the entries of `gradient` that have the same level.

    A weighted histogram of rows, then the sum of the rows: about 14 times as fast as
    `unsorted_segment_sum` on a large dense kernel, and more precise, since each row sums few
    numbers. `bincount` of the whole kernel is as fast, but shares the bins out among threads, so
    that its last digits change from call to call.

    Args:
        gradient: Any shape, fully known; cast to float32.
        levels: Integers 0 … k − 1 in the same shape.
        k: Number of levels.

    Returns:
        float32 `(k,)`.
    """
    gradient = tf.reshape(tf.cast(gradient, tf.float32), [-1])
    levels = tf.reshape(levels, [-1])
    length = max(ROW, 4 * k)
    rows, rest = divmod(int(gradient.shape[0]), length)
    sums = tf.zeros(k)
    if rows:
        whole = rows * length
        sums += tf.reduce_sum(_histogram(gradient[:whole], levels[:whole], rows, k), 0)
    if rest:
        sums += _histogram(gradient[-rest:], levels[-rest:], 1, k)[0]
    return sums


def _histogram(gradient: tf.Tensor, levels: tf.Tensor, rows: int, k: int) -> tf.Tensor:
    return tf.raw_ops.DenseBincount(
        input=tf.reshape(tf.cast(levels, tf.int32), (rows, -1)), size=k,
        weights=tf.reshape(gradient, (rows, -1)))


def nearest_level(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Index of the shared value nearest to each weight; halfway takes the lower one.

    Up to 16 values: the number of thresholds (midpoints of neighbouring values) below the
    weight. Above: the range of the thresholds is cut into 16,384 buckets; a table tells what lies
    below a bucket and which threshold lies in it. Where a bucket holds several thresholds only
    the least one counts, so that a weight is at most a bucket's width away from its true choice.

    Args:
        weights: float32, any shape.
        values: float32 `(k,)`, in any order, equal ones allowed.

    Returns:
        `level_dtype(k)` in the weights' shape. NaN weights get an arbitrary level.
    """
    k = int(values.shape[0])
    dtype = level_dtype(k)
    order = tf.cast(tf.argsort(values, stable=True), dtype)
    ascending = tf.gather(values, tf.cast(order, tf.int32))
    thresholds = (ascending[1:] + ascending[:-1]) / 2
    if k <= FEW_LEVELS:
        rank = tf.zeros(tf.shape(weights), tf.uint8)
        for position in range(k - 1):
            rank += tf.cast(weights > thresholds[position], tf.uint8)
        return tf.gather(order, tf.cast(rank, tf.int32))

    low, high = thresholds[0], thresholds[-1]
    # Bucket 0 lies below all thresholds, the last one above; a width of 0 must not divide by 0.
    per_unit = (BUCKETS - 2) / tf.maximum(high - low, 1e-30)
    edges = low + (tf.range(BUCKETS + 1, dtype=tf.float32) - 1) / per_unit
    below = tf.searchsorted(thresholds, edges)
    inside = tf.gather(tf.concat([thresholds, [tf.float32.max]], 0), below[:-1])
    bucket = tf.clip_by_value((weights - low) * per_unit + 1, 0.0, BUCKETS - 1.0)
    bucket = tf.maximum(tf.cast(bucket, tf.int32), 0)  # NaN becomes a negative integer
    return tf.where(
        weights > tf.gather(inside, bucket),
        tf.gather(tf.gather(order, tf.minimum(below[:-1] + 1, k - 1)), bucket),
        tf.gather(tf.gather(order, below[:-1]), bucket))
