"""A crash in a native library is one line and exit status 2, not a dead shell."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(body: str) -> subprocess.CompletedProcess:
    script = ("import os, sys\nfrom cxcompress.commands.guarded import guarded\n"
              f"def command():\n    {body}\nsys.exit(guarded(command))")
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.parametrize("body, status, said", [
    ("print('fine'); return 0", 0, ""),
    ("return 2", 2, ""),
    ("sys.exit(3)", 3, ""),
    ("os.kill(os.getpid(), 11); return 0", 2, "stopped by SIGSEGV on this file"),
    ("bytearray(1 << 40); return 0", 2, "not enough memory for this file"),
    ("1 / 0", 1, "ZeroDivisionError"),
])
def test_status_and_words(body, status, said):
    done = run(body)
    assert done.returncode == status
    assert said in done.stderr
    if status == 2:
        assert len(done.stderr.strip().splitlines()) <= 1
    if status == 0:
        assert done.stdout == "fine\n"
