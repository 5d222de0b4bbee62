"""`train.py`: train one of the built-in networks on a collection."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import PREPROCESSINGS, add_data_flags, data_options
from cxcompress.commands.train_nuclei import add_nuclei_flags, fit_nuclei, slide_preprocessing
from cxcompress.errors import InputError
from cxcompress.reporting.tables import interval, text_table
from cxcompress.runs import RunFolder, atomic_path

EXAMPLE = ("python experiments/train.py --model densenet121 --pretrained imagenet --size 224 "
           "--data_path ChestX-ray14 --loss weighted_bce --flip --rotation 15")
ACTIVATIONS = {"multiclass": "softmax", "multilabel": "sigmoid", "nuclei": None}
LOSSES = ("bce", "weighted_bce", "focal", "masked_bce")
CLASSIFIER_FLAGS = ("loss", "pretrained", "freeze_backbone", "tta", "cache", "tensorboard")
WATCHED = {"val_loss": "val_loss", "macro_ap": "val_macro_ap"}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `train.py`."""
    parse = parser("train.py", "Train a built-in network; the epoch that is best on validation is "
                   "kept, and judged once on the test part. An interrupted training goes on where "
                   "it stopped.", EXAMPLE)
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
    add("--channels", type=int, default=1, choices=(1, 3),
        help="1 = grey, 3 = colour; ImageNet weights need 3 and get them (1)")
    add("--preprocessing", choices=PREPROCESSINGS, default="auto",
        help="scale of the input: auto is 0-1, or what the weights of --pretrained were trained "
        "on (auto)")
    add("--pretrained", metavar="imagenet|FILE", help="start from ImageNet weights, or from a "
        "model of the same architecture whose head is replaced. Where ImageNet weights cannot be "
        "fetched, training starts from scratch and says so (random weights)")
    add("--freeze_backbone", action="store_true", help="train the head alone")
    add("--loss", choices=LOSSES, help="of multilabel collections: binary cross-entropy; with "
        "rare positives weighted; focal; or summed over each image's known labels (bce). Unknown "
        "labels are masked in all of them")
    add("--stop_on", choices=tuple(WATCHED), default="val_loss",
        help="what says which epoch is best on validation (val_loss)")
    add("--epochs", type=int, default=30, help="most epochs (30)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=6,
        help="epochs without improvement on validation before it stops (6)")
    add("--augment", action="store_true", help="move, turn and expose training images a little "
        "differently in every epoch; fields of nuclei are always turned")
    add("--flip", action="store_true", help="mirror half of the training images")
    add("--rotation", type=float, metavar="DEGREES", help="turn training images by at most this; "
        "alone: nothing else is changed; with --augment: instead of its 8 degrees")
    add("--tta", type=int, default=0, metavar="COPIES", help="test-time augmentation: mean of the "
        "probabilities of so many augmented copies (0)")
    add("--weight_decay", type=float, default=0.0, help="AdamW's; 0 is Adam (0)")
    add("--label_smoothing", type=float, default=0.0,
        help="share of every training label that is spread evenly, 0 to 1 (0)")
    add("--cache", metavar="memory|FOLDER", help="keep decoded and resized images, 4 bytes a "
        "number, in memory or in a folder")
    add("--strategy", choices=("none", "mirrored"), default="none", help="mirrored: on all GPUs of "
        "this machine together, with the result of one (none)")
    add("--tensorboard", action="store_true", help="write losses for TensorBoard")
    add("--remark", metavar="TEXT", help="a sentence for the model's card, such as what it must "
        "not be used for; its compressed files carry it too")
    add_nuclei_flags(parse)
    add_data_flags(parse)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(train(arguments)), argv)


def check_flags(arguments: argparse.Namespace) -> None:
    """Refuse impossible values before any work.

    Raises:
        InputError: If there is one.
    """
    for name in ("weight_decay", "label_smoothing"):
        if not 0 <= getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name):g}: must lie between 0 and 1")
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("tta", 0), ("size", 1)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least {least}")
    if not arguments.lr > 0:
        raise InputError(f"--lr {arguments.lr:g}: must be above 0, e.g. 0.001")
    if arguments.rotation is not None and not 0 <= arguments.rotation <= 180:
        raise InputError(f"--rotation {arguments.rotation:g}: must lie between 0 and 180 degrees")
    if arguments.tta and not augmentation_of(arguments):
        raise InputError("--tta: says how many augmented copies; give --augment, --flip or "
                         "--rotation too")
    if arguments.pretrained not in (None, "imagenet") and not Path(arguments.pretrained).is_file():
        raise InputError(f"--pretrained {arguments.pretrained}: no such file; give imagenet or a "
                         "model file")


def augmentation_of(arguments: argparse.Namespace):
    """The `Augmentation` that the flags ask for, or None."""
    from cxcompress.data.augmentation import Augmentation

    flip = 0.5 if arguments.flip else 0.0
    if arguments.augment:
        turn = {} if arguments.rotation is None else {"rotation": arguments.rotation}
        return Augmentation(flip=flip, **turn)
    if arguments.flip or arguments.rotation:
        return Augmentation.turned(arguments.rotation or 0.0, flip)
    return None


