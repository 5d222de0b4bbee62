"""Speed, memory and error of the quantizers, beside the peer that prior scripts use.

Data. `--weights` synthetic weights, drawn from a normal and from a Laplace density of standard
deviation 0.05 (Laplace: scale 0.05), float32. No network was trained.

Treatment. UQ, CWS, PWS and ECSQ (no target) of this package with `--k` levels: `fit`, then
`assign`. Peer: scikit-learn's MiniBatchKMeans(n_clusters=k, batch_size=100000, init_size=3k,
random_state=42), `fit` and `predict`, as the PathoNet compression scripts call it for CWS.

Measurement. Seconds are the median over `--repeats`, each in a fresh process; `first_fit_s` is the
slowest. Peak extra memory is that process' peak resident size after, less before the first `fit`
with the weights in memory. The peer sees `--peer_weights` of the weights: its `predict` is then
scaled linearly to all of them, its `fit` is **not** scaled, since its early stopping decides its
steps (31 on a million weights, 494 on 25 million). Unless `--peer_weights` is all of them, the
peer's total is therefore a lower bound and its error that of the sample. All 25 million take
about three minutes a density. Limits of the machine, on the same weights: reading them once
(`sum`), copying them, `np.sort`, and `np.searchsorted` on k - 1 thresholds.

    python experiments/benchmarks/quantizers.py --output_path results/quantizers
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cxcompress
from cxcompress import quantization
from cxcompress.representation import Codebook

DENSITIES = ("normal", "laplace")
SCALE = 0.05
BLOCK = 1 << 20


def draw(density: str, count: int, seed: int) -> np.ndarray:
    """Synthetic weights, in blocks so that drawing them does not raise the peak memory."""
    generator = np.random.default_rng(seed)
    weights = np.empty(count, np.float32)
    for start in range(0, count, BLOCK):
        block = weights[start:start + BLOCK]
        block[:] = getattr(generator, density)(scale=SCALE, size=block.size)
    return weights


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak_megabytes() -> float:
    """Peak resident size of this process so far (Linux counts in KiB, macOS in bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_ours(name: str, density: str, count: int, k: int, seed: int) -> dict:
    """One `fit` and `assign`; runs in a process of its own."""
    weights = draw(density, count, seed)
    quantizer = quantization.get(name, k=k)
    before = peak_megabytes()
    fit_s, _ = seconds(lambda: quantizer.fit(weights))
    assign_s, indices = seconds(lambda: quantizer.assign(weights))
    extra = peak_megabytes() - before
    report = quantization.quality(weights, indices, quantizer.codebook_)
    return {"fit_s": fit_s, "assign_s": assign_s, "peak_extra_mb": extra, "mse": report.mse,
            "sqnr_db": report.sqnr_db, "entropy_bits": report.entropy_bits,
            "levels_used": report.levels_used}


def measure_peer(density: str, count: int, sample: int, k: int, seed: int) -> dict:
    """MiniBatchKMeans as prior scripts call it, on `sample` weights."""
    from sklearn.cluster import MiniBatchKMeans

    weights = draw(density, sample, seed)[:, None]
    before = peak_megabytes()
    peer = MiniBatchKMeans(n_clusters=k, batch_size=100_000, init_size=3 * k, random_state=42)
    fit_s, _ = seconds(lambda: peer.fit(weights))
    predict_s, labels = seconds(lambda: peer.predict(weights))
    extra = peak_megabytes() - before
    order = np.argsort(peer.cluster_centers_[:, 0])
    codebook, first = np.unique(peer.cluster_centers_[order, 0].astype(np.float32),
                                return_inverse=True)
    position = np.empty(k, np.intp)
    position[order] = first
    report = quantization.quality(
        weights[:, 0], position[labels].astype(np.uint16), Codebook(codebook))
    return {"fit_s": fit_s, "assign_s": predict_s * count / sample, "peak_extra_mb": extra,
            "mse": report.mse, "sqnr_db": report.sqnr_db, "entropy_bits": report.entropy_bits,
            "levels_used": report.levels_used, "peer_weights": sample, "peer_steps": peer.n_steps_,
            "peer_predict_measured_s": predict_s}


def measure_limits(density: str, count: int, k: int, seed: int) -> dict:
    """What the machine needs for reading, copying, sorting and searching the same weights."""
    weights = draw(density, count, seed)
    thresholds = np.sort(weights[:100 * k])[::100][1:]
    calls = {"read_s": weights.sum, "copy_s": weights.copy, "sort_s": lambda: np.sort(weights),
             "searchsorted_s": lambda: np.searchsorted(thresholds, weights)}
    return {name: min(seconds(call)[0] for _ in range(3)) for name, call in calls.items()}


def in_fresh_process(function: Callable[..., dict], *arguments: object) -> dict:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=25_000_000, help="number of weights")
    parser.add_argument("--k", type=int, default=256, help="levels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes a measurement")
    parser.add_argument("--peer_weights", type=int, default=4_000_000,
                        help="weights that the peer sees; 0 leaves it out")
    parser.add_argument("--output_path", type=Path, required=True, help="folder for the results")
    arguments = parser.parse_args()
    arguments.output_path.mkdir(parents=True, exist_ok=True)
    count, k, seed = arguments.weights, arguments.k, arguments.seed

    rows, limits = [], {}
    for density in DENSITIES:
        limits[density] = in_fresh_process(measure_limits, density, count, k, seed)
        print(f"{density}: " + ", ".join(
            f"{name[:-2]} {value:.3f} s" for name, value in limits[density].items()), flush=True)
        for name in quantization.names():
            runs = [in_fresh_process(measure_ours, name, density, count, k, seed)
                    for _ in range(arguments.repeats)]
            medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            slowest = max(run["fit_s"] for run in runs)
            rows.append({"quantizer": name, "density": density, "weights": count, "k": k}
                        | medians | {"first_fit_s": slowest,
                                     "total_s": medians["fit_s"] + medians["assign_s"]})
            show(rows[-1])
        if arguments.peer_weights:
            sample = min(arguments.peer_weights, count)
            peer = in_fresh_process(measure_peer, density, count, sample, k, seed)
            rows.append({"quantizer": "MiniBatchKMeans", "density": density, "weights": count,
                         "k": k} | peer | {"total_s": peer["fit_s"] + peer["assign_s"]})
            show(rows[-1])
            ours = next(row for row in rows
                        if (row["quantizer"], row["density"]) == ("CWS", density))
            kind = "measured" if sample == count else "peer on a sample: at most"
            print(f"  time ratio CWS / MiniBatchKMeans ({kind}): "
                  f"{ours['total_s'] / rows[-1]['total_s']:.5f} "
                  f"(inverse {rows[-1]['total_s'] / ours['total_s']:.0f}); "
                  f"MSE ratio {ours['mse'] / rows[-1]['mse']:.3f}", flush=True)

    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(arguments.output_path / "quantizers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    record = {"arguments": {key: str(value) for key, value in vars(arguments).items()},
              "versions": {"cxcompress": cxcompress.__version__, "numpy": np.__version__,
                           "python": platform.python_version()},
              "machine": platform.processor() or platform.machine(), "cpus": os.cpu_count(),
              "limits": limits, "rows": rows}
    (arguments.output_path / "quantizers.json").write_text(json.dumps(record, indent=1))
    return 0


def show(row: dict) -> None:
    print(f"  {row['quantizer']:16s} fit {row['fit_s']:7.2f} s  assign {row['assign_s']:7.2f} s  "
          f"extra {row['peak_extra_mb']:5.0f} MB  MSE {row['mse']:.4g}  "
          f"SQNR {row['sqnr_db']:.2f} dB  entropy {row['entropy_bits']:.3f} bits  "
          f"levels {row['levels_used']:g}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
