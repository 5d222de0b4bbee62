"""Compiling a Keras model so that its training step is traced once.

    compile_with_optimizer(model, keras.optimizers.Adam(1e-3), loss)
    model.fit(…)
"""

from __future__ import annotations

import keras


def compile_with_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss) -> None:
    """`model.compile`, with the optimiser's variables made now instead of in the first step.

    TensorFlow traces a step that makes variables a second time, without them, and keeps only
    that: of a DenseNet169 half a minute for nothing.

    Args:
        model: Built; the layers that train are settled.
        optimizer: Of its trainable weights.
        loss: As for `keras.Model.compile`.
    """
    model.compile(optimizer=optimizer, loss=loss)
    model.optimizer.build(model.trainable_variables)
