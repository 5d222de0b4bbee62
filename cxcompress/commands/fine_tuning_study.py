"""`fine_tuning_study.py`: what fine-tuning of shared values regains at every number of levels."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import PREPROCESSINGS, add_generated_flags
from cxcompress.errors import InputError
from cxcompress.quantization import Compression
from cxcompress.reporting.tables import markdown_table, number, text_table
from cxcompress.runs import RunFolder, WorkUnit, write_atomic

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study
    from cxcompress.representation import SharedWeights

EXAMPLE = ("python experiments/fine_tuning_study.py --net model.h5 --data_path images "
           "--compressions uCWS uUQ --levels 16 4 --seeds 0 1 2")
COMPRESSIONS = ("uUQ", "uCWS", "uPWS", "uECSQ")
LEVELS = (256, 64, 16, 8, 4, 3)
TREATMENTS = ("none", "statistics", "fixed", "learned")
UNTRAINED = ("none", "statistics")
REMEMBERED = 8
"""Seeds whose quantised network is kept while its treatments run."""
LISTS = ("compressions", "levels", "treatments", "grids", "seeds", "learning_rate",
         "lr_cumulative")
RATES = ("learning_rate", "lr_cumulative")
GRIDS = {"default": None, "int8": "int8", "free": "free"}
METRICS = {"multiclass": ("auroc_macro", "accuracy", "cross_entropy"),
           "multilabel": ("auroc_macro", "accuracy", "cross_entropy"),
           "nuclei": ("f1_macro",)}
DRAWN = {"multiclass": ("auroc_macro", "cross_entropy"),
         "multilabel": ("auroc_macro", "cross_entropy"), "nuclei": ("f1_macro", "val_loss")}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `fine_tuning_study.py`."""
    parse = parser("fine_tuning_study.py", "Quantise one network to fewer and fewer shared values "
                   "and measure what fine-tuning with fixed and with learned indices regains. Of "
                   "several rates, those with the lowest validation loss are shown. A run with "
                   "other lists of compressions, levels, treatments, grids, seeds or rates adds "
                   "to the results that the folder holds.",
                   EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, help="a .keras, .h5 or .hdf5 model")
    add("--data_path", required=True, help="images to tune on and judge by, as for compress.py")
    add_generated_flags(parse)
    add("--compressions", nargs="+", default=list(COMPRESSIONS), metavar="NAME",
        help=f"as --compression of compress.py ({' '.join(COMPRESSIONS)})")
    add("--levels", nargs="+", type=int, default=list(LEVELS), metavar="K",
        help=f"numbers of shared values ({' '.join(map(str, LEVELS))})")
    add("--treatments", nargs="+", choices=(*TREATMENTS, "gradual"), default=list(TREATMENTS),
        help="none: quantised only; statistics: BatchNormalization statistics estimated again, "
        "no training; fixed, learned: trained from there, as --assign; gradual: learned, from "
        "many shared values to few (none statistics fixed learned)")
    add("--grids", nargs="+", choices=GRIDS, default=["default"],
        help="as --grid of compress.py; default: int8 for UQ, free for the others (default)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of training (0 1 2)")
    add("--epochs", type=int, default=10, help="most epochs (10)")
    for rate in ("--learning_rate", "--lr_cumulative"):
        add(rate, nargs="+", type=float, default=[1e-3], metavar="RATE",
            help="as for compress.py; every pair is tried (0.001)")
    add("--minibatch", type=int, default=32, help="images a step (32)")
    add("--ptnc", type=int, default=5, help="patience, in epochs (5)")
    add("--lr_schedule", choices=("cosine", "constant"), default="cosine",
        help="as for compress.py (cosine)")
    add("--crop", type=int, metavar="PIXELS", help="as for compress.py (whole fields)")
    add("--augment", action="store_true", help="as for compress.py")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS,
        help="as for compress.py (auto)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(fine_tuning_study(arguments)), argv)


