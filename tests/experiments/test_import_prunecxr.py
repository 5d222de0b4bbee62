"""The one-time converter: reads frames without pandas, runs nothing that a pickle holds."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxcompress.search.prediction_store import PredictionStore

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "import_prunecxr.py"


@pytest.fixture(scope="module")
def converter():
    spec = importlib.util.spec_from_file_location("import_prunecxr", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LABELS = ("Mass", "Mass|Nodule", "", "Hernia", "Nodule")


def frame(seed=0, **changes) -> pd.DataFrame:
    p = np.random.default_rng(seed).random((5, 3))
    table = pd.DataFrame(dict(zip(("Mass", "Nodule", "Hernia"), p.T, strict=True)))
    table["label"] = pd.Series(LABELS, dtype=object)
    for name, values in changes.items():
        table[name] = values
    table["label"] = table["label"].astype(object)
    table.columns = table.columns.astype(object)
    return table


def write(folder, content, seed=0, sparsity=0.0, protocol=4):
    path = folder / f"nih-cxr-lt_resnet50_seed-{seed}_prune-{sparsity}.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def call(converter, folder, *more):
    return converter.main(["--pickles", str(folder), "--dataset", "nih-cxr-lt", "--output_path",
                           str(folder / "out"), *more])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_frames_become_a_store(converter, tmp_path, protocol):
    for seed in (0, 1):
        for sparsity in (0.0, 0.9):
            write(tmp_path, frame(10 * seed + int(sparsity > 0)), seed, sparsity, protocol)
    assert call(converter, tmp_path) == 0
    store = PredictionStore.open(tmp_path / "out")
    assert store.seeds == (0, 1) and store.treatments(1) == ("L1@0.9", "original")
    assert store.images.classes == ("Mass", "Nodule", "Hernia")
    assert store.images.truth.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
    expected = frame(11)[["Mass", "Nodule", "Hernia"]].to_numpy()
    assert store.probabilities(1, "L1@0.9") == pytest.approx(expected, rel=2e-3)


def test_the_layout_of_old_pandas_is_read(converter, tmp_path, monkeypatch):
    """Before pandas 1.3 a manager's state was a tuple, and rows of blocks were arrays."""
    p = np.random.default_rng(0).random((3, 5))
    record, kinds = converter.Record, {}

    def made(name, *args, state=None):
        kinds.setdefault(name, type(name, (record,), {"name": name}))
        one = kinds[name](*args)
        one.state = state
        return one

    columns = made("_new_Index", type("Index", (), {"name": "Index"}),
                   {"data": np.array(["Mass", "label", "Nodule", "Hernia"], object)})
    manager = made("BlockManager", state=(None, None, None, {"0.14.1": {
        "axes": [columns, None], "blocks": [
            {"values": p, "mgr_locs": np.array([0, 2, 3])},
            {"values": np.array([LABELS], object), "mgr_locs": slice(1, 2, 1)}]}}))
    content = made("DataFrame", state={"_data": manager})
    monkeypatch.setattr(converter.InertUnpickler, "load", lambda self: content)
    (tmp_path / "x.pkl").write_bytes(b"")
    found, array = converter.read_frame(tmp_path / "x.pkl")
    assert array is None and list(found) == ["Mass", "Nodule", "Hernia", "label"]
    assert np.array_equal(found["Hernia"], p[2]) and found["label"].tolist() == list(LABELS)


def test_label_files_give_names_patients_and_frequencies(converter, tmp_path):
    write(tmp_path, frame())
    header = "id,Mass,Nodule,Hernia,subj_id\n"
    rows = [f"a{row}.png,{int('Mass' in text)},{int('Nodule' in text)},{int('Hernia' in text)},"
            f"{row // 2}\n" for row, text in enumerate(LABELS)]
    (tmp_path / "test.csv").write_text(header + "".join(rows))
    (tmp_path / "train.csv").write_text(header + "".join(rows[:3]))
    assert call(converter, tmp_path, "--test_labels", str(tmp_path / "test.csv"),
                "--train_labels", str(tmp_path / "train.csv")) == 0
    images = PredictionStore.open(tmp_path / "out").images
    assert images.image_id[1] == "a1.png" and images.patient_id[3] == "1"
    assert images.train_cooccurrence.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    # Arrays take their classes and truth from the file.
    write(tmp_path, np.full((5, 3), 0.25))
    assert call(converter, tmp_path, "--test_labels", str(tmp_path / "test.csv"),
                "--overwrite") == 0
    assert PredictionStore.open(tmp_path / "out").images.classes == ("Mass", "Nodule", "Hernia")


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(
    converter, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, Harmful())
    assert call(converter, tmp_path) == 2
    assert "system, which predictions have no need of" in capsys.readouterr().err
    assert not (tmp_path / "harmed").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content, said", [
    (frame(Mass=[0.1, np.nan, 0.2, 0.3, 0.4]), "1 rows hold NaN"),
    (frame(label=["Gout", "", "", "", ""]), "labelled 'Gout'"),
    ({"a": 1}, "not a pickled DataFrame"), (np.zeros((5, 3)), "--test_labels"),
    (frame().drop(columns="label"), "no column label")])
def test_other_contents_are_named(converter, tmp_path, capsys, content, said):
    path = write(tmp_path, content)
    assert call(converter, tmp_path) == 2
    error = capsys.readouterr().err
    assert said in error and path.name in error


def test_files_that_disagree_and_no_files(converter, tmp_path, capsys):
    assert call(converter, tmp_path) == 2
    assert "holds no nih-cxr-lt" in capsys.readouterr().err
    write(tmp_path, frame())
    write(tmp_path, frame(label=LABELS[::-1]), sparsity=0.5)
    assert call(converter, tmp_path) == 2
    assert "another order" in capsys.readouterr().err
