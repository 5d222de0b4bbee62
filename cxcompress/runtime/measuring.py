"""Cold start, latency and peak memory of one plan, in a process of its own.

    measure("model-uCWS.h5", "int8", threads=2)["latency_seconds"]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cxcompress.errors import InputError

TIME_LIMIT = 600
WARM_UP = 3


def measure(
    path: str | os.PathLike, plan: str, threads: int, repeats: int = 20,
    check_images: Sequence[str | os.PathLike] = (),
) -> dict:
    """Numbers of a fresh process that loads the file and answers for one generated input.

    Args:
        path: A container.
        plan: One that it holds.
        threads: Of the interpreter.
        repeats: Timed calls after the first ones.
        check_images: Pictures that the file was checked with when it was made.

    Returns:
        `cold_start_seconds` (from process start to the first answer), `load_seconds`,
        `latency_seconds` (median), `peak_bytes`, and `difference` from the stored outputs of the
        check inputs (None where the file holds none, or was checked with pictures that are not
        given).

    Raises:
        InputError: If the file cannot be used.
    """
    start = time.time()
    child = subprocess.run(
        [sys.executable, "-m", __name__, os.fspath(path), plan, str(threads), str(repeats),
         repr(start), *(os.fspath(image) for image in check_images)],
        capture_output=True, text=True, timeout=TIME_LIMIT)
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"stopped with {child.returncode}"]
        raise InputError(said[-1].removeprefix("cxcompress.errors.InputError: "))
    return json.loads(child.stdout.splitlines()[-1])


def own_peak_bytes() -> int:
    """Peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands `ru_maxrss` down from the parent through fork and exec; VmHWM is our own.
        peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if peak is not None:
            return 1024 * int(peak[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _measure_here(
    path: str, plan: str, threads: int, repeats: int, started: float, images: Sequence[str]
) -> dict:
    import statistics

    from cxcompress.runtime import load
    from cxcompress.runtime.checking import check_inputs, checked_difference

    before = time.time()
    model = load(path, plan, threads)
    loaded = time.time()
    one = check_inputs(model.input_shape, 0, count=1)
    model.predict(one)
    answered = time.time()
    seconds = []
    for turn in range(WARM_UP + repeats):
        begin = time.perf_counter()
        model.predict(one)
        if turn >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    peak = own_peak_bytes()
    check = model.card.metrics.get("execution", {}).get("check")
    return {"cold_start_seconds": answered - started, "load_seconds": loaded - before,
            "latency_seconds": statistics.median(seconds), "peak_bytes": peak,
            "difference": checked_difference(model, check, images or None) if check else None}


if __name__ == "__main__":
    print(json.dumps(_measure_here(
        sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]),
        sys.argv[6:])))
