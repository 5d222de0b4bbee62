"""`import_pathonet.py`: weights that the PathoNet compression scripts pickled, as a Keras model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, run, start_tensorflow
from cxcompress.errors import InputError
from cxcompress.runs import to_json, write_atomic

EXAMPLE = ("python experiments/import_pathonet.py 0-0-0-256-0.0001-1e-05-5-75-147.1456.h5 "
           "--output_path imported")


def build_parser() -> OneLineParser:
    """The flags of `import_pathonet.py`."""
    parse = OneLineParser(
        prog="import_pathonet.py", description="Turn weights that the PathoNet compression "
        "scripts pickled into an ordinary Keras model with its card. Only arrays of numbers are "
        "admitted: the file cannot run anything.", epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parse.add_argument
    add("weights", help="a .h5 that is a pickle of model.get_weights()")
    add("--output_path", default="imported", help="folder for the model and its card (imported)")
    add("--name", help="of the model (the weights' file name)")
    add("--size", type=int, default=256, help="pixels a side of the input (256)")
    add("--microns_per_pixel", type=float, help="of the input, where it is known; kept in the card")
    add("--overwrite", action="store_true", help="replace a model of that name")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(import_pathonet(arguments)), argv)


def import_pathonet(arguments: argparse.Namespace) -> str:
    """Write the model and its card; returns what to print.

    Raises:
        InputError: If the file holds anything but PathoNet's weights.
    """
    from cxcompress.models.pickled_weights import read_pickled_weights

    source = Path(arguments.weights)
    if arguments.size < 16 or arguments.size % 16:
        raise InputError(f"--size {arguments.size}: must be a multiple of 16")
    if arguments.microns_per_pixel is not None and not 0 < arguments.microns_per_pixel < 100:
        raise InputError(f"--microns_per_pixel {arguments.microns_per_pixel:g}: must be positive, "
                         "e.g. 0.8")
    weights = read_pickled_weights(source)
    target = Path(arguments.output_path) / f"{arguments.name or source.stem}.h5"
    card_path = target.with_name(f"{target.stem}.card.json")
    for path in (target, card_path):
        if path.exists() and not arguments.overwrite:
            raise InputError(f"{path}: exists; give --overwrite or another --name")
    start_tensorflow()
    import dataclasses

    from cxcompress import models
    from cxcompress.data.shidc import NUCLEI
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.storage import ModelCard
    from cxcompress.tasks.nuclei import DEFAULT_THRESHOLDS

    side = arguments.size
    model = models.build("pathonet", (side, side, 3), len(NUCLEI))
    wanted = [array.shape for array in model.get_weights()]
    given = [array.shape for array in weights]
    if wanted != given:
        place = next((number for number, pair in enumerate(zip(wanted, given, strict=False))
                      if pair[0] != pair[1]), min(len(wanted), len(given)))
        what = (f"array {place} is {given[place]}, PathoNet's is {wanted[place]}"
                if place < min(len(wanted), len(given))
                else f"{len(given)} arrays, PathoNet has {len(wanted)}")
        raise InputError(f"{source}: the weights of another network ({what})")
    model.set_weights(weights)
    card = ModelCard(
        task="nuclei", classes=NUCLEI, thresholds=DEFAULT_THRESHOLDS,
        preprocessing=dataclasses.replace(
            Preprocessing.preset("0-1", (side, side), 3),
            microns_per_pixel=arguments.microns_per_pixel).to_dict(),
        provenance={"model": "pathonet", "imported_from": source.name,
                    "sha256": file_sha256(source)})
    models.save_model(model, target)
    write_atomic(card_path, to_json(card.to_dict()))
    return (f"{len(weights)} arrays, {model.count_params():,} parameters\n"
            f"thresholds are PathoNet's defaults ({', '.join(map('{:g}'.format, card.thresholds))})"
            f"; run_rmse_acc.py --tune finds better ones\nmodel  {target}\ncard   {card_path}")
