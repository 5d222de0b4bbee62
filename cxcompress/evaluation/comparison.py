"""Is the compressed model as good as the original? The paired comparison and its verdict.

    comparison = compare(original, compressed, margin=0.02)
    comparison.verdict               # "non-inferior", "inferior", "undecided",
                                     # "non-inferior where decidable"
    print("\\n".join(comparison.summary()))
    comparison.to_frame().to_csv("comparison.csv", index=False)

Every difference is compressed − original, turned so that higher is better (cross-entropy and
calibration error are negated), with a two-sided 95% interval:

- AUROC: paired DeLong with Student's t, clustered by patient (`auroc.py`); everything else:
  bootstrap of patients with the same draws for both models (`bootstrap.py`).
- Verdict of a primary metric: *non-inferior* if low > −margin, *inferior* if high < −margin, else
  *undecided*. Undecided too with fewer than 50 positive or 50 negative patients (of any class that
  a mean holds), and where both models are perfect: no loss among n positives still allows a loss
  of 1 − 0.05^(1/n), about 3/n.
- Primary are the AUROCs of the classes; for multiclass their mean and balanced accuracy too. The
  whole is non-inferior only if every primary metric is (intersection–union: no correction). Which
  classes *fell* is another question, with p-values corrected by Holm (1979).
- The smallest margin that a test set can decide is the half-width of the interval below the
  difference: no smaller margin would have been met had the two models done equally well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.auroc import (
    AurocParts,
    auroc_parts_by_class,
    distinct_rankings,
    left_out,
    macro_variance_and_freedom,
    t_interval,
    t_test,
)
from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.cell_metrics import (
    ABSOLUTE_ERROR,
    cells_of,
    paired_values,
    patients_with,
)
from cxcompress.evaluation.estimates import (
    ALPHA,
    Estimate,
    all_successes_low,
    lost_positives_bound,
    reservations,
    without_nan,
)
from cxcompress.evaluation.metrics import Statistic, interval, statistics, values
from cxcompress.evaluation.records import ReadyRecord, align
from cxcompress.evaluation.thresholds import DecisionAudit, audit_decisions
from cxcompress.tasks.cell_matches import CellMatches
from cxcompress.tasks.predictions import Predictions

if TYPE_CHECKING:
    import pandas

MARGIN = 0.02
ENOUGH_PATIENTS = 50
"""Positive patients, and negative patients, below which no verdict is given."""

LOWER_IS_BETTER = ("cross_entropy", "calibration_error", ABSOLUTE_ERROR)

NON_INFERIOR, INFERIOR, UNDECIDED = "non-inferior", "inferior", "undecided"
WHERE_DECIDABLE = "non-inferior where decidable"


@dataclass(frozen=True)
class Change:
    """One metric of the original and of the compressed model.

    Args:
        metric: Key as in `evaluate`, e.g. `"auroc:Effusion"`.
        original, compressed: The metric's own values, not turned.
        difference: compressed − original, turned so that higher is better.
        primary: Whether the whole verdict rests on it.
        verdict: `"non-inferior"`, `"inferior"` or `"undecided"`; None for metrics that get none.
        reason: Why it is undecided; else empty.
        smallest_margin: The smallest margin that this test set can decide; NaN = none.
        positive_patients, negative_patients: The fewest of any class that the metric holds;
            None for metrics that get no verdict.
        lost_positives_bound: Where both models are perfect, the exact 95% upper bound on the
            share of positives lost; else None.
        p_value: Two-sided, difference = 0; AUROC only, else NaN.
        p_holm: The same corrected over the classes; per-class AUROC only, else NaN.
    """

    metric: str
    original: float
    compressed: float
    difference: Estimate
    primary: bool = False
    verdict: str | None = None
    reason: str = ""
    smallest_margin: float = math.nan
    positive_patients: int | None = None
    negative_patients: int | None = None
    lost_positives_bound: float | None = None
    p_value: float = math.nan
    p_holm: float = math.nan

    @property
    def fell(self) -> bool:
        """Whether the metric is lower than before, at 5% over all classes (Holm)."""
        return self.difference.value < 0 and self.p_holm < ALPHA

    def line(self) -> str:
        """The change in one line."""
        change = self.difference
        text = f"{self.metric}: {_number(self.original)} -> {_number(self.compressed)}"
        if self.metric in LOWER_IS_BETTER:
            text += " (lower is better)"
        text += f", difference {change.value:+.4f}" if not math.isnan(change.value) else ""
        if not math.isnan(change.low):
            text += f" (95% interval {change.low:+.4f} to {change.high:+.4f})"
        if self.verdict:
            text += f": {self.verdict}" + (f", {self.reason}" if self.reason else "")
        if not math.isnan(self.smallest_margin):
            text += f"; smallest margin this test set can decide: {self.smallest_margin:.4f}"
        return text

    def row(self) -> dict:
        """Flat values for a table."""
        estimate = asdict(self.difference)
        return {
            "metric": self.metric, "original": self.original, "compressed": self.compressed,
            "difference": estimate.pop("value"), **estimate,
            **{name: getattr(self, name) for name in (
                "primary", "verdict", "reason", "smallest_margin", "positive_patients",
                "negative_patients", "lost_positives_bound", "p_value", "p_holm")},
            "fell": self.fell,
        }


@dataclass(frozen=True)
class Comparison:
    """What compression did to the diagnosis.

    Args:
        margin: Absolute, in the metric's own units.
        identical: Whether both models gave exactly the same scores.
        changes: Every metric; primary ones first.
        decisions: The audit of each class.
    """

    margin: float
    identical: bool
    changes: tuple[Change, ...]
    decisions: tuple[DecisionAudit, ...]

    @property
    def primary(self) -> tuple[Change, ...]:
        """The changes that the whole verdict rests on."""
        return tuple(change for change in self.changes if change.primary)

    def metrics_with(self, verdict: str) -> tuple[str, ...]:
        """Names of the primary metrics with this verdict."""
        return tuple(change.metric for change in self.primary if change.verdict == verdict)

    @property
    def verdict(self) -> str:
        """Of the whole: the worst of its parts, see the module's docstring."""
        if self.metrics_with(INFERIOR):
            return INFERIOR
        if not self.metrics_with(UNDECIDED):
            return NON_INFERIOR
        return WHERE_DECIDABLE if self.metrics_with(NON_INFERIOR) else UNDECIDED

    @property
    def fell(self) -> tuple[str, ...]:
        """Per-class AUROCs that fell, at 5% over all classes (Holm)."""
        return tuple(change.metric for change in self.changes if change.fell)

    def headline(self) -> str:
        """The whole verdict in one line, with the names that qualify it."""
        text = f"{self.verdict} at a margin of {self.margin:g}"
        if self.verdict == INFERIOR:
            text += f": {', '.join(self.metrics_with(INFERIOR))}"
        undecided = self.metrics_with(UNDECIDED)
        if undecided:
            text += f"; undecided: {', '.join(undecided)}"
        return text

    def summary(self) -> list[str]:
        """Lines to print: the verdict, every verdict's metric, what fell, the decisions."""
        lines = [f"verdict: {self.headline()}"]
        if self.identical:
            lines.append("both models gave exactly the same scores")
        lines += [change.line() for change in self.changes if change.verdict]
        lines.append(f"fell (Holm, 5%): {', '.join(self.fell) or 'none'}")
        lines += [change.line() for change in self.changes
                  if not change.verdict and ":" not in change.metric]
        for audit in self.decisions:
            lines += audit.summary()
        return lines

    def rows(self) -> list[dict]:
        """One flat dict a metric, for a CSV file."""
        return [change.row() for change in self.changes]

    def to_frame(self) -> pandas.DataFrame:
        """`rows` as a `pandas.DataFrame`."""
        import pandas

        return pandas.DataFrame(self.rows())

    def to_dict(self) -> dict:
        """Everything as nested dicts and numbers, None for undefined."""
        return without_nan({
            "verdict": self.verdict, "headline": self.headline(), "margin": self.margin,
            "identical": self.identical, "inferior": self.metrics_with(INFERIOR),
            "undecided": self.metrics_with(UNDECIDED), "fell": self.fell,
            "changes": [asdict(change) | {"fell": change.fell} for change in self.changes],
            "decisions": [audit.to_dict() for audit in self.decisions],
        })


