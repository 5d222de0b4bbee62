"""`architecture_study.py`: networks trained alike, whole and truncated, and what goes with what."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from cxcompress.commands.architecture_study import correlations, main
from cxcompress.evaluation.arms import arm_differences
from cxcompress.tasks import Predictions

FOLDER = "architecture_study/synthetic_cxr-32px"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return ["--workers", "1", "--networks", "vgg11_eighth", "--data_path", "synthetic:cxr",
            "--count", "240", "--data_seed", "4", "--train_images", "90", "--size", "32",
            "--epochs", "2",
            "--checkpoints", "2", "--seeds", "0", "1", "--pretrain_path", "synthetic:cxr20",
            "--pretrain_count", "150", "--pretrain_epochs", "1", "--output_path",
            str(tmp_path_factory.mktemp("architectures"))]


def table(folder, name):
    return list(csv.DictReader((folder / f"{name}.csv").open()))


@pytest.mark.slow
def test_a_study_grows_by_pretrained_networks(arguments, capsys):
    folder = Path(arguments[-1]) / FOLDER
    assert main([*arguments, "--starts", "random"]) == 0
    text = capsys.readouterr().out
    assert "nothing of patients" in text and "trained on 90 of" in text
    before = {path: path.read_bytes() for path in (folder / "units").iterdir()}
    assert len(before) == 2 * 2  # whole and truncated, seeds
    assert not (folder / "pretraining_gain.png").exists()

    assert main([*arguments, "--starts", "pretrained", "--dropped", "0", "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    assert "truncated - whole" in text and "pretrained - random" in text
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list((folder / "units").iterdir())) == len(before) + 1 + 1  # pretrained, trained

    rows = table(folder, "networks")
    assert [(row["start"], row["network"], row["dropped"]) for row in rows] == [
        ("random", "vgg11_eighth", "0"), ("random", "vgg11_eighth", "1"),
        ("pretrained", "vgg11_eighth", "0")]
    for row in rows:
        assert float(row["low"]) <= float(row["auroc"]) <= float(row["high"])
        assert int(row["seeds"]) == (1 if row["start"] == "pretrained" else 2)
    assert len(table(folder, "classes")) == 14 * len(rows)

    records = {dropped: [
        Predictions.load(folder / "predictions" / f"vgg11_eighth-{dropped}-random-seed{seed}.npz")
        for seed in (0, 1)] for dropped in (0, 1)}
    expected = arm_differences(records[0], records[1])["auroc_macro"]
    found = next(row for row in table(folder, "differences")
                 if (row["network"], row["change"], row["class"])
                 == ("vgg11_eighth", "truncated - whole", "macro"))
    assert [float(found[key]) for key in ("auroc", "low", "high")] == pytest.approx(
        [expected.value, expected.low, expected.high])
    results = json.loads((folder / "results.json").read_text())
    assert results["synthetic"] and len(results["units"]) == 6
    for name in ("truncation.png", "pretraining_gain.svg", "auroc_and_parameters.png"):
        assert (folder / name).stat().st_size > 0
    assert not (folder / "auroc_and_imagenet.png").exists()  # none is published of it


@pytest.mark.parametrize("changed, message", [
    (["--networks", "resnet19"], "no network is named"),
    (["--networks", "inceptionv4"], "needs images of at least 75x75 pixels, not 32x32"),
    (["--networks", "pathonet"], "density maps"),
    (["--dropped", "5"], "the blocks block1, block2, block3, block4, block5; at most 4 can go"),
    (["--dropped", "-1"], "at least 0"),
    (["--checkpoints", "0"], "at least 1"),
    (["--statistics", "-1"], "at least 0"),
    (["--lr", "0"], "must be above 0"),
    (["--train_images", "1"], "at least 2"),
    (["--data_path", "nowhere"], "no such file"),
    (["--data_path", "synthetic:ki67", "--size", "64", "--count", "24"], "labels of classes"),
])
def test_bad_input_is_one_line(arguments, tmp_path, capsys, changed, message):
    assert main([*arguments[:-1], str(tmp_path), *changed]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


def test_pretrained_needs_to_know_on_what(tmp_path, capsys):
    assert main(["--starts", "pretrained", "--workers", "1", "--output_path", str(tmp_path)]) == 2
    assert "--pretrain_path" in capsys.readouterr().err


def test_correlations_are_of_whole_networks_and_find_what_is_there():
    sizes = [1e6 * 2**power for power in range(7)]
    networks = [{"start": start, "dropped": dropped, "parameters": size, "imagenet_top1": 70 - rank,
                 "auroc": 0.7 + 0.01 * rank + (0.2 * (-1)**rank if dropped else 0)}
                for start in ("random", "pretrained") for dropped in (0, 1)
                for rank, size in enumerate(sizes)]
    gains = [{"change": "pretrained - random", "class": "macro", "dropped": 0, "parameters": size,
              "auroc": -rank} for rank, size in enumerate(sizes)]
    found = {(row["start"], row["of"], row["with"]): row
             for row in correlations(networks, gains, 0)}
    assert found["random", "auroc", "parameters"]["rho"] == pytest.approx(1)
    assert found["pretrained", "auroc", "imagenet_top1"]["rho"] == pytest.approx(-1)
    assert found["pretrained", "pretraining gain", "parameters"]["rho"] == pytest.approx(-1)
    assert {row["networks"] for row in found.values()} == {7}
    assert found["random", "auroc", "parameters"]["p"] < 0.01
    unknown = [row | {"imagenet_top1": math.nan} for row in networks]
    assert not [row for row in correlations(unknown, gains, 0) if row["with"] == "imagenet_top1"]
