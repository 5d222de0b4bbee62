"""Short runs of the fuzzers with every change; long ones with `make test-all`; the kept corpus.

`CXCOMPRESS_FUZZ_CASES` says how long the slow run is: 2,000,000 for a release, and the commands at
the top of `fuzz_*.py` do the same, resumably.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from cxcompress.errors import InputError
from cxcompress.storage import Container, read_container

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


def fuzz(script: str, cases: int, *more: str) -> str:
    """Run a fuzzer in a process of its own; returns its table."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / script, "--cases", str(cases), *more],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    return ended.stdout


def test_hostile_containers_end_in_one_line_or_in_sound_weights():
    said = fuzz("fuzz_containers.py", 600, "--seed", "2")
    assert "refused: not whole" in said and "refused: HDF5 structure" in said
    assert "refused: content" in said and "accepted: other, valid weights" in said


def test_hostile_streams_do_not_get_past_the_coders():
    said = fuzz("fuzz_decoders.py", 1500, "--seed", "2")
    assert "refused: ValueError" in said and "decoded" in said


def test_hostile_pictures_arrays_and_tables_end_in_one_line():
    pytest.importorskip("pydicom")
    said = fuzz("fuzz_files.py", 400, "--seed", "2")
    for kind in ("images", "dicom", "arrays", "tables"):
        assert f"{kind}: refused" in said and f"{kind}: read" in said


@pytest.mark.slow
@pytest.mark.parametrize("script", ["fuzz_containers.py", "fuzz_decoders.py", "fuzz_files.py"])
def test_the_long_run_finds_nothing(script):
    fuzz(script, int(os.environ.get("CXCOMPRESS_FUZZ_CASES", 20_000)), "--seed", "3")


@pytest.mark.parametrize("path", sorted((HERE / "corpus").glob("*.h5")), ids=lambda path: path.stem)
def test_the_corpus_is_read_cleanly_and_in_little_memory(path):
    tracemalloc.start()
    try:
        assert isinstance(read_container(path), Container)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40_000_000


def test_a_finding_is_told_and_the_batch_goes_on(tmp_path):
    """The fuzzers would notice: a case that raises, one that crashes and one that hangs."""
    script = tmp_path / "examine.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import os, batches\n"
        "from pathlib import Path\n"
        "batches.MOST_SECONDS = 0.3\n"
        "def examine(rng):\n"
        "    number = rng.random()\n"
        "    if number < 0.02: os.abort()\n"
        "    if number < 0.04:\n"
        "        while True: pass\n"
        "    if number < 0.2: raise KeyError('x')\n"
        "    return 'fine'\n"
        "counts, findings = batches.run_cases(examine, 100, 0, Path(sys.argv[1]), speak=False)\n"
        "batches.print_counts(counts, findings)\n")
    said = subprocess.run([sys.executable, script, tmp_path / "state.json"],
                          env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True,
                          text=True, check=True).stdout
    assert "FINDING: crash (SIGABRT)" in said and "FINDING: hang" in said
    assert "FINDING: KeyError" in said and "100  cases" in said
