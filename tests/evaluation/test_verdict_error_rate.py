"""How often does the verdict call an inferior model non-inferior? By simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from cxcompress.evaluation import compare
from cxcompress.evaluation.comparison import INFERIOR, NON_INFERIOR
from cxcompress.tasks import Predictions

MARGIN, AREA = 0.05, 0.85
TRIALS = 1000
POSITIVES, NEGATIVES, SHARED = 60, 240, 0.8


def verdicts(loss: float, images_a_patient: int, seed: int) -> list[str]:
    """Verdicts on pairs of binormal models whose true AUROCs differ by `loss`."""
    rng = np.random.default_rng(seed)
    n = (POSITIVES + NEGATIVES) * images_a_patient
    patient = np.repeat(np.arange(POSITIVES + NEGATIVES), images_a_patient)
    truth = (patient < POSITIVES)[:, None].astype(float)
    means = [np.sqrt(2) * ndtri(area) for area in (AREA, AREA - loss)]
    ids, patients = np.arange(n).astype(str), patient.astype(str)
    found = []
    for _ in range(TRIALS):
        # What a patient's images share, and what both models see alike.
        of_patient, common = rng.normal(size=(2, POSITIVES + NEGATIVES)), rng.normal(size=n)
        records = []
        for mean, own in zip(means, of_patient, strict=True):
            noise = (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.normal(size=n))
            if images_a_patient > 1:
                noise = np.sqrt(0.5) * own[patient] + np.sqrt(0.5) * noise
            score = ndtr(noise + mean * truth[:, 0])[:, None]
            records.append(Predictions(ids, patients, ("finding",), truth, score, "multilabel"))
        comparison = compare(*records, margin=MARGIN, resamples=2)
        found.append(next(change.verdict for change in comparison.changes
                          if change.metric == "auroc:finding"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("images_a_patient", [1, 3])
def test_a_loss_of_just_the_margin_passes_in_about_one_case_of_forty(images_a_patient):
    """2.5% nominal (of a t interval on 60 positives: up to 4%); 3 standard errors of 1,000."""
    found = verdicts(MARGIN, images_a_patient, seed=1)
    wrong = found.count(NON_INFERIOR) / TRIALS
    also_wrong = found.count(INFERIOR) / TRIALS
    assert 0.01 < wrong < 0.045 and 0.01 < also_wrong < 0.045


@pytest.mark.slow
def test_equal_models_are_called_inferior_almost_never():
    found = verdicts(0.0, 1, seed=2)
    assert found.count(INFERIOR) <= 2
    assert found.count(NON_INFERIOR) > TRIALS / 2
