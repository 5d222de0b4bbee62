"""`architecture_study.py`: which network to compress; sizes, families, pretraining, truncation."""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import (
    PREPROCESSINGS,
    add_data_flags,
    add_generated_flags,
    data_options,
)
from cxcompress.commands.train import ACTIVATIONS
from cxcompress.errors import InputError
from cxcompress.reporting.tables import interval, number, text_table
from cxcompress.runs import RunFolder, WorkUnit, atomic_path
from cxcompress.search.scheduling import LOCAL, NOT_COMPARED, add_scheduler_flags, workers

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study
    from cxcompress.pipeline.network_training import NetworkTrainer

EXAMPLE = ("python experiments/architecture_study.py --data_path ChestX-ray14 --size 224 "
           "--networks resnet18 densenet121 --pretrain_path synthetic:cxr")
SMALL = ("mobilenetv2", "mobilenetv3", "mnasnet", "efficientnetb0", "resnet18", "densenet121")
STARTS = ("random", "pretrained")
LISTS = ("networks", "dropped", "starts", "seeds")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `architecture_study.py`."""
    parse = parser("architecture_study.py", "Train many networks alike, whole and without their "
                   "last blocks, from random and from pretrained weights, with several seeds: "
                   "AUROC by network and class, and whether it goes with size or with ImageNet "
                   "accuracy. A run with other lists of networks, dropped blocks, starts or seeds "
                   "adds to the results that the folder holds.", EXAMPLE)
    add = parse.add_argument
    add("--networks", nargs="+", default=list(SMALL), metavar="NAME",
        help=f"names of cxcompress.models.names() ({' '.join(SMALL)})")
    add("--data_path", default="synthetic:cxr", help="as for compress.py (synthetic:cxr)")
    add_generated_flags(parse)
    add("--train_images", type=int, metavar="N", help="train on a random sample of so many images, "
        "the same for all networks (all)")
    add("--size", type=int, default=64, help="height and width of the networks' input (64)")
    add("--channels", type=int, default=1, choices=(1, 3), help="1 = grey, 3 = colour (1)")
    add("--preprocessing", choices=PREPROCESSINGS, default="auto",
        help="scale of the input: auto is 0-1 (auto)")
    add("--dropped", nargs="+", type=int, default=[0, 1], metavar="BLOCKS",
        help="how many last blocks go; 0 is the whole network (0 1)")
    add("--starts", nargs="+", choices=STARTS, default=["random"],
        help="where training starts: random weights, or those trained on --pretrain_path (random)")
    add("--pretrain_path", help="images that each network is trained on first, for --starts "
        "pretrained; once, with --seed")
    add("--pretrain_count", type=int, help="images to generate, where that is synthetic:…")
    add("--pretrain_epochs", type=int, help="most epochs there (as --epochs)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of training (0 1 2)")
    add("--epochs", type=int, default=10, help="most epochs (10)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (0.001)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=4, help="epochs without improvement on validation (4)")
    add("--checkpoints", type=int, default=3, metavar="N",
        help="mean of the predictions of the N epochs with the lowest validation loss (3)")
    add("--statistics", type=int, default=256, metavar="N", help="estimate the means and variances "
        "of BatchNormalization on N training images before every validation, so that short "
        "trainings are judged by their own; 0: none (256)")
    add_data_flags(parse)
    add_scheduler_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(architecture_study(arguments)), argv)


def check_flags(arguments: argparse.Namespace) -> None:
    """Refuse impossible values before any work.

    Raises:
        InputError: If there is one.
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("checkpoints", 1),
                        ("statistics", 0)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least {least}")
    if arguments.train_images is not None and arguments.train_images < 2:
        raise InputError(f"--train_images {arguments.train_images}: must be at least 2")
    if not arguments.lr > 0:
        raise InputError(f"--lr {arguments.lr:g}: must be above 0, e.g. 0.001")
    if arguments.pretrain_epochs is not None and arguments.pretrain_epochs < 1:
        raise InputError(f"--pretrain_epochs {arguments.pretrain_epochs}: must be at least 1")
    if "pretrained" in arguments.starts and arguments.pretrain_path is None:
        raise InputError("--starts pretrained: say on what, e.g. --pretrain_path synthetic:cxr")


