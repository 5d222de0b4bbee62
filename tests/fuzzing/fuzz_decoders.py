"""Hostile streams against the coders themselves, without HDF5 around them: ten times as fast.

    python tests/fuzzing/fuzz_decoders.py --cases 2000000 --seed 1 --state decoders.json

A case is an index (shapes, levels, tables, coders) and buffers, as the container reader hands them
over once HDF5, types and bounds are behind it. The laws are those of `fuzz_containers.py`: what
the reader turns into one line, or index maps of the shapes asked for, every index inside its
codebook.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import struct
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from bases import one_kernel, separable_scales, tiny_container, trellis_container  # noqa: E402
from batches import FINDING, case_random, print_counts, run_cases  # noqa: E402
from mutations import WORDS, _inside_zlib  # noqa: E402

from cxcompress import representation  # noqa: E402
from cxcompress.representation import EncodedKernels, index_dtype  # noqa: E402
from cxcompress.storage.container import _CRAFTED  # noqa: E402

MOST_WEIGHTS = 1 << 20
"""Weights that a case asks for, to keep it short; the reader's own bound is 64 times as high."""


def encoded_bases() -> list[EncodedKernels]:
    """Every coder over one kernel and over all, and a trellis code."""
    found = []
    containers = [one_kernel(tiny_container()), tiny_container()]
    for coder in representation.names():
        for container in containers:
            found.append(_encoded(container, coder))
    with separable_scales():
        found.append(_encoded(tiny_container(), "context"))
    return [*found, _encoded(trellis_container(), "context")]


def _encoded(container, coder: str) -> EncodedKernels:
    return representation.get(coder).encode_kernels({
        path: (kernel.indices, container.shared.codebooks[kernel.codebook].k)
        for path, kernel in container.shared.kernels.items()})


class Examiner:
    """Decodes case after case."""

    def __init__(self):
        self.bases = encoded_bases()

    def __call__(self, rng: random.Random) -> str:
        base = rng.choice(self.bases)
        kernels, buffers = dict(base.kernels), dict(base.buffers)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if rng.random() < 0.7:
                _change_buffer(rng, buffers)
            else:
                _change_kernel(rng, kernels)
        if sum(kernel.size for kernel in kernels.values()) > MOST_WEIGHTS:
            return "left out: more weights than the trial allows"
        try:
            decoded = EncodedKernels(kernels, buffers).decode()
        except _CRAFTED as error:
            return f"refused: {type(error).__name__}"
        for path, kernel in kernels.items():
            indices = decoded[path]
            assert indices.shape == kernel.shape and indices.dtype == index_dtype(kernel.k), path
            # The reader's `SharedWeights` checks this once more, against the codebook.
            if indices.size and int(indices.max()) >= kernel.k:
                return "refused: an index outside its codebook"
        return "decoded"


def _change_buffer(rng: random.Random, buffers: dict[str, np.ndarray]) -> None:
    name = rng.choice(list(buffers))
    buffer = buffers[name]
    kind = rng.random()
    if kind < 0.05:
        del buffers[name]
        buffers["none"] = buffer
    elif kind < 0.15:
        buffers[name] = np.resize(buffer, max(buffer.size + rng.choice((-5, -1, 1, 2, 100)), 0))
    elif kind < 0.35 and name.endswith("_tables"):
        content = _inside_zlib(rng, buffer.tobytes())
        if content is not None:
            buffers[name] = np.frombuffer(content, np.uint8)
    elif buffer.size:
        content = bytearray(buffer.tobytes())
        item = buffer.itemsize
        for _ in range(rng.choice((1, 1, 2, 5))):
            if rng.random() < 0.5:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            else:
                place = rng.randrange(buffer.size) * item
                content[place:place + item] = struct.pack("<Q", rng.choice(WORDS))[:item]
        buffers[name] = np.frombuffer(bytes(content), buffer.dtype)


def _change_kernel(rng: random.Random, kernels: dict) -> None:
    path = rng.choice(list(kernels))
    kernel = kernels[path]
    kind = rng.random()
    if kind < 0.45:
        shape = list(kernel.shape)
        change = rng.random()
        if change < 0.5 and shape:
            shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 5, 7, 64, 1000, 70_000))
        elif change < 0.7:
            shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 1, 2)))
        elif change < 0.85:
            shape = shape[:-1] if rng.random() < 0.5 else shape[::-1]
        else:
            shape = rng.choice(([], [kernel.size], [1] * 16, [0], [kernel.size, 1]))
        kernels[path] = dataclasses.replace(kernel, shape=tuple(shape))
    elif kind < 0.7:
        kernels[path] = dataclasses.replace(kernel, k=rng.choice(
            (1, 2, kernel.k - 1 or 1, kernel.k + 1, 16, 255, 256, 257, 2048, 4096, 4097, 65_536)))
    elif kind < 0.8:
        kernels[path] = dataclasses.replace(kernel, table=rng.choice((None, 0, 1, 2, 65_536)))
    elif kind < 0.9:
        kernels[path] = dataclasses.replace(kernel, coder=rng.choice(representation.names()))
    elif kind < 0.95:
        kernels["again"] = kernel
    else:
        items = list(kernels.items())
        rng.shuffle(items)
        kernels.clear()
        kernels.update(items)


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--cases", type=int, default=50_000)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--state", type=Path, help="JSON file of counts, to go on from")
    parse.add_argument("--case", type=int, help="examine this case alone, in this process")
    args = parse.parse_args()
    examiner = Examiner()
    if args.case is not None:
        print(examiner(case_random(args.seed, args.case)))
        return 0
    began = time.monotonic()
    counts, findings = run_cases(examiner, args.cases, args.seed, args.state)
    print_counts(counts, findings, time.monotonic() - began)
    return int(any(name.startswith(FINDING) for name in counts))


if __name__ == "__main__":
    sys.exit(main())
