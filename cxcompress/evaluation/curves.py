"""The points of ROC, precision–recall and calibration curves of a multilabel record.

    curves = class_curves(test, estimates, thresholds, scaled=with_temperature(test, 1.4))
    cxr_figures.roc_curves(folder / "roc", curves)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from cxcompress.evaluation.calibration import calibration_bins
from cxcompress.evaluation.estimates import Estimate
from cxcompress.tasks.predictions import Predictions


def class_curves(
    predictions: Predictions, estimates: Mapping[str, Estimate], thresholds: Sequence[float],
    scaled: Predictions | None = None, scaled_estimates: Mapping[str, Estimate] | None = None,
) -> dict[str, list[dict]]:
    """Curves by kind: `"roc"`, `"precision_recall"` and `"calibration"`, one mapping a class.

    Args:
        predictions: Multilabel record.
        estimates: Of `evaluate_cxr`.
        thresholds: One a class.
        scaled, scaled_estimates: The same after temperature scaling, or None.
    """
    curves: dict[str, list[dict]] = {"roc": [], "precision_recall": [], "calibration": []}
    for column, name in enumerate(predictions.classes):
        known = ~np.isnan(predictions.truth[:, column])
        truth = predictions.truth[known, column] == 1
        score = predictions.score[known, column]
        common = {"name": name, "positives": int(truth.sum())}
        defined = truth.any() and not truth.all()
        area, precision = (estimates[f"{metric}:{name}"] for metric in ("auroc",
                                                                        "average_precision"))
        roc = common | {"value": area.value, "low": area.low, "high": area.high, "point": None}
        ranked = common | {"value": precision.value, "low": precision.low, "high": precision.high,
                           "prevalence": float(truth.mean()) if len(truth) else np.nan}
        if not defined:
            # All positive: average precision is 1 whatever the scores, and says nothing.
            ranked["value"] = np.nan
        else:
            false_rate, true_rate, _ = roc_curve(truth, score)
            found = score >= thresholds[column]
            roc |= {"false_positive_rate": false_rate, "true_positive_rate": true_rate,
                    "point": (float(found[~truth].mean()), float(found[truth].mean()))}
            shown, recall, _ = precision_recall_curve(truth, score, drop_intermediate=True)
            # The last point, recall 0 at precision 1, is a convention and no threshold's.
            ranked |= {"recall": recall[-2::-1], "precision": shown[-2::-1]}
        curves["roc"].append(roc)
        curves["precision_recall"].append(ranked)
        if len(truth):
            entry = common | {
                "calibration_error": estimates[f"calibration_error:{name}"].value,
                "bins": calibration_bins(truth, score)}
            if scaled is not None and scaled_estimates is not None:
                entry |= {"scaled_error": scaled_estimates[f"calibration_error:{name}"].value,
                          "scaled_bins": calibration_bins(truth, scaled.score[known, column])}
            curves["calibration"].append(entry)
    return curves
