"""`adaptive_finetune.py`: pneumonia, cardiomegaly, 14 diseases in turn; and these alone."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import add_data_flags, add_generated_flags, data_options
from cxcompress.errors import InputError
from cxcompress.runs import RunFolder, WorkUnit, atomic_path

EXAMPLE = ("python experiments/adaptive_finetune.py --data_path ChestX-ray14 "
           "--pneumonia_path medmnist:pneumoniamnist_224 --model efficientnetb4 --size 224")
ARMS = ("direct", "chain", "frozen")
TITLES = {"direct": "direct", "chain": "chain", "frozen": "chain, backbone frozen"}
HEART = "Cardiomegaly"


def build_parser() -> argparse.ArgumentParser:
    """The flags of `adaptive_finetune.py`."""
    parse = parser("adaptive_finetune.py", "Train pneumonia, then cardiomegaly, then all diseases, "
                   "the head replaced between; and the diseases alone, on the same number of "
                   "images.", EXAMPLE)
    add = parse.add_argument
    add("--data_path", default="synthetic:cxr",
        help="multilabel collection with Cardiomegaly: the last stage, and the only one judged "
        "(synthetic:cxr)")
    add("--pneumonia_path", default="medmnist:pneumoniamnist",
        help="collection of the first stage, classes of any number; none skips it "
        "(medmnist:pneumoniamnist)")
    add("--cardiomegaly_path", help="collection of the second stage; its training images join the "
        "last stage with all other labels masked (the last stage's own images)")
    add("--model", default="small_cxr", help="a name of cxcompress.models.names() (small_cxr)")
    add("--size", type=int, default=64, help="height and width of the network's input (64)")
    add("--channels", type=int, default=1, choices=(1, 3), help="1 = grey, 3 = colour (1)")
    add("--stage_epochs", type=int, nargs=3, default=[5, 5, 5], metavar="N",
        help="epochs of the three stages (5 5 5)")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS),
        help="direct: the last stage alone, for as many images as the whole chain sees; chain: "
        "everything trains; frozen: after the first stage only heads train (all)")
    add("--loss", choices=("bce", "weighted_bce", "focal", "masked_bce"), default="masked_bce",
        help="of the last stage (masked_bce, the study's)")
    add("--stop_on", choices=("val_loss", "macro_ap"), default="macro_ap",
        help="what says which epoch of the last stage is best on validation (macro_ap)")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds of training (0)")
    add("--lr", type=float, default=5e-4, help="Adam's learning rate (0.0005)")
    add("--batch_size", type=int, default=16, help="images a step (16)")
    add("--weight_decay", type=float, default=0.0, help="AdamW's; 0 is Adam (0)")
    add("--rotation", type=float, default=20.0, metavar="DEGREES",
        help="turn training images by at most this (20)")
    add("--augment", action="store_true", help="move and expose training images too")
    add_generated_flags(parse)
    add_data_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(adaptive_finetune(arguments)), argv)


def adaptive_finetune(arguments: argparse.Namespace) -> str:
    """Train all arms with all seeds, write the run folder, return what to print.

    Raises:
        InputError: If a flag or the data cannot be used.
    """
    if min(arguments.stage_epochs) < 1:
        raise InputError("--stage_epochs: each at least 1")
    if not arguments.lr > 0:
        raise InputError(f"--lr {arguments.lr:g}: must be above 0, e.g. 0.0005")
    start_tensorflow()
    from cxcompress.reporting.arms_report import write_arms_report
    from cxcompress.tasks import Predictions

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    notes: list[str] = []
    path = Path(arguments.output_path) / "adaptive_finetune" / arguments.model
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=("seeds", "arms")) as folder:
        asked = folder.record["arguments"]
        stages = open_stages(arguments, notes)
        units = [WorkUnit(f"{arm}-seed{seed}", _one_arm,
                          {"arm": arm, "seed": seed, "stages": stages, "arguments": arguments,
                           "path": path})
                 for arm in asked["arms"] for seed in asked["seeds"]]
        results = folder.run_units(units, "Adaptive fine-tuning")
        arms = {TITLES[arm]: [Predictions.load(path / f"predictions_{arm}-seed{seed}.npz")
                              for seed in asked["seeds"]] for arm in asked["arms"]}
        text = write_arms_report(path, arms, seed=arguments.seed)
        folder.write_csv("training.csv", [row for result in results.values()
                                          for row in result["stages"]])
        folder.write_json("results.json", folder.record | {
            "state": "done", "notes": notes, "arms": results,
            "synthetic": stages[-1].collection.synthetic})
    synthetic = [one.name for one in stages if one.collection.synthetic]
    lines = [*notes, *_budget(stages, asked["arms"]), "", text]
    if synthetic:
        lines.append(f"generated images in {', '.join(synthetic)}: nothing follows for patients")
    return "\n".join([*lines, "", f"tables, predictions, models and figure  {path}"])


def _budget(stages, arms) -> list[str]:
    from cxcompress.training.adaptive import budget_epochs

    lines = [f"stage {number}, {stage.name}: {len(stage.collection.train)} training images, "
             f"{stage.epochs} epochs" for number, stage in enumerate(stages, start=1)]
    if "direct" in arms:
        lines.append(f"direct: {budget_epochs(stages)} epochs of the last stage, as many images "
                     f"({sum(stage.images_seen for stage in stages)})")
    return lines


def open_stages(arguments: argparse.Namespace, notes: list[str]):
    """The three stages, or two without pneumonia.

    Raises:
        InputError: If a collection does not fit its stage.
    """
    from cxcompress.commands.train import WATCHED
    from cxcompress.data import open_collection
    from cxcompress.data.derived import one_against_none, padded_with
    from cxcompress.pipeline.inputs import open_with_validation
    from cxcompress.training.adaptive import Stage

    def opened(name: str):
        return open_with_validation(
            open_collection(name, size=arguments.size, count=arguments.count,
                            seed=arguments.data_seed, **data_options(arguments)),
            arguments.data_seed, notes)

    full = opened(arguments.data_path)
    if full.task != "multilabel" or HEART not in full.classes or full.test is None:
        raise InputError(f"--data_path {arguments.data_path}: needs a multilabel collection with "
                         f"{HEART} and a test part")
    stages = []
    if arguments.pneumonia_path != "none":
        pneumonia = opened(arguments.pneumonia_path)
        if pneumonia.task not in ("multiclass", "multilabel"):
            raise InputError(f"--pneumonia_path {arguments.pneumonia_path}: holds "
                             f"{pneumonia.task} labels, not classes")
        stages.append(Stage("pneumonia", pneumonia, arguments.stage_epochs[0]))
    if arguments.cardiomegaly_path is None:
        single = one_against_none(full, HEART)
    else:
        single = opened(arguments.cardiomegaly_path)
        if single.task == "multilabel":
            single = one_against_none(single, HEART)
        before = len(full.train)
        full = padded_with(full, single, HEART)
        notes.append(f"{len(full.train) - before} images of {arguments.cardiomegaly_path} join "
                     f"the last stage, all labels but {HEART} masked")
    stages.append(Stage("cardiomegaly", single, arguments.stage_epochs[1]))
    stages.append(Stage(f"{len(full.classes)} diseases", full, arguments.stage_epochs[2],
                        loss=arguments.loss, watched=WATCHED[arguments.stop_on]))
    return stages


def _one_arm(arm: str, seed: int, stages, arguments: argparse.Namespace, path: Path
             ) -> dict[str, Any]:
    """Train one arm with one seed; writes its model and its predictions on test."""
    from cxcompress import models, tasks
    from cxcompress.data.augmentation import Augmentation
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import Study
    from cxcompress.training.adaptive import ChainSettings, budget_epochs, run_chain

    shape = (arguments.size, arguments.size, arguments.channels)

    def build(classes: int, activation: str):
        return models.build(arguments.model, shape, classes, activation=activation)

    if arm == "direct":
        chosen = [dataclasses.replace(stages[-1], epochs=budget_epochs(stages))]
    elif arm == "frozen":
        chosen = [stages[0], *(dataclasses.replace(one, frozen=True) for one in stages[1:])]
    else:
        chosen = list(stages)
    turn = arguments.rotation
    augmentation = Augmentation(rotation=turn) if arguments.augment else (
        Augmentation.turned(turn, 0.0) if turn else None)
    preprocessing = Preprocessing.preset("0-1", shape[:2], arguments.channels)
    state = path / f"state-{arm}-seed{seed}"
    model, fitted = run_chain(build, chosen, preprocessing, ChainSettings(
        arguments.lr, arguments.batch_size, 1000 * seed, augmentation, arguments.weight_decay,
        state))
    if state.is_dir():
        state.rmdir()
    collection = stages[-1].collection
    study = Study(collection, tasks.get("multilabel", collection.classes), preprocessing)
    record = study.record(model, collection.test, arguments.batch_size, f"{arm}, seed {seed}")
    with atomic_path(path / f"predictions_{arm}-seed{seed}.npz") as temporary:
        record.save(temporary)
    models.save_model(model, path / f"{arm}-seed{seed}.h5")
    return {"stages": [
        {"arm": arm, "seed": seed, "stage": one.name, "frozen": one.frozen, "epochs": one.epochs,
         "images_seen": one.images_seen, "best_epoch": fitted[one.name].best_epoch + 1,
         "val_loss": fitted[one.name]["val_loss"][fitted[one.name].best_epoch]}
        for one in chosen]}
