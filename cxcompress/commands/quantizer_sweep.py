"""`quantizer_sweep.py`: bytes against accuracy, every quantiser at every number of levels."""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import CODERS
from cxcompress.commands.data_flags import PREPROCESSINGS
from cxcompress.errors import InputError
from cxcompress.quantization import Compression
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study

EXAMPLE = ("python experiments/quantizer_sweep.py --net model.h5 --data_path images "
           "--compressions uCWS uUQ TCQ --levels 256 16 4 --sqnr 12 15 --epochs 0 3")
QUANTIZERS = ("uUQ", "uCWS", "uPWS", "uECSQ", "UQ", "CWS", "PWS", "ECSQ", "pruUQ", "uTCQ", "TCQ")
METRICS = {"nuclei": ("f1_macro",)}
"""Metrics of a task; of all others `CLASS_METRICS`."""
CLASS_METRICS = ("accuracy", "auroc_macro", "cross_entropy")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `quantizer_sweep.py`."""
    parse = parser("quantizer_sweep.py", "Size and accuracy of one network under every quantiser "
                   "and number of shared values (TCQ: at every SQNR), with and without "
                   "fine-tuning; and which of them no other beats (the Pareto front).", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, help="a .keras, .h5 or .hdf5 model")
    add("--data_path", required=True, help="images to judge it by, as for compress.py")
    add("--compressions", nargs="+", default=list(QUANTIZERS), metavar="NAME",
        help=f"as --compression of compress.py ({' '.join(QUANTIZERS)})")
    add("--levels", nargs="+", type=int, default=[256, 255, 64, 16, 8, 4], metavar="K",
        help="numbers of shared values (256 255 64 16 8 4)")
    add("--sqnr", nargs="+", type=float, default=[9, 12, 15, 18, 21], metavar="DB",
        help="of TCQ and uTCQ: weight SQNRs to reach (9 12 15 18 21)")
    add("--sensitivities", nargs="+", choices=("none", "fisher", "channels"),
        default=["none"],
        help="of TCQ: as --sensitivity of compress.py (none)")
    add("--epochs", nargs="+", type=int, default=[0],
        help="epochs of fine-tuning, 0 for none; several are tried each (0)")
    add("--learning_rate", type=float, default=1e-3, help="as for compress.py (0.001)")
    add("--lr_cumulative", type=float, default=1e-3, help="as for compress.py (0.001)")
    add("--lr_schedule", choices=("cosine", "constant"), default="cosine",
        help="as for compress.py (cosine)")
    add("--minibatch", type=int, default=32, help="images a step (32)")
    add("--count", type=int, help="images to generate, where --data_path is synthetic:…")
    add("--prune", type=float, default=50, metavar="PERCENT",
        help="percent of each kernel to prune first where the name begins with pr (50)")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS,
        help="as for compress.py (auto)")
    add("--coder", default="auto", choices=CODERS, help="as for compress.py (auto)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(quantizer_sweep(arguments)), argv)


def quantizer_sweep(arguments: argparse.Namespace) -> str:
    """Run the sweep, write the run folder and return the table.

    Raises:
        InputError: If a flag, the model or the data cannot be used.
    """
    if not Path(arguments.net).is_file():
        raise InputError(f"--net {arguments.net}: no such file")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256
    from cxcompress.reporting import figures

    described["net_sha256"] = file_sha256(Path(arguments.net))
    units, notes = [], []
    opened = functools.cache(lambda: _open(arguments, notes))
    for id_, compression, sensitivity, epochs, about in _trials(arguments):
        units.append(WorkUnit(id_, _one_compression, {
            "opened": opened, "compression": compression, "sensitivity": sensitivity,
            "epochs": epochs, "about": about, "arguments": arguments}))
    path = Path(arguments.output_path) / "quantizer_sweep" / Path(arguments.net).stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        rows = list(folder.run_units(units, "Quantisers").values())
        opened()  # for its notes, where an interrupted run had finished all units
        front = pareto_front(rows)
        rows = [row | {"on_front": row in front} for row in rows]
        folder.write_csv("results_quantizer_sweep.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows,
                                                            "notes": notes})
        plain = [row for row in rows if not row["compression"].endswith("TCQ")
                 and not row["epochs"] and "auroc_macro_original_value" in row]
        if plain:
            figures.quantizer_sweep(path / "quantizer_sweep", plain)
        figures.size_and_accuracy(path / "size_and_accuracy", rows)
    return "\n".join([*(f"note: {note}" for note in notes), "",
                      text_table([_text(row) for row in rows]), "", f"results  {path}"])


def _trials(arguments: argparse.Namespace):
    """Id, compression, sensitivity, epochs and description of each combination."""
    for name in arguments.compressions:
        percent = arguments.prune if name.startswith("pr") else 0
        trellis = name.endswith("TCQ")
        for level in arguments.sqnr if trellis else arguments.levels:
            if trellis:
                compression = Compression.parse(name, sqnr_db=level)
                about = {"compression": name, "k": None, "sqnr_asked": level}
            else:
                compression = Compression.parse(name, clustercnn=level, clusterfc=level,
                                                prcnn=percent, prfc=percent)
                about = {"compression": name, "k": level, "sqnr_asked": None}
            for sensitivity in arguments.sensitivities if name == "TCQ" else ("none",):
                for epochs in arguments.epochs:
                    id_ = f"{name}/{'dB' if trellis else 'k'}={level:g}"
                    id_ += f"/{sensitivity}" * (sensitivity != "none")
                    id_ += f"/epochs={epochs}" * (epochs > 0)
                    yield id_, compression, sensitivity, epochs, about | {
                        "sensitivity": sensitivity, "epochs": epochs}


def pareto_front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows that no other beats in both bytes and the primary metric, smallest first."""
    front: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], -row["primary_value"])):
        if not front or row["primary_value"] > front[-1]["primary_value"]:
            front.append(row)
    return front


