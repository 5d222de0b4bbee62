"""How long does the analysis of a sweep of MIMIC-CXR-LT's size take, and how much memory?

Data: generated predictions of 25,000 images, 19 long-tailed classes, 20 treatments (the original
and 19 sparsities) and 30 seeds, as `prune_sweep.py` stores them. Measurement: time on the
wall, time of the processors and peak memory of `forgettability.py` and `exemplars.py` on them, each
in a process of its own, and the bytes of the store. Output: a table and a JSON file.

    python experiments/benchmarks/forgettability.py --folder /tmp/mimic_size
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cxcompress.runs import progress, write_atomic
from cxcompress.search.prediction_store import PredictionStore, SweepImages

EXPERIMENTS = Path(__file__).resolve().parent.parent


def generated_images(images: int, classes: int, seed: int) -> SweepImages:
    """Long-tailed labels: from 40% to 0.2% of the images, correlated through latent conditions."""
    random = np.random.default_rng(seed)
    shares = np.geomspace(0.4, 0.002, classes)
    condition = random.normal(size=(images, 3)) @ random.normal(size=(3, classes)) / 2
    latent = condition + random.normal(size=(images, classes))
    truth = (latent > np.quantile(latent, 1 - shares, axis=0).diagonal()).astype(np.float32)
    names = tuple(f"finding {number:02d}" for number in range(classes))
    image_id = np.array([f"image{number:06d}" for number in range(images)])
    counts = 10 * (truth.T @ truth).astype(np.int64)
    return SweepImages(image_id, image_id, names, truth, counts, "generated predictions", True)


def generate(folder: Path, images: int, classes: int, treatments: int, seeds: int) -> None:
    """Predictions that weaken with the sparsity, rare classes first."""
    about = generated_images(images, classes, 0)
    store = PredictionStore.create(folder, about)
    sparsities = np.linspace(0, 0.95, treatments)
    for seed in progress(range(seeds), "Seeds", total=seeds):
        random = np.random.default_rng((1, seed))
        noise = random.standard_normal((images, classes), np.float32)
        for sparsity in sparsities:
            strength = 2.5 * (1 - sparsity ** np.linspace(12, 4, classes))
            logits = (strength * about.truth - 3 + noise
                      + 0.2 * random.standard_normal((images, classes), np.float32))
            name = "original" if sparsity == 0 else f"L1@{sparsity:.2g}"
            store.write(seed, name, 1 / (1 + np.exp(-logits)), level=float(sparsity),
                        series="original" if sparsity == 0 else "L1",
                        attributes={"bytes": int(1e8 * (1 - sparsity)) + 1000})


def measured(command: list[str]) -> dict[str, float]:
    """Seconds on the wall and of the processors, and peak memory (bytes), of a child process.

    Raises:
        RuntimeError: If it fails.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError(child.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds,
            "processor_seconds": (after.ru_utime - before.ru_utime
                                  + after.ru_stime - before.ru_stime),
            # The largest child so far, so at least this one's.
            "peak_bytes": after.ru_maxrss * 1024}


def main() -> int:
    """Generate what is missing, measure, print and write."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--folder", type=Path, default=Path("results/benchmarks/forgettability"))
    for name, count in (("images", 25_000), ("classes", 19), ("treatments", 20), ("seeds", 30)):
        parse.add_argument(f"--{name}", type=int, default=count)
    arguments = parse.parse_args()
    store = arguments.folder / "predictions"
    if not (store / f"seed={arguments.seeds - 1}" / "L1@0.95.h5").exists():
        generate(store, arguments.images, arguments.classes, arguments.treatments,
                 arguments.seeds)
    size = sum(file.stat().st_size for file in store.rglob("*.h5"))
    common = ["--predictions", str(store), "--output_path", str(arguments.folder / "out"),
              "--overwrite"]
    results = {
        name: measured([str(EXPERIMENTS / f"{name}.py"), *common, *extra])
        for name, extra in (("exemplars", ["--treatment", "L1@0.9"]), ("forgettability", []))}
    about = {name: getattr(arguments, name)
             for name in ("images", "classes", "treatments", "seeds")}
    write_atomic(arguments.folder / "benchmark.json",
                 json.dumps(about | {"store_bytes": size} | results, indent=2) + "\n")
    print(f"{about}; store {size / 1e6:.0f} MB")
    for name, one in results.items():
        print(f"{name}: {one['seconds']:.1f} s ({one['processor_seconds']:.1f} s of processor), "
              f"peak {one['peak_bytes'] / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
