"""`run_rmse_acc.py`, `reproduce_k256.py` and `import_pathonet.py`, as their users call them."""

from __future__ import annotations

import csv
import dataclasses
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from cxcompress import models
from cxcompress.commands.compress import main as compress
from cxcompress.commands.import_pathonet import main as import_pathonet
from cxcompress.commands.predict import main as predict
from cxcompress.commands.reproduce_k256 import main as reproduce
from cxcompress.commands.run_rmse_acc import main as run_rmse_acc
from cxcompress.data.collection import Part
from cxcompress.data.shidc import NUCLEI
from cxcompress.data.synthetic_ki67 import FIELD_MICRONS, generate_fields, write_fields
from cxcompress.images import Preprocessing
from cxcompress.pipeline.fields import JudgedModel
from cxcompress.storage import ModelCard

SIDE = 128
SYNTHETIC = f"synthetic:ki67_{SIDE}"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A network that takes brown for positive and blue for negative nuclei, with its card.

    Colour and a blur are enough to find most of them, and quick.
    """
    import keras

    from cxcompress.runs import to_json

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((SIDE, SIDE, 3)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(3, 1, activation="relu", name="density")])
    noise = np.random.default_rng(0)
    kernel = noise.normal(0, 1e-2, (3, 3, 3, 16)).astype(np.float32)
    # Darkness, blueness and brownness of the middle pixel.
    for channel, colour in enumerate(((-1, -1, -1), (-2, 0, 1), (1, 0, -2))):
        kernel[1, 1, :, channel] = colour
    bias = np.zeros(16, np.float32)
    bias[:3] = 2.2, 0.4, 0.4
    model.layers[0].set_weights([kernel, bias])
    smooth = noise.normal(0, 1e-3, (3, 3, 16, 16)).astype(np.float32)
    smooth[:, :, range(3), range(3)] = 1 / 9
    model.layers[1].set_weights([smooth, np.zeros(16, np.float32)])
    last = noise.normal(0, 0.1, (1, 1, 16, 3)).astype(np.float32)
    last[0, 0, :3, 0], last[0, 0, :3, 1] = (100, 0, 200), (100, 200, 0)
    model.layers[2].set_weights([last, np.array([-30, -30, -1], np.float32)])
    path = tmp_path_factory.mktemp("net") / "colours.h5"
    model.save(path)
    card = ModelCard(task="nuclei", classes=NUCLEI, thresholds=(60, 60, 60), synthetic=True,
                     preprocessing=dataclasses.replace(
                         Preprocessing.preset("0-1", (SIDE, SIDE), 3),
                         microns_per_pixel=FIELD_MICRONS / SIDE).to_dict())
    path.with_name("colours.card.json").write_text(to_json(card.to_dict()))
    return path


@pytest.fixture(scope="module")
def container(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    assert compress(["--net", str(net), "--compression", "uCWS", "--clustercnn", "64", "--plans",
                     "float32", "--data_path", SYNTHETIC, "--count", "24", "--no_sensitivity",
                     "--output_path", str(folder)]) == 0
    return next(folder.rglob("*.h5"))


def test_models_are_judged_by_cell_and_patient_in_both_engines(net, container, tmp_path, capsys):
    argv = ["--net", str(net), "--compr_weights", str(container), "--data_path", SYNTHETIC,
            "--count", "60"]
    for engine, more in (("keras", ["--cut_offs", "ikwg", "--pictures", "0"]),
                         ("runtime", ["--matching", "paper", "--pictures", "1"])):
        assert run_rmse_acc([*argv, *more, "--engine", engine, "--output_path",
                             str(tmp_path / engine)]) == 0
        said = capsys.readouterr().out
        for words in ("RMSE Ki-67", "accuracy ikwg", "generated", "fewer than 500"):
            assert words in said
    assert "one-to-one" in said and "paper" in said
    folder = tmp_path / "runtime" / "run_rmse_acc" / "colours"
    results = json.loads((folder / "results.json").read_text())
    original, compressed = results["models"]
    assert (original["engine"], compressed["engine"], compressed["plan"]) == (
        "keras", "runtime", "float32")
    assert compressed["verdict"] in ("non-inferior", "inferior", "undecided")
    assert original["cells"]["one-to-one"]["f1:immunopositive"]["value"] > 0.5
    for row in results["models"]:
        for name in NUCLEI:
            paper, ours = (row["cells"][rule][f"recall:{name}"]["value"] or 0
                           for rule in ("paper", "one-to-one"))
            assert paper <= ours
        for key in ("ki67_index_rmse", "ki67_index_icc", "til_fraction_rmse"):
            assert {"value", "low", "high", "n", "patients"} <= row["indices"][key].keys()
    rows = list(csv.DictReader((folder / "results_RMSE_cutoffAccuracy_comprNets.csv").open()))
    assert [row["exp"] for row in rows] == ["colours", container.stem]
    assert float(rows[0]["rmse_ki67"]) == pytest.approx(
        original["indices"]["ki67_index_rmse"]["value"])
    for name in ("models.png", "models.svg", "figures/bland_altman_ki67_index_colours.png",
                 "figures/confusion_ki67_index_ikwg_colours.svg", "patients_colours.csv",
                 "results_cells.csv", "results_indices.csv"):
        assert (folder / name).stat().st_size > 100
    assert len(list((folder / "cells").glob("*.png"))) == 2
    assert json.loads(next((folder / "cells").glob("*.geojson")).read_text())["type"] == (
        "FeatureCollection")
    keras = json.loads((tmp_path / "keras" / "run_rmse_acc" / "colours" / "results.json")
                       .read_text())["models"]
    # The same shared weights, by another engine.
    assert keras[1]["cells"]["one-to-one"]["f1_macro"]["value"] == pytest.approx(
        compressed["cells"]["one-to-one"]["f1_macro"]["value"], abs=0.02)


@pytest.mark.slow
def test_tuned_thresholds_are_chosen_on_validation_and_kept(net, tmp_path, capsys):
    argv = ["--net", str(net), "--data_path", SYNTHETIC, "--count", "36", "--pictures", "0"]
    assert run_rmse_acc([*argv, "--tune", "--part", "val", "--output_path", str(tmp_path / "a")
                         ]) == 0
    assert run_rmse_acc([*argv, "--thresholds", "paper", "--part", "val", "--cut_offs", "ikwg",
                         "--output_path", str(tmp_path / "b")]) == 0
    capsys.readouterr()
    tuned, paper = (json.loads((tmp_path / name / "run_rmse_acc" / "colours" / "results.json")
                               .read_text())["models"][0] for name in "ab")
    assert paper["thresholds"] == [60, 55, 40] != tuned["thresholds"]
    for name in NUCLEI[:2]:
        assert tuned["cells"]["one-to-one"][f"f1:{name}"]["value"] >= (
            paper["cells"]["one-to-one"][f"f1:{name}"]["value"])


def test_predict_counts_the_cells_of_a_field_of_any_size(container, tmp_path, capsys):
    """Three by three fields side by side hold about nine times the cells of one."""
    ((image, _, _),) = generate_fields(1, SIDE, seed=4)
    for name, times in (("one", 1), ("nine", 3)):
        Image.fromarray(np.tile(image, (times, times, 1))).save(tmp_path / f"{name}.png")
    argv = [str(container), str(tmp_path / "one.png"), str(tmp_path / "nine.png"), "--json"]
    assert predict([*argv, "--microns_per_pixel", str(FIELD_MICRONS / SIDE)]) == 0
    one, nine = (sum(row["cells"].values())
                 for row in json.loads(capsys.readouterr().out)["images"])
    assert one > 20 and 8 * one <= nine <= 10 * one
    assert predict([*argv[:-1]]) == 0
    assert "taken as one field" in capsys.readouterr().out
    wide = Image.fromarray(np.tile(image, (1, 3, 1)))
    wide.save(tmp_path / "wide.png")
    assert predict([str(container), str(tmp_path / "wide.png")]) == 0
    assert "not square" in capsys.readouterr().out
    for scale in ("0", "-1", "nan", "900"):
        assert predict([*argv, "--microns_per_pixel", scale]) == 2
        assert "microns" in capsys.readouterr().err


def test_fields_in_a_folder_keep_their_scale(net, tmp_path, capsys):
    """Recorded fields of another size than the network's are looked at at its scale."""
    folder = write_fields(tmp_path / "fields", 24, size=2 * SIDE, seed=3, fields_per_patient=3)
    assert run_rmse_acc(["--net", str(net), "--data_path", str(folder), "--pictures", "0",
                         "--cut_offs", "ikwg", "--output_path", str(tmp_path)]) == 0
    assert "generated fields" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "run_rmse_acc" / "colours" / "results.json").read_text()
                        )["models"]
    assert row["cells"]["one-to-one"]["f1:immunonegative"]["value"] > 0.5