def train(arguments: argparse.Namespace) -> str:
    """Train, judge on test, write the model and its card; returns what to print.

    Raises:
        InputError: If a flag or the data cannot be used.
    """
    check_flags(arguments)
    start_tensorflow()
    import keras

    from cxcompress import models
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import Study, open_with_validation
    from cxcompress.tasks import get as get_task
    from cxcompress.training.devices import on_devices, on_one_device, synchronize

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite", "strategy")}
    notes: list[str] = []
    path = Path(arguments.output_path) / f"{arguments.model}-seed{arguments.seed}"
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        collection = open_with_validation(
            open_collection(arguments.data_path, size=arguments.size, count=arguments.count,
                            seed=arguments.seed if arguments.data_seed is None
                            else arguments.data_seed, **data_options(arguments)),
            arguments.seed, notes)
        if collection.task not in ACTIVATIONS or collection.train is None:
            raise InputError(f"--data_path {arguments.data_path}: needs a train part with labels")
        if collection.task == "nuclei":
            given = [name for name in CLASSIFIER_FLAGS if getattr(arguments, name)]
            if given:
                raise InputError(f"--{given[0]}: for classifiers; {collection.name} holds fields "
                                 "of nuclei")
        keras.utils.set_random_seed(arguments.seed)
        size = (arguments.size, arguments.size)
        channels = 3 if collection.task == "nuclei" else arguments.channels
        if collection.task == "nuclei":
            study = slide_preprocessing(
                Study(collection, get_task(collection.task, collection.classes),
                      Preprocessing.preset("0-1", size, channels)), arguments)

            def network(side: int) -> keras.Model:
                return models.build(arguments.model, (side, side, channels),
                                    len(collection.classes))

            model, history = fit_nuclei(network, study, arguments, path / "state")
            return judge_and_write(folder, model, study, history, arguments, notes)
        with on_devices(arguments.strategy) as devices:
            model, preprocessing = start_model(
                arguments, len(collection.classes), ACTIVATIONS[collection.task], notes)
            synchronize(model)
            study = Study(collection, get_task(collection.task, collection.classes), preprocessing)
            fitted = fit(model, study, arguments, path, described)
        if arguments.strategy != "none":
            notes.append(f"trained on {devices} devices together")
            model = on_one_device(model)
        return judge_and_write(folder, model, study, fitted, arguments, notes,
                               fitted.best_epoch)


def start_model(
    arguments: argparse.Namespace, classes: int, activation: str, notes: list[str]
):
    """The network before training and its preprocessing; says in `notes` where it starts from.

    Raises:
        InputError: If the network cannot be built or the weights do not fit.
    """
    from cxcompress import models
    from cxcompress.images import Preprocessing
    from cxcompress.models.imagenet import imagenet_preprocessing, imagenet_weights
    from cxcompress.pipeline.inputs import open_model
    from cxcompress.training.transfer import freeze_backbone, transfer

    size = (arguments.size, arguments.size)
    channels = 3 if arguments.pretrained == "imagenet" else arguments.channels
    weights, found = None, None
    if arguments.pretrained == "imagenet":
        found = imagenet_preprocessing(arguments.model, size)
        try:
            weights = imagenet_weights(arguments.model)
        except InputError as error:
            notes.append(f"ImageNet weights of {arguments.model} cannot be had ({error}): trained "
                         "from scratch")
    model = models.build(arguments.model, (*size, channels), classes, activation=activation,
                         weights=weights)
    if arguments.pretrained not in (None, "imagenet"):
        source, card, _ = open_model(arguments.pretrained)
        taken = transfer(source, model)
        notes.append(f"started from {Path(arguments.pretrained).name}: {len(taken)} of "
                     f"{len(model.weights)} variables taken, the head is new")
        if card is not None and card.preprocessing:
            found = dataclasses.replace(Preprocessing.from_dict(card.preprocessing), size=size)
    if arguments.freeze_backbone:
        freeze_backbone(model)
        if arguments.pretrained is None or (arguments.pretrained == "imagenet"
                                            and weights is None):
            notes.append("--freeze_backbone with random weights: only the head learns")
    if arguments.preprocessing != "auto":
        found = Preprocessing.preset(arguments.preprocessing, size, channels)
    return model, found or Preprocessing.preset("0-1", size, channels)


def fit(model, study, arguments: argparse.Namespace, path: Path, described: dict):
    """Train a classifier by the flags; state, epochs and logs go into the run folder."""
    from cxcompress.training import fit_classifier

    return fit_classifier(
        model, study.collection, study.preprocessing, epochs=arguments.epochs,
        learning_rate=arguments.lr, batch_size=arguments.batch_size,
        patience=arguments.patience, seed=arguments.seed,
        augmentation=augmentation_of(arguments), weight_decay=arguments.weight_decay,
        label_smoothing=arguments.label_smoothing, loss=arguments.loss,
        watched=WATCHED[arguments.stop_on], state=path / "state.npz", table=path / "history.csv",
        tensorboard=path / "tensorboard" if arguments.tensorboard else None,
        cache=arguments.cache, about=described)