def compare(
    original: Predictions | CellMatches,
    compressed: Predictions | CellMatches,
    *,
    margin: float = MARGIN,
    thresholds: Sequence[float] | None = None,
    new_thresholds: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same test images.

    Args:
        original, compressed: Their records; the order of the images may differ.
        margin: Largest loss that does not matter, absolute, in the metric's own units.
        thresholds: The original's, multilabel only, default 0.5. Accuracies and the audit's first
            comparison use them for both models.
        new_thresholds: Chosen for the compressed model on validation (`choose_thresholds`).
        resamples, seed: Of the draws of patients.

    Raises:
        ValueError: If the margin is not positive or the records do not match (`align`).
    """
    if not margin > 0:
        raise ValueError(f"margin must be positive. Received: {margin}")
    if isinstance(original, CellMatches) and isinstance(compressed, CellMatches):
        return _compare_cells(original, compressed, margin, resamples, seed)
    if isinstance(original, CellMatches) or isinstance(compressed, CellMatches):
        raise ValueError("one record is of cells, the other of classes")
    original, compressed = align(original, compressed)
    before, after = (ReadyRecord.of(record, thresholds) for record in (original, compressed))
    draws = PatientDraws(before.patients, resamples, seed)
    changes = _auroc_changes(before, after, margin)
    for one, other in zip(statistics(before), statistics(after), strict=True):
        changes += _bootstrapped_changes(one, other, before, after, draws, margin)
    return Comparison(
        margin, bool(np.array_equal(before.score, after.score)),
        tuple(sorted(changes, key=lambda change: (not change.primary, not change.verdict))),
        audit_decisions(original, compressed, thresholds, new_thresholds,
                        resamples=resamples, seed=seed),
    )


def _compare_cells(
    original: CellMatches, compressed: CellMatches, margin: float, resamples: int, seed: int
) -> Comparison:
    """Changes of the metrics of nuclei; the verdict rests on the F1 of each cell class."""
    ready, old, new, drawn = paired_values(original, compressed, resamples, seed)
    changes = []
    for row, name in enumerate(ready.names()):
        sign = -1.0 if name in LOWER_IS_BETTER else 1.0
        difference = sign * float(new[row] - old[row])
        low, high, method = interval(difference, sign * drawn[row], (), False, ready.patients)
        change = Change(name, float(old[row]), float(new[row]), Estimate(
            difference, low, high, len(original.image_id), cells_of(ready, name),
            ready.patients, "paired " + method))
        if name.startswith("f1:"):
            patients = patients_with(ready, name)
            # Fields have no negatives: every class is judged by the patients who have such cells.
            change = _judged(change, margin, patients, max(patients, ENOUGH_PATIENTS),
                             primary=True)
        changes.append(change)
    same = all(np.array_equal(getattr(original, name), getattr(compressed, name))
               for name in ("tp", "fp", "fn"))
    return Comparison(margin, same, tuple(sorted(
        changes, key=lambda change: (not change.primary, not change.verdict))), ())


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's (1979) step-down correction; NaN (not tested) stays NaN and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def judge(
    difference: Estimate, margin: float, positive_patients: int, negative_patients: int,
    both_perfect: bool,
) -> tuple[str, str]:
    """Verdict and, where undecided, the reason.

    Args:
        difference: Turned so that higher is better.
        margin: Positive.
        positive_patients, negative_patients: The fewest of any class that the metric holds.
        both_perfect: Whether both models made no mistake.
    """
    if math.isnan(difference.low):
        return UNDECIDED, difference.method
    reasons = [
        f"fewer than {ENOUGH_PATIENTS} {kind} patients ({count})"
        for kind, count in (("positive", positive_patients), ("negative", negative_patients))
        if count < ENOUGH_PATIENTS
    ]
    if both_perfect:
        bound = lost_positives_bound(positive_patients)
        reasons.append(f"both models are perfect here (up to {bound:.1%} of positives may be "
                       f"lost: exact 95% bound, {positive_patients} patients)")
    if reasons:
        return UNDECIDED, " and ".join(reasons)
    if difference.low > -margin:
        return NON_INFERIOR, ""
    if difference.high < -margin:
        return INFERIOR, ""
    return UNDECIDED, "the interval holds the margin"


def _judged(change: Change, margin: float, positives: int, negatives: int, primary: bool) -> Change:
    """`change` with its verdict and everything that goes with one."""
    both_perfect = change.original == 1 and change.compressed == 1
    verdict, reason = judge(change.difference, margin, positives, negatives, both_perfect)
    fields = change.__dict__ | {
        "primary": primary, "verdict": verdict, "reason": reason,
        "smallest_margin": change.difference.value - change.difference.low,
        "positive_patients": positives, "negative_patients": negatives,
        "lost_positives_bound": lost_positives_bound(positives) if both_perfect else None,
    }
    return Change(**fields)


def _auroc_changes(before: ReadyRecord, after: ReadyRecord, margin: float) -> list[Change]:
    """Per-class AUROCs, then their mean."""
    ours, theirs = auroc_parts_by_class(after), auroc_parts_by_class(before)
    differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    tests: list[tuple[float, float, float]] = [
        (part.value, *part.variance_and_freedom()) for part in differences]
    p_values = [t_test(*test) for test in tests]
    changes = []
    for name, new, old, part, test, p, p_holm in zip(
        before.classes, ours, theirs, differences, tests, p_values, holm(p_values), strict=True
    ):
        both = (part.disjoint_pairs,) if old.value == new.value == 1 else ()
        value, variance, freedom = test
        estimate = _auroc_difference(value, variance, freedom, part, both)
        change = Change(f"auroc:{name}", old.value, new.value, estimate,
                        p_value=p, p_holm=float(p_holm))
        changes.append(_judged(change, margin, part.positive_patients, part.negative_patients,
                               primary=True))
    used = [column for column, part in enumerate(differences) if part.estimable]
    if not used:
        return changes
    old_mean, new_mean = (float(np.mean([parts[column].value for column in used]))
                          for parts in (theirs, ours))
    chosen = [differences[column] for column in used]
    perfect: tuple[int, ...] = ()
    if old_mean == new_mean == 1:
        rankings = min(len(chosen), distinct_rankings(before))
        perfect = tuple(part.disjoint_pairs for part in chosen[:rankings])
    test = (new_mean - old_mean, *macro_variance_and_freedom(chosen))
    whole = max(chosen, key=lambda part: part.patients)
    estimate = _auroc_difference(*test, whole, perfect, left_out(before.classes, differences))
    change = Change("auroc_macro", old_mean, new_mean, estimate, p_value=t_test(*test))
    return [_judged(change, margin, min(part.positive_patients for part in chosen),
                    min(part.negative_patients for part in chosen),
                    primary=before.task == "multiclass"), *changes]


def _auroc_difference(
    value: float, variance: float, freedom: float, part: AurocParts,
    perfect_pairs: tuple[int, ...], note: str = "",
) -> Estimate:
    """The paired difference; `perfect_pairs` where both models rank perfectly."""
    low = high = math.nan
    if math.isnan(value):
        method = f"undefined: no {'positive' if not part.positives else 'negative'} image"
    elif not part.estimable:
        method = "interval undefined: fewer than 2 positive or 2 negative patients"
    elif perfect_pairs:
        low = all_successes_low(perfect_pairs) - 1
        high, method = -low, "exact binomial on disjoint pairs (both rankings perfect)"
    else:
        low, high = t_interval(value, variance, freedom)
        method = f"paired DeLong, t with {freedom:.1f} degrees of freedom"
        if part.positives + part.negatives > part.patients:
            method += ", clustered by patient (Obuchowski)"
        method += reservations(part.patients)
    return Estimate(value, low, high, part.positives + part.negatives, part.positives,
                    part.patients, method + note)


def _bootstrapped_changes(
    one: Statistic, other: Statistic, before: ReadyRecord, after: ReadyRecord,
    draws: PatientDraws, margin: float,
) -> list[Change]:
    """Differences of one statistic's values, with the same draws for both models."""
    old, new = values(one, before), values(other, after)
    drawn = draws.apply(lambda counts: other.compute(counts) - one.compute(counts))
    changes = []
    for row, name in enumerate(one.names):
        sign = -1.0 if name in LOWER_IS_BETTER else 1.0
        difference = sign * float(new[row] - old[row])
        low, high, method = interval(difference, sign * drawn[row], (), False,
                                     before.patients)
        same = not math.isnan(low) and np.ptp(drawn[row][~np.isnan(drawn[row])]) <= 1e-12
        if same and difference == 0 and one.trials[row] and not np.array_equal(
            before.score, after.score
        ):
            # No decision changed among these patients; that bounds, but does not exclude, change.
            high = 1 - all_successes_low(one.trials[row], independent=one.independent)
            low, method = -high, "exact binomial on patients (no draw differs)"
        estimate = Estimate(difference, low, high, one.n[row], one.positives[row],
                            before.patients, "paired " + method + one.note)
        change = Change(name, float(old[row]), float(new[row]), estimate)
        if name == "balanced_accuracy":
            used = before.positive_patients > 0
            positive, negative = (
                int(patients[used].min()) if used.any() else 0
                for patients in (before.positive_patients, before.negative_patients))
            change = _judged(change, margin, positive, negative,
                             primary=before.task == "multiclass")
        changes.append(change)
    return changes


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"
