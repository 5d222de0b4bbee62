"""Kernels through nncodec, run by the Python that has it: `size.py --nncodec` calls this.

    python nncodec_process.py kernels.npz decoded.npz -25 0.5

The codec wants NumPy 1 and torch, so it lives in an environment of its own. Reads float32 arrays,
encodes all of them as one bitstream (trellis quantiser and DeepCABAC, its defaults) at a
quantisation parameter and a λ of rate-distortion optimisation, decodes, writes what came back and
prints one line of JSON: bytes, seconds to encode, seconds to decode.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from nncodec import nnc


def main(source: str, target: str, qp: str, lambda_scale: str) -> None:
    """Encode, decode, write, print."""
    with np.load(source, allow_pickle=False) as file:
        kernels = dict(file)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        stream = nnc.compress(kernels, bitstream_path=str(Path(folder) / "stream.nnc"),
                              qp=int(qp), lambda_scale=float(lambda_scale), use_dq=True,
                              return_bitstream=True, verbose=False)
        encoded = time.perf_counter()
        decoded = nnc.decompress(stream)
        ended = time.perf_counter()
    np.savez(target, **{name: np.asarray(decoded[name], np.float32) for name in kernels})
    print(json.dumps({"bytes": len(stream), "encode_seconds": encoded - began,
                      "decode_seconds": ended - encoded}))


if __name__ == "__main__":
    main(*sys.argv[1:])
