"""`train.py`: train one of the built-in classifiers on a collection."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.errors import InputError
from cxcompress.reporting.tables import interval, text_table
from cxcompress.runs import RunFolder, atomic_path

EXAMPLE = "python experiments/train.py --model small_cxr --data_path synthetic:cxr --epochs 30"
ACTIVATIONS = {"multiclass": "softmax", "multilabel": "sigmoid"}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `train.py`."""
    parse = parser("train.py", "Train a built-in classifier; the epoch with the lowest validation "
                   "loss is kept, and judged once on the test part.", EXAMPLE)
    add = parse.add_argument
    add("--model", default="small_cxr", help="a name of cxcompress.models.names() (small_cxr)")
    add("--data_path", default="synthetic:cxr", help="as for compress.py (synthetic:cxr)")
    add("--count", type=int, help="images to generate, for synthetic:… (its own default)")
    add("--size", type=int, default=64, help="height and width of the network's input (64)")
    add("--channels", type=int, default=1, choices=(1, 3), help="1 = grey, 3 = colour (1)")
    add("--epochs", type=int, default=30, help="most epochs (30)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=6,
        help="epochs without improvement on validation before it stops (6)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(train(arguments)), argv)


def train(arguments: argparse.Namespace) -> str:
    """Train, judge on test, write the model and its card; returns what to print.

    Raises:
        InputError: If a flag or the data cannot be used.
    """
    start_tensorflow()
    import keras

    from cxcompress import models
    from cxcompress.data import open_collection
    from cxcompress.evaluation import evaluate
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import Study, open_with_validation
    from cxcompress.storage import ModelCard
    from cxcompress.tasks import get as get_task
    from cxcompress.training import fit_classifier

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    notes: list[str] = []
    name = f"{arguments.model}-seed{arguments.seed}"
    with RunFolder.open(Path(arguments.output_path) / name, described,
                        overwrite=arguments.overwrite) as folder:
        collection = open_with_validation(
            open_collection(arguments.data_path, size=arguments.size, count=arguments.count,
                            seed=arguments.seed),
            arguments.seed, notes)
        if collection.task not in ACTIVATIONS or collection.train is None:
            raise InputError(f"--data_path {arguments.data_path}: needs a train part with class "
                             "labels")
        keras.utils.set_random_seed(arguments.seed)
        preprocessing = Preprocessing.preset(
            "0-1", (arguments.size, arguments.size), arguments.channels)
        model = models.build(
            arguments.model, (arguments.size, arguments.size, arguments.channels),
            len(collection.classes), activation=ACTIVATIONS[collection.task])
        history = fit_classifier(
            model, collection, preprocessing, epochs=arguments.epochs, learning_rate=arguments.lr,
            batch_size=arguments.batch_size, patience=arguments.patience, seed=arguments.seed)
        study = Study(collection, get_task(collection.task, collection.classes), preprocessing)
        thresholds = study.thresholds(model, arguments.batch_size)
        part, part_name = study.judged_part("test", notes)
        estimates = evaluate(study.record(model, part, arguments.batch_size, "Test"),
                             thresholds=thresholds, seed=arguments.seed)
        card = ModelCard(
            task=collection.task, classes=collection.classes, thresholds=thresholds,
            preprocessing=preprocessing.to_dict(),
            provenance={"model": arguments.model, "collection": collection.name,
                        "credit": collection.credit, "arguments": described},
            metrics={"part": part_name,
                     **{key: dataclasses.asdict(value) for key, value in estimates.items()}},
            licence="MIT", synthetic=collection.synthetic)
        with atomic_path(folder.path / f"{arguments.model}.h5") as temporary:
            model.save(temporary, include_optimizer=False)
        folder.write_json(f"{arguments.model}.card.json", card.to_dict())
        folder.write_json("results.json", folder.record | {
            "state": "done", "history": history, "test": estimates, "notes": notes})
        rows = [{"metric": key, f"{part_name} (95% interval)": interval(value),
                 "n": str(value.n), "positives": str(value.positives)}
                for key, value in estimates.items()]
    return "\n".join([*notes, text_table(rows, right=("n", "positives")), "",
                      f"model  {folder.path}/{arguments.model}.h5"])
