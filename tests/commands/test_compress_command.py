"""`compress.py` as its users call it: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import csv
import json
import pickle

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from cxcompress import models
from cxcompress.commands import compress
from cxcompress.storage import read_container, read_sizes


def main(argv) -> int:
    """`compress.py` without plans, whose conversion takes seconds and has tests of its own."""
    return compress.main([*argv, "--plans", "none"])


def run_folder(output, compression, stem="0-0-256-256-0.001-0.001-5-0"):
    return output / compression / stem


def refused(argv, capsys) -> str:
    """Run a command that must fail on bad input; returns its one line."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert "Traceback" not in said.err + said.out
    return lines[0]


@pytest.fixture(scope="module")
def compressed(trained_net, image_folder, tmp_path_factory):
    """A finished run: uCWS, k = 256 for both families."""
    output = tmp_path_factory.mktemp("results")
    assert main(["--compression", "uCWS", "--net", str(trained_net), "--data_path",
                 str(image_folder), "--output_path", str(output)]) == 0
    return output


def test_a_run_leaves_container_tables_figures_and_report(compressed):
    folder = run_folder(compressed, "uCWS")
    results = json.loads((folder / "results.json").read_text())
    container = folder / results["container"]
    assert container.name.startswith("0-0-256-256-0.001-0.001-5-0-auroc")
    assert results["sizes"]["total"] == container.stat().st_size
    assert results["arguments"]["seed"] == 0
    assert results["versions"]["keras"] == keras.__version__
    assert results["judged_on"] == "test"
    accuracy = results["after"]["accuracy"]
    assert accuracy["n"] == 60 and accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["value"] > 0.8
    for name in ("report.html", "sizes.png", "sizes.svg", "differences.png", "layers.svg",
                 "layers.csv", "predictions_original.npz", "predictions_compressed.npz"):
        assert (folder / name).stat().st_size > 0
    rows = list(csv.DictReader((folder / "results_compression_uCWS.csv").open()))
    assert {row["stage"] for row in rows} == {
        "container", "original", "after quantisation", "difference"}
    assert json.loads((folder / "run.json").read_text())["state"] == "done"


def test_the_container_holds_what_was_judged(compressed, trained_net, image_folder):
    """The file, opened again, gives the probabilities that the run saved."""
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing
    from cxcompress.tasks import Predictions

    folder = run_folder(compressed, "uCWS")
    container = read_container(next(folder.glob("*.h5")))
    record = Predictions.load(folder / "predictions_compressed.npz")
    model = models.load_model(next(folder.glob("*.h5")))
    inputs = Preprocessing.from_dict(container.card.preprocessing).batch(
        open_collection(image_folder).test.images)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), record.score, atol=1e-5)
    original = models.load_model(trained_net)
    for kernel in models.kernels(original):
        assert np.unique(container.shared.kernel(kernel.path)).size <= 256
    assert container.card.classes == ("covid", "normal")


def test_no_data_means_quantised_only(trained_net, tmp_path, capsys):
    assert main(["--net", str(trained_net), "--output_path", str(tmp_path), "--compression",
                 "uUQ", "--clustercnn", "16", "--clusterfc", "16"]) == 0
    said = capsys.readouterr().out
    assert "no data given: not fine-tuned, not evaluated" in said
    assert "verdict" not in said
    folder = run_folder(tmp_path, "uUQ", "0-0-16-16-0.001-0.001-5-0")
    assert json.loads((folder / "results.json").read_text())["comparison"] is None
    assert len(list(folder.glob("*-sqnr*dB.h5"))) == 1


@pytest.mark.parametrize("name", ["uPWS", "uECSQ", "CWS", "UQ", "PWS", "ECSQ", "pruUQ", "pruCWS",
                                  "prECSQ"])
def test_every_quantiser_and_scope_runs(name, trained_net, tmp_path):
    pruning = ["--prcnn", "50", "--prfc", "30"] if name.startswith("pr") else []
    assert main(["--net", str(trained_net), "--output_path", str(tmp_path), "--compression", name,
                 "--clustercnn", "8", "--clusterfc", "4", "--no_sensitivity", *pruning]) == 0
    path = next((tmp_path / name).glob("*/*.h5"))
    shared = read_container(path).shared
    original = models.load_model(trained_net)
    for kernel in models.kernels(original):
        limit = 4 if kernel.family == "dense" else 8
        assert np.unique(shared.kernel(kernel.path)).size <= limit
        if pruning:
            percent = 30 if kernel.family == "dense" else 50
            zeros = np.mean(shared.kernel(kernel.path) == 0)
            assert zeros >= percent / 100 - 1 / np.prod(kernel.shape)


