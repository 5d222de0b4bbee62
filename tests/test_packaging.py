"""What a wheel holds, and what the metadata promise."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cxcompress import __version__
from cxcompress.commands import COMMANDS
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def data_files() -> set[str]:
    """Files of the package that are no Python, by their path in the repository."""
    listed = subprocess.run(["git", "ls-files", "cxcompress"], cwd=REPOSITORY, text=True,
                            capture_output=True, check=True).stdout.split()
    return {name for name in listed if not name.endswith(".py")}


def test_every_data_file_is_packaged(setup_cfg):
    packaged = set()
    for package, patterns in setup_cfg["options.package_data"].items():
        folder = REPOSITORY / package.replace(".", "/")
        for pattern in re.split(r"[,\s]+", patterns.strip()):
            packaged |= {path.relative_to(REPOSITORY).as_posix() for path in folder.glob(pattern)}
    assert data_files() - packaged == set()
    assert "cxcompress/py.typed" in packaged


def test_extras_that_messages_name_exist(setup_cfg):
    named = set()
    for path in (REPOSITORY / "cxcompress").rglob("*.py"):
        named |= set(re.findall(r"""MissingExtra\([^)]*?["'](\w+)["']\)""", path.read_text()))
        named |= set(re.findall(r"cxcompress\[(\w+)\]", path.read_text()))
    assert {"train", "pathology", "dicom", "app"} <= named
    assert named <= set(setup_cfg["options.extras_require"])


def test_the_runtime_needs_four_packages(setup_cfg):
    needed = setup_cfg["options"]["install_requires"].split()
    assert sorted(re.match(r"[\w-]+", one)[0].lower() for one in needed) == [
        "ai-edge-litert", "h5py", "numpy", "pillow"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module(name):
    assert importlib.util.find_spec(f"cxcompress.commands.{name}") is not None


@pytest.mark.slow
def test_a_built_wheel_holds_all_of_it(tmp_path):
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, source], check=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path / "dist", source],
                   check=True, capture_output=True)
    wheel, = (tmp_path / "dist").glob("*.whl")
    sdist, = (tmp_path / "dist").glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(source).as_posix()
               for path in Path(source, "cxcompress").rglob("*.py")}
    kept = {name for name in data_files() if (source / name).exists()}
    assert modules | kept <= names
    assert not [name for name in names if name.startswith(("tests/", "experiments/", "docs/"))]
    assert wheel.stat().st_size < 1_500_000 and sdist.stat().st_size < 1_500_000


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "cxcompress", "--version"], cwd="/", text=True,
                          capture_output=True, check=True)
    assert done.stdout.strip() == __version__