def fine_tuning_study(arguments: argparse.Namespace) -> str:
    """Run the study, write the run folder and return the table.

    Raises:
        InputError: If a flag, the model or the data cannot be used.
    """
    if not Path(arguments.net).is_file():
        raise InputError(f"--net {arguments.net}: no such file")
    if arguments.epochs < 1:
        raise InputError(f"--epochs {arguments.epochs}: give at least 1")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.reporting import figures

    described["net_sha256"] = file_sha256(Path(arguments.net))
    notes: list[str] = []
    opened = functools.cache(lambda: _open(arguments, notes))
    path = Path(arguments.output_path) / "fine_tuning_study" / Path(arguments.net).stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=LISTS) as folder:
        folder.run_units(_units(arguments, opened), "Fine-tuning")
        found = folder.results()
        original = found.pop("original")
        rows = sorted(found.values(), key=_order)
        for row in rows:
            lost = row["val_loss_quantised"] - original["val_loss"]
            row["regained"] = ((row["val_loss_quantised"] - row["val_loss"]) / lost
                               if lost > 0 else math.nan)
        folder.write_csv("results_fine_tuning_study.csv", rows)
        summary = best_rates(summarise(rows))
        folder.write_csv("summary.csv", summary)
        folder.write_json("results.json", folder.record | {
            "state": "done", "original": original, "rows": rows, "summary": summary,
            "notes": notes})
        drawn = DRAWN[original["task"]]
        for grid in dict.fromkeys(row["grid"] for row in rows):
            suffix = "" if grid == "default" else f"_{grid}"
            write_atomic(path / f"table{suffix}.md", markdown_table(side_by_side(
                [row for row in summary if row["grid"] == grid], drawn[0])))
            figures.fine_tuning_study(path / f"fine_tuning_study{suffix}",
                                      [row for row in summary if row["grid"] == grid],
                                      original, drawn)
    text = [_text(row, METRICS[original["task"]]) for row in summary]
    whole = ", ".join(
        f"{name} {number(original[name])} ({number(original[f'{name}_low'])} to "
        f"{number(original[f'{name}_high'])})" for name in METRICS[original["task"]])
    return "\n".join([
        *(f"note: {note}" for note in notes), "",
        f"original: {whole}, n = {original['n']}; validation loss {original['val_loss']:.4g}", "",
        text_table(text), "", f"results  {path}"])


def _order(row: Mapping[str, Any]) -> tuple:
    """Quantisers as in the documentation, many levels first, more treatment last."""
    name = row["compression"]
    known = COMPRESSIONS.index(name) if name in COMPRESSIONS else len(COMPRESSIONS)
    return (known, name, -row["k"], (*TREATMENTS, "gradual").index(row["treatment"]),
            row["grid"], row["seed"])


def _units(arguments: argparse.Namespace, opened: Callable) -> list[WorkUnit]:
    from cxcompress.pipeline import FineTuning

    units = [WorkUnit("original", _original, {"opened": opened})]
    starts = _Starts(opened)
    for name in arguments.compressions:
        for k in arguments.levels:
            _compression(name, k)  # refused now, not after hours
            for treatment in arguments.treatments:
                # Without training only random rounding depends on the seed, a grid on nothing.
                untrained = treatment in UNTRAINED
                once = treatment == "none" and not _rounds_by_chance(name)
                for grid, seed, rates in itertools.product(
                        arguments.grids[:1] if untrained else arguments.grids,
                        arguments.seeds[:1] if once else arguments.seeds,
                        [(None, None)] if untrained else itertools.product(
                            arguments.learning_rate, arguments.lr_cumulative)):
                    tuning = None if untrained else FineTuning(
                        epochs=arguments.epochs, learning_rate=rates[0], lr_cumulative=rates[1],
                        batch_size=arguments.minibatch, patience=arguments.ptnc,
                        assign="fixed" if treatment == "fixed" else "learned",
                        gradual=treatment == "gradual", grid=GRIDS[grid], crop=arguments.crop,
                        augment=arguments.augment, lr_schedule=arguments.lr_schedule)
                    about = {"compression": name, "k": k, "treatment": treatment, "grid": grid,
                             "seed": seed, "learning_rate": rates[0], "lr_cumulative": rates[1]}
                    trained = "" if untrained else f"/rates={rates[0]:g},{rates[1]:g}"
                    units.append(WorkUnit(
                        f"{name}/k={k}/{treatment}/{grid}/seed={seed}{trained}", _one_treatment,
                        {"starts": starts, "tuning": tuning, "about": about}))
    return units


