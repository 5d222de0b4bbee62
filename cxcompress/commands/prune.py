"""`prune.py`: one-shot, iterative and layerwise pruning of trained networks, side by side."""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names
from cxcompress.commands.data_flags import add_generated_flags, add_input_flags
from cxcompress.errors import InputError
from cxcompress.quantization import Compression
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study
    from cxcompress.pipeline.pruning import Pruning

EXAMPLE = ("python experiments/prune.py --net model.h5 --data_path chest_xray "
           "--strategy oneshot iterative layerwise --sparsity 0.5 0.8 0.9 --epochs 10")
METRICS = ("accuracy", "balanced_accuracy", "auroc_macro")
LISTS = ("net", "strategy", "sparsity", "seeds")
KEYS = ("strategy", "sparsity")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `prune.py`."""
    parse = parser("prune.py", "Prune trained networks and fine-tune them, by every strategy at "
                   "the same budget; the epoch, and the best strategy, are chosen on validation. A "
                   "run with other lists of nets, strategies, sparsities or seeds adds to the "
                   "results that the folder holds.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, nargs="+", metavar="FILE",
        help="dense .keras, .h5 or .hdf5 models of one architecture, e.g. of several seeds")
    add("--data_path", required=True, help="images to fine-tune on and judge by, as for "
        "compress.py; also cifar100 and a HAM10000 folder")
    add_generated_flags(parse)
    add("--strategy", nargs="+", default=["oneshot", "iterative", "layerwise"],
        help="oneshot: all at once, then fine-tuning; iterative: 10, 20, … percent, fine-tuned "
        "between; layerwise: layer after layer, fine-tuned between (all three)")
    add("--sparsity", nargs="+", type=float, default=[0.5, 0.8, 0.9], metavar="FRACTION",
        help="share of the weights to remove, a fraction from 0 to below 1, e.g. 0.9 (0.5 0.8 0.9)")
    add("--unit", default="weights", help="weights: single weights become 0, the network keeps "
        "its shape; filters: whole filters go, and every engine runs faster (weights)")
    add("--scope", help="what shares a threshold: global, layer, or group (a block of layers) "
        "(global; of filters: layer)")
    add("--score", default="magnitude", help="what is kept: the largest magnitude, random, or "
        "taylor, |w × gradient| (magnitude)")
    add("--schedule", default="constant", help="constant: at once at the start of each stage; "
        "polynomial: gradually over its first half, tfmot's PolynomialDecay (constant)")
    add("--exclude", nargs="+", default=[], metavar="LAYER",
        help="layers that are not pruned, by name, or a family: conv, dense, depthwise")
    add("--multiple", type=int, default=1, help="with --unit filters: filters that stay are "
        "rounded up to a multiple of this (1)")
    add("--epochs", type=int, default=10, help="of fine-tuning in all, for each strategy (10)")
    add("--budget", default="equal", help="equal: --epochs for every strategy; study: 10 epochs "
        "after every stage, 100 after every layer of layerwise, whatever --epochs says (equal)")
    add("--optimizer", default="adam", help="adam, or sgd with momentum 0.9 and weight decay "
        "5e-4 as in the study (adam)")
    add("--lr", type=float, default=3e-4, help="learning rate (0.0003)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--augment", action="store_true", help="fine-tune as train.py --augment trains: a network "
        "that was trained so forgets what it gained by it otherwise")
    add("--seeds", nargs="+", type=int, default=[0], help="seeds of fine-tuning, for every net (0)")
    add("--compression", default="uCWS", help="how the pruned network is stored when its bytes are "
        "counted, as for compress.py (uCWS)")
    add("--k", type=int, default=256, help="shared values of that file (256)")
    add_input_flags(parse)
    add("--time", action="store_true", help="measure the time in the runtime beside the dense "
        "network's; always done with --unit filters")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(prune(arguments)), argv)


def prune(arguments: argparse.Namespace) -> str:
    """Prune, fine-tune and judge; write the run folder and return the table.

    Raises:
        InputError: If a flag, a model or the data cannot be used.
    """
    for net in arguments.net:
        if not Path(net).is_file():
            raise InputError(f"--net {net}: no such file")
    compression = Compression.parse(arguments.compression, clustercnn=arguments.k,
                                    clusterfc=arguments.k)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.reporting import pruning_figures

    settings = [_settings(arguments, strategy, sparsity)
                for strategy in arguments.strategy for sparsity in arguments.sparsity]
    described["net_sha256"] = [file_sha256(Path(net)) for net in arguments.net]
    notes: list[str] = []
    opened = functools.cache(lambda net: _open(arguments, net, notes))
    stem = Path(arguments.net[0]).stem + ("" if arguments.unit == "weights" else "-filters")
    path = Path(arguments.output_path) / "prune" / stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=(*LISTS, "net_sha256")) as folder:
        for net in arguments.net:
            _check(opened(net), settings, net)
        (path / "models").mkdir(exist_ok=True)
        units = [WorkUnit(f"{_name(net)}/dense", _dense, {
            "opened": opened, "net": net, "compression": compression})
            for net in arguments.net]
        units += [WorkUnit(
            f"{_name(net)}/{one.strategy}/{one.sparsity:g}/seed={seed}", _one_pruning, {
                "opened": opened, "net": net, "settings": one, "seed": seed, "models": path /
                "models", "compression": compression,
                "timed": arguments.time or arguments.unit == "filters"})
            for net in arguments.net for one in settings for seed in arguments.seeds]
        folder.run_units(units, "Pruning")
        found = folder.results()
        dense = [row for name, row in found.items() if name.endswith("/dense")]
        rows = sorted((row for name, row in found.items() if not name.endswith("/dense")),
                      key=lambda row: (row["sparsity"], row["strategy"], row["net"], row["seed"]))
        summary = summarise(rows)
        chosen = best_on_validation(summary)
        folder.write_csv("results_prune.csv", rows)
        folder.write_csv("summary.csv", summary)
        folder.write_json("results.json", folder.record | {
            "state": "done", "dense": dense, "rows": rows, "summary": summary, "chosen": chosen,
            "notes": notes})
        pruning_figures.accuracy_and_sparsity(path / "prune", summary, dense, METRICS,
                                              arguments.unit)
    return "\n".join([*(f"note: {note}" for note in dict.fromkeys(notes)), "",
                      _dense_line(dense), "",
                      text_table([_text(row, chosen) for row in summary]), "",
                      f"chosen: lowest mean validation loss at that sparsity; pruned models "
                      f"{path}/models", f"results  {path}"])


def _name(net: str) -> str:
    """Folder and stem of a model's file: several seeds may share the stem."""
    return "/".join(Path(net).resolve().with_suffix("").parts[-2:])


