"""What scaling output channels by sensitivity gains over giving each layer its bits.

Model: any classifier or network of density maps with BatchNormalization. Treatment: TCQ at many
SQNRs, with `--sensitivity fisher` and with `--sensitivity channels`. Measurement: bits a weight, as
stored, and the error of the outputs (log-odds, or maps) on validation images relative to the
outputs themselves, in dB. How the rounding errors of one setting happen to add up decides more
than the treatment, so one curve, error = a + b bits + c bits², is fitted to all settings of both,
and `gain_db` is the constant by which the second lies below the first, with its standard error;
`fewer_bits` is what that is worth along the curve, as a share of the bits.

    python experiments/benchmarks/channel_scales.py --net pretrained/small_cxr_pneumoniamnist.h5 \
        --data_path ../shared/data/pneumoniamnist.npz
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.data_flags import add_generated_flags
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder, WorkUnit

TREATMENTS = ("fisher", "channels")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("channel_scales.py", "Bits that scaled output channels save.",
                   "python experiments/benchmarks/channel_scales.py --net model.h5 "
                   "--data_path images")
    parse.add_argument("--net", required=True, help="a .keras, .h5 or .hdf5 model")
    parse.add_argument("--data_path", required=True, help="images, as for compress.py")
    add_generated_flags(parse)
    parse.add_argument("--sqnr", nargs=2, type=float, default=[20, 27], metavar="DB",
                       help="least and greatest, as for compress.py (20 27)")
    parse.add_argument("--settings", type=int, default=28, help="SQNRs between them (28)")
    parse.add_argument("--images", type=int, default=256, help="validation images (256)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Measure all settings; returns the table."""
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    opened = functools.cache(lambda: _Opened(arguments))
    path = Path(arguments.output_path) / "channel_scales" / Path(arguments.net).stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        rows = list(folder.run_units([
            WorkUnit(f"{treatment}/{sqnr:g}", _measure,
                     {"opened": opened, "treatment": treatment, "sqnr": float(sqnr)})
            for sqnr in np.linspace(*arguments.sqnr, arguments.settings)
            for treatment in TREATMENTS], "TCQ").values())
        summary = fitted(rows)
        folder.write_csv("results_channel_scales.csv", rows)
        folder.write_json("results.json", folder.record | {
            "state": "done", "rows": rows, "summary": summary})
    return text_table([{key: number(value, 2) for key, value in summary.items()}],
                      right=tuple(summary))


def fitted(rows: Sequence[dict]) -> dict[str, float]:
    """The gain at equal bits, by least squares over all settings (module docstring)."""
    bits = np.array([row["bits_per_weight"] for row in rows])
    scaled = np.array([row["sensitivity"] == "channels" for row in rows], float)
    error = np.array([row["error_db"] for row in rows])
    design = np.stack([np.ones_like(bits), bits, bits**2, scaled], axis=1)
    found, *_ = np.linalg.lstsq(design, error)
    residual = error - design @ found
    variance = residual @ residual / (len(rows) - design.shape[1])
    middle = bits.mean()
    slope = found[1] + 2 * found[2] * middle
    return {"bits_per_weight": float(middle), "gain_db": float(-found[3]),
            "standard_error_db": float(np.sqrt(variance * np.linalg.inv(design.T @ design)[3, 3])),
            "db_per_bit": float(slope), "fewer_bits": float(found[3] / slope / middle)}


class _Opened:
    """The network, plain and with scaled channels, and what it says of the images."""

    def __init__(self, arguments: argparse.Namespace):
        from cxcompress.pipeline import inputs
        from cxcompress.pipeline.channel_scales import with_scaled_channels
        from cxcompress.pipeline.sensitivities import IMAGES, squared_gradients

        self.seed = arguments.seed
        model, card, _ = inputs.open_model(arguments.net)
        study = inputs.open_study(model, card, arguments.data_path, None, "auto",
                                  arguments.data_seed, [], arguments.count)
        self.task = study.task.name

        def batch(part, count):
            return study.preprocessing.batch(inputs.evenly(part, count).images)

        self.images = batch(study.collection.val, arguments.images)
        squared = squared_gradients(model, batch(study.collection.train, IMAGES), self.task,
                                    arguments.seed)
        self.networks = {"fisher": (model, squared),
                         "channels": with_scaled_channels(model, squared)[:2]}
        self.expected = self.outputs(model)

    def outputs(self, model) -> np.ndarray:
        """Log-odds of classes, or maps."""
        found = model.predict(self.images, batch_size=16, verbose=0).astype(np.float64)
        if self.task == "nuclei":
            return found
        found = np.clip(found, 1e-6, 1 - 1e-6)
        return np.log(found / (1 - found))


def _measure(opened, treatment: str, sqnr: float) -> dict:
    from cxcompress import models
    from cxcompress.pipeline.sharing import share_model
    from cxcompress.quantization import Compression
    from cxcompress.storage import Container, ModelCard, write_container

    one = opened()
    model, importance = one.networks[treatment]
    weights = models.weights(model)
    shared = share_model(model, Compression.parse("TCQ", sqnr_db=sqnr), one.seed, importance)
    models.set_weights(model, shared.weights())
    moved = one.outputs(model) - one.expected
    models.set_weights(model, weights)
    with tempfile.TemporaryDirectory() as folder:
        sizes = write_container(Path(folder) / "model.h5", Container(
            shared, models.architecture_json(model), {}, ModelCard(task=one.task), "TCQ"))
    return {"sensitivity": treatment, "sqnr_asked": sqnr, "bytes": sizes.total,
            "bits_per_weight": sizes.bits_per_weight,
            "error_db": float(10 * np.log10(np.square(moved).sum()
                                            / np.square(one.expected).sum()))}


if __name__ == "__main__":
    sys.exit(main())
