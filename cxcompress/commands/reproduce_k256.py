"""`reproduce_k256.py`: PathoNet under CWS, PWS, UQ and ECSQ at 256 shared values, judged."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.run_rmse_acc import (
    add_judging_flags,
    chosen_cut_offs,
    given_thresholds,
    judge_models,
    open_fields,
    write_judgement,
)
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit
from cxcompress.runtime import PLANS

if TYPE_CHECKING:
    from cxcompress.data.collection import Collection

EXAMPLE = "python experiments/reproduce_k256.py --engine runtime --plan int8 --count 240"
BUNDLED = Path("pretrained") / "pathonet_synthetic_ki67wide.h5"
COMPRESSIONS = ("uCWS", "uPWS", "uUQ", "uECSQ")
CODEBOOK_RATES = {"PWS": 1e-4, "UQ": 1e-4, "CWS": 1e-5, "ECSQ": 1e-5}
"""Learning rates of the shared values that the paper took for each quantiser."""


def build_parser() -> argparse.ArgumentParser:
    """The flags of `reproduce_k256.py`."""
    parse = parser("reproduce_k256.py", "Compress PathoNet by every quantiser, and judge the "
                   "original and all compressed networks on the same fields: bytes, time, cells, "
                   "patients' Ki-67 index and cut-offs.", EXAMPLE)
    add = parse.add_argument
    add("--net", help="a PathoNet, .keras or .h5 (the bundled one)")
    add("--compressions", nargs="+", default=list(COMPRESSIONS), metavar="NAME",
        help=f"as --compression of compress.py ({' '.join(COMPRESSIONS)})")
    add("--clustercnn", type=int, default=256, metavar="K", help="shared values (256)")
    add("--epochs", type=int, default=0, help="most epochs of fine-tuning; the paper took 75 (0)")
    add("--minibatch", type=int, default=8, help="fields a step (8)")
    add("--ptnc", type=int, default=5,
        help="epochs without improvement on validation before it stops (5)")
    add("--lr_schedule", choices=("cosine", "constant"), default="cosine",
        help="as for compress.py (cosine)")
    add("--crop", type=int, metavar="PIXELS", help="as for compress.py (whole fields)")
    add("--learning_rate", type=float, default=1e-4, help="of fine-tuning (0.0001); that of the "
        "shared values is the paper's: 1e-4 for PWS and UQ, 1e-5 for CWS and ECSQ")
    add("--also", nargs="*", default=[], metavar="FILE", help="more compressed files to judge")
    add("--plans", nargs="+", choices=PLANS, default=list(PLANS),
        help="ways to run the files without TensorFlow that are stored in them (all)")
    add("--repeats", type=int, default=10, help="timed calls of each plan; 0 times nothing (10)")
    add_judging_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(reproduce(arguments)), argv)


def reproduce(arguments: argparse.Namespace) -> str:
    """Compress, judge, write the run folder and return the tables.

    Raises:
        InputError: If a flag, the model or the fields cannot be used.
    """
    net = Path(arguments.net) if arguments.net else bundled()
    for file in (net, *map(Path, arguments.also)):
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    compressions = {name: _compression(name, arguments.clustercnn)
                    for name in arguments.compressions}
    chosen = chosen_cut_offs(arguments)
    given_thresholds(arguments)
    if arguments.repeats < 0:
        raise InputError(f"--repeats {arguments.repeats}: must be at least 0")
    if arguments.engine == "runtime" and arguments.plan not in ("auto", *arguments.plans):
        raise InputError(f"--plan {arguments.plan}: is not among --plans "
                         f"{' '.join(arguments.plans)}")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256

    described |= {"net": net.name, "sha256": {
        file.name: file_sha256(file) for file in (net, *map(Path, arguments.also))}}
    path = Path(arguments.output_path) / "reproduce_k256" / net.stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        collection = functools.cache(lambda: _fields(arguments))
        units = [WorkUnit(f"compress={name}", _compress, {
            "net": net, "name": name, "compression": compression, "collection": collection,
            "target": path / "containers" / f"{net.stem}-{name}-{arguments.clustercnn}.h5",
            "arguments": arguments}) for name, compression in compressions.items()]
        made = folder.run_units(units, "Compressions")
        files = [path / "containers" / row["file"] for row in made.values()]
        timed = folder.run_units([WorkUnit("times", _times, {
            "net": net, "files": [*files, *map(Path, arguments.also)], "arguments": arguments})],
            "Times")["times"] if arguments.repeats else {}
        rows = judge_models(folder, [net, *files, *map(Path, arguments.also)], collection,
                            arguments, chosen)
        sizes = [_size_row(row, made, timed, net) for row in rows]
        folder.write_csv("results_sizes.csv", sizes)
        text = write_judgement(folder, rows, arguments, chosen,
                               {"sizes": sizes, "times": timed, "compressions": made})
    notes = sorted({note for row in made.values() for note in row["notes"]})
    return "\n".join([*(f"note: {note}" for note in notes), "",
                      text_table([_size_text(row) for row in sizes],
                                 right=("file", "space_ratio", "time_ratio")),
                      "", text, "", f"results  {path}"])


def bundled() -> Path:
    """The PathoNet that ships with the repository.

    Raises:
        InputError: If this is an installation without it.
    """
    path = Path(__file__).resolve().parents[2] / BUNDLED
    if not path.is_file():
        raise InputError(f"no --net given, and this installation has no {BUNDLED}; give --net, or "
                         "work in a clone of the repository")
    return path


def _compression(name: str, k: int):
    from cxcompress.quantization import Compression

    return Compression.parse(name, clustercnn=k, clusterfc=k)


def _fields(arguments: argparse.Namespace) -> Collection:
    """The collection with train, validation and test parts."""
    from cxcompress.data import with_validation

    collection = open_fields(arguments)
    if collection.train is None:
        raise InputError(f"--data_path {arguments.data_path}: has no train part; ranges of "
                         "activations and BatchNormalization come from it")
    return with_validation(collection, seed=arguments.seed)


def _compress(
    net: Path, name: str, compression, collection: Callable[[], Collection], target: Path,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Compress and write one container; test fields are left alone."""
    from cxcompress.pipeline import FineTuning, compress

    quantizer = compression.quantizer
    tuning = FineTuning(
        epochs=arguments.epochs, learning_rate=arguments.learning_rate,
        lr_cumulative=CODEBOOK_RATES.get(quantizer, 1e-4), batch_size=arguments.minibatch,
        patience=arguments.ptnc, crop=arguments.crop, lr_schedule=arguments.lr_schedule)
    result = compress(net, collection(), compression, fine_tuning=tuning, judge_on="val",
                      batch_size=arguments.minibatch, sensitivity=False, seed=arguments.seed,
                      plans=arguments.plans)
    target.parent.mkdir(parents=True, exist_ok=True)
    sizes = result.save(target, overwrite=True)
    return {"file": target.name, "compression": name, "parameters": result.parameters,
            "bits_per_weight": sizes.bits_per_weight, "entropy_bits": result.entropy_bits,
            "sqnr_db": result.sqnr_db, "plans": [report.plan for report in result.plans],
            "recommended_plan": result.container.card.recommended_plan,
            "best_epoch": result.tuned.best_epoch if result.tuned else None,
            "notes": list(result.notes)}


