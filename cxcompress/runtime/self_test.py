"""Whether this machine computes what it should: a bundled container against stored answers.

    python -m cxcompress.runtime.self_test          # one JSON object

The container that ships with the package is read, its index maps are decoded and must be the same
to the bit; a drawn picture goes through PNG, preprocessing and every plan, and the probabilities
must be those in `bundled/expected.json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.representation import SharedWeights

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the containers that are installed with the package."""
MODEL = BUNDLED / "small_cxr_pneumoniamnist-TCQ-22dB-fine-tuned.h5"
EXPECTED = BUNDLED / "expected.json"
TIME_LIMIT = 120
TOLERANCES = {"float32": 0.001, "int8": 0.01, "static_int8": 0.05}
"""Of a probability. Float sums differ by their order; int8 activations may round to a neighbour."""


def picture() -> NDArray[np.uint8]:
    """Two dark fields on a bright ground, uint8 `(96, 112)`: integers, so the same everywhere."""
    row, column = np.mgrid[:96, :112]
    left = 3 * (column - 32) ** 2 + (row - 48) ** 2
    right = 3 * (column - 80) ** 2 + (row - 48) ** 2
    return np.minimum(40 + np.minimum(left, right) // 4, 255).astype(np.uint8)


def weights_digest(shared: SharedWeights) -> str:
    """SHA-256 of all shared values, indices and float arrays, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(shared.codebooks):
        digest.update(np.asarray(shared.codebooks[name].values, "<f4").tobytes())
    for name in sorted(shared.kernels):
        digest.update(np.asarray(shared.kernels[name].indices, "<u2").tobytes())
    for name in sorted(shared.unshared):
        digest.update(np.asarray(shared.unshared[name], "<f4").tobytes())
    return digest.hexdigest()


def answers(threads: int = 1) -> dict[str, Any]:
    """What this machine makes of the bundled container.

    Args:
        threads: Of the interpreter.

    Returns:
        `weights` (`weights_digest`), `picture` (SHA-256), `plans`: plan → `probability` of
        pneumonia and `milliseconds` of one call.

    Raises:
        InputError: If the container cannot be read or run.
    """
    from PIL import Image

    from cxcompress.runtime.running import PLANS, load
    from cxcompress.storage import read_container
    from cxcompress.tasks.findings import Findings

    if not MODEL.is_file():
        raise InputError(f"{MODEL}: missing; install cxcompress again")
    png = io.BytesIO()
    Image.fromarray(picture()).save(png, "PNG")
    found: dict[str, Any] = {
        "weights": weights_digest(read_container(MODEL).shared),
        "picture": hashlib.sha256(picture().tobytes()).hexdigest(), "plans": {}}
    for plan in PLANS:
        model = load(MODEL, plan, threads)
        found_in = model.predict_images([Image.open(png)])
        assert isinstance(found_in, Findings)  # the bundled file is a classifier
        begin = time.perf_counter()
        model.predict(model.inputs_of([Image.open(png)]))
        found["plans"][plan] = {"probability": round(float(found_in.scores[0, 1]), 6),
                                "milliseconds": 1000 * (time.perf_counter() - begin)}
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What is not as stored, a line each; empty where all is well."""
    lines = []
    if found["picture"] != expected["picture"]:
        lines.append("the test picture is drawn differently; is numpy's installation whole?")
    if found["weights"] != expected["weights"]:
        lines.append("the bundled file's weights are decoded differently")
    for plan, tolerance in TOLERANCES.items():
        here, stored = found["plans"][plan]["probability"], expected["plans"][plan]
        if not abs(here - stored) <= tolerance:
            lines.append(f"plan {plan} answers {here:.4f} instead of {stored:.4f} "
                         f"(allowed: ± {tolerance})")
    return lines


def run_in_child(threads: int = 1) -> dict[str, Any]:
    """`answers` from a process of its own, which a native library may stop.

    Raises:
        InputError: One line: what stopped it, or what is not as stored.
    """
    try:
        child = subprocess.run([sys.executable, "-m", __name__, str(threads)],
                               capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"self-test: no answer within {TIME_LIMIT} s") from error
    if child.returncode < 0:
        import signal

        raise InputError(f"self-test: stopped by {signal.Signals(-child.returncode).name}; this "
                         "processor may lack instructions that LiteRT needs")
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"stopped with {child.returncode}"]
        raise InputError("self-test: " + said[-1].removeprefix(
            "cxcompress.errors.InputError: "))
    found = json.loads(child.stdout.splitlines()[-1])
    if wrong := differences(found, json.loads(EXPECTED.read_text())):
        raise InputError("self-test: " + "; ".join(wrong))
    return found


if __name__ == "__main__":
    print(json.dumps(answers(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
