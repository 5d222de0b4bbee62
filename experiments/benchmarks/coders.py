"""Size and speed of the index coders, beside general-purpose compressors in the same run.

Data. Index maps of three networks in the number and size of their kernels: PathoNet (46 kernels,
3.22 million weights), ResNet50 (53 kernels, 23.5 million) and a small chest X-ray CNN (4 kernels,
0.23 million). **The weights are synthetic**: Laplace, with a scale of its own for each kernel, as
trained kernels have; no network was trained. All kernels of a network share one codebook of k
levels that lie as an optimal least-squares quantiser puts them for a Laplace density (point
density ∝ p^(1/3)). Real index maps differ in entropy; speed and overhead carry over.

Treatment. `raw`, `index_map` and `rans` of this package on all kernels at once; zlib (level 6),
lzma on uint8 index maps and on int64 index maps (what the PathoNet compression scripts store),
and zstd (level 3 and 19) if the package `zstandard` is installed.

Measurement. Bytes are exact, with tables and lane states. Speed is the median over `--repeats`
whole encodings and decodings, in one thread, with the results compared to the input. `entropy`
is the order-0 entropy of each kernel by itself, the bound that rans is measured against.
`container overhead` is what a whole `.h5` adds to codes, tables, states and codebook.

    python experiments/benchmarks/coders.py --output_path results/coders --networks pathonet
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import platform
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cxcompress import representation
from cxcompress.representation import Codebook, SharedKernel, SharedWeights, entropy_bits
from cxcompress.storage import Container, write_container

NETWORKS = {"small_cnn": (4, 228_000), "pathonet": (46, 3_220_296), "resnet50": (53, 23_454_912)}
SLOW_PEER_WEIGHTS = 4_000_000
"""Above this many weights lzma and zstd-19 take minutes and are left out."""


def index_maps(network: str, k: int, seed: int) -> dict[str, np.ndarray]:
    """Synthetic index maps by kernel path; see the module's docstring."""
    count, total = NETWORKS[network]
    generator = np.random.default_rng(seed)
    relative = np.geomspace(1, 600, count)
    sizes = np.maximum(1, relative / relative.sum() * total).astype(int)
    sizes[-1] += total - sizes.sum()
    maps = {}
    for number, size in enumerate(sizes):
        weights = generator.laplace(scale=np.exp(generator.normal(0, 0.4)), size=size)
        companded = np.sign(weights) * -np.expm1(-np.abs(weights) / 3)
        maps[f"conv2d_{number}/kernel"] = np.clip(
            np.rint((companded + 1) / 2 * (k - 1)), 0, k - 1
        ).astype(representation.index_dtype(k))
    return maps


def median_seconds(call: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median wall time of a call, and its last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def measure_coder(name: str, maps: Mapping[str, np.ndarray], k: int, repeats: int) -> dict:
    """One coder of this package on all kernels of a network."""
    coder = representation.get(name)
    kernels = {path: (indices, k) for path, indices in maps.items()}
    encoding, encoded = median_seconds(lambda: coder.encode_kernels(kernels), repeats)
    decoding, decoded = median_seconds(encoded.decode, repeats)
    if not all(np.array_equal(decoded[path], maps[path]) for path in maps):
        raise RuntimeError(f"{name}: decoded indices differ")
    sizes = representation.kernel_sizes(encoded, codebooks=0)
    return {"coder": name, "bytes": encoded.nbytes, "stream": sizes.streams,
            "tables": sizes.tables, "states": sizes.states,
            "encode_s": encoding, "decode_s": decoding}


def measure_peer(
    name: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes],
    content: bytes, repeats: int,
) -> dict:
    """A general-purpose compressor on all index maps, end to end."""
    encoding, code = median_seconds(lambda: compress(content), min(repeats, 3))
    decoding, back = median_seconds(lambda: decompress(code), repeats)
    if back != content:
        raise RuntimeError(f"{name}: decompressed bytes differ")
    return {"coder": name, "bytes": len(code), "stream": len(code), "tables": 0, "states": 0,
            "encode_s": encoding, "decode_s": decoding}