def _open(arguments: argparse.Namespace, notes: list[str]) -> tuple[keras.Model, Study, Any]:
    """The model, its study, and the thresholds chosen for the original on validation."""
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(arguments.net)
    study = inputs.open_study(model, card, arguments.data_path, None, arguments.preprocessing,
                              arguments.data_seed, notes, arguments.count)
    thresholds = card.thresholds if card is not None and card.thresholds else None
    return model, study, thresholds or study.thresholds(model, inputs.BATCH_SIZE)


def _original(opened: Callable) -> dict[str, Any]:
    model, study, thresholds = opened()
    return {"task": study.task.name, "val_loss": validation_loss(model, study)} | _metrics(
        model, study, thresholds)


def _compression(name: str, k: int) -> Compression:
    return Compression.parse(name, clustercnn=k, clusterfc=k)


def _rounds_by_chance(name: str) -> bool:
    return name.endswith("PWS")


class _Starts:
    """What several treatments start from, each found once: for large networks it costs most."""

    def __init__(self, opened: Callable[[], tuple[keras.Model, Study, Any]]):
        self.opened = opened
        self.quantised = functools.lru_cache(REMEMBERED)(self._quantised)
        self.estimated = functools.lru_cache(REMEMBERED)(self._estimated)

    def of(self, name: str, k: int, seed: int) -> tuple[SharedWeights, float]:
        """Shared weights, and their validation loss."""
        return self.quantised(name, k, seed if _rounds_by_chance(name) else 0)

    def _quantised(self, name: str, k: int, seed: int) -> tuple[SharedWeights, float]:
        from cxcompress import models
        from cxcompress.pipeline.sharing import share_model

        model, study, _ = self.opened()
        weights = models.weights(model)
        shared = share_model(model, _compression(name, k), seed)
        try:
            models.set_weights(model, shared.weights())
            return shared, validation_loss(model, study)
        finally:
            models.set_weights(model, weights)

    def _estimated(self, name: str, k: int, seed: int) -> SharedWeights:
        """The same with BatchNormalization estimated again, where that helps on validation."""
        from cxcompress.pipeline.sharing import with_estimated_statistics

        model, study, _ = self.opened()
        return with_estimated_statistics(
            model, self.of(name, k, seed)[0], study, seed=seed)[0]


def _one_treatment(starts: _Starts, tuning, about: Mapping[str, Any]) -> dict[str, Any]:
    from cxcompress import models
    from cxcompress.pipeline.inputs import BATCH_SIZE
    from cxcompress.pipeline.tuning import tune
    from cxcompress.storage import Container, ModelCard, write_container

    model, study, thresholds = starts.opened()
    start = (about["compression"], about["k"], about["seed"])
    compression = _compression(*start[:2])
    weights = models.weights(model)
    tuned_shared, before = starts.of(*start)
    epochs = 0
    if about["treatment"] != "none":
        tuned_shared = starts.estimated(*start)
    if tuning is not None:
        tuned, _ = tune(model, tuned_shared, study, tuning, compression, seed=about["seed"])
        tuned_shared, epochs = tuned.shared, tuned.best_epoch
    try:
        models.set_weights(model, tuned_shared.weights())
        after = validation_loss(model, study)
        if study.task.name == "nuclei":
            thresholds = study.thresholds(model, BATCH_SIZE, thresholds)
        metrics = _metrics(model, study, thresholds)
    finally:
        models.set_weights(model, weights)
    with tempfile.TemporaryDirectory() as folder:
        container = Container(tuned_shared, models.architecture_json(model), {},
                              ModelCard(task=study.task.name, classes=study.task.classes),
                              compression.name)
        sizes = write_container(Path(folder) / "model.h5", container)
    return {**about, "best_epoch": epochs, "bytes": sizes.total,
            "space_ratio": sizes.total / (4 * model.count_params()),
            "bits_per_weight": sizes.bits_per_weight, "val_loss_quantised": before,
            "val_loss": after, **metrics}


def validation_loss(model: keras.Model, study: Study) -> float:
    """Mean loss on validation images: cross-entropy in nats, or `KnownLabelLoss` of maps."""
    from cxcompress.pipeline.inputs import BATCH_SIZE
    from cxcompress.pipeline.tuning import batches
    from cxcompress.training.fine_tuning import loss_on

    return loss_on(model, batches(study, study.collection.val, BATCH_SIZE), study.task.name)


