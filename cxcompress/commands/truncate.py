"""`truncate.py`: a network without its last blocks, compressed or not, beside the whole one."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names
from cxcompress.commands.data_flags import add_generated_flags, add_input_flags
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, interval, number, text_table
from cxcompress.runs import RunFolder, WorkUnit, atomic_path

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study
    from cxcompress.pipeline.network_training import NetworkTrainer

EXAMPLE = ("python experiments/truncate.py --net model.h5 --data_path chest_xray --dropped 1 2 "
           "--compressions uCWS:256 uCWS:16 --epochs 5")
LISTS = ("dropped", "seeds", "compressions")
PLANS = ("float32", "static_int8")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `truncate.py`."""
    parse = parser("truncate.py", "Drop a classifier's last blocks, put global average pooling and "
                   "a new head in their place, train all sizes alike, and compare them with the "
                   "whole network: parameters, paired differences, and, compressed, bytes and "
                   "latency. A run with other lists of dropped blocks, seeds or compressions adds "
                   "to the results that the folder holds.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, help="a trained .keras, .h5 or .hdf5 classifier whose blocks are "
        "known (cxcompress.models.names())")
    add("--data_path", required=True, help="images, as for compress.py")
    add_generated_flags(parse)
    add("--dropped", nargs="+", type=int, default=[1], metavar="BLOCKS",
        help="how many last blocks go; the whole network is always there too (1)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of training (0 1 2)")
    add("--epochs", type=int, default=5, help="most epochs, of the whole network too (5)")
    add("--lr", type=float, default=3e-4, help="Adam's learning rate (0.0003)")
    add("--batch_size", type=int, default=64, help="images a step (64)")
    add("--patience", type=int, default=3, help="epochs without improvement on validation (3)")
    add("--compressions", nargs="*", default=["uCWS:256", "uCWS:16"], metavar="NAME:K",
        help="of the networks of the first seed; prNAME:K:PERCENT prunes first; none for no "
        "compression (uCWS:256 uCWS:16)")
    add_input_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(truncate(arguments)), argv)


