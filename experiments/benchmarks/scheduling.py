"""What handing work units to Dask costs, gains, and survives.

Data: generated weights. Treatment: (1) trivial units, in this process and on local workers;
(2) units of real work, k-means codebooks of 300,000 weights each, on one and on two workers of
one thread; (3) the same units while a worker is killed (`kill -9`) every few seconds. Measurement:
seconds a trivial unit beyond this process's; speed-up; whether every unit was done and written
once, with the results of an undisturbed run. Output: a table, a CSV and a JSON file.

    python experiments/benchmarks/scheduling.py --trivial 10000 --output_path results
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError
from cxcompress.quantization import CentroidQuantizer
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import RunFolder, WorkUnit, run_units
from cxcompress.search.scheduling import workers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("scheduling.py", "Overhead, speed-up and survival of work units on Dask.",
                   "python experiments/benchmarks/scheduling.py --trivial 10000")
    parse.add_argument("--trivial", type=int, default=10_000, help="trivial units (10000)")
    parse.add_argument("--units", type=int, default=24, help="units of real work (24)")
    parse.add_argument("--weights", type=int, default=300_000, help="weights a unit (300000)")
    parse.add_argument("--kill_every", type=float, default=6.0,
                       help="seconds between the deaths of workers (6)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def double(number: int) -> int:
    """A trivial unit."""
    return 2 * number


def codebook(seed: int, weights: int) -> dict:
    """A unit of real work: a codebook of 64 values, three times over, and a digest of it."""
    values = np.random.default_rng(seed).standard_normal(weights).astype(np.float32)
    for _ in range(3):
        quantizer = CentroidQuantizer(64).fit(values)
        indices = quantizer.assign(values)
    return {"sha256": hashlib.sha256(quantizer.codebook_.values.tobytes()
                                     + indices.tobytes()).hexdigest(), "process": os.getpid()}


def benchmark(arguments: argparse.Namespace) -> str:
    """Measure and return the table."""
    if min(arguments.trivial, arguments.units, arguments.weights) < 1:
        raise InputError("--trivial, --units and --weights: at least 1 each")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    path = Path(arguments.output_path) / "scheduling"
    trivial = [WorkUnit(f"trivial/{n}", double, {"number": n}) for n in range(arguments.trivial)]
    real = [WorkUnit(f"real/{n}", codebook, {"seed": n, "weights": arguments.weights})
            for n in range(arguments.units)]
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        alone, _ = _timed(trivial, None)
        with workers("local", 2) as pool:
            run_units(real[:2], None, "Warming up", pool)
            pooled, _ = _timed(trivial, pool)
            two, undisturbed = _timed(real, pool)
        with _one_worker() as pool:
            run_units(real[:1], None, "Warming up", pool)
            one, _ = _timed(real, pool)
        disturbed, deaths, written = _disturbed(real, arguments.kill_every)
        same = {name: row["sha256"] for name, row in disturbed.items()} == {
            name: row["sha256"] for name, row in undisturbed.items()}
        rows = [
            {"measured": f"{arguments.trivial} trivial units in this process, ms a unit",
             "value": 1000 * alone / len(trivial)},
            {"measured": "the same on 2 workers, ms a unit", "value": 1000 * pooled / len(trivial)},
            {"measured": f"{len(real)} units of {arguments.weights} weights on 1 worker, s",
             "value": one},
            {"measured": "the same on 2 workers, s", "value": two},
            {"measured": "speed-up from 1 to 2 workers", "value": one / two},
            {"measured": f"workers killed, one every {arguments.kill_every:g} s", "value": deaths},
            {"measured": "units done and written once meanwhile", "value": written},
            {"measured": "results as undisturbed (1: all)", "value": int(same)}]
        folder.write_csv("scheduling.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
    return text_table([row | {"value": number(row["value"], 3)} for row in rows],
                      right=("value",)) + f"\n\nresults  {path}"


def _timed(units, pool) -> tuple[float, dict]:
    started = time.perf_counter()
    found = run_units(units, None, "Units", pool)
    return time.perf_counter() - started, found


def _one_worker():
    """A pool of a single process of one thread, which `workers` would spare."""
    from contextlib import contextmanager

    from distributed import Client, LocalCluster

    from cxcompress.search.scheduling import Pool

    @contextmanager
    def pool():
        with LocalCluster(n_workers=1, threads_per_worker=1,
                          dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
            yield Pool(client)
    return pool()


def _disturbed(units, every: float) -> tuple[dict, int, int]:
    """Results, deaths of workers, and result files, of units whose workers are killed."""
    over, deaths = threading.Event(), 0
    with tempfile.TemporaryDirectory() as folder, workers("local", 2) as pool:
        def kill():
            nonlocal deaths
            while not over.wait(every):
                try:
                    processes = list(pool.client.run(os.getpid).values())
                    os.kill(processes[deaths % len(processes)], signal.SIGKILL)
                    deaths += 1
                except Exception:  # between two lives of a worker there is none to ask
                    continue

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        try:
            found = run_units(units, folder, "Disturbed", pool)
        finally:
            over.set()
            killer.join(10)
        return found, deaths, len(list(Path(folder).glob("*.json")))


if __name__ == "__main__":
    sys.exit(main())