def test_pruning_alone_keeps_the_other_weights(trained_net, tmp_path):
    assert main(["--net", str(trained_net), "--output_path", str(tmp_path), "--compression", "pr",
                 "--prcnn", "40", "--no_sensitivity"]) == 0
    weights = read_container(next((tmp_path / "pr").glob("*/*.h5"))).shared.weights()
    for kernel in models.kernels(models.load_model(trained_net)):
        before, after = np.asarray(kernel.variable), weights[kernel.path]
        kept = after != 0
        np.testing.assert_array_equal(after[kept], before[kept])
        if kernel.family == "conv":
            assert abs(np.mean(~kept) - 0.4) < 0.02


def test_keep_float_leaves_a_layer_as_it_is(trained_net, tmp_path):
    kept = models.kernels(models.load_model(trained_net))[0]
    assert main(["--net", str(trained_net), "--output_path", str(tmp_path), "--no_sensitivity",
                 "--keep_float", kept.layer_name]) == 0
    shared = read_container(next((tmp_path / "uCWS").glob("*/*.h5"))).shared
    np.testing.assert_array_equal(shared.unshared[kept.path], np.asarray(kept.variable))


def test_the_same_command_gives_the_same_bytes(trained_net, image_folder, tmp_path):
    for name in ("one", "two"):
        assert main(["--compression", "uPWS", "--net", str(trained_net), "--data_path",
                     str(image_folder), "--output_path", str(tmp_path / name)]) == 0
    one, two = (next((tmp_path / name / "uPWS").glob("*/*.h5")) for name in ("one", "two"))
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_an_interrupted_run_resumes(trained_net, tmp_path, monkeypatch):
    """Finished layers are read back; the rest is computed; the end is as if nothing happened."""
    from cxcompress.pipeline import layer_reports

    argv = ["--net", str(trained_net), "--output_path", str(tmp_path)]
    calls, measure = [], layer_reports._change_alone

    def interrupted_once(**arguments):
        calls.append(arguments["kernel"].path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(**arguments)

    monkeypatch.setattr(layer_reports, "_change_alone", interrupted_once)
    assert main(argv) == 130
    assert json.loads((run_folder(tmp_path, "uCWS") / "run.json").read_text())["state"] == (
        "unfinished")
    assert main(argv) == 0
    assert len(calls) == len(set(calls)) + 1  # only the interrupted layer was measured again


def test_a_fine_tuned_run_shows_three_stages_and_resumes(
    trained_net, image_folder, tmp_path, capsys, monkeypatch
):
    """Interrupted after an epoch and continued, it goes through the same epochs."""
    from cxcompress.training import fine_tuning

    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--compression", "uUQ",
            "--clustercnn", "3", "--clusterfc", "3", "--epochs", "3", "--minibatch", "16",
            "--learning_rate", "0.003", "--lr_cumulative", "0.003", "--no_sensitivity",
            # Estimated again, they can regain all that so small a network has to regain.
            "--bn_statistics", "keep"]
    assert main([*argv, "--output_path", str(tmp_path / "whole")]) == 0
    output = capsys.readouterr().out
    assert "after fine-tuning (95% interval)" in output and "fine-tuning: validation" in output
    folder = next((tmp_path / "whole" / "uUQ").iterdir())
    losses = [row.split(",") for row in (folder / "fine_tuning.csv").read_text().split()[1:]]
    assert 2 <= len(losses) <= 4 and sum(row[-1] == "True" for row in losses) == 1
    assert (folder / "fine_tuning.svg").exists() and (folder / "predictions_quantised.npz").exists()
    assert "after fine-tuning" in (folder / "results_compression_uUQ.csv").read_text()
    assert not list(folder.rglob("*fine_tuning.npz"))

    write = fine_tuning._write_state

    def interrupted(path, *rest):
        write(path, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "_write_state", interrupted)
    argv += ["--output_path", str(tmp_path / "parts")]
    assert main(argv) == 130
    assert len(list(tmp_path.rglob("*fine_tuning.npz"))) == 1
    monkeypatch.setattr(fine_tuning, "_write_state", write)
    assert main(argv) == 0
    whole, parts = (json.loads(next((tmp_path / name).rglob("results.json")).read_text())
                    for name in ("whole", "parts"))
    # To the last bit in tests/training; here it is enough that the very epochs were continued.
    assert parts["fine_tuning"]["history"]["val_loss"] == pytest.approx(
        whole["fine_tuning"]["history"]["val_loss"], rel=1e-2)


