"""What keeping freed memory between the steps of a training gains.

TensorFlow gives memory back to the system after every step once it reads a Python dataset;
`cxcompress.tensorflow_start` tells glibc to keep it. Model: PathoNet at 256 px, random images from
a Keras `PyDataset`, 4 a step. Measurement: processes with and without that setting in turn, each
of one warm-up epoch and then epochs of 6 steps. `ratio` is the fastest epoch without over the
fastest with it; seconds that the kernel took are given for both, since that is where they go.

    python experiments/benchmarks/kept_memory.py --output_path results
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cxcompress import tensorflow_start
from cxcompress.commands.command_line import parser, run
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder

SETTINGS = ("kept", "given back")
IMAGES, STEPS = 4, 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("kept_memory.py", "Time of a training that keeps freed memory, and that does "
                   "not.", "python experiments/benchmarks/kept_memory.py")
    parse.add_argument("--turns", type=int, default=3, help="processes of each kind (3)")
    parse.add_argument("--epochs", type=int, default=3, help="epochs of a process (3)")
    parse.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    return run(parse, lambda arguments: _train(arguments) if arguments.setting
               else print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Run both kinds of processes in turn; returns the table."""
    described = {"turns": arguments.turns, "epochs": arguments.epochs, "seed": arguments.seed}
    found: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    with RunFolder.open(Path(arguments.output_path) / "kept_memory", described,
                        overwrite=arguments.overwrite) as folder:
        for _ in range(arguments.turns):
            for setting in SETTINGS:
                found[setting] += _epochs(setting, arguments)
        rows = []
        for setting in SETTINGS:
            fastest = min(found[setting], key=lambda epoch: epoch["seconds"])
            rows.append({"freed memory": setting, **fastest})
        for row in rows:
            row["ratio"] = row["seconds"] / rows[0]["seconds"]
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows,
                                                           "epochs": found})
        folder.write_csv("results_kept_memory.csv", rows)
    return text_table([{key: number(value, 2) if isinstance(value, float) else str(value)
                        for key, value in row.items()} for row in rows], right=tuple(rows[0])[1:])


def _epochs(setting: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    child = subprocess.run(
        [sys.executable, __file__, "--setting", setting, "--epochs", str(arguments.epochs),
         "--seed", str(arguments.seed)],
        capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if child.returncode:
        raise RuntimeError(f"{setting}: {child.stderr.strip().splitlines()[-1:]}")
    return json.loads(child.stdout.splitlines()[-1])


def _train(arguments: argparse.Namespace) -> None:
    """Print seconds of each epoch, of the clock, of the process and of the kernel, and the peak."""
    if arguments.setting != "kept":
        tensorflow_start.keep_freed_memory = lambda: None
    tensorflow_start.start_tensorflow()
    import keras
    import numpy as np

    from cxcompress import models

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return STEPS

        def __getitem__(self, position):
            rng = np.random.default_rng((arguments.seed, position))
            return (rng.random((IMAGES, 256, 256, 3), np.float32),
                    rng.random((IMAGES, 256, 256, 3), np.float32))

    keras.utils.set_random_seed(arguments.seed)
    model = models.build("pathonet", (256, 256, 3), 3)
    model.compile("adam", "mse")
    model.fit(Batches(), epochs=1, verbose=0)
    epochs = []
    for _ in range(arguments.epochs):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        model.fit(Batches(), epochs=1, verbose=0)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        epochs.append({"seconds": seconds, "user seconds": after.ru_utime - before.ru_utime,
                       "kernel seconds": after.ru_stime - before.ru_stime,
                       "peak MiB": after.ru_maxrss / 1024})
    print(json.dumps(epochs))


if __name__ == "__main__":
    sys.exit(main())
