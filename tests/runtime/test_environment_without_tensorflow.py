"""The clinic's environment: only what `pip install cxcompress` brings, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]


def requirements(name: str) -> set[str]:
    """Names of a distribution and of all that it needs here: no extras, no other platforms."""
    found, left = set(), [name]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            left += [canonicalize_name(one.name) for one in needed
                     if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def runtime_only(tmp_path_factory):
    """A folder with links to just those packages, and the command that runs Python with it."""
    folder = tmp_path_factory.mktemp("site")
    size = 0
    for name in requirements("cxcompress"):
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            if name != "cxcompress" and top != "..":
                link = folder / top
                if not link.exists():
                    link.symlink_to(Path(file.locate()).parents[len(file.parts) - 1] / top)
                size += Path(file.locate()).stat().st_size if Path(file.locate()).exists() else 0
    (folder / "cxcompress").symlink_to(REPOSITORY / "cxcompress")

    def python(*words: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-S", *map(str, words)], capture_output=True, text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            | {"PYTHONPATH": str(folder)})

    return python


def test_tensorflow_and_keras_cannot_be_imported_there(runtime_only):
    for module in ("tensorflow", "keras", "pandas", "sklearn", "skimage", "pydicom"):
        assert f"No module named '{module}'" in runtime_only("-c", f"import {module}").stderr


@pytest.mark.parametrize("plan", ["float32", "int8", "static_int8", "auto"])
def test_bundled_models_answer_there(runtime_only, tmp_path, plan):
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (50, 40), np.uint8)).save(tmp_path / f"{number}.png")
    model = REPOSITORY / "pretrained" / "small_cxr_pneumoniamnist-uCWS-256.h5"
    done = runtime_only("-m", "cxcompress.runtime", model, tmp_path, "--plan", plan, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert len(said["images"]) == 2
    assert "not a medical device" in said["notice"]
    for image in said["images"]:
        total = sum(finding["probability"] for finding in image["findings"].values())
        assert total == pytest.approx(1, abs=0.02)


def test_a_damaged_file_is_one_line_there(runtime_only, tmp_path):
    whole = (REPOSITORY / "pretrained" / "small_cxr_pneumoniamnist-uCWS-256.h5").read_bytes()
    image = tmp_path / "image.png"
    Image.new("L", (28, 28)).save(image)
    for name, content in (("cut", whole[:-1]), ("flipped", whole[:9000] + bytes(
            [whole[9000] ^ 1]) + whole[9001:]), ("empty", b"")):
        path = tmp_path / f"{name}.h5"
        path.write_bytes(content)
        done = runtime_only("-m", "cxcompress.runtime", path, image)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert str(path) in done.stderr


def test_nuclei_name_the_extra_that_is_missing(runtime_only, tmp_path):
    image = tmp_path / "field.png"
    Image.new("RGB", (256, 256), "white").save(image)
    model = REPOSITORY / "pretrained" / "pathonet_synthetic_ki67wide-uCWS-256.h5"
    done = runtime_only("-m", "cxcompress.runtime", model, image)
    assert done.returncode == 2
    assert "pip install 'cxcompress[pathology]'" in done.stderr


def test_keras_export_names_the_extra(runtime_only, tmp_path):
    model = REPOSITORY / "pretrained" / "small_cxr_pneumoniamnist-uCWS-256.h5"
    done = runtime_only("-c", "import sys; from cxcompress.commands import main; sys.exit(main("
                        f"['export', {str(model)!r}, '--to', 'keras', '--output', "
                        f"{str(tmp_path / 'x.keras')!r}]))")
    assert done.returncode == 2
    assert "pip install 'cxcompress[train]'" in done.stderr
