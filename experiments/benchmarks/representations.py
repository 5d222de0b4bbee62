"""Matrices of shared values in the representations of the literature: bytes, formulas, products.

Matrices. `dense`: 1,024 × 1,024, 256 equally frequent values. `pruned`: 1,024 × 1,024, 90% zeros,
the rest of 32 values. `trained`: the largest kernel of `--net`, CWS with 32 values, as it is and
with 90% of it pruned first.

Treatment: index map (IM), sparse index map with gaps of a byte (SIM), compressed sparse columns
(CSC), Huffman over all entries (HAC), Huffman over nonzeros (sHAC), rANS.

Measurement: exact bits an entry with everything that decoding needs, codebook included; the
papers' formula (psi) beside; order-0 entropy; seconds of x @ W for 8 rows of x, decoding included,
against the dense product of the same floats; every column of the product is compared with it.

    python experiments/benchmarks/representations.py --output_path results
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPEATS = 5
NET = Path(__file__).resolve().parents[2] / "pretrained" / "pathonet_synthetic_ki67.h5"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from cxcompress.commands.command_line import parser, run

    parse = parser("representations.py", "Bytes and products of shared matrices.",
                   "python experiments/benchmarks/representations.py --output_path results")
    parse.add_argument("--net", default=str(NET), help="a trained model (the bundled PathoNet)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Measure every matrix in every representation and return the table."""
    from cxcompress.commands.command_line import start_tensorflow
    from cxcompress.reporting.tables import number, text_table
    from cxcompress.representation import entropy_bits
    from cxcompress.representation.matrices import represent, representations
    from cxcompress.runs import RunFolder

    start_tensorflow()
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    rows = []
    with RunFolder.open(Path(arguments.output_path) / "representations", described,
                        overwrite=arguments.overwrite) as folder:
        for name, indices, codebook in matrices(arguments):
            x = np.random.default_rng(arguments.seed).normal(
                size=(8, len(indices))).astype(np.float32)
            weights = codebook.values[indices]
            expected = x @ weights
            dense = _seconds(lambda x=x, weights=weights: x @ weights)
            for kind in representations():
                coded = represent(kind, indices, codebook)
                if not np.array_equal(coded.decode(), indices) or not np.allclose(
                        coded.dot(x), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()):
                    raise AssertionError(f"{kind} of {name} is wrong")
                rows.append({
                    "matrix": name, "representation": kind, "entries": indices.size,
                    "exact_bits": 8 * coded.nbytes / indices.size, "psi_bits": coded.psi(),
                    "entropy_bits": entropy_bits(indices, codebook.k),
                    "dot_ratio": _seconds(lambda coded=coded, x=x: coded.dot(x)) / dense})
        folder.write_csv("representations.csv", rows)
        folder.write_json("results.json", folder.record | {"state": "done", "rows": rows})
    return text_table([{
        "matrix": row["matrix"], "representation": row["representation"],
        "exact bits an entry": number(row["exact_bits"], 3), "psi": number(row["psi_bits"], 3),
        "entropy": number(row["entropy_bits"], 3),
        "x @ W against dense": f"{row['dot_ratio']:.0f}×"} for row in rows])


def matrices(arguments: argparse.Namespace) -> Iterator[tuple[str, NDArray, object]]:
    """Name, indices and codebook of each matrix."""
    from cxcompress import models
    from cxcompress.quantization import CentroidQuantizer, prune_percentile
    from cxcompress.representation import Codebook

    random = np.random.default_rng(arguments.seed)
    shape = (1024, 1024)
    for name, k, sparsity in (("dense, k = 256", 256, 0.0), ("pruned 90%, k = 33", 33, 0.9)):
        values = (np.arange(k) - k // 2).astype(np.float32)
        indices = np.where(random.random(shape) < sparsity, k // 2, random.integers(0, k, shape))
        yield name, indices, Codebook(values, zero=k // 2)
    model = models.load_model(arguments.net)
    kernel = max((np.asarray(kernel.variable) for kernel in models.kernels(model)),
                 key=lambda array: array.size)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    said = f"{len(matrix)} × {matrix.shape[1]} of {Path(arguments.net).stem}"
    for percent in (0, 90):
        pruned = np.where(prune_percentile(matrix, percent), matrix, 0) if percent else matrix
        quantizer = CentroidQuantizer(k=32).fit(pruned, keep_zero=True)
        yield (f"{said}, {percent}% pruned, CWS k = 32", quantizer.assign(pruned),
               quantizer.codebook_)


def _seconds(call) -> float:
    found = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
