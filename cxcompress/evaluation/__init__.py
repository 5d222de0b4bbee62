"""Records in, numbers out: metrics with intervals, comparisons with verdicts, ratios, warnings.

    estimates = evaluate(predictions)                    # dict of Estimate
    estimates = evaluate_cxr(predictions, thresholds=…)  # F1, Brier, groups, micro means too
    comparison = compare(original, compressed)           # non-inferior, inferior or undecided
    print("\\n".join(comparison.summary()))
"""

from __future__ import annotations

from cxcompress.evaluation.comparison import Comparison, compare
from cxcompress.evaluation.cxr import evaluate_cxr
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.metrics import evaluate
from cxcompress.evaluation.plausibility import plausibility_warnings
from cxcompress.evaluation.ratios import Ratio, Ratios
from cxcompress.evaluation.thresholds import choose_thresholds

__all__ = ["Comparison", "Estimate", "Ratio", "Ratios", "choose_thresholds", "compare",
           "evaluate", "evaluate_cxr", "plausibility_warnings"]