def peers(maps: Mapping[str, np.ndarray], repeats: int) -> list[dict]:
    """All peers that this machine has."""
    flat = np.concatenate([indices.ravel() for indices in maps.values()])
    content = flat.tobytes()
    small = flat.size <= SLOW_PEER_WEIGHTS
    found = [measure_peer("zlib-6", lambda data: zlib.compress(data, 6), zlib.decompress,
                          content, repeats)]
    if small:
        found.append(measure_peer("lzma uint8" if flat.itemsize == 1 else "lzma uint16",
                                  lzma.compress, lzma.decompress, content, 1))
        found.append(measure_peer("lzma int64 (prior art)", lzma.compress, lzma.decompress,
                                  flat.astype(np.int64).tobytes(), 1))
    try:
        import zstandard
    except ImportError:
        return found
    for level in (3, 19) if small else (3,):
        found.append(measure_peer(f"zstd-{level}", zstandard.ZstdCompressor(level).compress,
                                  zstandard.ZstdDecompressor().decompress, content, repeats))
    return found


def container_overhead(maps: Mapping[str, np.ndarray], k: int) -> int:
    """Bytes of a container that are neither code, table, lane state nor codebook."""
    codebook = Codebook(np.linspace(-1, 1, k, dtype=np.float32))
    kernels = {path: SharedKernel(indices, "conv") for path, indices in maps.items()}
    container = Container(SharedWeights({"conv": codebook}, kernels), "{}")
    with tempfile.TemporaryDirectory() as folder:
        sizes = write_container(Path(folder) / "model.h5", container)
    return sizes.total - sizes.streams - sizes.tables - sizes.states - sizes.codebooks


def measure(network: str, k: int, seed: int, repeats: int) -> list[dict]:
    """All rows of one network."""
    maps = index_maps(network, k, seed)
    weights = sum(indices.size for indices in maps.values())
    bound = sum(entropy_bits(indices, k) * indices.size for indices in maps.values())
    rows = [measure_coder(name, maps, k, repeats) for name in representation.names()]
    overhead = container_overhead(maps, k)
    return [
        {"network": network, "k": k, "kernels": len(maps), "weights": weights,
         "synthetic": True, **row,
         "bits_per_weight": 8 * row["bytes"] / weights,
         "entropy_bits": bound / weights,
         "stream_over_entropy": 8 * row["stream"] / bound - 1,
         "all_over_entropy": 8 * row["bytes"] / bound - 1,
         "encode_M_per_s": weights / row["encode_s"] / 1e6,
         "decode_M_per_s": weights / row["decode_s"] / 1e6,
         "container_overhead_bytes": overhead if row["coder"] == "rans" else None}
        for row in rows + peers(maps, repeats)
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and write `coders.csv` and `coders.json`."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--output_path", type=Path, default=Path("results/benchmark_coders"))
    parse.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parse.add_argument("--k", nargs="+", type=int, default=[256, 16])
    parse.add_argument("--repeats", type=int, default=7)
    parse.add_argument("--seed", type=int, default=0)
    options = parse.parse_args(arguments)
    rows = []
    for network in options.networks:
        for k in options.k:
            for row in measure(network, k, options.seed, options.repeats):
                rows.append(row)
                print(f"{network:10s} k={k:<5d} {row['coder']:24s}"
                      f" {row['bits_per_weight']:7.3f} b/w  H {row['entropy_bits']:.3f}"
                      f"  stream {row['stream_over_entropy']:+8.3%}"
                      f"  all {row['all_over_entropy']:+8.3%}"
                      f"  enc {row['encode_M_per_s']:7.1f}  dec {row['decode_M_per_s']:7.1f} M/s",
                      flush=True)
    options.output_path.mkdir(parents=True, exist_ok=True)
    with open(options.output_path / "coders.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    record = {"arguments": sys.argv[1:] if arguments is None else arguments,
              "seed": options.seed, "numpy": np.__version__,
              "python": platform.python_version(), "machine": platform.machine(), "rows": rows}
    (options.output_path / "coders.json").write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