def truncate(arguments: argparse.Namespace) -> str:
    """Train, compress, compare, write the run folder and return the tables.

    Raises:
        InputError: If a flag, the model or the data cannot be used.
    """
    if not Path(arguments.net).is_file():
        raise InputError(f"--net {arguments.net}: no such file")
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least {least}")
    if not arguments.lr > 0:
        raise InputError(f"--lr {arguments.lr:g}: must be above 0, e.g. 0.0003")
    wanted = {text: compression_of(text) for text in arguments.compressions}
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.evaluation.arms import arm_differences, arm_estimates
    from cxcompress.models import blocks
    from cxcompress.pipeline.inputs import file_sha256, open_model
    from cxcompress.reporting.truncation_figures import differences, size_and_latency
    from cxcompress.tasks import Predictions

    described["net_sha256"] = file_sha256(Path(arguments.net))
    notes: list[str] = []
    path = Path(arguments.output_path) / "truncate" / Path(arguments.net).stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=LISTS) as folder:
        names = blocks(open_model(arguments.net)[0])
        sizes = [0, *dict.fromkeys(dropped for dropped in arguments.dropped if dropped)]
        for dropped in sizes:
            if not 0 <= dropped < len(names):
                raise InputError(f"--dropped {dropped}: {Path(arguments.net).name} has the blocks "
                                 f"{', '.join(names)}; 1 to {len(names) - 1} can go")
        opened = functools.cache(lambda: _open(arguments, notes))
        trainer = functools.cache(lambda: _trainer(opened(), arguments))
        given = {"arguments": arguments, "path": path}
        trained = folder.run_units([
            WorkUnit(f"train/dropped={dropped}/seed={seed}", _train,
                     given | {"trainer": trainer, "dropped": dropped, "seed": seed})
            for dropped in sizes for seed in arguments.seeds], "Training")
        compressed = folder.run_units([
            WorkUnit(f"compress/dropped={dropped}/{text}", _compress,
                     given | {"opened": opened, "dropped": dropped, "text": text,
                              "compression": compression})
            for dropped in sizes for text, compression in wanted.items()], "Compressing")
        records = {dropped: [Predictions.load(path / "predictions" / f"{dropped}-seed{seed}.npz")
                             for seed in arguments.seeds] for dropped in sizes}
        changes = {dropped: arm_differences(records[0], records[dropped], seed=arguments.seed)
                   for dropped in sizes if dropped}
        rows = []
        for dropped in sizes:
            one = trained[f"train/dropped={dropped}/seed={arguments.seeds[0]}"]
            row = {"dropped": dropped, "parameters": one["parameters"],
                   "parameter_ratio": trained[f"train/dropped=0/seed={arguments.seeds[0]}"]
                   ["parameters"] / one["parameters"],
                   "multiply_accumulates": one["multiply_accumulates"], "map": one["map"],
                   "seeds": len(arguments.seeds)}
            found = {"": arm_estimates(records[dropped], seed=arguments.seed)["auroc_macro"]}
            if dropped:
                found["difference_"] = changes[dropped]["auroc_macro"]
            for prefix, value in found.items():
                name = prefix or "auroc_macro_"
                row |= {f"{name}value": value.value, f"{name}low": value.low,
                        f"{name}high": value.high}
            rows.append(row | {"n": found[""].n, "patients": found[""].patients})
        by_class = {dropped: {key: value.to_dict() for key, value in change.items()
                              if key.startswith("auroc")} for dropped, change in changes.items()}
        files = mark_front(list(compressed.values()))
        keys = list(dict.fromkeys(key for row in rows for key in row))
        folder.write_csv("truncation.csv", [{key: row.get(key, "") for key in keys}
                                            for row in rows])
        if files:
            folder.write_csv("compressed.csv", files)
            size_and_latency(path / "size_and_latency", files)
        if by_class:
            differences(path / "differences", by_class)
        folder.write_json("results.json", folder.record | {
            "state": "done", "blocks": names, "rows": rows, "compressed": files,
            "differences": by_class, "trained": list(trained.values()), "notes": notes})
    return _text(rows, files, notes, names, path)


def compression_of(text: str):
    """`uCWS:16` or `pruCWS:16:80` as a `Compression`.

    Raises:
        InputError: If it is neither.
    """
    from cxcompress.quantization import Compression

    name, *numbers = text.split(":")
    try:
        values = [float(value) for value in numbers]
        if not 1 <= len(values) <= 2 or values[0] != int(values[0]):
            raise ValueError
    except ValueError:
        raise InputError(f"--compressions {text}: write NAME:K, e.g. uCWS:16, or with the percent "
                         "pruned first pruCWS:16:80") from None
    pruned = {"prcnn": values[1], "prfc": values[1]} if len(values) == 2 else {}
    return Compression.parse(name, clustercnn=int(values[0]), clusterfc=int(values[0]), **pruned)


