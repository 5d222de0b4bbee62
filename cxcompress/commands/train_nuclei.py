"""What `train.py` does for networks of density maps, such as PathoNet: flags and fitting."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cxcompress.errors import InputError

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study


def add_nuclei_flags(parse: argparse.ArgumentParser) -> None:
    """Flags that matter where the data are fields of nuclei."""
    group = parse.add_argument_group("fields of nuclei")
    add = group.add_argument
    add("--crop", type=int, help="side of the squares trained on (whole fields)")
    add("--recipe", choices=("cosine", "paper"), default="cosine",
        help="cosine: learning rate on a cosine, lymphocytes count twice; paper: PathoNet's plain "
        "squared error and three steps of the learning rate, with --lr 0.01 --batch_size 16 "
        "--epochs 30 (cosine)")
    add("--initial_weights", metavar="FILE", help="a trained network of the same name to go on "
        "from, instead of random weights")
    add("--stain_augmentation", action="store_true",
        help="change stain, light, focus and noise of training fields by chance")
    add("--zoom", type=float, default=1.0, help="training squares are up to this many times "
        "larger or smaller before they are resized, with --crop (1)")
    add("--microns_per_pixel", type=float, help="of the stored fields; kept in the card, so that "
        "fields of another scale are resized (that of generated fields is known)")
    add("--mixed_precision", action="store_true",
        help="compute in float16 where the graphics card gains by it; weights stay float32")


def slide_preprocessing(study: Study, arguments: argparse.Namespace) -> Study:
    """The study, its preprocessing with the microns a pixel of the network's input.

    Raises:
        InputError: If the number given is not positive.
    """
    stored = arguments.microns_per_pixel or study.collection.microns_per_pixel
    if stored is None:
        return study
    if not stored > 0:
        raise InputError(f"--microns_per_pixel {stored:g}: must be positive, e.g. 0.25")
    width = study.collection.train.images[0].shape[1]
    return dataclasses.replace(study, preprocessing=dataclasses.replace(
        study.preprocessing, microns_per_pixel=stored * width / study.preprocessing.size[1]))


def fit_nuclei(
    network: Callable[[int], keras.Model], study: Study, arguments: argparse.Namespace,
    state: Path,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """A network of whole fields, with the weights of one that was trained on crops.

    With `--strategy mirrored` every step is spread over all graphics cards.

    Args:
        network: Builds it for fields of so many pixels a side.
        study: Collection and preprocessing.
        arguments: The flags of `train.py`.
        state: Where an interrupted training continues from.

    Returns:
        The network and Keras' history.

    Raises:
        InputError: If a flag or the weights given do not fit.
    """
    import keras

    from cxcompress.data.stain_augmentation import StainAugmentation
    from cxcompress.training import fit_density
    from cxcompress.training.devices import on_devices, synchronize

    if not 1 <= arguments.zoom <= 4:
        raise InputError(f"--zoom {arguments.zoom:g}: must lie between 1 and 4")
    if arguments.zoom > 1 and arguments.crop is None:
        raise InputError("--zoom needs --crop, the side of the squares that are cut out")
    policy = keras.mixed_precision.global_policy() if hasattr(
        keras.mixed_precision, "global_policy") else keras.mixed_precision.dtype_policy()
    if arguments.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with on_devices(arguments.strategy):
            twin = network(arguments.crop or arguments.size)
            synchronize(twin)
            if arguments.initial_weights:
                _start_from(twin, arguments.initial_weights)
            history = fit_density(
                twin, study.collection, study.preprocessing, epochs=arguments.epochs,
                learning_rate=arguments.lr, batch_size=arguments.batch_size,
                crop=arguments.crop, seed=arguments.seed, state_folder=state,
                recipe=arguments.recipe, zoom=arguments.zoom,
                stain=StainAugmentation() if arguments.stain_augmentation else None,
                start_bias=not arguments.initial_weights)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    model = network(arguments.size)
    model.set_weights(twin.get_weights())
    return model, history


def _start_from(model: keras.Model, path: str) -> None:
    from cxcompress import models

    weights = models.load_model(path).get_weights()
    shapes = [array.shape for array in weights]
    if shapes != [array.shape for array in model.get_weights()]:
        raise InputError(f"--initial_weights {path}: is another network than --model")
    model.set_weights(weights)
