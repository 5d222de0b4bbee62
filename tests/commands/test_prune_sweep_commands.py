"""The sweep and what is made of it, as users call the commands."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest

from cxcompress.commands import exemplars, forgettability, prune_sweep, reader_study
from cxcompress.search import prune_sweep as sweep_library
from cxcompress.search.prediction_store import PredictionStore, SweepImages

LEVELS = (0.25, 0.5, 0.75)
CLASSES = ("often", "less", "rare", "No Finding")
RANKS = {"original": (1, 1, 1, 1), "L1@0.25": (1, 1, 1, 2), "L1@0.5": (1, 1, 2, 5),
         "L1@0.75": (1, 2, 4, 10)}
SHARED = {"uUQ@256": (1, 1, 1, 1), "uUQ@16": (1, 1, 2, 5), "uUQ@2": (1, 4, 8, 20)}
SIZE = {"original": 1000, "L1@0.25": 750, "L1@0.5": 500, "L1@0.75": 250, "uUQ@256": 900,
        "uUQ@16": 450, "uUQ@2": 112}
IMAGES = 40


def known_store(folder, seeds=3, ranks=RANKS, classes=CLASSES, images=IMAGES) -> PredictionStore:
    """Each class has one positive image, which ranks as `ranks` says in every seed.

    Images 0 and 1 turn all their classes round from sparsity 0.5 on.
    """
    c = len(classes)
    truth = np.zeros((images, c), np.float32)
    truth[np.arange(c) + 4, np.arange(c)] = 1
    names = np.array([f"img{row:03d}" for row in range(images)])
    store = PredictionStore.create(folder / "predictions", SweepImages(
        names, names, classes, truth, np.diag(10 ** np.arange(c - 1, -1, -1)), "synthetic:known",
        True))
    for seed in range(seeds):
        for name, of_class in ranks.items():
            p = np.empty((images, c))
            for column, rank in enumerate(of_class[:c]):
                order = np.delete(np.arange(images)[::-1], images - 1 - (column + 4))
                order = np.insert(order, rank - 1, column + 4)
                p[order, column] = np.linspace(0.9, 0.1, images) - 0.01 * column
            if name in ("L1@0.5", "L1@0.75"):
                p[:2] = p[:2, ::-1]
            series, _, level = name.partition("@")
            store.write(seed, name, p, series=series, level=float(level or 0),
                        attributes={"bytes": SIZE[name]})
    return store


def rows_of(path):
    return list(csv.DictReader(path.open()))


def test_the_known_case_through_files_and_command(tmp_path, capsys):
    known_store(tmp_path / "sweep")
    assert forgettability.main(["--predictions", str(tmp_path / "sweep"), "--permutations", "999",
                                "--output_path", str(tmp_path)]) == 0
    folder = tmp_path / "forgettability" / "synthetic_known"
    rows = {row["class"]: row for row in rows_of(folder / "results_forgettability.csv")}
    assert list(rows) == list(CLASSES)
    assert [rows[name]["first_drop"] for name in CLASSES] == ["", "0.75", "0.5", "0.25"]
    assert [float(rows[name]["final_impact"]) for name in CLASSES] == pytest.approx(
        [0, -0.5, -0.75, -0.9])
    assert float(rows["often"]["train_positives"]) == 1000
    pairs = {(row["first"], row["second"]): float(row["fcd"])
             for row in rows_of(folder / "pairs.csv")}
    assert pairs["often", "No Finding"] == pytest.approx(math.sqrt(0.25 + 0.64 + 0.81), abs=1e-9)
    found = {row["association"]: row for row in rows_of(folder / "associations.csv")}
    assert float(found["final_impact"]["spearman"]) == pytest.approx(1)
    assert float(found["first_drop"]["pearson"]) == pytest.approx(1)
    overall = [row for row in rows_of(folder / "overall.csv") if row["metric"] == "AP"]
    assert [float(row["value"]) for row in overall] == pytest.approx([1, 0.875, 0.675, 0.4625])
    said = capsys.readouterr().out
    assert "images are generated" in said and "3 seeds; intervals are their range" in said
    for name in ("overall_AP", "class_correlations", "groups", "curves_L1", "pairs_L1"):
        assert (folder / f"{name}.png").exists() and (folder / f"{name}.svg").exists()


@pytest.mark.slow
def test_two_series_are_compared_at_equal_bytes_and_at_equal_loss(tmp_path, capsys):
    known_store(tmp_path / "sweep", seeds=4, ranks=RANKS | SHARED)
    assert forgettability.main([
        "--predictions", str(tmp_path / "sweep"), "--permutations", "99", "--resamples", "99",
        "--compare", "L1", "uUQ", "--output_path", str(tmp_path)]) == 0
    folder = tmp_path / "forgettability" / "synthetic_known"
    rows = rows_of(folder / "comparisons.csv")
    sizes = [float(row["at"]) for row in rows if row["equal"] == "bytes"]
    assert len(sizes) == 7 and sizes[0] == pytest.approx(250) and sizes[-1] == pytest.approx(750)
    # Both forget in the order of rarity, so that they agree wherever both forget something.
    losing = [row for row in rows if float(row["first_change"]) < 0]
    assert losing and all(float(row["spearman"]) > 0.9 for row in losing)
    assert {row["at"] for row in rows if row["equal"] == "overall decline"} == {
        "0.1", "0.2", "0.4"}
    assert (folder / "compare_L1_uUQ.svg").exists()
    assert "L1 and uUQ" in capsys.readouterr().out


def test_exemplars_of_the_known_case_and_a_study_of_them(tmp_path, capsys):
    store = known_store(tmp_path / "sweep")
    argv = ["--predictions", str(tmp_path / "sweep"), "--treatment", "L1@0.75",
            "--output_path", str(tmp_path)]
    assert exemplars.main(argv) == 0
    folder = tmp_path / "exemplars" / "L1@0.75"
    rows = rows_of(folder / "exemplars.csv")
    assert {row["image_id"] for row in rows if row["exemplar"] == "1"} == {"img000", "img001"}
    assert float(rows[0]["agreement"]) == pytest.approx(-1)
    assert "were not found" in (folder / "gallery.html").read_text()
    # The pictures, from a collection in one file.
    data = tmp_path / "images.npz"
    np.savez(data, images=np.random.default_rng(0).integers(0, 255, (IMAGES, 8, 8), np.uint8),
             labels=store.images.truth, split=np.full(IMAGES, "test"),
             classes=np.array(CLASSES), image_index=store.images.image_id)
    assert exemplars.main([*argv, "--data_path", str(data), "--overwrite"]) == 0
    page = (folder / "gallery.html").read_text()
    assert page.count("data:image/png") == IMAGES and "img001" in page
    assert reader_study.main(["make", "--exemplars", str(folder), "--count", "2", "--raters", "3",
                              "--output_path", str(tmp_path)]) == 0
    study = tmp_path / "reader_study" / "study"
    key = {row["filename"]: row for row in rows_of(study / "key.csv")}
    groups = [row["group"] for row in key.values()]
    assert groups.count("exemplar") == groups.count("control") == 2
    sheets = [rows_of(study / f"rater{rater:02d}.csv") for rater in (1, 2, 3)]
    assert len({tuple(row["filename"] for row in sheet) for sheet in sheets}) > 1
    assert all((study / "images" / row["filename"]).exists() for row in sheets[0])
    for rater, sheet in enumerate(sheets, start=1):
        for row in sheet:
            ours = key[row["filename"]]["group"] == "exemplar"
            answers = json.loads(row["file_attributes"]) | {
                "agreement": "no" if ours else "yes", "quality": str(rater),
                "difficulty": 5 if ours else 1}
            row["file_attributes"] = json.dumps(answers)
        with (tmp_path / f"answers{rater}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, sheet[0])
            writer.writeheader()
            writer.writerows(sheet)
    capsys.readouterr()
    assert reader_study.main([
        "analyse", "--key", str(study / "key.csv"), "--output_path", str(tmp_path),
        "--permutations", "199", "--resamples", "99", "--answers",
        *(str(tmp_path / f"answers{rater}.csv") for rater in (1, 2, 3))]) == 0
    found = {(row["question"], row["scale"]): row for row in rows_of(
        tmp_path / "reader_study" / "analysis" / "results_reader_study.csv")}
    assert float(found["difficulty", "raw"]["difference"]) == 4
    assert float(found["agreement", "raw"]["alpha"]) == 1
    assert float(found["quality", "raw"]["difference"]) == 0
    assert "-0.00" not in capsys.readouterr().out.replace("-0.00 to", "")


SWEEP = ["--model", "tiny_cxr", "--data_path", "synthetic:cxr", "--count", "60", "--size", "28",
         "--epochs", "1", "--workers", "1"]


@pytest.fixture(scope="module")
def tiny_sweep(tmp_path_factory):
    """Two seeds of a network that saw 60 phantoms once: interrupted, continued, and grown."""
    folder = tmp_path_factory.mktemp("sweep")
    argv = [*SWEEP, "--seeds", "2", "--treatments", "L1", "L1+uCWS=16", "--sparsities", "0.5",
            "0.9", "--output_path", str(folder)]
    one, calls = sweep_library.Sweep.one, []

    def interrupted_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return one(self, *arguments)

    path = folder / "prune_sweep" / "tiny_cxr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_library.Sweep, "one", interrupted_once)
        statuses = [prune_sweep.main(argv)]
        before = PredictionStore.open(path).read(0, "L1@0.5")
        statuses += [prune_sweep.main(argv), prune_sweep.main(argv)]
        counted = len(calls)
        statuses.append(prune_sweep.main([
            "uUQ" if entry == "L1" else entry for entry in argv if entry != "L1+uCWS=16"]
            + ["--levels", "4"]))
    return path, statuses, counted, before


def test_a_sweep_stores_every_prediction_resumes_and_grows(tiny_sweep):
    path, statuses, counted, before = tiny_sweep
    assert statuses == [130, 0, 2, 0]          # interrupted, continued, finished, other treatments
    assert counted == 2 * 5 + 1
    store = PredictionStore.open(path)
    assert store.seeds == (0, 1) and np.array_equal(store.read(0, "L1@0.5"), before)
    assert list(store.series()) == ["L1", "L1+uCWS=16", "uUQ"]
    rows = {(row["seed"], row["treatment"]): row
            for row in rows_of(path / "results_prune_sweep.csv")}
    assert len(rows) == 12
    assert float(rows["0", "L1@0.9"]["sparsity"]) == pytest.approx(0.9, abs=1e-4)
    assert float(rows["0", "L1+uCWS=16@0.9"]["sparsity"]) >= 0.9 - 1e-4
    assert float(rows["1", "L1+uCWS=16@0.9"]["bytes"]) < float(rows["1", "L1@0.9"]["bytes"])


def test_stored_predictions_are_those_of_the_network_pruned_by_hand(tiny_sweep):
    from cxcompress import models
    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing

    path = tiny_sweep[0]
    model = models.load_model(path / "models" / "seed=1.keras")
    kernels = {kernel.path: np.asarray(kernel.variable) for kernel in models.kernels(model)}
    cut = np.sort(np.abs(np.concatenate([array.ravel() for array in kernels.values()])))
    cut = cut[int(0.5 * len(cut))]
    models.set_weights(model, models.weights(model) | {
        name: np.where(np.abs(array) >= cut, array, 0) for name, array in kernels.items()})
    test = open_collection("synthetic:cxr", size=28, count=60).test
    inputs = Preprocessing.preset("0-1", (28, 28), 1).batch(test.images)
    store = PredictionStore.open(path)
    assert store.images.image_id.tolist() == test.image_id.tolist()
    assert store.probabilities(1, "L1@0.5") == pytest.approx(
        np.asarray(model(inputs)), rel=0.01, abs=1e-5)


@pytest.mark.slow
def test_retrained_networks_keep_their_zeros(tmp_path):
    assert prune_sweep.main([
        *SWEEP, "--seeds", "1", "--treatments", "L1", "L1+uCWS=16", "--sparsities", "0.9",
        "--retrain_epochs", "1", "--bn_statistics", "estimate", "--output_path",
        str(tmp_path)]) == 0
    rows = {row["treatment"]: row for row in rows_of(
        tmp_path / "prune_sweep" / "tiny_cxr" / "results_prune_sweep.csv")}
    for name in ("L1@0.9", "L1+uCWS=16@0.9"):
        assert float(rows[name]["sparsity"]) >= 0.9 - 1e-4
    store = PredictionStore.open(tmp_path / "prune_sweep" / "tiny_cxr")
    assert not np.array_equal(store.read(0, "L1@0.9"), store.read(0, "original"))


def test_trained_networks_are_opened_not_trained(tiny_sweep, tmp_path, capsys):
    path = tiny_sweep[0]
    argv = ["--nets", str(path / "models" / "seed=1.keras"), "--data_path", "synthetic:cxr",
            "--preprocessing", "0-1", "--treatments", "uUQ", "--levels", "4", "--workers", "1",
            "--count"]
    assert prune_sweep.main([*argv, "60", "--output_path", str(tmp_path)]) == 0
    opened = PredictionStore.open(tmp_path / "prune_sweep" / "seed=1")
    for treatment in ("original", "uUQ@4"):
        assert np.array_equal(opened.read(0, treatment),
                              PredictionStore.open(path).read(1, treatment))
    assert not list(tmp_path.rglob("*.keras"))
    # Fourteen outputs do not fit twenty classes.
    argv[3] = "synthetic:cxr20"
    assert prune_sweep.main([*argv, "30", "--output_path", str(tmp_path / "other")]) == 2
    assert "14" in capsys.readouterr().err


@pytest.mark.parametrize("argv, said", [
    (["--seeds", "0"], "--seeds 0"), (["--seeds", "1", "1"], "different seeds"),
    (["--seeds", "-1", "2"], "different seeds"), (["--treatments", "L3"], "--treatments L3"),
    (["--sparsities", "1"], "--sparsities 1"), (["--epochs", "0"], "--epochs 0"),
    (["--nets", "none.h5"], "no such file"), (["--data_path", "synthetic:x"], "synthetic:x")])
def test_a_sweeps_bad_flags_are_refused_and_leave_nothing(tmp_path, capsys, argv, said):
    assert prune_sweep.main([*argv, "--workers", "1", "--output_path", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.rglob("*.h5"))


@pytest.mark.slow
def test_two_workers_store_what_one_process_stores(tiny_sweep, tmp_path):
    pytest.importorskip("distributed")
    path = tiny_sweep[0]
    # Trained networks: training itself rounds otherwise with another number of threads.
    nets = [str(path / "models" / f"seed={seed}.keras") for seed in (0, 1)]
    assert prune_sweep.main([
        "--nets", *nets, "--data_path", "synthetic:cxr", "--count", "60", "--preprocessing", "0-1",
        "--treatments", "L1", "--sparsities", "0.5", "0.9", "--workers", "2", "--output_path",
        str(tmp_path)]) == 0
    one, two = (PredictionStore.open(folder) for folder in (
        path, tmp_path / "prune_sweep" / "seed=0"))
    for seed in (0, 1):
        for treatment in ("original", "L1@0.5", "L1@0.9"):
            assert two.probabilities(seed, treatment) == pytest.approx(
                one.probabilities(seed, treatment), rel=0.01, abs=1e-4)
        assert two.read(seed, "original").shape == (len(one.images.image_id), 14)


def test_two_classes_are_too_few(image_folder, tmp_path, capsys):
    assert prune_sweep.main(["--data_path", str(image_folder), "--size", "24", "--model",
                             "tiny_cxr", "--output_path", str(tmp_path)]) == 2
    assert "at least 3" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.keras"))      # said before anything was trained


def test_seeds_with_missing_treatments_are_refused_or_dropped(tmp_path, capsys):
    store = known_store(tmp_path / "sweep")
    store.file(1, "L1@0.5").unlink()
    argv = ["--predictions", str(tmp_path / "sweep"), "--permutations", "99", "--output_path",
            str(tmp_path)]
    assert forgettability.main(argv) == 2
    assert "seed 1 lacks 1 of 4 treatments, e.g. L1@0.5" in capsys.readouterr().err
    assert forgettability.main([*argv, "--missing", "drop"]) == 0
    assert "seed 1 lacks" in capsys.readouterr().err
    row = rows_of(tmp_path / "forgettability" / "synthetic_known" / "overall.csv")[0]
    assert row["seeds"] == "2"
    assert exemplars.main(["--predictions", str(tmp_path / "sweep"), "--treatment", "L1@0.5",
                           "--output_path", str(tmp_path)]) == 2
    for seed in (0, 2):
        store.file(seed, "original").unlink()
    assert forgettability.main([*argv, "--missing", "drop", "--overwrite"]) == 2
    assert "no seed has all" in capsys.readouterr().err


def test_one_seed_and_an_absent_class_are_said(tmp_path, capsys):
    folder = tmp_path / "sweep"
    classes = (*CLASSES, "absent")
    known_store(folder, seeds=1, classes=classes,
                ranks={name: (*ranks, 1) for name, ranks in RANKS.items()})
    store = PredictionStore.open(folder)
    truth = store.images.truth.copy()
    truth[:, 4] = 0
    images = store.images
    SweepImages(images.image_id, images.patient_id, classes, truth, images.train_cooccurrence,
                images.collection, True).write(folder / "predictions" / "images.h5")
    assert forgettability.main(["--predictions", str(folder), "--permutations", "99",
                                "--output_path", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "one seed, so no intervals" in said
    assert "undefined without test positives or starts from 0: absent" in said


@pytest.mark.parametrize("argv, said", [
    (["--series", "L2"], "--series L2"), (["--seeds", "9"], "seed 9"),
    (["--compare", "L1", "uUQ"], "--compare uUQ"), (["--classes", "Mass"], "--classes Mass"),
    (["--drop", "20"], "--drop 20"), (["--groups", "100", "1000"], "--groups 100 1000"),
    (["--names", "a", "b"], "2 names for 1"), (["--permutations", "9"], "--permutations 9")])
def test_bad_flags_of_the_analysis(tmp_path, capsys, argv, said):
    known_store(tmp_path / "sweep")
    assert forgettability.main(["--predictions", str(tmp_path / "sweep"), *argv,
                                "--output_path", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not list((tmp_path / "out").rglob("*.*"))


def test_two_classes_no_treatment_and_no_folder(tmp_path, capsys):
    known_store(tmp_path / "two", classes=("a", "b"))
    known_store(tmp_path / "bare", ranks={"original": (1, 1, 1, 1)})
    for folder, said in (("two", "2 of 2 classes"), ("bare", "no treatment beside"),
                         ("none", "no such file")):
        assert forgettability.main(["--predictions", str(tmp_path / folder), "--output_path",
                                    str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    for folder, extra, said in (("two", ["--treatment", "L1@0.5"], "at least 3"),
                                ("bare", [], "not in"),
                                ("bare", ["--percent", "0"], "--percent 0")):
        assert exemplars.main(["--predictions", str(tmp_path / folder), *extra, "--output_path",
                               str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err


def test_files_in_another_order_are_refused(tmp_path, capsys):
    store = known_store(tmp_path / "sweep")
    other = known_store(tmp_path / "other", images=IMAGES)
    images = other.images
    shutil.rmtree(other.path)
    turned = PredictionStore.create(other.path, SweepImages(
        images.image_id[::-1], images.patient_id[::-1], images.classes, images.truth[::-1],
        images.train_cooccurrence))
    turned.write(2, "L1@0.75", np.full((IMAGES, 4), 0.5), series="L1", level=0.75)
    shutil.copyfile(turned.file(2, "L1@0.75"), store.file(2, "L1@0.75"))
    assert forgettability.main(["--predictions", str(tmp_path / "sweep"), "--output_path",
                                str(tmp_path / "out")]) == 2
    assert "another order" in capsys.readouterr().err


@pytest.mark.parametrize("argv, said", [
    (["make"], "--exemplars"), (["make", "--exemplars", "none"], "exemplars.csv"),
    (["analyse"], "--key"), (["analyse", "--key", "none.csv", "--answers", "a.csv"], "no such"),
    (["analyse", "--key", "k", "--answers", "a", "--questions", "mood=x"], "mood=x")])
def test_bad_flags_of_the_reader_study(tmp_path, capsys, argv, said):
    assert reader_study.main([*argv, "--output_path", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
