"""autocompress.py and grid_search.py on a small network and images of two classes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import cxcompress
from cxcompress import models
from cxcompress.commands import autocompress, compress, grid_search
from cxcompress.pipeline import tuning
from cxcompress.quantization import Compression
from cxcompress.search import candidates
from cxcompress.storage import is_container, read_card, read_container

pytest.importorskip("optuna")


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def search(trained_net, image_folder, tmp_path_factory):
    """A search that is interrupted once, continued, and asked for again."""
    folder = tmp_path_factory.mktemp("search")
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--trials", "10",
            "--epochs", "2", "--workers", "1", "--levels", "256", "16", "4", "--pruned", "0", "50",
            "--output_path", str(folder)]
    measure, calls = candidates.Bench.measure, []

    def interrupted_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates.Bench, "measure", interrupted_once)
        statuses = [autocompress.main(argv) for _ in range(3)]
    return folder / "autocompress" / "spots", statuses, len(calls), argv


def test_a_search_resumes_and_leaves_one_file_that_runs(search):
    path, statuses, _, _ = search
    assert statuses == [130, 0, 2]
    results = json.loads((path / "results.json").read_text())
    rows = rows_of(path / "candidates.csv")
    assert {row["stage"] for row in rows} >= {"0", "1"}
    best = [row for row in rows if row["recommended"] == "True"]
    assert len(best) == 1 and best[0]["name"] == results["recommended"]
    fit = [row for row in rows if row["stage"] != "0" and row["feasible"] == "True"]
    assert int(best[0]["bytes"]) == min(int(row["bytes"]) for row in fit)
    file = path / results["file"]
    assert is_container(file) and file.stat().st_size == results["sizes"]["total"]
    assert read_card(file).provenance["search"] == results["recommended"]
    assert read_card(file).provenance["unshared"] == "compact"
    told = json.loads((path / "recommended" / "results.json").read_text())["arguments"]
    assert told["unshared"] == "compact"
    # 30 images a class decide nothing, and it says so.
    assert "undecided" in results["verdict"]
    assert best[0]["undecidable"]
    for name in ("candidates.png", "candidates.svg", "recommended/report.html"):
        assert (path / name).stat().st_size > 1000
    assert not (path / "states").exists() and not (path / "containers").exists()
    # The file's own report says how it was made, not what the search was asked.
    told = json.loads((path / "recommended" / "run.json").read_text())["arguments"]
    assert told["compression"] in results["recommended"] and "trials" not in told
    assert told["compression"] in (path / "recommended" / "report.html").read_text()


@pytest.mark.parametrize("candidate", [
    candidates.Candidate("uTCQ", sqnr_db=14.0, epochs=3),
    candidates.Candidate("ECSQ", k=16, pruned=50.0, lambd=1e-5, sensitivity="fisher")])
def test_a_candidate_is_told_to_compress_as_its_flags(candidate):
    line = [f"--{name}={value}" for name, value in candidate.flags.items()]
    told = compress.build_parser().parse_args(line)
    parsed = Compression.parse(
        told.compression, clustercnn=told.clustercnn, clusterfc=told.clusterfc, prcnn=told.prcnn,
        prfc=told.prfc, lambd=told.lambd, sqnr_db=told.sqnr)
    assert parsed == candidate.parsed
    assert (told.epochs, told.sensitivity) == (candidate.epochs, candidate.sensitivity)


@pytest.mark.slow
def test_an_interrupted_search_finds_what_an_undisturbed_one_finds(search, tmp_path):
    path, _, counted, argv = search
    assert autocompress.main([*argv[:-1], str(tmp_path)]) == 0
    undisturbed = rows_of(tmp_path / "autocompress" / "spots" / "candidates.csv")
    interrupted = rows_of(path / "candidates.csv")
    assert counted == len(undisturbed) + 1
    for one, other in zip(undisturbed, interrupted, strict=True):
        for name in ("name", "stage", "verdict", "best_epoch", "feasible", "recommended"):
            assert one[name] == other[name]
        # Estimated statistics differ by rounding, since threads add in any order.
        for name in ("bytes", "shortfall", "lowest"):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=0.01, abs=1e-4)


@pytest.mark.slow
def test_limits_that_nothing_meets_name_the_nearest(search, capsys):
    path, _, _, argv = search
    folder = path.parent / "tight"
    assert autocompress.main([*argv[:-1], str(folder), "--max_bytes", "100", "--epochs", "0"]) == 2
    said = capsys.readouterr().err
    assert "none of" in said and "the nearest, " in said and "larger or slower" in said
    assert rows_of(folder / "autocompress" / "spots" / "candidates.csv")


def test_a_grid_is_measured_once_each_and_judged_on_test(trained_net, image_folder, tmp_path,
                                                         capsys):
    argv = ["--net", str(trained_net), "--data_path", str(image_folder), "--compressions", "uCWS",
            "uECSQ", "--levels", "16", "--lambdas", "1e-5", "--epochs", "0", "1",
            "--learning_rates", "1e-3", "1e-4", "--workers", "1", "--unshared", "exact",
            "--augment", "--output_path", str(tmp_path)]
    assert grid_search.main(argv) == 0
    path = tmp_path / "grid_search" / "spots"
    rows = rows_of(path / "candidates.csv")
    # Untrained combinations differ in no rate: 2 compressions × (1 + 2 rates).
    assert len(rows) == 6 and len({row["name"] for row in rows}) == 6
    results = json.loads((path / "results.json").read_text())
    assert results["comparison"]["verdict"]
    assert "unshared" not in read_card(path / results["file"]).provenance
    assert "judged on test" in capsys.readouterr().out


def test_candidates_are_tuned_as_the_search_is_told(trained_net, image_folder, tmp_path,
                                                    monkeypatch):
    def tune(model, shared, study, settings, *rest, **more):
        told.append(settings)
        raise KeyboardInterrupt

    told: list[tuning.FineTuning] = []
    monkeypatch.setattr(tuning, "tune", tune)
    bench = candidates.Bench(str(trained_net), str(image_folder), str(tmp_path), augment=True,
                             patience=3)
    monkeypatch.setattr(bench, "_judged", lambda *_: {"feasible": False, "shortfall": 1.0})
    with pytest.raises(KeyboardInterrupt):
        bench.measure(candidates.Candidate("uUQ", k=4, epochs=2))
    assert told == [tuning.FineTuning(epochs=2, augment=True, patience=3)]


def test_scaled_channels_are_measured_as_compress_stores_them(trained_net, image_folder, tmp_path):
    candidate = candidates.Candidate("TCQ", sqnr_db=18.0, sensitivity="channels")
    bench = candidates.Bench(str(trained_net), str(image_folder), str(tmp_path))
    bench.measure(candidate)
    measured = read_container(bench.container(candidate)).shared
    stored = cxcompress.compress(trained_net, image_folder, candidate.parsed, plans=(),
                                 importance="channels", sensitivity=False).container.shared
    for path, array in stored.weights().items():
        # Gradients differ by rounding, since threads add in any order: a weight may round anew.
        alike = np.isclose(measured.weights()[path], array, rtol=1e-2, atol=1e-5)
        assert alike.mean() > 0.95, path
    scaled, plain = (models.weights(network) for network in (
        bench.prepared(candidate)[0], bench.network(0)))
    assert {path for path in plain if not np.array_equal(plain[path], scaled[path])} > {
        path for path in plain if path.endswith("gamma")}


@pytest.mark.parametrize("command, argv, said", [
    (autocompress, ["--trials", "0"], "--trials 0"),
    (autocompress, ["--margin", "0"], "--margin 0"),
    (autocompress, ["--pruned", "100"], "--pruned 100"),
    (autocompress, ["--levels", "1"], "--levels 1"),
    (autocompress, ["--workers", "0"], "--workers 0"),
    (autocompress, ["--crop", "8"], "--crop 8: for fields of nuclei"),
    (autocompress, ["--storage", "nosuch://x"], "--storage nosuch://x"),
    (grid_search, ["--compressions", "TCQ"], "--compressions TCQ"),
    (grid_search, ["--epochs", "-1"], "--epochs -1"),
    (grid_search, ["--compressions", "uCWX"], "uCWX"),
])
def test_bad_flags_are_refused_in_one_line(trained_net, image_folder, tmp_path, capsys, command,
                                           argv, said):
    assert command.main(["--net", str(trained_net), "--data_path", str(image_folder), "--workers",
                         "1", "--output_path", str(tmp_path), *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.h5"))


def test_images_without_labels_cannot_choose(trained_net, image_folder, tmp_path, capsys):
    assert autocompress.main(["--net", str(trained_net), "--workers", "1", "--data_path",
                              str(image_folder / "train" / "covid"), "--output_path",
                              str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
