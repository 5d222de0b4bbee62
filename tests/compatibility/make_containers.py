"""Containers written by the code of each commit that changed what the format may hold.

    python tests/compatibility/make_containers.py

Up to `calibration` the format's number is 1, `plans` and `differences` have 2, `separable` has 3.
Each commit's package is taken out of the repository's history and writes the same weights
(`weights.py`) with the coders it had.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
COMMITS = {
    "9160d0f": ("first", ["raw", "index_map", "rans"]),
    "85589b1": ("graphs", ["rans"]),
    "8359411": ("context", ["context"]),
    "c206038": ("columns", ["huffman", "sparse_huffman", "sparse_index_map"]),
    "c73758f": ("calibration", ["rans", "context", "smallest"]),
    "5a1c67a": ("plans", ["rans", "context"]),
    "ff4269c": ("differences", ["rans"]),
    "adf44ef": ("separable", ["context"]),
}
# So few weights would not choose products of scales by themselves.
CHOSEN = {"separable": "from cxcompress.representation import context; "
                       "context._MIXTURES = ((context.SEPARABLE, 15, 16),)"}
WRITE = """
import sys
sys.path.insert(0, sys.argv[3])
from weights import container
from cxcompress.storage import write_container
for coder in sys.argv[2].split(","):
    write_container(f"{sys.argv[1]}-{coder}.h5", container(), coder=coder, overwrite=True)
"""


def main() -> None:
    for commit, (name, coders) in COMMITS.items():
        with tempfile.TemporaryDirectory() as folder:
            archive = subprocess.run(["git", "archive", commit, "cxcompress"],
                                     cwd=HERE.parents[1], capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            subprocess.run(
                # Where the archive lies, since Python imports from the working folder first.
                [sys.executable, "-c", CHOSEN.get(name, "") + WRITE, HERE / "containers" / name,
                 ",".join(coders), HERE],
                env=os.environ | {"PYTHONPATH": folder}, cwd=folder, check=True)


if __name__ == "__main__":
    main()