def mark_front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `front_bytes` and `front_<plan>`: whether nothing cheaper is better.

    A row is on a front unless another has at most its cost and at least its AUROC, one of them
    strictly.
    """
    for name, cost in (("bytes", "bytes"), *((plan, f"seconds_{plan}") for plan in PLANS)):
        for row in rows:
            row[f"front_{name}"] = row[cost] is not None and not any(
                other[cost] is not None and other[cost] <= row[cost]
                and other["auroc_macro"] >= row["auroc_macro"]
                and (other[cost] < row[cost] or other["auroc_macro"] > row["auroc_macro"])
                for other in rows)
    return rows


def _open(arguments: argparse.Namespace, notes: list[str]) -> Study:
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(arguments.net)
    study = inputs.open_study(model, card, arguments.data_path, class_names(arguments.classes),
                              arguments.preprocessing, arguments.data_seed, notes, arguments.count)
    if study.task.name not in ("multiclass", "multilabel") or study.collection.train is None:
        raise InputError(f"--data_path {arguments.data_path}: needs a train part with labels of "
                         "classes")
    return study


def _trainer(study: Study, arguments: argparse.Namespace) -> NetworkTrainer:
    from cxcompress.pipeline.network_training import NetworkTrainer, TrainingSettings

    return NetworkTrainer(study, TrainingSettings(
        arguments.epochs, arguments.lr, arguments.batch_size, arguments.patience))


def _model(net: str, dropped: int, seed: int) -> keras.Model:
    import keras

    from cxcompress import models
    from cxcompress.pipeline import inputs

    keras.utils.set_random_seed(seed)
    model, _, _ = inputs.open_model(net)
    return models.truncate(model, dropped) if dropped else model


def _train(
    trainer: Callable[[], NetworkTrainer], arguments: argparse.Namespace, path: Path, dropped: int,
    seed: int,
) -> dict[str, Any]:
    from cxcompress.models import save_model

    trained = trainer().train(_model(arguments.net, dropped, seed), seed)
    with atomic_path(path / "predictions" / f"{dropped}-seed{seed}.npz") as temporary:
        trained.record.save(temporary)
    save_model(trained.model, path / "models" / f"{dropped}-seed{seed}.h5")
    return {"dropped": dropped, "seed": seed} | trained.facts


def _compress(
    opened: Callable[[], Study], arguments: argparse.Namespace, path: Path, dropped: int, text: str,
    compression,
) -> dict[str, Any]:
    from cxcompress.pipeline import compress

    study = opened()
    source = path / "models" / f"{dropped}-seed{arguments.seeds[0]}.h5"
    result = compress(source, study.collection, compression, preprocessing=study.preprocessing,
                      classes=study.task.classes, sensitivity=False, seed=arguments.seed,
                      plans=PLANS)
    file = path / "compressed" / f"{dropped}-{text.replace(':', '-')}.h5"
    file.parent.mkdir(exist_ok=True)
    total = result.save(file, overwrite=True).total
    after = result.after["auroc_macro"]
    seconds = {plan.plan: plan.seconds for plan in result.plans}
    return {"dropped": dropped, "compression": text, "bytes": total,
            "auroc_macro": after.value, "auroc_macro_low": after.low,
            "auroc_macro_high": after.high, "n": after.n,
            **{f"seconds_{plan}": seconds.get(plan) for plan in PLANS}}


def _text(rows, files, notes, names, path: Path) -> str:
    def of(row: Mapping, prefix: str) -> str:
        if f"{prefix}value" not in row:
            return ""
        return interval(SimpleNamespace(**{end: row[f"{prefix}{end}"]
                                           for end in ("value", "low", "high")}))

    lines = [*(f"note: {note}" for note in notes), "", f"blocks: {', '.join(names)}", "",
             text_table([{
                 "dropped": str(row["dropped"]), "parameters": f"{row['parameters']:,}",
                 "fewer": f"{row['parameter_ratio']:.2f}×",
                 "MACs": f"{row['multiply_accumulates'] / 1e6:,.0f} M", "last map": row["map"],
                 "AUROC, macro (95% interval)": of(row, "auroc_macro_"),
                 "minus whole, paired": of(row, "difference_")} for row in rows]),
             "", f"means of {rows[0]['seeds']} seeds; n = {rows[0]['n']} images of "
             f"{rows[0]['patients']} patients"]
    if files:
        lines += ["", "the first seed's, compressed; * on the front of AUROC against it:", "",
                  text_table([{
                      "dropped": str(row["dropped"]), "compression": row["compression"],
                      "file": byte_count(row["bytes"]) + "*" * row["front_bytes"],
                      "AUROC, macro (95% interval)": interval(SimpleNamespace(
                          value=row["auroc_macro"], low=row["auroc_macro_low"],
                          high=row["auroc_macro_high"])),
                      **{plan: _milliseconds(row, plan) for plan in PLANS}} for row in files])]
    return "\n".join([*lines, "", f"results  {path}"])


def _milliseconds(row: Mapping, plan: str) -> str:
    seconds = row[f"seconds_{plan}"]
    if seconds is None or not math.isfinite(seconds):
        return "–"
    return f"{number(1e3 * seconds, 2)} ms" + "*" * row[f"front_{plan}"]