def architecture_study(arguments: argparse.Namespace) -> str:
    """Train, compare, write the run folder and return the tables.

    Raises:
        InputError: If a flag, a network or the data cannot be used.
    """
    check_flags(arguments)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in NOT_COMPARED}
    start_tensorflow()
    check_networks(arguments)
    from cxcompress.reporting import architecture_figures as figures

    slug = re.sub(r"[^A-Za-z0-9]+", "_", Path(arguments.data_path).stem).strip("_")
    path = Path(arguments.output_path) / "architecture_study" / f"{slug}-{arguments.size}px"
    if arguments.scheduler != LOCAL:  # other machines see other working folders
        path = path.resolve()
    text = json.dumps(vars(arguments) | {"path": str(path)})
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=LISTS) as folder:
        study, notes = _study(text)  # bad data is refused before anything is trained
        with workers(arguments.scheduler, arguments.workers) as pool:
            if "pretrained" in arguments.starts:
                folder.run_units([
                    WorkUnit(f"pretrain/{network}", _pretrain, {"text": text, "network": network})
                    for network in arguments.networks], "Pretraining", pool)
            # Seeds last: networks of one architecture share their traced step.
            folder.run_units([
                WorkUnit(f"train/{network}/dropped={dropped}/{start}/seed={seed}", _train,
                         {"text": text, "network": network, "dropped": dropped, "start": start,
                          "seed": seed})
                for network in arguments.networks for dropped in sorted(set(arguments.dropped))
                for start in arguments.starts for seed in arguments.seeds], "Training", pool)
        for cached in (_study, _trainer):
            cached.cache_clear()
        summary = summarise(folder.results(), path, arguments.seed)
        for name in ("networks", "classes", "differences", "correlations"):
            if summary[name]:
                folder.write_csv(f"{name}.csv", summary[name])
        for name, x in (("auroc_and_parameters", "parameters"),
                        ("auroc_and_imagenet", "imagenet_top1")):
            if any(math.isfinite(row[x]) and not row["dropped"] for row in summary["networks"]):
                figures.auroc_by(path / name, summary["networks"], summary["correlations"], x)
        macro = [row for row in summary["differences"] if row["class"] == "macro"]
        gains = [row for row in macro if row["change"] == "pretrained - random"]
        cuts = [row for row in macro if row["change"] == "truncated - whole"]
        if gains:
            figures.pretraining_gain(path / "pretraining_gain", gains, summary["correlations"])
        if cuts:
            figures.truncation(path / "truncation", summary["networks"], cuts)
        synthetic = study.collection.synthetic
        folder.write_json("results.json", folder.record | summary | {
            "state": "done", "units": folder.results(), "notes": notes, "synthetic": synthetic})
    return _text(summary, notes, synthetic, path)


def check_networks(arguments: argparse.Namespace) -> None:
    """Refuse unknown networks, too small an input and too many dropped blocks.

    Raises:
        InputError: If one of them cannot be trained as asked.
    """
    from cxcompress import models

    if min(arguments.dropped) < 0:
        raise InputError(f"--dropped {min(arguments.dropped)}: must be at least 0")
    shape = (arguments.size, arguments.size, arguments.channels)
    for network in arguments.networks:
        models.check_input(network, shape)
        if network == "pathonet":
            raise InputError("--networks pathonet: gives density maps; classifiers are compared "
                             "here")
    for network in arguments.networks if max(arguments.dropped) else ():
        names = models.blocks(models.build(network, shape, 2))
        if max(arguments.dropped) >= len(names):
            raise InputError(f"--dropped {max(arguments.dropped)}: {network} has the blocks "
                             f"{', '.join(names)}; at most {len(names) - 1} can go")


def _open(arguments: argparse.Namespace, data_path: str, count: int | None,
          notes: list[str]) -> Study:
    from cxcompress import tasks
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing
    from cxcompress.pipeline.inputs import Study, open_with_validation

    collection = open_with_validation(
        open_collection(data_path, size=arguments.size, channels=arguments.channels, count=count,
                        seed=arguments.data_seed, **data_options(arguments)),
        arguments.data_seed, notes)
    if collection.task not in ("multiclass", "multilabel") or collection.train is None:
        raise InputError(f"{data_path}: needs a train part with labels of classes")
    scale = "0-1" if arguments.preprocessing == "auto" else arguments.preprocessing
    return Study(collection, tasks.get(collection.task, collection.classes), Preprocessing.preset(
        scale, (arguments.size, arguments.size), arguments.channels))


def _sampled(study: Study, arguments: argparse.Namespace, notes: list[str]) -> Study:
    """The study with at most `--train_images` images to train on; validation and test stay."""
    import numpy as np

    train, wanted = study.collection.train, arguments.train_images
    if wanted is None or wanted >= len(train):
        return study
    rows = np.random.default_rng(arguments.data_seed).permutation(len(train))[:wanted]
    notes.append(f"trained on {wanted} of {len(train)} training images, drawn at random")
    return replace(study, collection=replace(study.collection, train=train.select(np.sort(rows))))


