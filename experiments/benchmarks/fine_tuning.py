"""What fine-tuning of shared values costs beside ordinary Keras training.

Models: PathoNet at 256 px (batch 4), a published COVID radiograph classifier at 200 px where its
file is given (batch 16), a classifier of 28 px images with two convolutions and a dense layer of
400,000 weights (batch 64), VGG16 at 64 px (batch 32); random inputs, since time and memory do not
depend on them. Treatment: uUQ, k = 16, indices fixed or learned, soft targets given with the data
(as `fine_tune` gives them while they take less than 256 MiB) and, for learned indices, also from a
frozen copy of the model in every step. Measurement: short epochs of all variants in turn, in an
order that rotates (Adam throughout). `time_ratio` is the fastest epoch over the fastest ordinary
one, which other load on the machine disturbs least; `median_ratio` is the median of the ratios
within a turn, with its quartiles, and shows how disturbed the machine was. Peak memory is that of
a process of its own per variant. Output: a table, a CSV and a JSON file.

    python experiments/benchmarks/fine_tuning.py --net covid.h5 --output_path results
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder
from cxcompress.runtime.measuring import own_peak_bytes

VARIANTS = ("ordinary", "fixed", "learned", "learned, frozen copy")
NETWORKS = {"pathonet_256": (4, 3), "covid_200": (16, 6), "dense_28": (64, 30), "vgg16_64": (32, 3)}
"""Images a step, steps an epoch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("fine_tuning.py", "Time and memory of fine-tuning beside ordinary training.",
                   "python experiments/benchmarks/fine_tuning.py --net covid.h5")
    parse.add_argument("--net", help="file of the COVID model; left out without it")
    parse.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS),
                       help="which to measure (all)")
    parse.add_argument("--clusters", type=int, default=16, help="shared values (16)")
    parse.add_argument("--turns", type=int, default=12, help="epochs of each variant (12)")
    parse.add_argument("--memory_of", help=argparse.SUPPRESS)
    return run(parse, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    if arguments.memory_of:
        _report_memory(arguments)
    else:
        print(benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> str:
    """Time all variants of all networks; returns the table."""
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite", "memory_of")}
    rows = []
    with RunFolder.open(Path(arguments.output_path) / "fine_tuning", described,
                        overwrite=arguments.overwrite) as folder:
        for network in arguments.networks:
            if network == "covid_200" and not arguments.net:
                continue
            memory = {variant: _peak_memory(network, variant, arguments) for variant in VARIANTS}
            for variant, times in _epoch_seconds(network, arguments).items():
                lower, median, upper = statistics.quantiles(times["ratios"], n=4)
                rows.append({
                    "network": network, "variant": variant, "batch": NETWORKS[network][0],
                    "seconds_a_step": min(times["seconds"]) / NETWORKS[network][1],
                    "time_ratio": times["fastest_ratio"], "median_ratio": median,
                    "lower_quartile": lower, "upper_quartile": upper,
                    "peak_memory_mib": memory[variant] / 2**20,
                    "memory_ratio": memory[variant] / memory["ordinary"],
                })
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
        folder.write_csv("results_fine_tuning.csv", rows)
    return text_table([{key: number(value, 3) if isinstance(value, float) else str(value)
                        for key, value in row.items()} for row in rows],
                      right=tuple(rows[0])[2:] if rows else ())


def _build(network: str, net: str | None):
    """The model and its loss."""
    import keras

    from cxcompress import models

    if network == "pathonet_256":
        return models.build("pathonet", (256, 256, 3), 3), "mse"
    if network == "covid_200":
        return models.load_model(net), "categorical_crossentropy"
    if network == "vgg16_64":
        return (models.build("vgg16", (64, 64, 3), 14, activation="sigmoid"),
                "binary_crossentropy")
    layers = keras.layers
    return keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        layers.Dense(256, activation="relu"), layers.Dense(2, activation="softmax"),
    ]), "categorical_crossentropy"


def _ready(network: str, variant: str, arguments: argparse.Namespace):
    """A function that trains one short epoch."""
    import keras

    from cxcompress import models
    from cxcompress.quantization import Compression, share_weights
    from cxcompress.training import SharedWeightsTrainer

    keras.utils.set_random_seed(arguments.seed)
    model, loss = _build(network, arguments.net)
    batch, steps = NETWORKS[network]
    rng = np.random.default_rng(arguments.seed)
    count = batch * steps
    images = rng.random((count, *model.input_shape[1:]), np.float32)
    targets = rng.random((count, *model.output_shape[1:]), np.float32)
    if variant == "ordinary":
        model.compile("adam", loss)
    else:
        shared = share_weights(
            {kernel.path: (np.asarray(kernel.variable), kernel.family)
             for kernel in models.kernels(model)},
            Compression.parse("uUQ", clustercnn=arguments.clusters, clusterfc=arguments.clusters),
            seed=arguments.seed)
        given = variant != "learned, frozen copy"
        model = SharedWeightsTrainer(model, shared, assign=variant.split(",")[0],
                                     distill="given" if given else True)
        model.compile("adam", "adam", loss)
        if given:
            targets = {"labels": targets, "soft_targets": targets.copy()}
    return lambda: model.fit(images, targets, batch_size=batch, epochs=1, verbose=0)


def _epoch_seconds(network: str, arguments: argparse.Namespace) -> dict[str, dict[str, list]]:
    """Seconds of every epoch of each variant, and their ratios to the ordinary ones."""
    epochs = {variant: _ready(network, variant, arguments) for variant in VARIANTS}
    for epoch in epochs.values():
        epoch()
    seconds = {variant: [] for variant in VARIANTS}
    for turn in range(arguments.turns):
        first = turn % len(VARIANTS)
        for variant in VARIANTS[first:] + VARIANTS[:first]:
            start = time.perf_counter()
            epochs[variant]()
            seconds[variant].append(time.perf_counter() - start)
    ordinary = seconds["ordinary"]
    return {variant: {
        "seconds": taken, "fastest_ratio": min(taken) / min(ordinary),
        "ratios": [one / other for one, other in zip(taken, ordinary, strict=True)],
    } for variant, taken in seconds.items()}


def _peak_memory(network: str, variant: str, arguments: argparse.Namespace) -> int:
    """Peak resident memory, in bytes, of a process that trains two short epochs."""
    child = subprocess.run(
        [sys.executable, __file__, "--memory_of", f"{network}/{variant}", "--seed",
         str(arguments.seed), "--clusters", str(arguments.clusters),
         *(("--net", arguments.net) if arguments.net else ())],
        capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if child.returncode:
        raise RuntimeError(f"{network}, {variant}: {child.stderr.strip().splitlines()[-1:]}")
    return int(child.stdout.split()[-1])


def _report_memory(arguments: argparse.Namespace) -> None:
    network, variant = arguments.memory_of.split("/")
    epoch = _ready(network, variant, arguments)
    epoch()
    epoch()
    print(own_peak_bytes())


if __name__ == "__main__":
    sys.exit(main())