def _settings(arguments: argparse.Namespace, strategy: str, sparsity: float) -> Pruning:
    from cxcompress.pipeline.pruning import Pruning

    return Pruning(
        strategy, sparsity, arguments.epochs, arguments.unit,
        arguments.scope or ("layer" if arguments.unit == "filters" else "global"), arguments.score,
        arguments.schedule, arguments.budget, tuple(arguments.exclude), arguments.optimizer,
        arguments.lr, arguments.batch_size, arguments.multiple, arguments.augment)


def _open(arguments: argparse.Namespace, net: str, notes: list[str]):
    """The model, its study, and the thresholds chosen for the dense network on validation."""
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(net)
    study = inputs.open_study(
        model, card, arguments.data_path, class_names(arguments.classes), arguments.preprocessing,
        arguments.data_seed, notes, arguments.count)
    thresholds = card.thresholds if card is not None and card.thresholds else None
    return model, study, thresholds or study.thresholds(model, inputs.BATCH_SIZE)


def _check(opened, settings: Sequence[Pruning], net: str) -> None:
    """Refuse what no unit could do before any of them starts."""
    from cxcompress.pruning import check_dense, prunable_kernels, stages

    model, study, _ = opened
    for one in settings:
        if one.unit == "filters":
            from cxcompress.pruning.channels import Channels

            Channels.of(model, one.exclude)
            continue
        kernels = prunable_kernels(model, one.exclude)
        check_dense(kernels, net)
        steps = 10**9
        if one.budget == "equal" and study.collection.train is not None:
            steps = one.epochs * math.ceil(len(study.collection.train) / one.batch_size)
        stages(one.strategy, one.sparsity, steps, kernels, one.scope)


def _dense(opened: Callable, net: str, compression: Compression) -> dict[str, Any]:
    model, study, thresholds = opened(net)
    row, _ = _measured(model, study, thresholds)
    container, size = _container(model, study, compression)
    weights = sum(math.prod(kernel.shape) for kernel in _kernels(model))
    return {"net": _name(net), "weights": weights, "parameters": model.count_params(),
            "macs": _macs(model), "bytes": size} | row


def _one_pruning(
    opened: Callable, net: str, settings: Pruning, seed: int, models: Path,
    compression: Compression, timed: bool,
) -> dict[str, Any]:
    from cxcompress import models as modelling
    from cxcompress.evaluation import compare
    from cxcompress.pipeline.pruning import prune_and_tune, times_in_the_runtime

    model, study, thresholds = opened(net)
    weights = modelling.weights(model)
    _, original = _measured(model, study, thresholds)
    dense = _container(model, study, compression)[0] if timed else None
    try:
        pruned = prune_and_tune(model, study, settings, seed, net)
        row, record = _measured(pruned.model, study, thresholds)
        comparison = compare(original, record)
        container, size = _container(pruned.model, study, compression)
        file = models / f"{_name(net).replace('/', '-')}-{settings.strategy}-" \
            f"{settings.sparsity:g}-seed{seed}.h5"
        modelling.save_model(pruned.model, file)
        row |= {"net": _name(net), "strategy": settings.strategy, "sparsity": settings.sparsity,
                "seed": seed, "epochs": pruned.epochs, "best_epoch": pruned.best_epoch,
                "weights": pruned.weights, "nonzeros": pruned.nonzeros,
                "parameters": pruned.model.count_params(), "macs": _macs(pruned.model),
                "bytes": size, "verdict": comparison.verdict}
        if timed:
            seconds, _ = times_in_the_runtime(
                {"dense": (model, dense), "pruned": (pruned.model, container)}, study)
            for plan, found in seconds.items():
                if len(found) == 2:
                    row |= {f"seconds_{plan}": found["pruned"],
                            f"time_ratio_{plan}": found["pruned"] / found["dense"]}
    finally:
        modelling.set_weights(model, weights)
    return row


