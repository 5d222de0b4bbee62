"""`cxcompress predict`, `bench`, `info` and `export` as a clinic calls them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cxcompress import commands, models
from cxcompress.commands import bench, compress, export, predict, time_space_eval
from cxcompress.storage import read_card
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def model(trained_net, image_folder, tmp_path_factory):
    """The small trained net, compressed with all its plans."""
    output = tmp_path_factory.mktemp("planned")
    assert compress.main(["--net", str(trained_net), "--data_path", str(image_folder),
                          "--output_path", str(output), "--compression", "uUQ",
                          "--no_sensitivity"]) == 0
    return next((output / "uUQ").glob("*/*.h5"))


def said(main, argv, capsys) -> str:
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


def refused(main, argv, capsys) -> str:
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_folder_is_classified_as_keras_does(model, trained_net, image_folder, tmp_path, capsys):
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing

    folder = image_folder / "test"
    text = said(predict.main, [model, folder, "--plan", "float32", "--json"], capsys)
    answers = json.loads(text)
    assert answers["plan"] == "float32" and len(answers["images"]) == 60
    test = open_collection(image_folder).test
    keras_model = models.load_model(model)
    expected = np.asarray(keras_model(Preprocessing.preset("0-1", (24, 24), 1).batch(test.images)))
    found = np.array([[entry["findings"][name]["probability"] for name in ("covid", "normal")]
                      for entry in answers["images"]])
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(expected[:, 0]), atol=1e-4)
    right = [entry["findings"][entry["image"].split("/")[-2]]["present"]
             for entry in answers["images"]]
    assert np.mean(right) > 0.8


def test_table_and_csv(model, image_folder, tmp_path, capsys):
    image = next((image_folder / "test" / "covid").glob("*.png"))
    target = tmp_path / "answers.csv"
    text = said(predict.main, [model, image, "--csv", target], capsys)
    assert "not a medical device" in text and "* = the most probable class" in text
    rows = list(csv.DictReader(target.open()))
    assert float(rows[0]["covid"]) + float(rows[0]["normal"]) == pytest.approx(1, abs=0.01)
    assert f"{target}: exists" in refused(predict.main, [model, image, "--csv", target], capsys)


def test_bad_images_are_one_line(model, tmp_path, capsys):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert "text.png: not an image" in refused(predict.main, [model, text], capsys)
    assert "no such file" in refused(predict.main, [model, tmp_path / "none.png"], capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "folder without images" in refused(predict.main, [model, empty], capsys)
    large = tmp_path / "large.png"
    Image.new("1", (20000, 20000)).save(large)
    assert "million pixels" in refused(predict.main, [model, large], capsys)
    grey = tmp_path / "grey.png"
    Image.new("L", (30, 30)).save(grey)
    assert "--geojson" in refused(predict.main, [model, grey, "--geojson", tmp_path], capsys)


def test_nuclei_are_counted_drawn_and_written_for_qupath(tmp_path, capsys):
    from cxcompress.data import open_collection

    part = open_collection("synthetic:ki67", size=256, channels=3, seed=5, count=24).test
    field, cells = np.asarray(part.images[0]), part.labels[0]
    large = Image.fromarray(field).resize((512, 512))
    large.save(tmp_path / "field.png")
    model = REPOSITORY / "pretrained" / "pathonet_synthetic_ki67wide-uCWS-256.h5"
    folder = tmp_path / "out"
    answer = json.loads(said(predict.main, [
        model, tmp_path / "field.png", "--json", "--geojson", folder, "--annotated", folder,
        "--csv", tmp_path / "cells.csv"], capsys))
    assert answer["synthetic"] is True
    row = answer["images"][0]
    counts = list(row["cells"].values())
    true = np.bincount(cells[:, 2], minlength=4)[1:]
    assert abs(sum(counts) - true.sum()) <= 0.3 * true.sum()
    assert row["ki67_index"] == pytest.approx(counts[0] / (counts[0] + counts[1]))
    assert row["til_fraction"] == pytest.approx(counts[2] / sum(counts))
    assert row["too_few_nuclei"] is True
    found = json.loads((folder / "field.geojson").read_text())["features"]
    assert len(found) == sum(counts)
    # In pixels of the picture given, twice those of the network's input.
    places = np.array([feature["geometry"]["coordinates"] for feature in found])
    distance = np.linalg.norm(places[:, None] - 2 * cells[None, :, :2], axis=-1).min(axis=1)
    assert np.median(distance) < 10
    drawn = Image.open(folder / "field.png")
    assert drawn.size == (512, 512) and (np.asarray(drawn) != np.asarray(large)).any()
    assert "exists; give --overwrite" in refused(
        predict.main, [model, tmp_path / "field.png", "--geojson", folder], capsys)


def test_bench_measures_every_plan_and_saves_the_fastest(model, tmp_path, capsys):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(model.read_bytes())
    numbers = json.loads(said(bench.main, [copy, "--threads", 1, "--repeats", 3, "--json"],
                              capsys))
    assert numbers["plans"].keys() == {"float32", "int8", "static_int8"}
    for row in numbers["plans"].values():
        assert 0 < row["latency_seconds"] < row["cold_start_seconds"]
        assert row["peak_bytes"] > 20e6
        assert row["difference"] < 0.05
    assert "recommended plan is now float32" in said(
        bench.main, [copy, "--plan", "float32", "--save", "--repeats", 2], capsys)
    assert read_card(copy).recommended_plan == "float32"


def test_a_model_is_checked_with_the_users_own_pictures(trained_net, image_folder, tmp_path,
                                                         capsys):
    folder, empty = image_folder / "test" / "covid", tmp_path / "empty"
    empty.mkdir()
    argv = ["--net", trained_net, "--data_path", image_folder, "--compression", "uUQ",
            "--output_path", tmp_path, "--no_sensitivity", "--plans", "float32"]
    assert "without images" in refused(
        compress.main, [*argv, "--check_images", empty], capsys)
    assert not (tmp_path / "uUQ").exists()
    said(compress.main, [*argv, "--check_images", folder], capsys)
    file = next((tmp_path / "uUQ").glob("*/*.h5"))
    assert "images_sha256" in read_card(file).metrics["execution"]["check"]

    def difference(*words):
        words = (file, "--repeats", 1, "--json", *words)
        return json.loads(said(bench.main, words, capsys))["plans"]["float32"]["difference"]

    assert difference("--check_images", folder) < 1e-5
    assert difference() is None
    assert "not the 4 pictures" in refused(
        bench.main, [file, "--check_images", image_folder / "test" / "normal"], capsys)


def test_exports_run_elsewhere(model, tmp_path, capsys):
    from ai_edge_litert.interpreter import Interpreter

    lite, whole = tmp_path / "model.tflite", tmp_path / "model.keras"
    said(export.main, [model, "--to", "tflite", "--output", lite], capsys)
    said(export.main, [model, "--to", "keras", "--output", whole], capsys)
    Interpreter(model_path=str(lite)).allocate_tensors()
    inputs = np.random.default_rng(0).random((2, 24, 24, 1), np.float32)
    np.testing.assert_allclose(models.load_model(whole)(inputs), models.load_model(model)(inputs),
                               rtol=1e-5)
    assert "exists; give --overwrite" in refused(
        export.main, [model, "--to", "tflite", "--output", lite], capsys)


@pytest.mark.slow
def test_time_ratio_is_that_of_the_recommended_plan(model, trained_net, tmp_path, capsys):
    said(time_space_eval.main, ["--net", trained_net, "--compr_weights", model, "--repeats", 3,
                                "--output_path", tmp_path], capsys)
    results = json.loads(next(tmp_path.rglob("results.json")).read_text())
    plan = f"plan {read_card(model).recommended_plan}"
    assert results["runs_by"] == plan
    median = results["median_seconds"]
    assert results["time_ratio"] == pytest.approx(median[plan] / median["Keras compiled call"])
    assert results["memory_ratio"] < 0.5


def test_a_keras_file_is_not_a_container(trained_net, tmp_path, capsys):
    image = tmp_path / "grey.png"
    Image.new("L", (30, 30)).save(image)
    for main, argv in ((predict.main, [trained_net, image]), (bench.main, [trained_net]),
                       (export.main, [trained_net, "--to", "tflite"])):
        assert str(trained_net) in refused(main, argv, capsys)


def test_every_command_is_listed(capsys):
    assert commands.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("predict", "bench", "export"))