def _metrics(model: keras.Model, study: Study, thresholds) -> dict[str, Any]:
    from cxcompress.evaluation import evaluate
    from cxcompress.pipeline.inputs import BATCH_SIZE

    part, name = study.judged_part("test", [])
    record = study.record(model, part, BATCH_SIZE, "Test", thresholds)
    estimates = evaluate(record, thresholds=thresholds)
    row: dict[str, Any] = {"judged_on": name, "n": len(part)}
    for metric in METRICS[study.task.name]:
        row |= {metric: estimates[metric].value, f"{metric}_low": estimates[metric].low,
                f"{metric}_high": estimates[metric].high}
    return row


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, of values and of both ends of their intervals; least and most beside.

    The interval is that of the images, the range that of the seeds.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    keys = ("compression", "k", "treatment", "grid", *RATES)
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    summary = []
    for group, members in groups.items():
        line: dict[str, Any] = dict(zip(keys, group, strict=True)) | {"seeds": len(members)}
        for name in members[0]:
            if name in (*keys, "seed", "judged_on", "n"):
                continue
            values = [math.nan if row[name] is None else row[name] for row in members]
            line[name] = sum(values) / len(values)
            if not name.endswith(("_low", "_high")):
                line[f"{name}_least"], line[f"{name}_most"] = min(values), max(values)
        summary.append(line | {"n": members[0]["n"], "judged_on": members[0]["judged_on"]})
    return summary


def best_rates(summary: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows that differ in rates only, the one with the lowest validation loss."""
    best: dict[tuple, Mapping[str, Any]] = {}
    for row in summary:
        key = tuple(row[name] for name in ("compression", "k", "treatment", "grid"))
        if key not in best or row["val_loss"] < best[key]["val_loss"]:
            best[key] = row
    return list(best.values())


def side_by_side(summary: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, str]]:
    """A row a quantised network, its treatments beside each other.

    The file's size of each, the metric with the images' interval, and the validation loss; where
    seeds are fewer than elsewhere in the summary, their number stands behind.
    """
    treatments = [name for name in (*TREATMENTS, "gradual")
                  if any(row["treatment"] == name for row in summary)]
    found = {(row["compression"], row["k"], row["treatment"]): row for row in summary}
    seeds = max((row["seeds"] for row in summary if row["treatment"] not in UNTRAINED), default=0)

    def cell(row: Mapping[str, Any] | None) -> str:
        if row is None:
            return "–"
        some = row["treatment"] not in UNTRAINED and row["seeds"] < seeds
        return (f"{number(row[metric])} ({number(row[f'{metric}_low'])} to "
                f"{number(row[f'{metric}_high'])})" + f" [{row['seeds']}]" * some)

    table = []
    for name, k in dict.fromkeys((row["compression"], row["k"]) for row in summary):
        rows = [found.get((name, k, treatment)) for treatment in treatments]
        line = {"": f"{name}, k = {k}"} | dict(zip(
            [f"{metric}: {treatment}" for treatment in treatments], map(cell, rows), strict=True))
        for what, form in (("space_ratio", ".3f"), ("val_loss", ".4g")):
            line[f"{what}: {', '.join(treatments)}"] = " / ".join(
                format(row[what], form) if row is not None else "–" for row in rows)
        table.append(line)
    return table


def _text(row: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, str]:
    text = {"compression": row["compression"], "k": str(row["k"]),
            "fine-tuning": row["treatment"], "grid": row["grid"],
            "rates": "" if row["treatment"] in UNTRAINED else
            f"{row['learning_rate']:g}, {row['lr_cumulative']:g}",
            "space_ratio": number(row["space_ratio"]), "epochs": number(row["best_epoch"], 1)}
    for name in metrics:
        text[f"{name} (95%; {row['n']} images)"] = (
            f"{number(row[name])} ({number(row[f'{name}_low'])} to {number(row[f'{name}_high'])})")
    text["val loss"] = number(row["val_loss"], 4)
    text["regained (least to most of seeds)"] = "" if row["treatment"] == "none" else (
        f"{number(row['regained'], 2)} ({number(row['regained_least'], 2)} to "
        f"{number(row['regained_most'], 2)})")
    return text
