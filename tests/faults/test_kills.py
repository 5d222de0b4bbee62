"""`kill -9` at random moments: nothing half-written under a final name, and the same end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")


def killed(folder: Path, kills: int, *commands: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "kill_commands.py", "--kills", str(kills),
         "--folder", folder, "--commands", *commands],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    return ended.stdout


def test_a_compression_killed_four_times_ends_as_if_undisturbed(tmp_path):
    said = killed(tmp_path, 4, "compress")
    assert "4  compress: killed" in said and "0  findings" in said
    assert "0  compress: temporary files left behind" in said


@pytest.mark.slow
def test_two_hundred_kills_of_every_kind_of_command(tmp_path):
    assert "0  findings" in killed(tmp_path, 200, "compress", "sweep", "train", "tune")
