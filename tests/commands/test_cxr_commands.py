"""The chest X-ray road by command: train, resume, compare, adapt, compress, on each layout."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cxcompress import models
from cxcompress.commands.adaptive_finetune import main as adaptive_finetune
from cxcompress.commands.compare_runs import main as compare_runs
from cxcompress.commands.compress import main as compress
from cxcompress.commands.train import build_parser, start_model
from cxcompress.commands.train import main as train
from cxcompress.errors import InputError
from cxcompress.storage import read_card
from cxcompress.tasks import Predictions

SMALL = ["--model", "small_cxr", "--size", "16", "--batch_size", "16"]


@pytest.fixture(scope="module")
def nih(tmp_path_factory):
    """ChestX-ray14's layout: 90 patients, hearts are bright discs, some images show a bar too."""
    root = tmp_path_factory.mktemp("nih")
    rng = np.random.default_rng(0)
    (root / "images_001" / "images").mkdir(parents=True)
    y, x = np.mgrid[:24, :24]
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
            "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"]
    for patient in range(1, 91):
        for visit in range(2):
            name = f"{patient:08d}_{visit:03d}.png"
            heart, bar = rng.random(2) < (0.4, 0.2)
            image = rng.normal(90, 25, (24, 24))
            image += 90 * heart * ((y - 14) ** 2 + (x - 13) ** 2 < 30) + 70 * bar * (y > 19)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
                root / "images_001" / "images" / name)
            found = [name for name, there in (("Cardiomegaly", heart), ("Effusion", bar)) if there]
            rows.append(f"{name},{'|'.join(found) or 'No Finding'},{visit},{patient},"
                        f"{20 + patient % 60},{'MF'[patient % 2]},{('PA', 'AP')[visit]},2500,2048,"
                        "0.168,0.168,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")
    (root / "test_list.txt").write_text("\n".join(
        row.split(",")[0] for row in rows[1:] if int(row.split(",")[3]) > 60))
    return root


@pytest.fixture(scope="module")
def trained(nih, tmp_path_factory):
    """A run folder of `train.py` on it."""
    out = tmp_path_factory.mktemp("trained")
    assert train([*SMALL, "--data_path", str(nih), "--epochs", "6", "--patience", "6", "--lr",
                  "0.003", "--loss", "weighted_bce", "--rotation", "15", "--flip", "--tta", "2",
                  "--stop_on", "macro_ap", "--cache", "memory", "--remark", "Discs and bars.",
                  "--output_path", str(out)]) == 0
    return out / "small_cxr-seed0"


def test_a_run_folder_holds_all_that_a_paper_needs(trained, nih):
    test, val = (Predictions.load(trained / f"predictions_{part}.npz") for part in ("test", "val"))
    assert len(test.image_id) == 60 and not set(test.patient_id) & set(val.patient_id)
    assert set(test.about) == {"view", "age", "sex"}
    shown = list(csv.DictReader((trained / "test_pred.csv").open()))
    assert [row["image_id"] for row in shown] == test.image_id.tolist()
    np.testing.assert_allclose([float(row["Cardiomegaly"]) for row in shown], test.score[:, 1])
    metrics = {row["metric"]: row for row in csv.DictReader((trained / "metrics.csv").open())
               if row["part"] == "test"}
    assert float(metrics["auroc:Cardiomegaly"]["low"]) > 0.5
    assert metrics["auroc:Hernia"]["value"] in ("", "nan") and metrics["f1:Hernia"]["value"] in (
        "", "nan")
    groups = {(row["fact"], row["group"]) for row in csv.DictReader(
        (trained / "subgroups.csv").open())}
    assert {("sex", "F"), ("sex", "M"), ("view", "PA"), ("view", "AP")} <= groups
    history = list(csv.DictReader((trained / "history.csv").open()))
    results = json.loads((trained / "results.json").read_text())
    best = results["best_epoch"]
    assert float(history[best]["val_macro_ap"]) == max(float(row["val_macro_ap"])
                                                       for row in history)
    assert results["intake"]["used"] == 180
    for figure in ("roc", "precision_recall", "calibration", "classes", "training"):
        assert (trained / f"{figure}.png").exists() and (trained / f"{figure}.svg").exists()
    assert not (trained / "state.npz").exists()
    card = json.loads((trained / "small_cxr.card.json").read_text())
    assert card["provenance"]["test_time_copies"] == 2 and len(card["thresholds"]) == 14


