"""`train.py`: train one of the built-in networks on a collection."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.train_nuclei import add_nuclei_flags, fit_nuclei, slide_preprocessing
from cxcompress.errors import InputError
from cxcompress.reporting.tables import interval, text_table
from cxcompress.runs import RunFolder, atomic_path

EXAMPLE = "python experiments/train.py --model small_cxr --data_path synthetic:cxr --epochs 30"
ACTIVATIONS = {"multiclass": "softmax", "multilabel": "sigmoid", "nuclei": None}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `train.py`."""
    parse = parser("train.py", "Train a built-in network; the epoch with the lowest validation "
                   "loss is kept, and judged once on the test part.", EXAMPLE)
    add_training_flags(parse)
    return parse


def add_training_flags(parse: argparse.ArgumentParser) -> None:
    """The flags of one training."""
    add = parse.add_argument
    add("--model", default="small_cxr", help="a name of cxcompress.models.names() (small_cxr)")
    add("--data_path", default="synthetic:cxr", help="as for compress.py (synthetic:cxr)")
    add("--count", type=int, help="images to generate, for synthetic:… (its own default)")
    add("--data_seed", type=int, help="seed of generated images (as --seed)")
    add("--size", type=int, default=64, help="height and width of the network's input (64)")
    add("--channels", type=int, default=1, choices=(1, 3), help="1 = grey, 3 = colour (1)")
    add("--epochs", type=int, default=30, help="most epochs (30)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=6,
        help="epochs without improvement on validation before it stops (6)")
    add("--augment", action="store_true", help="move, turn and expose training images a little "
        "differently in every epoch; fields of nuclei are always turned")
    add("--weight_decay", type=float, default=0.0, help="AdamW's; 0 is Adam (0)")
    add("--label_smoothing", type=float, default=0.0,
        help="share of every training label that is spread evenly, 0 to 1 (0)")
    add_nuclei_flags(parse)


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
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import Study, open_with_validation
    from cxcompress.tasks import get as get_task

    for name in ("weight_decay", "label_smoothing"):
        if not 0 <= getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name):g}: must lie between 0 and 1")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    notes: list[str] = []
    path = Path(arguments.output_path) / f"{arguments.model}-seed{arguments.seed}"
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        collection = open_with_validation(
            open_collection(arguments.data_path, size=arguments.size, count=arguments.count,
                            seed=arguments.seed if arguments.data_seed is None
                            else arguments.data_seed),
            arguments.seed, notes)
        if collection.task not in ACTIVATIONS or collection.train is None:
            raise InputError(f"--data_path {arguments.data_path}: needs a train part with labels")
        keras.utils.set_random_seed(arguments.seed)
        size = (arguments.size, arguments.size)
        channels = 3 if collection.task == "nuclei" else arguments.channels
        study = Study(collection, get_task(collection.task, collection.classes),
                      Preprocessing.preset("0-1", size, channels))

        def network(side: int) -> keras.Model:
            return models.build(arguments.model, (side, side, channels), len(collection.classes),
                                activation=ACTIVATIONS[collection.task])

        if collection.task == "nuclei":
            study = slide_preprocessing(study, arguments)
            model, history = fit_nuclei(network, study, arguments, path / "state")
        else:
            model = network(arguments.size)
            history = _fit_classes(model, study, arguments)
        return judge_and_write(folder, model, study, history, arguments, notes)


def _fit_classes(model, study, arguments: argparse.Namespace) -> dict[str, list[float]]:
    from cxcompress.data.augmentation import Augmentation
    from cxcompress.training import fit_classifier

    return fit_classifier(
        model, study.collection, study.preprocessing, epochs=arguments.epochs,
        learning_rate=arguments.lr, batch_size=arguments.batch_size,
        patience=arguments.patience, seed=arguments.seed,
        augmentation=Augmentation() if arguments.augment else None,
        weight_decay=arguments.weight_decay, label_smoothing=arguments.label_smoothing)


def judge_and_write(
    folder: RunFolder, model, study, history: Mapping[str, Sequence[float]],
    arguments: argparse.Namespace, notes: list[str],
) -> str:
    """Judge the model on test, write it with its card, and return what to print."""
    from cxcompress.evaluation import evaluate
    from cxcompress.storage import ModelCard

    collection, described = study.collection, folder.record["arguments"]
    thresholds = study.thresholds(model, arguments.batch_size)
    part, part_name = study.judged_part("test", notes)
    judged = {name: evaluate(
        study.record(model, chosen, arguments.batch_size, name, thresholds),
        thresholds=thresholds, seed=arguments.seed)
        for name, chosen in ((part_name, part), ("val", collection.val))}
    estimates = judged[part_name]
    card = ModelCard(
        task=collection.task, classes=collection.classes, thresholds=thresholds,
        preprocessing=study.preprocessing.to_dict(),
        provenance={"model": arguments.model, "collection": collection.title,
                    "credit": collection.credit,
                    "arguments": described | {"data_path": collection.title}},
        metrics={"part": part_name,
                 **{key: dataclasses.asdict(value) for key, value in estimates.items()}},
        licence="MIT", synthetic=collection.synthetic)
    with atomic_path(folder.path / f"{arguments.model}.h5") as temporary:
        model.save(temporary, include_optimizer=False)
    folder.write_json(f"{arguments.model}.card.json", card.to_dict())
    folder.write_json("results.json", folder.record | {
        "state": "done", "history": history, "test": estimates, "val": judged["val"],
        "notes": notes})
    rows = [{"metric": key, f"{part_name} (95% interval)": interval(value),
             "n": str(value.n), "positives": str(value.positives)}
            for key, value in estimates.items()]
    return "\n".join([*notes, text_table(rows, right=("n", "positives")), "",
                      f"model  {folder.path}/{arguments.model}.h5"])