@functools.lru_cache(maxsize=2)
def _study(text: str, pretraining: bool = False) -> tuple[Study, list[str]]:
    """The data that JSON arguments describe, opened once a process, and what there is to say."""
    arguments, notes = argparse.Namespace(**json.loads(text)), []
    start_tensorflow()
    if pretraining:
        return _open(arguments, arguments.pretrain_path, arguments.pretrain_count, notes), notes
    study = _open(arguments, arguments.data_path, arguments.count, notes)
    return _sampled(study, arguments, notes), notes


@functools.lru_cache(maxsize=2)
def _trainer(text: str, pretraining: bool = False) -> NetworkTrainer:
    study, _ = _study(text, pretraining)
    arguments = argparse.Namespace(**json.loads(text))
    from cxcompress.pipeline.network_training import NetworkTrainer, TrainingSettings

    epochs = pretraining and arguments.pretrain_epochs or arguments.epochs
    return NetworkTrainer(study, TrainingSettings(
        epochs, arguments.lr, arguments.batch_size, arguments.patience, arguments.checkpoints,
        arguments.statistics))


def _network(arguments: argparse.Namespace, network: str, study: Study, seed: int) -> keras.Model:
    import keras

    from cxcompress import models

    keras.utils.set_random_seed(seed)
    return models.build(
        network, (arguments.size, arguments.size, arguments.channels),
        len(study.collection.classes), activation=ACTIVATIONS[study.collection.task])


def _pretrain(text: str, network: str) -> dict[str, Any]:
    """A work unit: one network trained on the images of pretraining."""
    trainer = _trainer(text, pretraining=True)
    from cxcompress import models

    arguments = argparse.Namespace(**json.loads(text))
    trained = trainer.train(
        _network(arguments, network, trainer.study, arguments.seed), arguments.seed)
    models.save_model(trained.model, Path(arguments.path) / "pretrained" / f"{network}.h5")
    return {"network": network} | trained.facts


def _train(text: str, network: str, dropped: int, start: str, seed: int) -> dict[str, Any]:
    """A work unit: one network, whole or truncated, from one start with one seed."""
    trainer = _trainer(text)
    from cxcompress import models
    from cxcompress.training.transfer import transfer

    arguments = argparse.Namespace(**json.loads(text))
    path = Path(arguments.path)
    model = _network(arguments, network, trainer.study, seed)
    if start == "pretrained":
        transfer(models.load_model(path / "pretrained" / f"{network}.h5"), model)
    if dropped:
        model = models.truncate(model, dropped)
    trained = trainer.train(model, seed)
    stem = f"{network}-{dropped}-{start}-seed{seed}"
    with atomic_path(path / "predictions" / f"{stem}.npz") as temporary:
        trained.record.save(temporary)
    models.save_model(trained.model, path / "models" / f"{stem}.h5")
    return {"network": network, "dropped": dropped, "start": start, "seed": seed,
            "predictions": f"predictions/{stem}.npz"} | trained.facts


def summarise(units: Mapping[str, Mapping], path: Path, seed: int) -> dict[str, list[dict]]:
    """Tables of all trainings that a folder holds.

    Args:
        units: Results by unit id.
        path: The folder, for the predictions.
        seed: Of intervals.

    Returns:
        `networks` (a row a network, dropped blocks and start), `classes` (AUROC by class),
        `differences` (paired) and `correlations` (over networks).
    """
    from cxcompress.evaluation.arms import arm_differences, arm_estimates
    from cxcompress.models.published import PUBLISHED
    from cxcompress.tasks import Predictions

    arms: dict[tuple[str, int, str], list[Mapping]] = {}
    for unit in units.values():
        if "predictions" in unit:
            arms.setdefault((unit["network"], unit["dropped"], unit["start"]), []).append(unit)
    sizes = {}
    for (network, *_), some in sorted(arms.items()):
        sizes.setdefault(network, some[0]["parameters"])  # of the whole network
    arms = {key: arms[key] for key in sorted(
        arms, key=lambda key: (STARTS.index(key[2]), sizes[key[0]], key))}
    records = {key: [Predictions.load(path / unit["predictions"]) for unit in some]
               for key, some in arms.items()}
    networks, classes, differences = [], [], []
    for key, some in arms.items():
        network, dropped, start = key
        known = PUBLISHED.get(network)
        found = arm_estimates(records[key], seed=seed)
        about = {"network": network, "family": known.family if known else network,
                 "dropped": dropped, "start": start}
        networks.append(about | {
            "parameters": some[0]["parameters"],
            "multiply_accumulates": some[0]["multiply_accumulates"], "map": some[0]["map"],
            "imagenet_top1": known.top1 if known else math.nan, "seeds": len(some),
            "epochs": sum(unit["epochs"] for unit in some) / len(some),
        } | _flat(found["auroc_macro"]))
        classes += [about | {"class": name.removeprefix("auroc:")} | _flat(value)
                    for name, value in found.items() if name.startswith("auroc:")]
        for change, other in (("truncated - whole", (network, 0, start) if dropped else None),
                              ("pretrained - random", (network, dropped, "random")
                               if start == "pretrained" else None)):
            if other in arms:
                differences += [
                    about | {"change": change, "parameters": some[0]["parameters"],
                             "parameters_before": arms[other][0]["parameters"],
                             "class": name.removeprefix("auroc:").replace("auroc_macro", "macro")}
                    | _flat(value)
                    for name, value in arm_differences(records[other], records[key],
                                                       seed=seed).items()
                    if name.startswith("auroc")]
    return {"networks": networks, "classes": classes, "differences": differences,
            "correlations": correlations(networks, differences, seed)}


