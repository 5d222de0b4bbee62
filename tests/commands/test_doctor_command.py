"""`cxcompress doctor`: what it says is so, and its status."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from cxcompress import __version__, commands
from cxcompress.commands import doctor
from cxcompress.runtime import self_test
from tests.conftest import REPOSITORY


def test_facts_are_those_of_this_machine(capsys):
    assert commands.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cxcompress"] == __version__ and found["works"]
    assert found["python"]["executable"] == sys.executable
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert found["machine"]["memory"] > found["machine"]["memory_available"] > 10**6
    for name in ("numpy", "h5py", "Pillow", "ai-edge-litert"):
        assert found["runtime"][name] == importlib.metadata.version(name)
    assert set(found["extras"]) == {"pathology", "dicom", "train", "app", "scale"}
    for extra, facts in found["extras"].items():
        for name in facts["missing"]:
            with pytest.raises(importlib.metadata.PackageNotFoundError):
                importlib.metadata.version(name)
        assert facts["complete"] == (not facts["missing"] and not facts["other_version"])
        assert facts["install"] == f"pip install 'cxcompress[{extra}]'"
    assert set(found["self_test"]["plans"]) == {"float32", "int8", "static_int8"}


def test_the_text_has_a_line_a_fact(capsys):
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    for word in (__version__, sys.executable, "instructions", "ai-edge-litert", "[pathology]",
                 "all as stored", str(self_test.MODEL)):
        assert word in text


def test_a_wrong_answer_is_one_line_and_status_2(capsys, tmp_path, monkeypatch):
    wrong = json.loads(self_test.EXPECTED.read_text())
    wrong["plans"]["float32"] += 0.01
    (tmp_path / "expected.json").write_text(json.dumps(wrong))
    monkeypatch.setattr(self_test, "EXPECTED", tmp_path / "expected.json")
    assert doctor.main([]) == 2
    said = capsys.readouterr()
    assert "ai-edge-litert" in said.out and "all as stored" not in said.out
    lines = said.err.strip().splitlines()
    assert len(lines) == 1 and "plan float32 answers" in lines[0]


def test_missing_extras_are_named_with_their_line(monkeypatch, capsys):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("pydicom", "tensorflow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "scikit-image" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "lacks pydicom; pip install 'cxcompress[dicom]'" in text
    assert "scikit-image 0.1 (needs >=0.24)" in text


def test_without_its_packages_it_still_reports(tmp_path):
    """Python alone, without site-packages: no numpy, no LiteRT."""
    (tmp_path / "cxcompress").symlink_to(REPOSITORY / "cxcompress")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; from cxcompress.commands import main; "
         "sys.exit(main(['doctor']))"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert "numpy MISSING" in done.stdout and "processor" in done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "pip install cxcompress" in lines[0]


@pytest.mark.parametrize("version, condition, fits", [
    ("2.4.6", ">=2.0", True), ("1.26.4", ">=2.0", False), ("2.21.0", ">=2.21,<2.22", True),
    ("2.22.0", ">=2.21,<2.22", False), ("3.15.1", "<3.16,>=3.15", True), ("9.0rc1", "", True),
])
def test_version_conditions(version, condition, fits):
    from packaging.specifiers import SpecifierSet

    assert doctor._fits(version, condition) == fits
    assert fits == SpecifierSet(condition).contains(version, prereleases=True)


def test_bad_threads_are_one_line(capsys):
    assert doctor.main(["--threads", "0"]) == 2
    assert "--threads 0" in capsys.readouterr().err