def _times(net: Path, files: Sequence[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of one field: the compiled Keras call, and each file's plan, in turns."""
    import numpy as np
    import tensorflow as tf

    from cxcompress import models, runtime
    from cxcompress.evaluation.timing import interleaved

    model = models.load_model(net)
    inputs = np.random.default_rng(arguments.seed).random(
        (1, *model.input_shape[1:]), np.float32)
    compiled, tensor = tf.function(model), tf.constant(inputs)
    calls: dict[str, Callable[[], object]] = {
        net.stem: lambda: np.asarray(compiled(tensor))}
    plans = {}
    for file in files:
        opened = runtime.load(file, arguments.plan, arguments.threads)
        plans[file.stem] = opened.plan
        calls[file.stem] = lambda opened=opened: opened.predict(inputs)
    seconds = interleaved(calls, arguments.repeats)
    return {"plans": plans, "seconds": {
        name: {"median": float(np.median(values)), "least": float(values.min()),
               "most": float(values.max())} for name, values in seconds.items()}}


def _size_row(
    row: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]], timed: Mapping[str, Any],
    net: Path,
) -> dict[str, Any]:
    name = row["model"]
    about = {Path(one["file"]).stem: one for one in made.values()}.get(name, {})
    parameters = next(iter(made.values()))["parameters"] if made else None
    seconds = timed.get("seconds", {})
    found = seconds.get(name, {}).get("median")
    original = seconds.get(net.stem, {}).get("median")
    return {"model": name, "bytes": row["bytes"],
            "space_ratio": row["bytes"] / (4 * parameters) if parameters else None,
            "file_ratio": row["bytes"] / net.stat().st_size,
            "bits_per_weight": about.get("bits_per_weight"), "sqnr_db": about.get("sqnr_db"),
            "timed_plan": timed.get("plans", {}).get(name, "compiled Keras call" if timed else ""),
            "seconds": found, "time_ratio": found / original if found and original else None}


def _size_text(row: Mapping[str, Any]) -> dict[str, str]:
    def with_inverse(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f} (1/{1 / value:.2f})"

    return {"model": row["model"], "file": byte_count(row["bytes"]),
            "space_ratio": with_inverse(row["space_ratio"]),
            "bits a weight": number(row["bits_per_weight"], 2),
            "SQNR dB": number(row["sqnr_db"], 1), "timed": row["timed_plan"],
            "one field": "–" if row["seconds"] is None else f"{1e3 * row['seconds']:.0f} ms",
            "time_ratio": with_inverse(row["time_ratio"])}
