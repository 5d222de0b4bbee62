"""A full disk, a read-only folder, too little memory: one line, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.commands import compress, train
from cxcompress.commands.command_line import OUT_OF_MEMORY
from cxcompress.errors import InputError, out_of_memory
from cxcompress.models import save_model

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def disk(tmp_path):
    """Gives a file system of a few bytes, again and again; skipped where none may be mounted."""
    target = tmp_path / "disk"
    target.mkdir()

    def mounted(size: int) -> Path:
        subprocess.run(["umount", target], capture_output=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", target],
                              capture_output=True)
        if done.returncode:
            pytest.skip("may not mount a file system here")
        return target

    yield mounted
    subprocess.run(["umount", target], capture_output=True)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Conv2D(8, 3),
                             keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2)])


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_model_that_does_not_fit_leaves_nothing(network, disk, suffix):
    """HDF5 itself ends the process with a segmentation fault here."""
    for size in (4096, 8192, 12_288, 16_384):
        folder = disk(size)
        with pytest.raises(InputError, match=r"model\S+: cannot be written \(No space left"):
            save_model(network, folder / f"model{suffix}")
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_saved_model_is_the_model(network, tmp_path, suffix):
    save_model(network, tmp_path / f"model{suffix}")
    found = models.load_model(tmp_path / f"model{suffix}")
    for ours, theirs in zip(found.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == [f"model{suffix}"]


def command(network, tmp_path, output) -> int:
    if not (tmp_path / "net.h5").exists():
        save_model(network, tmp_path / "net.h5")
    return compress.main(["--net", str(tmp_path / "net.h5"), "--output_path", str(output),
                          "--clustercnn", "16", "--clusterfc", "16", "--plans", "none"])


def test_a_disk_that_fills_at_any_write_is_one_line(network, disk, tmp_path, capsys):
    """Sizes at which another write fails each time: run.json, units, container, figures, report."""
    from tests.faults.kill_commands import broken_files

    for size in (4096, 12_288, 24_576, 65_536, 131_072):
        folder = disk(size)
        capsys.readouterr()
        assert command(network, tmp_path, folder) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and "cannot be written (No space left on device)" in said[0]
        assert broken_files(folder) == [] and not list(folder.rglob(".*"))


@pytest.mark.slow
def test_a_training_on_a_disk_that_fills_is_one_line_and_goes_on_where_there_is_room(
        disk, tmp_path, capsys):
    from tests.faults.kill_commands import broken_files

    random = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=random.integers(0, 256, (90, 16, 16), np.uint8),
             labels=np.arange(90) % 2, split=np.repeat(["train", "val", "test"], 30),
             classes=np.array(["clear", "spot"]))
    argv = ["--data_path", str(tmp_path / "images.npz"), "--size", "16", "--epochs", "2",
            "--batch_size", "16", "--output_path"]
    for size in (4096, 65_536, 1 << 20, 3 << 20, 5 << 20, 32 << 20):
        folder = disk(size)
        capsys.readouterr()
        status = train.main([*argv, str(folder)])
        said = capsys.readouterr().err.strip().splitlines()
        assert broken_files(folder) == [] and not list(folder.rglob(".*"))
        if status == 0:  # it fits
            break
        assert status == 2 and "No space left on device" in said[-1], said
        assert not any("Traceback" in line for line in said)
        subprocess.run(["mount", "-o", f"remount,size={64 << 20}", folder], check=True)
        assert train.main([*argv, str(folder)]) == 0
        assert broken_files(folder) == []
    else:
        pytest.fail("no disk was large enough: the sizes say nothing of the end")


def test_read_only_output_is_one_line(network, disk, tmp_path, capsys):
    folder = disk(1 << 20)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    assert command(network, tmp_path, folder) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and str(folder) in said[0] and "Read-only file system" in said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit -v")
@pytest.mark.parametrize("megabytes", [300, 1000])
def test_too_little_memory_is_one_line(megabytes, tmp_path):
    """Too little for h5py, and for TensorFlow."""
    script = ("import resource, sys\n"
              f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 10**6,) * 2)\n"
              "from cxcompress.commands import main\n"
              "sys.exit(main(['compress', '--output_path', sys.argv[1]]))\n")
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "out"], capture_output=True,
                           text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert ended.returncode == 2
    assert ended.stderr.strip() == OUT_OF_MEMORY
    assert not (tmp_path / "out").exists()


def test_what_says_that_memory_is_out():
    assert out_of_memory(MemoryError()) and out_of_memory(
        ImportError("x.so: failed to map segment from shared object"))
    assert not out_of_memory(ModuleNotFoundError("No module named 'tensorflow'"))
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ImportError("cannot import") from error
    except ImportError as error:
        assert out_of_memory(error)
