"""Hostile containers against the reader and the runtime's filling of graphs.

    python tests/fuzzing/fuzz_containers.py --cases 2000000 --seed 1 --state fuzz.json
    python tests/fuzzing/fuzz_containers.py --seed 1 --case 4711 --keep bad.h5     # one, again

Every case must end in one clean `InputError` line, or in weights that the file may hold: never in
a crash, another exception, more than 5 seconds, or more memory than 3 × what the file declares
(and 32 MB for the coders' tables). Interrupted, the same command goes on where it stopped. Exit
status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import re
import sys
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from bases import Base, all_bases  # noqa: E402
from batches import FINDING, case_random, print_counts, run_cases  # noqa: E402
from mutations import REFUSED, SAME, mutated  # noqa: E402

from cxcompress.errors import InputError  # noqa: E402
from cxcompress.representation import index_dtype  # noqa: E402
from cxcompress.runtime.running import filled_graph  # noqa: E402
from cxcompress.storage import Container, read_card, read_container, read_sizes  # noqa: E402
from cxcompress.storage.graphs import unpacked_graphs  # noqa: E402

ALLOWED_BYTES = 32 << 20
"""On top of 3 × the declared size: look-up tables of the coders, and Python's own."""
LONGEST_MESSAGE = 1000


class Examiner:
    """Reads case after case in this process and says how each ended.

    Args:
        bases: What cases are made from.
    """

    def __init__(self, bases: list[Base]):
        self.bases = bases
        self.file = self.path = None
        self.peak = 0

    def __call__(self, rng: random.Random) -> str:
        image, law, base = mutated(rng, self.bases)
        self.put(image)
        outcome = self.outcome(image, law, base)
        if rng.random() < 1 / 16:
            for read in (read_card, read_sizes):
                _clean(read, self.path)
        return outcome

    def put(self, image: bytes) -> None:
        """Make the image a file in memory."""
        if self.file is None:
            self.file = os.memfd_create("case")
            self.path = f"/proc/self/fd/{self.file}"
        self.peak = _peak()  # what making the case took is not the reader's
        os.ftruncate(self.file, len(image))
        os.pwrite(self.file, image, 0)

    def outcome(self, image: bytes, law: str, base: Base) -> str:
        """Read the file; raises AssertionError where it breaks the law."""
        container = _clean(read_container, self.path)
        if not isinstance(container, Container):
            self.check_memory(image)
            return f"refused: {_kind(container)}"
        assert law != REFUSED, f"a damaged file of {base.name} was accepted"
        check_rules(container, image)
        for graph in container.graph.values():
            whole = _clean(lambda path, graph=graph: filled_graph(path, graph, container.shared,
                                                                  threads=1), self.path)
            assert isinstance(whole, str) or len(whole) == graph.placement["bytes"]
        self.check_memory(image)
        same = _same(container, base.container)
        assert same or law != SAME, f"weights of {base.name} changed, untouched"
        return f"accepted: {'the same' if same else 'other, valid'} weights"

    def check_memory(self, image: bytes) -> None:
        """Raises AssertionError where the process grew by more than the file declares."""
        peak = _peak()
        grown, self.peak = peak - self.peak, max(peak, self.peak)
        if grown > ALLOWED_BYTES:
            most = 3 * declared_bytes(image) + ALLOWED_BYTES
            assert grown <= most, f"memory: {grown >> 20} MiB, {most >> 20} allowed"


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _clean(read, path):
    """What a reader gives, or its message; anything but one short `InputError` line escapes."""
    try:
        return read(path)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and len(message) <= LONGEST_MESSAGE, message[:200]
        return message


def _kind(message: str) -> str:
    message = message.split(": ", 1)[1]
    for start, name in (("not a cxcompress", "no container"), ("an empty", "no container"),
                        ("truncated", "not whole"), ("altered", "not whole"),
                        ("written by a newer", "a newer format")):
        if message.startswith(start):
            return name
    inside = re.search(r"not a valid container \((.*)", message)
    if inside and re.search(r"(?i)hdf5|unable to|can't|Unable|object|h5", inside[1][:60]):
        return "HDF5 structure"
    return "content"