def _open(arguments: argparse.Namespace, notes: list[str]) -> tuple[keras.Model, Study]:
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(arguments.net)
    return model, inputs.open_study(model, card, arguments.data_path, None,
                                    arguments.preprocessing, arguments.seed, notes,
                                    arguments.count)


def _one_compression(
    opened: Callable[[], tuple[keras.Model, Study]], compression: Compression,
    sensitivity: str, epochs: int, about: Mapping[str, Any], arguments: argparse.Namespace,
) -> dict[str, Any]:
    from cxcompress.pipeline import FineTuning, compress

    model, study = opened()
    tuning = FineTuning(
        epochs=epochs, learning_rate=arguments.learning_rate,
        lr_cumulative=arguments.lr_cumulative, batch_size=arguments.minibatch,
        lr_schedule=arguments.lr_schedule)
    result = compress(model, study.collection, compression, seed=arguments.seed,
                      preprocessing=study.preprocessing, classes=study.task.classes,
                      fine_tuning=tuning, sensitivity=False, plans=(), importance=sensitivity)
    with tempfile.TemporaryDirectory() as folder:
        sizes = result.save(Path(folder) / "model.h5", coder=arguments.coder)
    row: dict[str, Any] = {
        **about, "bytes": sizes.total,
        "space_ratio": sizes.total / (4 * result.parameters),
        "bits_per_weight": sizes.bits_per_weight, "entropy_bits": result.entropy_bits,
        "sqnr_db": result.sqnr_db, "largest_change": result.largest_change,
        "judged_on": result.judged_on, "verdict": result.comparison.verdict,
    }
    metrics = METRICS.get(study.task.name, CLASS_METRICS)
    for stage, estimates in (("original", result.before), ("compressed", result.after)):
        for key in metrics:
            for part in ("value", "low", "high"):
                row[f"{key}_{stage}_{part}"] = getattr(estimates[key], part)
    primary = result.after["f1_macro" if "f1_macro" in metrics else "auroc_macro"]
    row |= {"primary": "f1_macro" if "f1_macro" in metrics else "auroc_macro",
            "primary_value": primary.value, "primary_low": primary.low,
            "primary_high": primary.high, "n": primary.n}
    bounds = [change.lost_positives_bound for change in result.comparison.changes
              if change.lost_positives_bound is not None]
    row["lost_positives_bound"] = max(bounds, default=None)
    return row


def _text(row: dict[str, Any]) -> dict[str, str]:
    def with_interval(key: str) -> str:
        value, low, high = (number(row[f"{key}_compressed_{part}"])
                            for part in ("value", "low", "high"))
        return f"{value} ({low} to {high})"

    asked = f"k = {row['k']}" if row["k"] else f"{row['sqnr_asked']:g} dB"
    if row["sensitivity"] != "none":
        asked += f", {row['sensitivity']}"
    if row["epochs"]:
        asked += f", {row['epochs']} epochs"
    labels = {"accuracy": "accuracy", "auroc_macro": "AUROC", "cross_entropy": "cross-entropy",
              "f1_macro": "F1"}
    return {
        "compression": row["compression"], "asked": asked, "file": byte_count(row["bytes"]),
        "space_ratio": number(row["space_ratio"]), "bits": number(row["bits_per_weight"], 2),
        "SQNR dB": number(row["sqnr_db"], 1),
    } | {f"{label} (n = {row['n']})": with_interval(key) for key, label in labels.items()
         if f"{key}_compressed_value" in row} | {
        "largest change": number(row["largest_change"], 4), "verdict": row["verdict"],
        "front": "*" if row["on_front"] else "",
    }