def test_compress_shows_each_finding_before_and_after(trained, nih, tmp_path, capsys):
    assert compress(["--net", str(trained / "small_cxr.h5"), "--data_path", str(nih),
                     "--compression", "uCWS", "--clustercnn", "16", "--clusterfc", "16",
                     "--no_sensitivity", "--plans", "none", "--strict",
                     "--output_path", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("Cardiomegaly  "))
    assert line.count(" to ") == 6 and ("undecided" in line or "inferior" in line)
    folder = next((tmp_path / "uCWS").iterdir())
    rows = {row["finding"]: row for row in csv.DictReader((folder / "classes.csv").open())}
    assert len(rows) == 14 and rows["Hernia"]["AUROC after"] == "undefined"
    assert Predictions.load(folder / "predictions_compressed.npz").about["sex"].size == 60
    card = read_card(next(folder.glob("*.h5")))
    assert card.provenance["remark"] == "Discs and bars."


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nih", "nih_lt", "mimic_lt", "chexpert", "padchest",
                                  "medimaging", "nih_sample"])
def test_every_layout_is_trained_on_and_compressed(request, tmp_path, capsys, name):
    """The layouts of tests/data, each through both commands."""
    import importlib.util
    from pathlib import Path

    where = Path(__file__).parents[1] / "data" / "conftest.py"
    spec = importlib.util.spec_from_file_location("layouts", where)
    layouts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layouts)
    root = layouts.LAYOUTS[name](tmp_path / "data" / name)
    out = tmp_path / "out"
    assert train([*SMALL, "--data_path", str(root), "--epochs", "1", "--strict",
                  "--output_path", str(out)]) == 0
    assert compress(["--net", str(out / "small_cxr-seed0" / "small_cxr.h5"), "--data_path",
                     str(root), "--clustercnn", "8", "--clusterfc", "8", "--no_sensitivity",
                     "--plans", "none", "--output_path", str(out)]) == 0
    said = capsys.readouterr().out
    assert "AUROC difference" in said and "verdict: " in said


