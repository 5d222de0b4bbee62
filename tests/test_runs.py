"""Laws of run folders, work units and atomic files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.runs import RunFolder, WorkUnit, atomic_path, run_units, to_json, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "result.json"
    write_atomic(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_an_operating_system_error_names_the_path(tmp_path):
    with pytest.raises(InputError, match="result.json"), atomic_path(tmp_path / "result.json"):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below.json", "x")


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
def test_a_write_that_fails_half_way_is_one_line_and_leaves_nothing(tmp_path):
    """The system refuses every byte past the first 1,000, as a full disk does."""
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from cxcompress.runs import write_atomic\n"
        "from cxcompress.errors import InputError\n"
        "try:\n    write_atomic(sys.argv[1], b'x' * 100_000)\n"
        "except InputError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path / "big.bin")],
                          capture_output=True, text=True, check=True).stdout
    assert "big.bin" in said and "cannot be written" in said
    assert list(tmp_path.iterdir()) == []


def test_units_run_once_and_resume_where_they_stopped(tmp_path):
    calls = []

    def square(x):
        calls.append(x)
        if x == 3 and len(calls) < 4:
            raise KeyboardInterrupt
        return {"square": np.float32(x * x)}

    units = [WorkUnit(f"square/{x}", square, {"x": x}) for x in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        run_units(units, tmp_path)
    results = run_units(units, tmp_path)
    assert calls == [1, 2, 3, 3, 4]
    assert [results[unit.id]["square"] for unit in units] == [1, 4, 9, 16]
    assert results == run_units(units)


def test_unit_files_are_unique_whatever_the_ids_hold():
    names = {WorkUnit(text, print).file_name for text in ("a/b", "a_b", "a b", "ä", "../a")}
    assert len(names) == 5
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_a_finished_run_is_refused_an_unfinished_one_resumed(tmp_path):
    path = tmp_path / "run"
    with RunFolder.open(path, {"seed": 0}) as folder:
        folder.write_json("results.json", {"x": 1})
    with pytest.raises(InputError, match="--overwrite"):
        RunFolder.open(path, {"seed": 0})
    with pytest.raises(RuntimeError), RunFolder.open(path, {"seed": 1}, overwrite=True):
        raise RuntimeError
    assert not (path / "results.json").exists()
    with pytest.raises(InputError, match="another seed"):
        RunFolder.open(path, {"seed": 2})
    with RunFolder.open(path, {"seed": 1}):
        pass
    assert json.loads((path / "run.json").read_text())["state"] == "done"


def test_a_run_grows_by_work_units_but_not_by_anything_else(tmp_path):
    path = tmp_path / "run"
    for levels in ([16, 8], [4]):
        with RunFolder.open(path, {"seed": 0, "levels": levels},
                            extendable=["levels"]) as folder:
            folder.run_units([WorkUnit(f"k={k}", dict, {"k": k}) for k in levels], "Levels")
    assert folder.record["arguments"]["levels"] == [16, 8, 4]
    assert folder.record["state"] == "done"
    assert folder.results() == {f"k={k}": {"k": k} for k in (16, 8, 4)}
    for other in ({"seed": 1, "levels": [3]}, {"seed": 0, "levels": [16, 8, 4]}):
        with pytest.raises(InputError, match="--overwrite"):
            RunFolder.open(path, other, extendable=["levels"])


def test_a_folder_that_is_not_a_run_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no run of cxcompress"):
        RunFolder.open(tmp_path, {}, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_json_has_no_nan_and_no_numpy():
    assert json.loads(to_json({"a": np.nan, "b": np.arange(2), "c": np.float32(0.5)})) == {
        "a": None, "b": [0, 1], "c": 0.5}


@pytest.mark.skipif(os.name != "posix", reason="asks the system for processes")
def test_a_run_killed_before_its_first_file_starts_anew_and_leaves_nothing(tmp_path):
    """Found by kill -9: a folder of nothing but temporary files was taken for somebody else's."""
    path = tmp_path / "run"
    script = ("import os, signal, sys\nfrom cxcompress.runs import atomic_path\n"
              "with atomic_path(sys.argv[1]):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    for name in ("run.json", "results.json"):
        subprocess.run([sys.executable, "-c", script, str(path / name)])
    assert len(list(path.rglob(".*"))) == 2
    with RunFolder.open(path, {"seed": 0}) as folder:
        with atomic_path(path / "mine.json") as mine:  # of a process that lives
            mine.write_text("x")
            RunFolder.open(path, {"seed": 0})
            assert mine.exists()
        folder.write_json("results.json", {})
    assert sorted(entry.name for entry in path.rglob("*") if entry.is_file()) == [
        "mine.json", "results.json", "run.json"]
