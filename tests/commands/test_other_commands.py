"""`time_space_eval.py`, `quantizer_sweep.py`, `train.py`, `info` and the dispatcher."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from cxcompress import commands, models
from cxcompress.commands import compress, info, quantizer_sweep, time_space_eval, train


@pytest.fixture(scope="module")
def container(trained_net, image_folder, tmp_path_factory):
    """A compressed file of the small net, with the card of a run on images."""
    output = tmp_path_factory.mktemp("compressed")
    assert compress.main(["--net", str(trained_net), "--data_path", str(image_folder),
                          "--output_path", str(output), "--compression", "uUQ",
                          "--no_sensitivity", "--plans", "none"]) == 0
    return next((output / "uUQ").glob("*/*.h5"))


def refused(main, argv, capsys) -> str:
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_time_space_eval_measures_both_and_their_outputs_agree(
    trained_net, container, image_folder, tmp_path, capsys
):
    assert time_space_eval.main([
        "--net", str(trained_net), "--compr_weights", str(container), "--testset",
        str(image_folder), "--compression", "UQ", "--repeats", "3", "--no_memory",
        "--output_path", str(tmp_path)]) == 0
    assert "time_ratio" in capsys.readouterr().out
    folder = next((tmp_path / "time_space_eval").iterdir())
    results = json.loads((folder / "results.json").read_text())
    seconds = results["seconds"]
    assert set(seconds) == {"Keras predict", "Keras compiled call", "index maps in graph"}
    assert all(len(values) == 3 and min(values) > 0 for values in seconds.values())
    ratio = np.median(seconds["index maps in graph"]) / np.median(seconds["Keras compiled call"])
    assert results["time_ratio"] == pytest.approx(ratio)
    # One byte a weight and a float32 step or codebook, biases and BatchNormalization in float32.
    assert results["weight_bytes_compressed"] < 0.5 * results["weight_bytes_original"]
    original = models.load_model(trained_net)
    inputs = np.random.default_rng(0).random((1, 24, 24, 1), np.float32)
    change = np.abs(models.load_model(container)(inputs) - original(inputs)).max()
    assert results["largest_output_difference"] < 10 * max(float(change), 0.01)
    assert (folder / "latencies.svg").stat().st_size > 0


def test_time_space_eval_refuses_what_does_not_belong_together(
    trained_net, container, tmp_path, capsys
):
    import keras

    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]).save(
        tmp_path / "other.h5")
    common = ["--output_path", tmp_path / "out", "--no_memory"]
    line = refused(time_space_eval.main, ["--net", tmp_path / "other.h5", "--compr_weights",
                                          container, *common], capsys)
    assert "was not made from" in line
    line = refused(time_space_eval.main, ["--net", trained_net, "--compr_weights", container,
                                          "--compression", "uCWS", *common], capsys)
    assert "was compressed with uUQ, not uCWS" in line
    line = refused(time_space_eval.main, ["--net", trained_net, "--compr_weights", trained_net,
                                          *common], capsys)
    assert "not a cxcompress container" in line
    line = refused(time_space_eval.main, ["--net", trained_net, "--compr_weights", container,
                                          "--repeats", "0", *common], capsys)
    assert "--repeats 0" in line


def test_a_sweep_has_a_row_a_treatment_and_resumes(trained_net, image_folder, tmp_path, capsys):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--output_path",
            str(tmp_path), "--compressions", "uCWS", "pruUQ", "--levels", "16", "2"]
    assert quantizer_sweep.main(argv) == 0
    folder = tmp_path / "quantizer_sweep" / trained_net.stem
    rows = list(csv.DictReader((folder / "results_quantizer_sweep.csv").open()))
    assert [(row["compression"], row["k"]) for row in rows] == [
        ("uCWS", "16"), ("uCWS", "2"), ("pruUQ", "16"), ("pruUQ", "2")]
    assert float(rows[0]["sqnr_db"]) > float(rows[1]["sqnr_db"])
    assert int(rows[0]["bytes"]) > int(rows[1]["bytes"])
    assert all(row["n"] == "60" for row in rows)
    assert (folder / "quantizer_sweep.png").stat().st_size > 0
    assert "--overwrite" in refused(quantizer_sweep.main, argv, capsys)


@pytest.mark.slow
def test_a_sweep_marks_what_nothing_beats(trained_net, image_folder, tmp_path, capsys):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--output_path",
            str(tmp_path), "--compressions", "uUQ", "TCQ", "--levels", "64", "--sqnr", "12", "20",
            "--sensitivities", "none", "fisher", "channels", "--epochs", "0", "1"]
    assert quantizer_sweep.main(argv) == 0
    folder = tmp_path / "quantizer_sweep" / trained_net.stem
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert len(rows) == 2 + 2 * 3 * 2
    front = [row for row in rows if row["on_front"]]
    for row in rows:
        beaten = any(other["bytes"] <= row["bytes"]
                     and other["primary_value"] >= row["primary_value"]
                     and other is not row for other in front)
        assert row["on_front"] or beaten
    sizes = {row["sqnr_asked"]: row["bytes"] for row in rows
             if row["sensitivity"] == "none" and row["compression"] == "TCQ" and not row["epochs"]}
    assert sizes[12.0] < sizes[20.0]
    assert (folder / "size_and_accuracy.svg").stat().st_size > 0


@pytest.mark.parametrize("flags", [
    ["--preprocessing", "sepia"], ["--coder", "zip"], ["--levels", "0"],
    ["--compressions", "uXYZ"], ["--net", "missing.h5"]])
def test_a_sweep_refuses_what_it_cannot_use(flags, trained_net, image_folder, tmp_path, capsys):
    line = refused(quantizer_sweep.main, [
        "--net", trained_net, "--data_path", image_folder, "--output_path", tmp_path / "out",
        *flags], capsys)
    assert flags[1] in line
    assert not (tmp_path / "out").exists()


def test_train_writes_a_model_that_compress_takes_with_its_card(tmp_path, capsys):
    assert train.main(["--model", "small_cxr", "--data_path", "synthetic:cxr", "--size", "28",
                       "--count", "60", "--epochs", "1", "--batch_size", "20", "--output_path",
                       str(tmp_path)]) == 0
    net = tmp_path / "small_cxr-seed0" / "small_cxr.h5"
    card = json.loads(net.with_name("small_cxr.card.json").read_text())
    assert card["synthetic"] is True and card["task"] == "multilabel"
    capsys.readouterr()
    assert compress.main(["--net", str(net), "--output_path", str(tmp_path / "out"),
                          "--no_sensitivity", "--plans", "none"]) == 0
    assert info.main([str(next((tmp_path / "out").rglob("*sqnr*.h5"))), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.split("medical device.\n", 1)[1])
    assert said["synthetic"] is True
    assert said["classes"] == card["classes"]
    assert said["preprocessing"] == card["preprocessing"]


def test_info_prints_card_and_layers(container, capsys):
    assert info.main([str(container)]) == 0
    said = capsys.readouterr().out
    assert "compression: uUQ" in said and "conv2d" in said and "covid" in said
    assert "not a medical device" in said


def test_info_refuses_what_is_no_container(trained_net, tmp_path, capsys):
    (tmp_path / "text.h5").write_text("hello")
    for path in (trained_net, tmp_path / "text.h5", tmp_path / "missing.h5"):
        assert path.name in refused(info.main, [path], capsys)


def test_the_dispatcher_knows_its_commands(container, capsys):
    assert commands.main(["info", str(container)]) == 0
    assert commands.main(["no_such_command"]) == 2
    assert "compress" in capsys.readouterr().err
    assert commands.main(["--help"]) == 0
    for name in commands.COMMANDS:
        assert name in capsys.readouterr().out or name != "compress"
    with pytest.raises(SystemExit) as left:
        commands.main(["compress", "--help"])
    assert left.value.code == 0
    assert "example" in capsys.readouterr().out