def test_runs_are_compared_with_their_verdict(trained, tmp_path, capsys):
    record = Predictions.load(trained / "predictions_test.npz")
    worse = Predictions(record.image_id, record.patient_id, record.classes, record.truth,
                        1 - record.score, record.task)
    (tmp_path / "other").mkdir()
    worse.save(tmp_path / "other" / "predictions_test.npz")
    assert compare_runs(["--arms", f"first={trained}", f"turned={tmp_path / 'other'}",
                         "--output_path", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "turned against first: " in said and "AUROC of each seed" in said
    folder = tmp_path / "compare_runs" / "first-turned"
    rows = {(row["arm"], row["kind"], row["metric"]): float(row["value"] or "nan")
            for row in csv.DictReader((folder / "arms.csv").open())}
    first, turned = (rows[arm, "value", "auroc:Cardiomegaly"] for arm in ("first", "turned"))
    assert turned == pytest.approx(1 - first)
    assert rows["turned", "difference from first", "auroc:Cardiomegaly"] == pytest.approx(
        turned - first)


@pytest.mark.slow
def test_the_direct_arm_alone_has_the_budget_of_the_chain(nih, tmp_path, capsys):
    assert adaptive_finetune(["--data_path", str(nih), "--pneumonia_path", "none", "--model",
                              "small_cxr", "--size", "16", "--stage_epochs", "1", "1", "1",
                              "--arms", "direct", "--output_path", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "stage 1, cardiomegaly" in said and "stage 2, 14 diseases" in said
    assert "direct: 2 epochs of the last stage" in said
    folder = tmp_path / "adaptive_finetune" / "small_cxr"
    assert (folder / "direct-seed0.h5").exists() and (folder / "arms.csv").exists()
    record = Predictions.load(folder / "predictions_direct-seed0.npz")
    assert len(record.image_id) == 60 and len(record.classes) == 14


@pytest.mark.slow
def test_the_adaptive_chain_against_direct_training(nih, tmp_path, capsys):
    argv = ["--data_path", str(nih), "--pneumonia_path", str(nih), "--model", "small_cxr",
            "--size", "16", "--stage_epochs", "1", "1", "2", "--arms", "direct", "frozen",
            "--output_path", str(tmp_path)]
    assert adaptive_finetune(argv) == 0
    said = capsys.readouterr().out
    assert "chain, backbone frozen - direct" in said
    folder = tmp_path / "adaptive_finetune" / "small_cxr"
    rows = list(csv.DictReader((folder / "training.csv").open()))
    seen = {arm: sum(int(row["images_seen"]) for row in rows if row["arm"] == arm)
            for arm in ("direct", "frozen")}
    last = int(next(row for row in rows if row["arm"] == "direct")["images_seen"])
    assert abs(seen["direct"] - seen["frozen"]) <= last / 2      # to the nearest epoch
    assert [row["frozen"] for row in rows] == ["False", "False", "True", "True"]
    assert (folder / "arms.svg").exists()
    # Another arm joins the finished run; nothing is trained again.
    before = (folder / "direct-seed0.h5").stat().st_mtime_ns
    assert adaptive_finetune([*argv, "--arms", "chain"]) == 0
    assert (folder / "direct-seed0.h5").stat().st_mtime_ns == before
    assert "chain - direct" in capsys.readouterr().out


def test_a_trained_file_gives_everything_but_its_head(trained):
    notes: list[str] = []
    arguments = build_parser().parse_args(
        ["--model", "small_cxr", "--size", "32", "--pretrained", str(trained / "small_cxr.h5")])
    model, preprocessing = start_model(arguments, 3, "sigmoid", notes)
    source = models.load_model(trained / "small_cxr.h5")
    np.testing.assert_array_equal(model.get_layer("stem").kernel, source.get_layer("stem").kernel)
    assert model.output_shape == (None, 3) and preprocessing.size == (32, 32)
    assert "the head is new" in notes[0]
    arguments.model = "resnet18"
    with pytest.raises(InputError, match="same architecture"):
        start_model(arguments, 3, "sigmoid", notes)


@pytest.mark.parametrize(("more", "message"), [
    (["--loss", "focal", "--data_path", "synthetic:ki67", "--size", "64"], "--loss"),
    (["--tta", "4"], "--tta"), (["--rotation", "400"], "--rotation 400"),
    (["--lr", "0"], "--lr 0"), (["--epochs", "0"], "--epochs 0"),
    (["--pretrained", "nothing.h5"], "nothing.h5"), (["--columns", "x"], "--columns x"),
    (["--stop_on", "nothing"], "--stop_on"),
])
def test_flags_that_cannot_be_used_are_named(tmp_path, capsys, more, message):
    assert train([*SMALL, "--count", "24", "--output_path", str(tmp_path / "out"), *more]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1
    assert not any((tmp_path / "out").rglob("*.h5"))


@pytest.mark.parametrize(("more", "message"), [
    (["--stage_epochs", "0", "1", "1"], "--stage_epochs"),
    (["--data_path", "synthetic:ki67", "--count", "24"], "Cardiomegaly"),
])
def test_chains_that_cannot_be_are_named(tmp_path, capsys, more, message):
    assert adaptive_finetune([*more, "--pneumonia_path", "none", "--output_path",
                              str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_predictions_of_other_images_are_not_compared(trained, tmp_path, capsys):
    record = Predictions.load(trained / "predictions_test.npz")
    record.select(np.arange(20)).save(tmp_path / "few.npz")
    argv = ["--output_path", str(tmp_path), "--arms", f"a={trained}"]
    assert compare_runs([*argv, f"b={tmp_path / 'few.npz'}"]) == 2
    assert "same images" in capsys.readouterr().err
    assert compare_runs([*argv, f"b={tmp_path}"]) == 2
    assert "holds no predictions_test.npz" in capsys.readouterr().err
