"""Numbers of each epoch for TensorBoard, without needing TensorBoard itself to be installed.

    model.fit(..., callbacks=[ScalarLog("results/run/tensorboard")])
    # tensorboard --logdir results
"""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

PLUGIN = "scalars"


class ScalarLog(keras.callbacks.Callback):
    """Writes every number that an epoch logs as an event that TensorBoard draws.

    Args:
        folder: For the event files; made at the first epoch.
        numbers: A mapping of lists to read the newest numbers from (`BestEpoch.history`), since
            callbacks do not see each other's logs.
    """

    def __init__(self, folder: str | Path, numbers: dict[str, list[float]]):
        super().__init__()
        self.folder, self.numbers, self.writer = Path(folder), numbers, None

    def on_epoch_end(self, epoch, logs=None):
        if self.writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.writer = tf.summary.create_file_writer(str(self.folder))
        data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name=PLUGIN)
        metadata = tf.compat.v1.SummaryMetadata(plugin_data=data, data_class=1)
        with self.writer.as_default():
            for name, values in self.numbers.items():
                tf.summary.write(f"epoch_{name}", _scalar(values[-1]), step=epoch,
                                 metadata=metadata)
        self.writer.flush()

    def on_train_end(self, logs=None):
        if self.writer is not None:
            self.writer.close()


def _scalar(value: float) -> tf.Tensor:
    """A float32 scalar tensor, which TensorBoard's scalar plugin expects."""
    return tf.constant(value, tf.float32)
