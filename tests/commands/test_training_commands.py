"""`train.py`, `train_seeds.py` and `fine_tuning_study.py`, as their users call them."""

from __future__ import annotations

import csv
import json

import pytest

from cxcompress import models
from cxcompress.commands import fine_tuning_study, train_seeds
from cxcompress.commands.compress import main as compress
from cxcompress.commands.train import main as train


@pytest.mark.slow
def test_several_seeds_keep_the_one_best_on_validation(image_folder, tmp_path, capsys):
    argv = ["--model", "small_cxr", "--data_path", str(image_folder), "--size", "24", "--epochs",
            "1", "--seeds", "0", "1", "--augment", "--label_smoothing", "0.1",
            "--output_path", str(tmp_path)]
    assert train_seeds.main(argv) == 0
    folder = tmp_path / "small_cxr-seeds"
    rows = list(csv.DictReader((folder / "seeds.csv").open()))
    kept = min(rows, key=lambda row: float(row["val_loss"]))["seed"]
    assert json.loads((folder / "results.json").read_text())["kept"] == int(kept)
    assert (folder / "small_cxr.h5").read_bytes() == (
        folder / f"small_cxr-seed{kept}" / "small_cxr.h5").read_bytes()
    assert "mean test auroc_macro of 2 seeds" in capsys.readouterr().out


@pytest.mark.slow
def test_pathonet_trains_on_crops_and_is_judged_on_whole_fields(tmp_path, capsys):
    assert train(["--model", "pathonet", "--data_path", "synthetic:ki67", "--count", "24",
                  "--size", "64", "--crop", "32", "--epochs", "1", "--batch_size", "8",
                  "--output_path", str(tmp_path)]) == 0
    assert "f1_macro" in capsys.readouterr().out
    folder = tmp_path / "pathonet-seed0"
    assert train(["--model", "pathonet", "--data_path", "synthetic:ki67wide", "--count", "24",
                  "--size", "64", "--crop", "32", "--zoom", "1.5", "--stain_augmentation",
                  "--recipe", "paper", "--epochs", "1", "--batch_size", "8", "--seed", "1",
                  "--initial_weights", str(folder / "pathonet.h5"),
                  "--output_path", str(tmp_path)]) == 0
    capsys.readouterr()
    card = json.loads((tmp_path / "pathonet-seed1" / "pathonet.card.json").read_text())
    assert card["preprocessing"]["microns_per_pixel"] == pytest.approx(205 / 64)
    for flags, said in ((["--zoom", "1.5"], "--crop"), (["--zoom", "9", "--crop", "32"], "--zoom"),
                        (["--microns_per_pixel", "-1"], "--microns_per_pixel")):
        assert train(["--model", "pathonet", "--data_path", "synthetic:ki67", "--count", "24",
                      "--size", "64", "--output_path", str(tmp_path / "bad"), *flags]) == 2
        assert said in capsys.readouterr().err
    assert models.load_model(folder / "pathonet.h5").input_shape == (None, 64, 64, 3)
    card = json.loads((folder / "pathonet.card.json").read_text())
    assert card["task"] == "nuclei" and len(card["thresholds"]) == 3 and card["synthetic"]
    assert compress(["--net", str(folder / "pathonet.h5"), "--data_path", "synthetic:ki67",
                     "--count", "24", "--compression", "uUQ", "--clustercnn", "4", "--epochs", "1",
                     "--minibatch", "8", "--crop", "32", "--no_sensitivity", "--plans", "int8",
                     "--output_path", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "f1:immunopositive" in said and "after fine-tuning (95% interval)" in said


def test_a_study_has_a_row_a_treatment_and_seed_and_resumes(
    trained_net, image_folder, tmp_path, monkeypatch
):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--compressions", "uUQ",
            "uPWS", "--levels", "3", "--treatments", "none", "learned", "--seeds", "0", "1",
            "--learning_rate", "1e-3", "1e-5", "--epochs", "1", "--preprocessing", "0-1",
            "--output_path", str(tmp_path)]
    measure, calls = fine_tuning_study._one_treatment, []

    def interrupted_once(**arguments):
        calls.append(arguments["about"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(**arguments)

    monkeypatch.setattr(fine_tuning_study, "_one_treatment", interrupted_once)
    assert fine_tuning_study.main(argv) == 130
    assert fine_tuning_study.main(argv) == 0
    folder = tmp_path / "fine_tuning_study" / "spots"
    rows = list(csv.DictReader((folder / "results_fine_tuning_study.csv").open()))
    assert len(rows) == (1 + 2 * 2) + (2 + 2 * 2) == len(calls) - 1
    summary = list(csv.DictReader((folder / "summary.csv").open()))
    assert len(summary) == 2 * 2
    for kept in summary:
        losses: dict[str, float] = {}
        for row in rows:
            if all(row[name] == kept[name] for name in ("compression", "k", "treatment")):
                losses[row["learning_rate"]] = losses.get(row["learning_rate"], 0) + float(
                    row["val_loss"])
        assert kept["learning_rate"] == min(losses, key=losses.__getitem__)
    for row in rows:
        assert float(row["val_loss"]) <= float(row["val_loss_quantised"]) * (1 + 1e-5)
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
    assert (folder / "fine_tuning_study.svg").exists()
    table = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in (folder / "table.md").read_text().splitlines()]
    assert len(table) == 2 + 2 and len({len(line) for line in table}) == 1
    sizes = next(place for place, name in enumerate(table[0]) if name.startswith("space_ratio"))
    by_name = {(kept["compression"], kept["k"], kept["treatment"]): kept for kept in summary}
    for line in table[2:]:
        name, k = line[0].split(", k = ")
        learned = by_name[name, k, "learned"]
        assert line[sizes].split(" / ")[-1] == f"{float(learned['space_ratio']):.3f}"
        assert any(cell.startswith(f"{float(learned['auroc_macro']):.3f} (") for cell in line)


def test_a_study_without_epochs_is_refused(trained_net, image_folder, tmp_path, capsys):
    assert fine_tuning_study.main(["--net", str(trained_net), "--data_path", str(image_folder),
                                   "--epochs", "0", "--output_path", str(tmp_path)]) == 2
    assert "--epochs 0" in capsys.readouterr().err
