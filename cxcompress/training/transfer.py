"""A network that starts from what another one learnt: same layers, another head.

    taken = transfer(trained, model)          # kernel by kernel, where path and shape agree
    freeze_backbone(model)                    # only the head trains
"""

from __future__ import annotations

import keras

from cxcompress.errors import InputError
from cxcompress.models.kernels import variables_by_path

HEAD = "predictions"
"""Name of the last layer of every classifier that `models.build` makes."""


def transfer(source: keras.Model, target: keras.Model, *, head: bool = False) -> list[str]:
    """Copy weights of the same path and shape; the head stays new unless asked for.

    Args:
        source: Trained; another number of classes or input size does not matter.
        target: Receives them.
        head: Whether the last layer is copied too, where it fits.

    Returns:
        Paths of the variables copied.

    Raises:
        InputError: If nothing but the head agrees: the two are different networks.
    """
    theirs = variables_by_path(source)
    taken = []
    for path, variable in variables_by_path(target).items():
        other = theirs.get(path)
        if other is None or other.shape != variable.shape or (
                not head and path.startswith(f"{HEAD}/")):
            continue
        variable.assign(other)
        taken.append(path)
    if not any(not path.startswith(f"{HEAD}/") for path in taken):
        raise InputError(f"{source.name}: none of its layers fits {target.name}; give a model of "
                         "the same architecture")
    return taken


def freeze_backbone(model: keras.Model, frozen: bool = True) -> None:
    """Let only the head train, or everything again.

    Frozen BatchNormalization also keeps its moving means and variances.
    """
    for layer in model.layers:
        if layer.name != HEAD:
            layer.trainable = not frozen