def _kernels(model: keras.Model):
    from cxcompress import models

    return models.kernels(model)


def _macs(model: keras.Model) -> int:
    from cxcompress.models.multiply_accumulates import multiply_accumulates

    return multiply_accumulates(model)


def _measured(model: keras.Model, study: Study, thresholds):
    """Metrics on the judged part with intervals and the validation loss; and the record."""
    from cxcompress.commands.fine_tuning_study import validation_loss
    from cxcompress.evaluation import evaluate
    from cxcompress.pipeline.inputs import BATCH_SIZE

    part, name = study.judged_part("test", [])
    record = study.record(model, part, BATCH_SIZE, "Test", thresholds)
    estimates = evaluate(record, thresholds=thresholds)
    row: dict[str, Any] = {"judged_on": name, "n": len(part),
                           "val_loss": validation_loss(model, study)}
    for metric in METRICS:
        row |= {metric: estimates[metric].value, f"{metric}_low": estimates[metric].low,
                f"{metric}_high": estimates[metric].high}
    return row, record


def _container(model: keras.Model, study: Study, compression: Compression):
    """The model with its weights shared, and the bytes of its file without plans."""
    from cxcompress import models
    from cxcompress.models import ends
    from cxcompress.pipeline.sharing import share_model
    from cxcompress.storage import Container, ModelCard, write_container

    container = Container(
        share_model(model, compression), models.architecture_json(model), None,
        ModelCard(task=study.task.name, classes=study.task.classes,
                  preprocessing=study.preprocessing.to_dict(),
                  from_logits=ends.gives_logits(model)), compression.name)
    with tempfile.TemporaryDirectory() as folder:
        return container, write_container(Path(folder) / "model.h5", container).total


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over nets and seeds, of values and of both ends of their intervals.

    The interval is that of the images; least and most are those of nets and seeds.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    summary = []
    for group, members in groups.items():
        line: dict[str, Any] = dict(zip(KEYS, group, strict=True)) | {"runs": len(members)}
        for name, value in members[0].items():
            if name in (*KEYS, "seed", "n") or isinstance(value, str):
                continue
            values = [math.nan if row.get(name) is None else row[name] for row in members]
            line[name] = sum(values) / len(values)
            if name in METRICS:
                line[f"{name}_least"], line[f"{name}_most"] = min(values), max(values)
        verdicts = [row["verdict"] for row in members]
        line["verdicts"] = "; ".join(f"{verdicts.count(verdict)} {verdict}"
                                     for verdict in dict.fromkeys(verdicts))
        summary.append(line | {"n": members[0]["n"], "judged_on": members[0]["judged_on"]})
    return summary


def best_on_validation(summary: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By sparsity, the strategy with the lowest mean validation loss."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in summary:
        key = f"{row['sparsity']:g}"
        if key not in best or row["val_loss"] < best[key]["val_loss"]:
            best[key] = row
    return {key: row["strategy"] for key, row in best.items()}


def _dense_line(dense: Sequence[Mapping[str, Any]]) -> str:
    mean = {name: sum(row[name] for row in dense) / len(dense)
            for name, value in dense[0].items() if isinstance(value, int | float)}
    metrics = ", ".join(f"{name} {number(mean[name])} ({number(mean[f'{name}_low'])} to "
                        f"{number(mean[f'{name}_high'])})" for name in METRICS)
    return (f"dense ({len(dense)} nets): {metrics}, n = {dense[0]['n']}; "
            f"{mean['weights']:,.0f} weights, {byte_count(mean['bytes'])}, validation loss "
            f"{mean['val_loss']:.4g}")


def _text(row: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
    text = {"sparsity": f"{row['sparsity']:g}",
            "strategy": row["strategy"] + (
                " (chosen)" if chosen[f"{row['sparsity']:g}"] == row["strategy"] else ""),
            "runs": str(row["runs"]), "epochs": number(row["epochs"], 0),
            "nonzeros": f"{row['nonzeros']:,.0f}", "file": byte_count(row["bytes"])}
    for metric in METRICS:
        text[f"{metric} (95%; {row['n']} images)"] = (
            f"{number(row[metric])} ({number(row[f'{metric}_low'])} to "
            f"{number(row[f'{metric}_high'])})")
    text["val loss"] = number(row["val_loss"], 4)
    for plan in ("float32", "static_int8"):
        if f"time_ratio_{plan}" in row:
            text[f"time_ratio {plan}"] = number(row[f"time_ratio_{plan}"])
    text["against dense"] = row["verdicts"]
    return text