def test_a_finished_run_is_not_overwritten_unasked(compressed, trained_net, image_folder, capsys):
    argv = ["--net", trained_net, "--data_path", image_folder, "--output_path", compressed]
    before = {path: path.stat().st_mtime_ns for path in run_folder(compressed, "uCWS").iterdir()}
    assert "--overwrite" in refused(argv, capsys)
    assert before == {path: path.stat().st_mtime_ns
                      for path in run_folder(compressed, "uCWS").iterdir()}


def _truncated(path, net):
    path.write_bytes(net.read_bytes()[: net.stat().st_size // 2])


def _text(path, net):
    path.write_text("these are not the weights you are looking for\n")


def _pickle(path, net):
    path.write_bytes(pickle.dumps([np.zeros((3, 3))]))


def _plain_hdf5(path, net):
    with h5py.File(path, "w") as file:
        file["measurements"] = np.arange(5)


def _no_kernel(path, net):
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.GlobalAveragePooling2D()]).save(path)


def _nan(path, net):
    model = models.load_model(net)
    kernel = models.kernels(model)[0]
    values = kernel.variable.numpy()
    values.flat[3] = np.nan
    kernel.variable.assign(values)
    model.save(path)


def _infinite(path, net):
    model = models.load_model(net)
    kernel = models.kernels(model)[0]
    values = kernel.variable.numpy()
    values.flat[3] = np.inf
    kernel.variable.assign(values)
    model.save(path)


def _two_outputs(path, net):
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.Flatten()(inputs)
    keras.Model(inputs, [keras.layers.Dense(2)(features), keras.layers.Dense(1)(features)]).save(
        path)


@pytest.mark.parametrize(("spoil", "expected"), [
    (_truncated, "truncated"), (_text, "not a Keras model"), (_pickle, "pickle"),
    (_plain_hdf5, "neither"), (_no_kernel, "no convolution"), (_nan, "NaN"),
    (_infinite, "1 of 72"),
    (_two_outputs, "2 outputs"),
])
def test_unusable_models_are_refused_in_one_line(spoil, expected, trained_net, tmp_path, capsys):
    bad = tmp_path / "bad.h5"
    spoil(bad, trained_net)
    line = refused(["--net", bad, "--output_path", tmp_path / "out"], capsys)
    assert expected in line
    assert "bad.h5" in line or spoil in (_no_kernel, _infinite)
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize(("flags", "expected"), [
    (["--net", "missing.h5"], "missing.h5"),
    (["--clustercnn", "-1"], "-1"),
    (["--clustercnn", "65537"], "65537"),
    (["--prcnn", "100", "--compression", "pruCWS"], "100"),
    (["--compression", "uXYZ"], "uXYZ"),
    (["--epochs", "-5"], "--epochs -5"),
    (["--epochs", "1", "--lr_cumulative", "0"], "--lr_cumulative 0"),
    (["--epochs", "1", "--gradual", "--assign", "fixed"], "--assign learned"),
    (["--epochs", "1", "--grid", "int4"], "int4"),
    (["--minibatch", "0"], "--minibatch 0"),
    (["--margin", "-1"], "--margin -1"),
    (["--epochs", "many"], "many"),
    (["--colour", "red"], "--colour"),
    (["--data_path", "nowhere"], "nowhere"),
    (["--keep_float", "no_such_layer"], "no_such_layer"),
    (["--classes", "covid,normal,other"], "--classes"),
])
def test_unusable_flags_are_refused_in_one_line(
    flags, expected, trained_net, image_folder, tmp_path, capsys
):
    line = refused(["--net", trained_net, "--data_path", image_folder, "--output_path",
                    tmp_path / "out", *flags], capsys)
    assert expected in line
    assert not list((tmp_path / "out").rglob("*.*"))


def test_more_levels_than_weights_is_exact_and_said(trained_net, tmp_path, capsys):
    assert main(["--net", str(trained_net), "--output_path", str(tmp_path), "--clustercnn",
                 "65536", "--clusterfc", "65536", "--no_sensitivity"]) == 0
    assert "instead of 65536; the quantizer, or the number of distinct" in capsys.readouterr().out
    weights = read_container(next((tmp_path / "uCWS").glob("*/*.h5"))).shared.weights()
    for path, variable in models.variables_by_path(models.load_model(trained_net)).items():
        np.testing.assert_array_equal(weights[path], np.asarray(variable))


