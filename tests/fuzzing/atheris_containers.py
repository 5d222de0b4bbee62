"""Coverage-guided fuzzing of the container reader with atheris, to find bytes for the corpus.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris numpy h5py
    PYTHONPATH=. /tmp/fuzz/bin/python tests/fuzzing/atheris_containers.py FOUND -max_total_time=600
    PYTHONPATH=. /tmp/fuzz/bin/python tests/fuzzing/atheris_containers.py --keep 24 FOUND

The first line runs libFuzzer over the package's Python and keeps in the folder FOUND what reaches
new code; the mutations are those of `mutations.py`, one after the other on what was kept, sealed
anew each time. The second copies one file for each thing that the reader said into `corpus/`.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["cxcompress"]):
    import bases
    import fuzz_containers
    import mutations

LARGEST = 40_000


def examine(data: bytes) -> None:
    """One case: any bytes, sealed."""
    if len(data) < 600:
        return
    image = mutations.resealed(data)
    examiner.put(image)
    examiner.outcome(image, mutations.VALID, examiner.bases[0])


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """A structured mutation of what was kept, or of a base."""
    rng = random.Random(seed)
    base = by_length.get(len(data))
    if base is None or rng.random() < 0.1:
        return mutations.mutated(rng, examiner.bases)[0][:most]
    # In place, so that the base's map of the file still holds.
    image = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((mutations._payload, mutations._text, mutations._block))(rng, image, base)
    return bytes(image)[:most]


def keep(found: Path, most: int) -> None:
    """Copy into the corpus, of the files kept, the smallest for each thing that a reader says."""
    smallest: dict[str, bytes] = {}
    for path in sorted(found.iterdir()):
        image = mutations.resealed(path.read_bytes().ljust(600, b"\0"))
        examiner.put(image)
        said = fuzz_containers._clean(fuzz_containers.read_container, examiner.path)
        said = said if isinstance(said, str) else f"read {sorted(said.shared.kernels)}"
        said = re.sub(r"\d+|'[^']*'|/proc\S*", "", said)
        if said not in smallest or len(image) < len(smallest[said]):
            smallest[said] = image
    bases.CORPUS.mkdir(exist_ok=True)
    for image in sorted(smallest.values(), key=len)[:most]:
        name = hashlib.sha256(image).hexdigest()[:12]
        (bases.CORPUS / f"{name}.h5").write_bytes(image)


if __name__ == "__main__":
    examiner = fuzz_containers.Examiner(bases.all_bases())
    by_length = {len(base.image): base for base in examiner.bases}
    if sys.argv[1] == "--keep":
        keep(Path(sys.argv[3]), int(sys.argv[2]))
        sys.exit()
    found = Path(sys.argv[1])
    found.mkdir(parents=True, exist_ok=True)
    for base in examiner.bases:
        (found / f"base-{base.name}").write_bytes(base.image)
    atheris.Setup([sys.argv[0], str(found), f"-max_len={LARGEST}", "-timeout=5",
                   "-rss_limit_mb=2048", *sys.argv[2:]], examine, custom_mutator=mutate)
    atheris.Fuzz()
