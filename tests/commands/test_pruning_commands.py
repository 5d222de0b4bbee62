"""`prune.py`, `similarity.py` and `distill.py`, as their users call them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cxcompress import models
from cxcompress.commands import distill, prune, similarity
from cxcompress.commands.compress import main as compress
from cxcompress.storage import read_container


def flags(net, images) -> list[str]:
    return ["--net", str(net), "--data_path", str(images), "--strategy", "oneshot", "layerwise",
            "--sparsity", "0.8", "--epochs", "2", "--batch_size", "16", "--preprocessing", "0-1",
            "--k", "16"]


@pytest.fixture(scope="module")
def pruned_folder(trained_net, image_folder, tmp_path_factory) -> Path:
    """A finished run of two strategies."""
    path = tmp_path_factory.mktemp("prune")
    assert prune.main([*flags(trained_net, image_folder), "--output_path", str(path)]) == 0
    return path / "prune" / "spots"


def test_strategies_have_equal_budgets_and_exact_sparsity(pruned_folder):
    rows = list(csv.DictReader((pruned_folder / "results_prune.csv").open()))
    assert len(rows) == 2 and {row["epochs"] for row in rows} == {"2"}
    for row in rows:
        file = next((pruned_folder / "models").glob(
            f"*{row['strategy']}-{float(row['sparsity']):g}-seed0.h5"))
        kernels = models.kernels(models.load_model(file))
        left = sum(np.count_nonzero(kernel.variable) for kernel in kernels)
        total = sum(np.prod(kernel.shape) for kernel in kernels)
        assert left == int(row["nonzeros"])
        assert left == pytest.approx((1 - float(row["sparsity"])) * total, abs=len(kernels))
        for metric in prune.METRICS:
            assert float(row[f"{metric}_low"]) <= float(row[metric]) <= float(row[f"{metric}_high"])
    results = json.loads((pruned_folder / "results.json").read_text())
    for sparsity, strategy in results["chosen"].items():
        losses = {row["strategy"]: float(row["val_loss"]) for row in rows
                  if float(row["sparsity"]) == float(sparsity)}
        assert strategy == min(losses, key=losses.get)
    assert (pruned_folder / "prune.svg").exists()


def test_pruned_networks_are_tuned_on_augmented_images_where_asked(
    pruned_folder, trained_net, image_folder, tmp_path
):
    assert prune.main([*flags(trained_net, image_folder), "--strategy", "oneshot", "--augment",
                       "--output_path", str(tmp_path)]) == 0

    def only(folder):
        row, = (row for row in csv.DictReader((folder / "results_prune.csv").open())
                if row["strategy"] == "oneshot")
        return row

    plain, augmented = only(pruned_folder), only(tmp_path / "prune" / "spots")
    assert augmented["nonzeros"] == plain["nonzeros"]
    # Sums of threads differ between runs, too, but less.
    assert float(augmented["val_loss"]) != pytest.approx(float(plain["val_loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_pruned_model_is_not_pruned_again_but_compressed_with_its_zeros(
    pruned_folder, trained_net, image_folder, tmp_path, capsys
):
    file = next((pruned_folder / "models").glob("*oneshot-0.8-seed0.h5"))
    data = ["--data_path", str(image_folder), "--output_path", str(tmp_path)]
    assert prune.main(["--net", str(file), *data]) == 2
    assert "so it is pruned already" in capsys.readouterr().err
    assert not (tmp_path / "prune").exists() or not any((tmp_path / "prune").iterdir())
    assert compress(["--net", str(file), *data, "--compression", "uCWS", "--clustercnn", "8",
                     "--clusterfc", "8", "--epochs", "2", "--preprocessing", "0-1", "--plans",
                     "none", "--no_sensitivity"]) == 0
    container = read_container(next(tmp_path.rglob("*.h5")))
    dense = {kernel.path: np.asarray(kernel.variable)
             for kernel in models.kernels(models.load_model(file))}
    for path, kernel in container.shared.kernels.items():
        assert container.shared.codebooks[kernel.codebook].zero is not None
        assert (container.shared.kernel(path)[dense[path] == 0] == 0).all()
    assert prune.main(["--net", str(next(tmp_path.rglob("*auroc*.h5"))), *data]) == 2
    assert "already" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_results(
    pruned_folder, trained_net, image_folder, tmp_path, monkeypatch
):
    argv = [*flags(trained_net, image_folder), "--output_path", str(tmp_path)]
    one, calls = prune._one_pruning, []

    def interrupted_once(**arguments):
        calls.append(arguments["settings"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return one(**arguments)

    monkeypatch.setattr(prune, "_one_pruning", interrupted_once)
    assert prune.main(argv) == 130
    assert prune.main(argv) == 0
    assert len(calls) == 3
    again = tmp_path / "prune" / "spots" / "results_prune.csv"
    assert again.read_text() == (pruned_folder / "results_prune.csv").read_text()


@pytest.mark.parametrize("wrong, message", [
    (["--sparsity", "90"], "--sparsity 90.0: must be 0 or more and below 1; it is a fraction"),
    (["--sparsity", "-0.1"], "--sparsity -0.1"),
    (["--strategy", "twice"], "--strategy twice: choose one of oneshot, iterative, layerwise"),
    (["--scope", "block"], "--scope block"),
    (["--exclude", "conv9"], "--exclude conv9: no layer with a kernel has this name"),
    (["--epochs", "0"], "--epochs 0: must be at least 1"),
    (["--unit", "filters"], "give --strategy oneshot"),
    (["--unit", "filters", "--strategy", "oneshot", "--exclude", "conv9"], "--exclude conv9"),
    (["--lr", "0"], "--lr 0: must be above 0"),
    (["--net", "missing.h5"], "--net missing.h5: no such file"),
])
def test_what_cannot_be_pruned_is_said_in_one_line(
    trained_net, image_folder, tmp_path, capsys, wrong, message
):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--preprocessing", "0-1",
            "--output_path", str(tmp_path), *wrong]
    assert prune.main(argv) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.slow
def test_filters_go_and_the_runtime_is_timed(trained_net, image_folder, tmp_path, capsys):
    assert prune.main(["--net", str(trained_net), "--data_path", str(image_folder), "--unit",
                       "filters", "--strategy", "oneshot", "--sparsity", "0.5", "--epochs", "1",
                       "--preprocessing", "0-1", "--output_path", str(tmp_path)]) == 0
    row = next(csv.DictReader(
        (tmp_path / "prune" / "spots-filters" / "results_prune.csv").open()))
    assert float(row["time_ratio_float32"]) > 0 and float(row["time_ratio_static_int8"]) > 0
    smaller = models.load_model(next(tmp_path.rglob("models/*.h5")))
    assert smaller.count_params() == int(row["parameters"])
    assert smaller.count_params() < models.load_model(trained_net).count_params()
    assert "time_ratio float32" in capsys.readouterr().out


@pytest.mark.slow
def test_similarity_of_pruned_dense_and_compressed_networks(
    pruned_folder, trained_net, image_folder, tmp_path, capsys
):
    pruned = next((pruned_folder / "models").glob("*oneshot-0.8-seed0.h5"))
    argv = ["--net", str(trained_net), str(pruned), "--names", "dense", "pruned", "--data_path",
            str(image_folder), "--preprocessing", "0-1", "--images", "40", "--batch_size", "10",
            "--output_path", str(tmp_path)]
    conv = models.kernels(models.load_model(trained_net))[0].layer_name
    assert similarity.main([*argv, "--features", conv]) == 0
    folder = tmp_path / "similarity" / "dense"
    rows = list(csv.DictReader((folder / "results_similarity.csv").open()))
    assert [(row["first"], row["second"]) for row in rows] == [
        ("dense", "dense"), ("pruned", "pruned"), ("dense", "pruned")]
    assert float(rows[0]["same"]) == pytest.approx(1, abs=1e-6)
    assert float(rows[2]["same"]) < 0.999
    table = list(csv.DictReader((folder / "cka_dense_pruned.csv").open()))
    assert len(table) == int(rows[2]["layers"])
    for stem in ("cka_dense", "cka_dense_pruned", f"filters_pruned_{conv}", f"maps_dense_{conv}"):
        assert (folder / f"{stem}.png").stat().st_size > 1000
        assert (folder / f"{stem}.svg").exists()
    for wrong, message in ((["--batch_size", "3"], "unbiased CKA needs at least 4"),
                           (["--layers", "conv9"], "--layers conv9"),
                           (["--names", "a", "a"], "all different"),
                           (["--features", "conv9"], "--features conv9")):
        assert similarity.main([*argv, "--overwrite", *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_distillation_beside_labels_alone_and_by_a_pruned_teacher(
    image_folder, tmp_path, capsys
):
    import keras

    keras.utils.set_random_seed(0)
    teacher = models.build("small_cxr", (32, 32, 1), 2, activation="softmax")
    teacher.save(tmp_path / "teacher.h5")
    argv = ["--teacher", str(tmp_path / "teacher.h5"), "--student", "vgg11_eighth", "--data_path",
            str(image_folder), "--preprocessing", "0-1", "--epochs", "1", "--prune_epochs", "1",
            "--batch_size", "32", "--output_path", str(tmp_path)]
    assert distill.main([*argv, "--prune_teacher", "0.5", "--strategy", "oneshot"]) == 0
    folder = tmp_path / "distill" / "vgg11_eighth"
    rows = list(csv.DictReader((folder / "results_distill.csv").open()))
    assert {row["teacher"] for row in rows} == {"labels alone", "teacher", "pruned 0.5"}
    taught = {row["name"]: int(row["nonzeros"])
              for row in csv.DictReader((folder / "teachers.csv").open())}
    assert taught["pruned 0.5"] == pytest.approx(taught["teacher"] / 2, abs=1)
    assert "student, labels alone (1 seeds)" in capsys.readouterr().out
    for wrong, message in ((["--student", "resnet18"], "no fewer than the teacher's"),
                           (["--student", "vgg99"], "no network is named 'vgg99'"),
                           (["--temperature", "0"], "--temperature 0"),
                           (["--prune_teacher", "50"], "--sparsity 50.0"),
                           (["--epochs", "0"], "--epochs 0")):
        assert distill.main([*argv, "--overwrite", *wrong]) == 2
        assert message in capsys.readouterr().err
