"""The 16 networks of the CheXtransfer study beside each other: parameters, operations, latency.

Models: built by name at `--size` pixels, 3 channels, 14 outputs, with **random** weights: nothing
here depends on them. Parameters: trainable ones with 1000 classes, beside the published number
(`models/published.py` says why where they differ), and with 14; how many times fewer remain when
the last one, two and three blocks are dropped. Multiply-accumulates of one image. Latency: each
network is compressed (UQ, k = 256), written as a container and opened by the runtime without
TensorFlow; all of them are timed in one process, one image at a time, in turns whose order
rotates, and the median is given. Output: a CSV, a JSON file and a table in Markdown. An interrupted
run goes on; a run with other lists of networks or plans adds to the folder, and times all again.

    python experiments/benchmarks/architectures.py --plans float32 static_int8
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 14
PUBLISHED_CLASSES = 1000
DROPPED = (1, 2, 3)
CALIBRATION_IMAGES = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from cxcompress.commands.command_line import parser, run
    from cxcompress.runtime import PLANS

    parse = parser("architectures.py", "Parameters, operations and latency of the 16 networks.",
                   "python experiments/benchmarks/architectures.py --networks resnet18 mnasnet")
    add = parse.add_argument
    add("--networks", nargs="+", metavar="NAME", help="some of the 16 (all)")
    add("--timed", nargs="+", metavar="NAME", help="of these, the ones that are converted and "
        "timed, a minute each; the others are counted only (all)")
    add("--size", type=int, default=224, help="pixels a side (224)")
    add("--plans", nargs="*", choices=PLANS, default=["float32", "static_int8"],
        help="of the runtime; none: nothing is converted and timed (float32 static_int8)")
    add("--threads", type=int, default=2, help="of the runtime (2)")
    add("--repeats", type=int, default=20, help="timed calls of each network (20)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Count, convert, time, write the run folder and return the table.

    Raises:
        InputError: If a flag cannot be used.
    """
    from cxcompress.commands.command_line import start_tensorflow
    from cxcompress.errors import InputError
    from cxcompress.runs import RunFolder, WorkUnit, write_atomic

    if arguments.repeats < 1 or arguments.threads < 1:
        raise InputError("--repeats and --threads must be at least 1")
    start_tensorflow()
    from cxcompress import models
    from cxcompress.models.published import PUBLISHED

    arguments.networks = arguments.networks or list(PUBLISHED)
    arguments.timed = arguments.timed or arguments.networks
    if missing := set(arguments.timed) - set(arguments.networks):
        raise InputError(f"--timed {', '.join(sorted(missing))}: not among --networks")
    for network in arguments.networks:
        if network not in PUBLISHED:
            raise InputError(f"--networks {network}: nothing is published of it here; there are "
                             f"{', '.join(PUBLISHED)}")
    for network in arguments.networks:
        models.check_input(network, (arguments.size, arguments.size, 3))
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / "architectures"
    with RunFolder.open(path, described, overwrite=arguments.overwrite,
                        extendable=("networks", "plans", "timed")) as folder:
        counted = folder.run_units([
            WorkUnit(f"count/{network}", count, {"network": network, "size": arguments.size})
            for network in arguments.networks], "Counting")
        folder.run_units([
            WorkUnit(f"convert/{network}/{plan}", convert,
                     {"network": network, "plan": plan, "size": arguments.size,
                      "file": path / "files" / f"{network}-{plan}.h5"})
            for network in arguments.timed for plan in arguments.plans], "Converting")
        seconds = timed({(network, plan): path / "files" / f"{network}-{plan}.h5"
                         for network in arguments.timed for plan in arguments.plans},
                        arguments.threads, arguments.repeats)
        rows = [counted[f"count/{network}"]
                | {f"ms_{plan}": 1e3 * seconds.get((network, plan), math.nan)
                   for plan in arguments.plans}
                for network in arguments.networks]
        folder.write_csv("architectures.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
        table = markdown(rows, arguments)
        write_atomic(path / "architectures.md", table + "\n")
    return f"{table}\n\nresults  {path}"


def count(network: str, size: int) -> dict[str, Any]:
    """Parameters, whole and truncated, and multiply-accumulates of a network."""
    import keras

    from cxcompress import models
    from cxcompress.models.multiply_accumulates import multiply_accumulates
    from cxcompress.models.published import PUBLISHED

    known = PUBLISHED[network]
    model = models.build(network, (size, size, 3), CLASSES)
    trainable = sum(int(np.prod(one.shape)) for one in model.trainable_weights)
    features = model.get_layer("predictions").kernel.shape[0]
    blocks = len(models.blocks(model))
    row = {"network": network, "family": known.family,
           "parameters_1000": trainable + (PUBLISHED_CLASSES - CLASSES) * (features + 1),
           "published": known.parameters, "note": known.note,
           "parameters_14": model.count_params(),
           "multiply_accumulates": multiply_accumulates(model), "imagenet_top1": known.top1,
           "blocks": blocks}
    for dropped in DROPPED:
        row[f"ratio_{dropped}_dropped"] = (
            model.count_params() / models.truncated_parameters(model, dropped)
            if dropped < blocks else math.nan)
    keras.backend.clear_session()
    return row


def convert(network: str, plan: str, size: int, file: Path) -> dict[str, Any]:
    """Write a container of a network with one plan; returns its bytes."""
    import keras

    from cxcompress import models
    from cxcompress.conversion.plans import build_plans
    from cxcompress.pipeline.sharing import share_model
    from cxcompress.quantization import Compression
    from cxcompress.storage import Container, ModelCard, write_container

    keras.utils.set_random_seed(0)
    model = models.build(network, (size, size, 3), CLASSES, activation="sigmoid")
    compression = Compression.parse("UQ", clustercnn=256, clusterfc=256)
    shared = share_model(model, compression, 0)
    inputs = np.random.default_rng(0).random((CALIBRATION_IMAGES, size, size, 3), np.float32)
    plans = build_plans(model, shared, inputs, [plan])
    file.parent.mkdir(parents=True, exist_ok=True)
    sizes = write_container(file, Container(
        shared, models.architecture_json(model), plans.graphs, ModelCard(), compression.name),
        overwrite=True)
    keras.backend.clear_session()
    return {"bytes": sizes.total, "notes": plans.notes}


def timed(
    files: Mapping[tuple[str, str], Path], threads: int, repeats: int
) -> dict[tuple[str, str], float]:
    """Median seconds of one image by network and plan, all in turns; NaN where it cannot run."""
    from cxcompress import runtime
    from cxcompress.errors import InputError
    from cxcompress.evaluation.timing import interleaved

    calls = {}
    for key, file in files.items():
        try:
            model = runtime.load(file, key[1], threads)
        except InputError as error:
            print(f"{key[0]}: {error}", file=sys.stderr)
            continue
        image = np.random.default_rng(1).random((1, *model.input_shape), np.float32)
        calls[key] = lambda model=model, image=image: model.predict(image)
    seconds = interleaved(calls, repeats) if calls else {}
    return {key: float(np.median(seconds[key])) if key in seconds else math.nan for key in files}


def markdown(rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> str:
    """The table for a results page."""
    plans = [f"{plan} [ms]" for plan in arguments.plans]
    header = ["network", "parameters, 1000 classes", "published", "MACs",
              *(f"−{dropped}" for dropped in DROPPED), "ImageNet top-1", *plans]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        same = row["parameters_1000"] == row["published"]
        cells = [row["network"], f"{row['parameters_1000']:,}",
                 "the same" if same else f"{row['published']:,} ¹",
                 f"{row['multiply_accumulates'] / 1e9:.2f} G",
                 *(_times(row[f"ratio_{dropped}_dropped"]) for dropped in DROPPED),
                 f"{row['imagenet_top1']:.1f}",
                 *(_milliseconds(row[f"ms_{plan}"]) for plan in arguments.plans)]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"{row['network']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join([*lines, "", *(["¹ " + "; ".join(notes) + "."] if notes else [])])


def _times(ratio: float | None) -> str:
    return "" if ratio is None or not math.isfinite(ratio) else f"{ratio:.1f}×"


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "–"


if __name__ == "__main__":
    sys.exit(main())