@pytest.mark.slow
def test_one_command_compresses_times_judges_and_resumes(net, tmp_path, capsys, monkeypatch):
    from cxcompress.commands import run_rmse_acc as judging

    judge, calls = judging.judge_model, []

    def interrupted_once(**arguments):
        calls.append(arguments["path"].stem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(**arguments)

    monkeypatch.setattr(judging, "judge_model", interrupted_once)
    argv = ["--net", str(net), "--data_path", SYNTHETIC, "--count", "36", "--clustercnn", "64",
            "--compressions", "uUQ", "uECSQ", "--repeats", "2", "--engine", "runtime", "--plan",
            "int8", "--plans", "int8", "--pictures", "0", "--epochs", "2", "--crop", "64",
            "--output_path", str(tmp_path)]
    assert reproduce(argv) == 130
    assert reproduce(argv) == 0
    said = capsys.readouterr().out
    assert "fine-tuning: " in said
    assert calls == ["colours", "colours-uUQ-64", "colours-uUQ-64", "colours-uECSQ-64"]
    assert "space_ratio" in said and "time_ratio" in said and "colours-uECSQ-64" in said
    folder = tmp_path / "reproduce_k256" / "colours"
    sizes = list(csv.DictReader((folder / "results_sizes.csv").open()))
    assert [row["model"] for row in sizes] == ["colours", "colours-uUQ-64", "colours-uECSQ-64"]
    for row in sizes[1:]:
        assert int(row["bytes"]) == (
            folder / "containers" / f"{row['model']}.h5").stat().st_size
        assert float(row["time_ratio"]) > 0 and row["timed_plan"] == "int8"
    assert reproduce(argv) == 2
    assert "finished run" in capsys.readouterr().err


def test_fields_of_another_scale_are_looked_at_in_tiles(net):
    """The same field stored four times as large gives the same cells, resized whole or in tiles."""
    judged = JudgedModel.open(net)
    ((image, cells, patient),) = generate_fields(1, 128, seed=4)
    large = np.asarray(image).repeat(4, 0).repeat(4, 1)
    parts = [Part([picture], [cells * (factor, factor, 1)], np.array(["a"]), np.array([patient]))
             for picture, factor in ((image, 1), (large, 4))]
    scale = FIELD_MICRONS / 128
    one, other = (judged.found(part, scale / factor) for part, factor in
                  zip(parts, (1, 4), strict=True))
    assert judged.scale(image, scale) is judged.scale(large, scale / 4) is None
    assert judged.scale(large, scale / 2) == pytest.approx(0.5)
    assert len(one.cells[0]) > 20
    gaps = np.hypot(*(one.cells[0][:, None] - other.cells[0][None]).transpose(2, 0, 1)[:2])
    assert (gaps.min(0) < 3).mean() > 0.9 and (gaps.min(1) < 3).mean() > 0.8
    np.testing.assert_allclose(one.annotated[0][:, :2], other.annotated[0][:, :2], atol=0.51)
    whole = np.tile(image, (2, 2, 1))
    four = Part([whole], [np.zeros((0, 3), int)], np.array(["a"]), np.array([patient]))
    assert judged.scale(whole, scale) == pytest.approx(1)
    tiled = judged.found(four, scale).cells[0]
    assert 3.4 * len(one.cells[0]) <= len(tiled) <= 4.4 * len(one.cells[0])


def test_bad_input_is_one_line(net, container, tmp_path, capsys):
    def refused(command, *argv):
        assert command([*map(str, argv), "--output_path", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.csv"))
        return error

    assert "give --net" in refused(run_rmse_acc)
    assert "no such file" in refused(run_rmse_acc, "--net", tmp_path / "none.h5")
    assert "unknown" in refused(run_rmse_acc, "--net", net, "--cut_offs", "mine")
    assert "no such file" in refused(reproduce, "--net", tmp_path / "none.h5")
    assert "leave --thresholds out" in refused(
        run_rmse_acc, "--net", net, "--tune", "--thresholds", "60", "55", "40")
    assert "one number a class" in refused(run_rmse_acc, "--net", net, "--thresholds", "high")
    assert "same name" in refused(run_rmse_acc, "--net", net, "--compr_weights", net)
    assert "not annotated nuclei" in refused(
        run_rmse_acc, "--net", net, "--data_path", "synthetic:cxr_64", "--count", "150")
    assert "no plan 'int8'" in refused(
        run_rmse_acc, "--net", container, "--data_path", SYNTHETIC, "--count", "24", "--engine",
        "runtime", "--plan", "int8")
    assert "microns" in refused(
        run_rmse_acc, "--net", net, "--data_path", SYNTHETIC, "--count", "24",
        "--microns_per_pixel", "300")


@pytest.mark.slow
def test_pickled_pathonet_weights_become_a_model(tmp_path, capsys):
    import keras

    keras.utils.set_random_seed(3)
    model = models.build("pathonet", (64, 64, 3), 3)
    path = tmp_path / "0-0-0-256-0.0001-1e-05-5-75-147.1456.h5"
    path.write_bytes(pickle.dumps(model.get_weights()))
    argv = [str(path), "--size", "64", "--name", "mine", "--output_path", str(tmp_path / "out")]
    assert import_pathonet(argv) == 0
    assert "3,236,907 parameters" in capsys.readouterr().out
    found = models.load_model(tmp_path / "out" / "mine.h5")
    inputs = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    np.testing.assert_allclose(found.predict(inputs, verbose=0), model.predict(inputs, verbose=0),
                               rtol=1e-5, atol=1e-5)
    card = ModelCard.from_dict(json.loads((tmp_path / "out" / "mine.card.json").read_text()))
    assert card.task == "nuclei" and card.thresholds == (60, 55, 40)
    assert import_pathonet(argv) == 2
    assert "exists" in capsys.readouterr().err
    path.write_bytes(pickle.dumps(model.get_weights()[:-1]))
    assert import_pathonet([*argv, "--overwrite"]) == 2
    assert "another network" in capsys.readouterr().err


def test_pickles_that_are_no_weights_are_refused(tmp_path, capsys):
    path = tmp_path / "weights.h5"
    path.write_bytes(pickle.dumps({"a": 1}))
    for argv in ([str(path)], [str(tmp_path / "none.h5")], [str(path), "--size", "100"],
                 [str(path), "--microns_per_pixel", "-1"]):
        assert import_pathonet([*argv, "--output_path", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
