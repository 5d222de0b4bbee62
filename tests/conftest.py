"""What all tests share: where the real data lie."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is missing."""
    folder = os.environ.get("CXCOMPRESS_TEST_DATA", REPOSITORY.parent / "shared" / "data")
    if not Path(folder).is_dir():
        pytest.skip("real data not found; set CXCOMPRESS_TEST_DATA to its folder")
    return Path(folder)
