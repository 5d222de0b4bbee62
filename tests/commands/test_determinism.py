"""The same command and seed write the same container, byte for byte, wherever and whenever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from cxcompress.commands import compress
from tests.conftest import REPOSITORY

FLAGS = ["--compression", "uCWS", "--clustercnn", "16", "--clusterfc", "16", "--epochs", "1"]


def compressed(folder, trained_net, image_folder) -> bytes:
    """The container that the command writes in a folder of copies, by relative names."""
    folder.mkdir(parents=True)
    shutil.copy(trained_net, folder / "net.h5")
    shutil.copytree(image_folder, folder / "images")
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert compress.main(["--net", "net.h5", "--data_path", "images", "--output_path", "out",
                              "--plans", "none", *FLAGS]) == 0
    finally:
        os.chdir(before)
    return next(folder.glob("out/*/*/*.h5")).read_bytes()


def test_the_same_command_in_two_folders_writes_the_same_bytes(
        trained_net, image_folder, tmp_path, monkeypatch):
    first = compressed(tmp_path / "a", trained_net, image_folder)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    assert compressed(tmp_path / "b ü" / "deeper", trained_net, image_folder) == first


@pytest.mark.slow
def test_other_locales_time_zones_and_hash_seeds_change_nothing_but_the_plan_chosen(
        trained_net, image_folder, tmp_path):
    """In processes of their own, with plans: only `recommended_plan` rests on measured time."""
    import dataclasses

    from cxcompress.storage import read_container, write_container

    images = []
    for name, locale, zone, seed in (("a", "C", "UTC", "1"), ("b", "tr_TR.UTF-8", "Asia/Kathmandu",
                                                              "2")):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(trained_net, folder / "net.h5")
        shutil.copytree(image_folder, folder / "images")
        subprocess.run(
            [sys.executable, "-c", "import sys; from cxcompress.commands import main; "
             "sys.exit(main(sys.argv[1:]))", "compress", "--net", "net.h5", "--data_path", "images",
             "--output_path", "out", *FLAGS], cwd=folder, check=True, capture_output=True,
            env=os.environ | {"LC_ALL": locale, "TZ": zone, "PYTHONHASHSEED": seed,
                              "PYTHONPATH": str(REPOSITORY)})
        path = next(folder.glob("out/*/*/*.h5"))
        container = read_container(path)
        card = dataclasses.replace(container.card, recommended_plan="float32")
        write_container(path, dataclasses.replace(container, card=card), overwrite=True)
        images.append(path.read_bytes())
    assert images[0] == images[1]
