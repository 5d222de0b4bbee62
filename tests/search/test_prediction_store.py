"""The store of a sweep's predictions: compact, exact enough, and strict."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cxcompress.errors import InputError
from cxcompress.evaluation.ranking import ranking_metrics
from cxcompress.search.prediction_store import (
    PredictionStore,
    SweepImages,
    log_odds,
    probabilities_of,
    severity,
    weight_histogram,
)


def images(n=30, c=4, **changes) -> SweepImages:
    random = np.random.default_rng(0)
    truth = (random.random((n, c)) < 0.4).astype(np.float32)
    names = np.array([f"img{row}" for row in range(n)])
    fields = {"image_id": names, "patient_id": names, "classes": tuple("abcd"[:c]),
              "truth": truth, "train_cooccurrence": np.eye(c, dtype=np.int64) * 9,
              "collection": "synthetic:x", "synthetic": True, "credit": "nobody", "task":
              "multilabel"}
    return SweepImages(**(fields | changes))


def test_what_is_written_is_read(tmp_path):
    written = images()
    written.truth[2, 1] = np.nan
    store = PredictionStore.create(tmp_path / "predictions", written)
    p = np.random.default_rng(1).random((30, 4))
    store.write(3, "L1@0.9", p, series="L1", level=0.9, attributes={"bytes": 123},
                arrays={"thresholds": np.arange(4.0)})
    store = PredictionStore.open(tmp_path)
    assert store.images.classes == written.classes and store.images.synthetic
    assert np.array_equal(store.images.truth, written.truth, equal_nan=True)
    assert store.images.image_id.tolist() == written.image_id.tolist()
    assert store.seeds == (3,) and store.treatments(3) == ("L1@0.9",)
    assert store.probabilities(3, "L1@0.9") == pytest.approx(p, rel=2e-3)
    assert store.attributes(3, "L1@0.9")["bytes"] == 123
    assert store.array(3, "L1@0.9", "thresholds").tolist() == [0, 1, 2, 3]
    assert store.array(3, "L1@0.9", "other") is None


def test_series_run_from_mild_to_hard(tmp_path):
    store = PredictionStore.create(tmp_path, images())
    for name in ("L1@0.9", "L1@0.05", "uUQ@2", "uUQ@256", "uUQ@16", "original"):
        store.write(0, name, np.full((30, 4), 0.5), series=name, level=0)
    assert PredictionStore.open(tmp_path).series() == {
        "L1": ("L1@0.05", "L1@0.9"), "uUQ": ("uUQ@256", "uUQ@16", "uUQ@2")}
    assert severity(0.3) < severity(0.5) and severity(256) < severity(2)


def test_log_odds_rank_as_the_network_did_where_float16_probabilities_tie():
    """Probabilities of a sure network, all within a thousandth of 1."""
    random = np.random.default_rng(0)
    logits = random.normal(11, 1, 4000)
    truth = random.random(4000) < 1 / (1 + np.exp(11 - logits))
    p = (1 / (1 + np.exp(-logits))).astype(np.float32)
    precision, auroc = ranking_metrics(log_odds(p), truth)
    assert auroc == pytest.approx(roc_auc_score(truth, p), abs=5e-4)
    assert precision == pytest.approx(average_precision_score(truth, p), abs=1e-3)
    assert abs(ranking_metrics(p.astype(np.float16), truth)[1] - roc_auc_score(truth, p)) > 0.05


def test_both_ends_of_the_probabilities_come_back():
    p = np.array([0, 1e-9, 1e-6, 0.25, 0.5, 1 - 1e-6, 1])
    back = probabilities_of(log_odds(p))
    assert back == pytest.approx(p, abs=2e-4, rel=0) and np.isfinite(log_odds(p)).all()
    assert (np.diff(back) >= 0).all()


def test_a_prediction_takes_two_bytes_or_less(tmp_path):
    n = 5000
    names = np.array([f"img{row}" for row in range(n)])
    store = PredictionStore.create(tmp_path, images(
        image_id=names, patient_id=names, truth=np.zeros((n, 4), np.float32)))
    path = store.write(0, "original", np.random.default_rng(0).random((n, 4)), series="original",
                       level=0)
    assert path.stat().st_size < 2 * n * 4 + 4000


def test_nan_predictions_are_neither_written_nor_read(tmp_path):
    store = PredictionStore.create(tmp_path, images())
    p = np.full((30, 4), 0.5)
    p[7, 2] = np.nan
    with pytest.raises(InputError, match="NaN of 1 images"):
        store.write(0, "original", p, series="original", level=0)
    assert not store.file(0, "original").exists()
    path = store.write(0, "original", np.full((30, 4), 0.5), series="original", level=0)
    with h5py.File(path, "r+") as file:
        file["log_odds"][5] = np.nan
    with pytest.raises(InputError, match="holds NaN for 1 images"):
        store.read(0, "original")


def test_files_about_other_images_or_another_order_are_refused(tmp_path):
    store = PredictionStore.create(tmp_path / "one", images())
    turned = images()
    other = PredictionStore.create(tmp_path / "two", SweepImages(
        turned.image_id[::-1], turned.patient_id, turned.classes, turned.truth,
        turned.train_cooccurrence))
    path = other.write(0, "original", np.full((30, 4), 0.5), series="original", level=0)
    target = store.file(0, "original")
    target.parent.mkdir()
    target.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="another order"):
        store.read(0, "original")
    with pytest.raises(InputError, match="other images"):
        PredictionStore.create(tmp_path / "one", other.images)


@pytest.mark.parametrize("content", [b"", b"not HDF5", None])
def test_damaged_and_missing_files_are_named(tmp_path, content):
    store = PredictionStore.create(tmp_path, images())
    path = store.file(0, "original")
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="original.h5"):
        store.read(0, "original")
    (tmp_path / "images.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match="images.h5"):
        PredictionStore.open(tmp_path)


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    store = PredictionStore.create(tmp_path, images())
    with pytest.raises(InputError, match=r"\(30, 3\)"):
        store.write(0, "original", np.zeros((30, 3)), series="original", level=0)


def test_the_histogram_counts_every_weight_once():
    kernels = [np.array([-1.0, 0.5]), np.array([[0.1, -0.2, 2.0]])]
    counts, edges = weight_histogram(kernels)
    assert counts.sum() == 5 and edges[0] == 0 and edges[-1] == 2 and len(counts) == 50