def _empty_folder(folder):
    folder.mkdir()


def _one_class(folder):
    for part in ("train", "test"):
        (folder / part / "covid").mkdir(parents=True)
        Image.fromarray(np.zeros((24, 24), np.uint8)).save(folder / part / "covid" / "0.png")


def _empty_class(folder):
    _one_class(folder)
    for part in ("train", "test"):
        (folder / part / "normal").mkdir()


def _not_an_image(folder):
    for part in ("train", "test"):
        for name in ("covid", "normal"):
            (folder / part / name).mkdir(parents=True)
            (folder / part / name / "x-ray.png").write_text("not an image")


@pytest.mark.parametrize(("spoil", "expected"), [
    (_empty_folder, "images"), (_one_class, "covid"), (_empty_class, "normal"),
    (_not_an_image, "x-ray.png"),
])
def test_unusable_images_are_refused_in_one_line(spoil, expected, trained_net, tmp_path, capsys):
    spoil(tmp_path / "images")
    line = refused(["--net", trained_net, "--data_path", tmp_path / "images", "--output_path",
                    tmp_path / "out"], capsys)
    assert expected in line
    assert not list((tmp_path / "out").rglob("*.*"))


def test_preprocessing_is_found_out_and_a_wrong_one_warned_of(
    trained_net, image_folder, tmp_path, capsys
):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--no_sensitivity"]
    assert main([*argv, "--output_path", str(tmp_path / "auto")]) == 0
    assert "preprocessing: 0-1, the least cross-entropy" in capsys.readouterr().out
    assert main([*argv, "--output_path", str(tmp_path / "reversed"), "--classes",
                 "normal,covid"]) == 0
    assert "worse than chance" in capsys.readouterr().out


def test_the_same_output_for_every_image_is_warned_of(image_folder, tmp_path, capsys):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((24, 24, 1)), keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax", kernel_initializer=keras.initializers.
                           RandomUniform(-1e-9, 1e-9))])
    model.save(tmp_path / "constant.h5")
    assert main(["--net", str(tmp_path / "constant.h5"), "--data_path", str(image_folder),
                 "--output_path", str(tmp_path / "out")]) == 0
    assert "same output for all 60 images" in capsys.readouterr().out


def test_a_write_that_fails_half_way_is_one_line_and_leaves_no_container(
    trained_net, tmp_path, monkeypatch, capsys
):
    """The system refuses the file's last bytes, as a full disk does."""
    import os

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = refused(["--net", trained_net, "--output_path", tmp_path, "--no_sensitivity"], capsys)
    assert "cannot be written" in line or "No space left" in line
    assert not list(tmp_path.rglob("*.h5"))


def test_a_run_by_sqnr_and_sensitivity(trained_net, image_folder, tmp_path, capsys):
    """Smaller than UQ at equal error, and tuned without leaving its trellis."""
    common = ["--net", str(trained_net), "--data_path", str(image_folder), "--plans", "none",
              "--no_sensitivity", "--output_path", str(tmp_path)]
    assert main([*common, "--compression", "TCQ", "--sqnr", "20", "--sensitivity", "fisher",
                 "--epochs", "1", "--minibatch", "16", "--unshared", "compact"]) == 0
    folder = next((tmp_path / "TCQ").iterdir())
    assert folder.name.endswith("-1-20dB-fisher-compact")
    record = json.loads((folder / "results.json").read_text())
    assert any("any change would leave the trellis" in note for note in record["notes"])
    container = read_container(next(folder.glob("*.h5")))
    assert set(container.shared.codebooks) == set(container.shared.kernels)
    for codebook in container.shared.codebooks.values():
        assert codebook.step is not None
    sizes = read_sizes(next(folder.glob("*.h5")))
    assert {kernel.coder for kernel in sizes.kernels.values()} == {"context"}
    assert container.card.provenance["unshared"] == "compact"
    assert not any(array.any() for path, array in container.shared.unshared.items()
                   if path.endswith("moving_mean"))
    assert "belongs to TCQ" in refused([*common, "--sqnr", "20"], capsys)
    assert "needs images" in refused(
        [*common[:2], "--sensitivity", "fisher", "--output_path", tmp_path / "x"], capsys)