def _flat(value) -> dict[str, Any]:
    return {"auroc": value.value, "low": value.low, "high": value.high, "n": value.n,
            "positives": value.positives, "patients": value.patients, "method": value.method}


def correlations(
    networks: Sequence[Mapping], differences: Sequence[Mapping], seed: int
) -> list[dict[str, Any]]:
    """Does a whole network's AUROC go with its size or its ImageNet accuracy, its gain with size?

    Args:
        networks, differences: As `summarise` gives them.
        seed: Of bootstrap and permutations, which draw and exchange networks.

    Returns:
        Rows of `start`, `of`, `with`, and Spearman's `rho`, `low`, `high`, `p`, `networks`.
    """
    from cxcompress.evaluation.associations import FEWEST_CLASSES, associate

    questions = []
    for start in STARTS:
        whole = [row for row in networks if row["start"] == start and not row["dropped"]]
        auroc = [row["auroc"] for row in whole]
        questions += [
            (start, "auroc", "parameters", [math.log(row["parameters"]) for row in whole], auroc),
            (start, "auroc", "imagenet_top1", [row["imagenet_top1"] for row in whole], auroc)]
    gains = [row for row in differences if row["change"] == "pretrained - random"
             and row["class"] == "macro" and not row["dropped"]]
    questions.append(("pretrained", "pretraining gain", "parameters",
                      [math.log(row["parameters"]) for row in gains],
                      [row["auroc"] for row in gains]))
    rows = []
    for start, of, other, x, y in questions:
        if sum(map(math.isfinite, x)) >= FEWEST_CLASSES:
            found = associate(x, y, seed=seed).spearman
            rows.append({"start": start, "of": of, "with": other, "rho": found.value,
                         "low": found.low, "high": found.high, "p": found.p,
                         "networks": found.classes})
    return rows


def _text(summary: Mapping[str, Sequence[Mapping]], notes: Sequence[str], synthetic: bool,
          path: Path) -> str:
    def of(row: Mapping, sign: bool = False) -> str:
        return interval(SimpleNamespace(value=row["auroc"], low=row["low"], high=row["high"]),
                        sign=sign)

    changes = {(row["network"], row["dropped"], row["start"], row["change"]): of(row, True)
               for row in summary["differences"] if row["class"] == "macro"}
    kinds = list(dict.fromkeys(row["change"] for row in summary["differences"]))
    rows = summary["networks"]
    lines = [*(f"note: {note}" for note in notes), "", text_table([{
        "network": row["network"], "dropped": str(row["dropped"]), "start": row["start"],
        "parameters": f"{row['parameters']:,}",
        "MACs": f"{row['multiply_accumulates'] / 1e6:,.0f} M", "last map": row["map"],
        "ImageNet": number(row["imagenet_top1"], 1), "seeds": str(row["seeds"]),
        "AUROC, macro (95% interval)": of(row),
        **{kind: changes.get((row["network"], row["dropped"], row["start"], kind), "")
           for kind in kinds}} for row in rows], right=("parameters", "MACs")), "",
        f"means of seeds; n = {rows[0]['n']} images of {rows[0]['patients']} patients; differences "
        "are paired"]
    if summary["correlations"]:
        lines += ["", "Spearman's rho over whole networks (95% interval and P by drawing and "
                  "exchanging networks):", "", text_table([{
                      "start": row["start"], "of": row["of"], "with": row["with"],
                      "rho": interval(SimpleNamespace(value=row["rho"], low=row["low"],
                                                      high=row["high"]), 2),
                      "P": number(row["p"]), "networks": str(row["networks"])}
                      for row in summary["correlations"]])]
    if synthetic:
        lines += ["", "generated images: these numbers say how the tool works, nothing of patients"]
    return "\n".join([*lines, "", f"results  {path}"])