def check_rules(container: Container, image: bytes) -> None:
    """The rules of weights, checked without the library's own checks."""
    shared = container.shared
    for path, kernel in shared.kernels.items():
        values = shared.codebooks[kernel.codebook].values
        assert kernel.indices.dtype == index_dtype(values.size), path
        assert not kernel.indices.size or int(kernel.indices.max()) < values.size, path
    for name, book in shared.codebooks.items():
        values = book.values
        assert values.dtype == np.float32 and values.ndim == 1 and np.isfinite(values).all(), name
        assert (values[1:] > values[:-1]).all(), name
        assert book.zero is None or values[book.zero] == 0, name
    with h5py.File(io.BytesIO(image), "r") as file:
        index = json.loads(file["index"][()].tobytes())
    assert {e["path"]: tuple(e["shape"]) for e in index["kernels"]} == {
        path: kernel.indices.shape for path, kernel in shared.kernels.items()}
    assert {e["path"]: (e["dtype"], tuple(e["shape"])) for e in index["unshared"]} == {
        path: (array.dtype.name, array.shape) for path, array in shared.unshared.items()}


def _same(found: Container, expected: Container) -> bool:
    ours, theirs = found.shared, expected.shared
    if list(ours.kernels) != list(theirs.kernels) or list(ours.unshared) != list(theirs.unshared):
        return False
    return all(
        mine.codebook == theirs.kernels[path].codebook
        and mine.indices.tobytes() == theirs.kernels[path].indices.tobytes()
        and ours.codebooks[mine.codebook].values.tobytes()
        == theirs.codebooks[mine.codebook].values.tobytes()
        for path, mine in ours.kernels.items()) and all(
        mine.tobytes() == theirs.unshared[path].tobytes() for path, mine in ours.unshared.items())


def declared_bytes(image: bytes) -> int:
    """What a file says that it takes decoded: float32 weights, all datasets, whole graphs."""
    total = len(image)
    try:
        with h5py.File(io.BytesIO(image), "r") as file:
            sizes = []
            file.visititems(lambda _, item: sizes.append(item.nbytes)
                            if isinstance(item, h5py.Dataset) else None)
            total += sum(sizes)
            index = json.loads(file["index"][()].tobytes())
            total += 4 * sum(math.prod(entry["shape"]) for entry in index["kernels"])
            if "graphs" in file:
                stored = file["graphs"][()].tobytes()
                total += int.from_bytes(stored[:8], "little")
                total += sum(graph.placement["bytes"] for graph in unpacked_graphs(
                    np.frombuffer(stored, np.uint8), 1 << 26, 1 << 22).values())
            for plan in file.get("graph", {}).values():
                total += json.loads(plan["placement"][()].tobytes())["bytes"]
    except Exception:  # a hostile file: what could be read counts
        pass
    return total


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--cases", type=int, default=20_000)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--state", type=Path, help="JSON file of counts, to go on from")
    parse.add_argument("--case", type=int, help="examine this case alone, in this process")
    parse.add_argument("--keep", type=Path, help="with --case: write its file here")
    args = parse.parse_args()
    examiner = Examiner(all_bases())
    if args.case is not None:
        if args.keep:
            args.keep.write_bytes(mutated(case_random(args.seed, args.case), examiner.bases)[0])
        print(examiner(case_random(args.seed, args.case)))
        return 0
    began = time.monotonic()
    counts, findings = run_cases(examiner, args.cases, args.seed, args.state)
    print_counts(counts, findings, time.monotonic() - began)
    return int(any(name.startswith(FINDING) for name in counts))


if __name__ == "__main__":
    sys.exit(main())
