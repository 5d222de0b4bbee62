"""PathoNet at 256 levels: how near the file is to the entropy, and how fast it opens and runs.

Model: PathoNet (3,236,907 parameters), untrained, orthogonal initial weights: sizes and times
carry over to trained weights, accuracy does not and is not measured. Treatment: uCWS, k = 256.
Measurement: bytes of the container beside the entropy of its index maps; time to decode all 46
kernels; time of the index-map graph beside Keras; and what the prior work's four lzma pickles of
the same index maps take. Output: a table, a CSV and a JSON file.

    python experiments/benchmarks/pathonet.py --output_path results
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxcompress.commands import compress, time_space_eval
from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder
from cxcompress.storage import read_container

REPEATS = 9


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parse = parser("pathonet.py", "PathoNet at 256 levels: bytes, entropy, decoding, time ratio.",
                   "python experiments/benchmarks/pathonet.py")
    parse.add_argument("--compression", default="uCWS", help="as for compress.py (uCWS)")
    parse.add_argument("--clustercnn", type=int, default=256, help="shared values (256)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Build, compress and time PathoNet; returns the table."""
    start_tensorflow()
    import keras

    from cxcompress import models
    from cxcompress.representation import get

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    root = Path(arguments.output_path) / "pathonet"
    common = ["--seed", str(arguments.seed), "--output_path", str(root / "runs"), "--overwrite"]
    with RunFolder.open(root, described, overwrite=arguments.overwrite) as folder:
        keras.utils.set_random_seed(arguments.seed)
        net = root / "pathonet.h5"
        models.build("pathonet", (256, 256, 3), 3).save(net)
        outcome = compress.compress_command(compress.build_parser().parse_args(
            ["--compression", arguments.compression, "--net", str(net), "--clustercnn",
             str(arguments.clustercnn), *common]))
        container = read_container(outcome.container)
        kernels = {path: (kernel.indices, container.shared.codebooks[kernel.codebook].k)
                   for path, kernel in container.shared.kernels.items()}
        encoded = get("rans").encode_kernels(kernels)
        decoding = _median_seconds(encoded.decode)
        weights = sum(indices.size for indices, _ in kernels.values())
        timing = time_space_eval.time_space_eval(time_space_eval.build_parser().parse_args(
            ["--net", str(net), "--compr_weights", str(outcome.container), *common]))
        entropy = outcome.result.entropy_bits * weights / 8
        total = outcome.sizes.total
        measured = {
            "parameters": outcome.result.parameters, "kernels": len(kernels),
            "shared_weights": weights, "original_bytes": net.stat().st_size,
            "container_bytes": total, "entropy_bytes": entropy,
            "above_entropy_bytes": total - entropy,
            "allowed_bytes_entropy_3_percent_150_kB": 1.03 * entropy + 150e3,
            "prior_lzma_int64_bytes": _lzma_bytes(kernels, np.int64),
            "prior_lzma_uint8_bytes": _lzma_bytes(kernels, np.uint8),
            "decode_seconds": decoding, "decode_weights_per_second": weights / decoding,
            **{f"part_{name}": count for name, count in outcome.sizes.parts().items()},
        }
        folder.write_json("results.json", folder.record | {"state": "done"} | measured)
        folder.write_csv("results_pathonet.csv", [
            {"quantity": name, "value": value} for name, value in measured.items()])
    rows = [{"quantity": name, "value": byte_count(value) if "bytes" in name or "part_" in name
             else number(value, 4) if isinstance(value, float) else f"{value:,}"}
            for name, value in measured.items()]
    return f"{text_table(rows, right=('value',))}\n\n{timing.text}"


def _median_seconds(call) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _lzma_bytes(kernels: dict, dtype) -> int:
    """The prior work's index maps: every kernel's indices in one stream, under lzma."""
    return len(lzma.compress(b"".join(indices.astype(dtype).tobytes()
                                      for indices, _ in kernels.values())))


if __name__ == "__main__":
    sys.exit(main())