def judge_and_write(
    folder: RunFolder, model, study, history, arguments: argparse.Namespace, notes: list[str],
    best_epoch: int | None = None,
) -> str:
    """Judge the model on test, write it with its card, and return what to print."""
    from cxcompress import models
    from cxcompress.evaluation import evaluate
    from cxcompress.storage import ModelCard

    collection, described = study.collection, folder.record["arguments"]
    part, part_name = study.judged_part("test", notes)
    records = {}
    if collection.task == "nuclei":
        thresholds = study.thresholds(model, arguments.batch_size)
        records = {name: study.record(model, chosen, arguments.batch_size, name, thresholds)
                   for name, chosen in ((part_name, part), ("val", collection.val))}
    else:
        records = class_records(model, study, part, part_name, arguments)
        thresholds = None
        if collection.task == "multilabel":
            from cxcompress.evaluation import choose_thresholds

            thresholds = choose_thresholds(records["val"])
    judged = {name: evaluate(record, thresholds=thresholds, seed=arguments.seed)
              for name, record in records.items()}
    estimates = judged[part_name]
    more = {"test_time_copies": arguments.tta} if arguments.tta else {}
    if arguments.remark:
        more["remark"] = arguments.remark
    card = ModelCard(
        task=collection.task, classes=collection.classes, thresholds=thresholds,
        preprocessing=study.preprocessing.to_dict(),
        provenance={"model": arguments.model, "collection": collection.title,
                    "credit": collection.credit,
                    "arguments": described | {"data_path": collection.title}} | more,
        metrics={"part": part_name,
                 **{key: dataclasses.asdict(value) for key, value in estimates.items()}},
        licence="MIT", synthetic=collection.synthetic)
    models.save_model(model, folder.path / f"{arguments.model}.h5")
    folder.write_json(f"{arguments.model}.card.json", card.to_dict())
    text = [*notes]
    if collection.task == "multilabel":
        text.append(write_multilabel(folder, study, records, part_name, thresholds,
                                     arguments.seed))
    else:
        rows = [{"metric": key, f"{part_name} (95% interval)": interval(value),
                 "n": str(value.n), "positives": str(value.positives)}
                for key, value in estimates.items()]
        text.append(text_table(rows, right=("n", "positives")))
    if collection.task != "nuclei":
        write_records(folder, records, history, best_epoch)
    folder.write_json("results.json", folder.record | {
        "state": "done", "history": history, "best_epoch": best_epoch, "test": estimates,
        "val": judged["val"], "notes": notes, "thresholds": thresholds,
        "intake": collection.intake, "synthetic": collection.synthetic})
    if collection.synthetic:
        text.append("generated images: these numbers say how the tool works, nothing of patients")
    return "\n".join([*text, "", f"model  {folder.path}/{arguments.model}.h5"])


def class_records(model, study, part, part_name: str, arguments: argparse.Namespace) -> dict:
    """Predictions on the judged part and on validation, with test-time augmentation if asked."""
    from cxcompress.training.test_time import averaged_outputs

    def outputs_of(some):
        return averaged_outputs(model, some, study.preprocessing, arguments.batch_size,
                                augmentation_of(arguments), arguments.tta, arguments.seed)

    return {name: study.record_of(outputs_of, chosen)
            for name, chosen in ((part_name, part), ("val", study.collection.val))}


def write_multilabel(
    folder: RunFolder, study, records: dict, part_name: str, thresholds: Sequence[float], seed: int
) -> str:
    """The tables and figures of a multilabel classifier; returns the text."""
    from cxcompress.data.label_counts import positives
    from cxcompress.reporting.cxr_report import write_cxr_report

    collection = study.collection
    counts = positives(collection.train)
    empty = [name for name, count in zip(collection.classes, counts, strict=True) if not count]
    report = write_cxr_report(
        folder.path, records[part_name], records["val"], thresholds, counts.tolist(),
        part=part_name, seed=seed)
    lines = [report.text]
    if empty:
        lines.insert(0, f"no positive training image, so nothing was learnt: {', '.join(empty)}")
    return "\n".join(lines)


def write_records(folder: RunFolder, records: dict, history, best_epoch: int | None) -> None:
    """Predictions as `.npz`, and the curves of the training."""
    from cxcompress.reporting.cxr_figures import training_curves

    for name, record in records.items():
        with atomic_path(folder.path / f"predictions_{name}.npz") as temporary:
            record.save(temporary)
    training_curves(folder.path / "training", history,
                    int(np.argmin(history["val_loss"])) if best_epoch is None else best_epoch)
