"""`quantizer_sweep.py`: one network under every quantiser and number of levels."""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import CODERS, PREPROCESSINGS
from cxcompress.errors import InputError
from cxcompress.quantization import Compression
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit

if TYPE_CHECKING:
    import keras

    from cxcompress.pipeline.inputs import Study

EXAMPLE = ("python experiments/quantizer_sweep.py --net model.h5 --data_path images "
           "--compressions uCWS uUQ --levels 256 16 4")
QUANTIZERS = ("uUQ", "uCWS", "uPWS", "uECSQ", "UQ", "CWS", "PWS", "ECSQ", "pruUQ")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `quantizer_sweep.py`."""
    parse = parser("quantizer_sweep.py", "Size and accuracy of one network under every quantiser "
                   "and number of shared values, without fine-tuning.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, help="a .keras, .h5 or .hdf5 model")
    add("--data_path", required=True, help="images to judge it by, as for compress.py")
    add("--compressions", nargs="+", default=list(QUANTIZERS), metavar="NAME",
        help=f"as --compression of compress.py ({' '.join(QUANTIZERS)})")
    add("--levels", nargs="+", type=int, default=[256, 255, 64, 16, 8, 4], metavar="K",
        help="numbers of shared values (256 255 64 16 8 4)")
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
    for name in arguments.compressions:
        percent = arguments.prune if name.startswith("pr") else 0
        for k in arguments.levels:
            compression = Compression.parse(name, clustercnn=k, clusterfc=k, prcnn=percent,
                                            prfc=percent)
            units.append(WorkUnit(f"{name}/k={k}", _one_compression,
                                  {"opened": opened, "compression": compression, "k": k,
                                   "seed": arguments.seed, "coder": arguments.coder}))
    path = Path(arguments.output_path) / "quantizer_sweep" / Path(arguments.net).stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        rows = list(folder.run_units(units, "Quantisers").values())
        folder.write_csv("results_quantizer_sweep.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows,
                                                            "notes": notes})
        figures.quantizer_sweep(path / "quantizer_sweep", rows)
    return "\n".join([*(f"note: {note}" for note in notes), "",
                      text_table([_text(row) for row in rows]), "", f"results  {path}"])


def _open(arguments: argparse.Namespace, notes: list[str]) -> tuple[keras.Model, Study]:
    from cxcompress.pipeline import inputs

    model, card, _ = inputs.open_model(arguments.net)
    return model, inputs.open_study(model, card, arguments.data_path, None,
                                    arguments.preprocessing, arguments.seed, notes)


def _one_compression(
    opened: Callable[[], tuple[keras.Model, Study]], compression: Compression, k: int, seed: int,
    coder: str,
) -> dict[str, Any]:
    from cxcompress.pipeline import compress

    model, study = opened()
    result = compress(model, study.collection, compression, seed=seed,
                      preprocessing=study.preprocessing, classes=study.task.classes,
                      sensitivity=False, plans=())
    with tempfile.TemporaryDirectory() as folder:
        sizes = result.save(Path(folder) / "model.h5", coder=coder)
    row: dict[str, Any] = {
        "compression": compression.name, "k": k, "bytes": sizes.total,
        "space_ratio": sizes.total / (4 * result.parameters),
        "bits_per_weight": sizes.bits_per_weight, "entropy_bits": result.entropy_bits,
        "sqnr_db": result.sqnr_db, "largest_change": result.largest_change,
        "judged_on": result.judged_on, "verdict": result.comparison.verdict,
    }
    for stage, estimates in (("original", result.before), ("compressed", result.after)):
        for key in ("accuracy", "auroc_macro", "cross_entropy"):
            for part in ("value", "low", "high"):
                row[f"{key}_{stage}_{part}"] = getattr(estimates[key], part)
    row["n"] = result.after["accuracy"].n
    bounds = [change.lost_positives_bound for change in result.comparison.changes
              if change.lost_positives_bound is not None]
    row["lost_positives_bound"] = max(bounds, default=None)
    return row


def _text(row: dict[str, Any]) -> dict[str, str]:
    def with_interval(key: str) -> str:
        value, low, high = (number(row[f"{key}_compressed_{part}"])
                            for part in ("value", "low", "high"))
        return f"{value} ({low} to {high})"

    return {
        "compression": row["compression"], "k": str(row["k"]), "file": byte_count(row["bytes"]),
        "space_ratio": number(row["space_ratio"]), "bits": number(row["bits_per_weight"], 2),
        "SQNR dB": number(row["sqnr_db"], 1),
        f"accuracy (n = {row['n']})": with_interval("accuracy"),
        "AUROC": with_interval("auroc_macro"),
        "cross-entropy": with_interval("cross_entropy"),
        "largest change": number(row["largest_change"], 4), "verdict": row["verdict"],
    }
