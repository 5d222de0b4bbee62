"""The nuclei task: from density maps to cells, and from cells to counts of right and wrong ones.

    task = NucleiTask(("immunopositive", "immunonegative", "tumour-infiltrating lymphocyte"))
    cells = task.findings(maps, thresholds=(60, 55, 40))      # a list: one (cells, 3) array a field
    record = task.record(maps, annotated, image_id, patient_id)

Cells are found as PathoNet's authors find them (Negahbani et al. 2021): each map is cut at its
threshold, the distance transform's peaks (5 pixels apart at least) seed a watershed, and every
basin is a cell. A cell's place is its basin's centroid.

A found cell is right if it can be paired with an annotated cell of the same class at most 20
pixels away, one to one. Where several pairings are possible the one with the most pairs counts, so
that the order of the cells does not matter. `matching="paper"` counts as the original scripts do:
each annotated cell chooses its nearest found one, and the *distinct* choices are right, which
depends on crowding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError, MissingExtra
from cxcompress.tasks.cell_matches import CellMatches

DEFAULT_THRESHOLDS = (60.0, 55.0, 40.0)
"""Of positive and negative tumour nuclei and lymphocytes, on maps of 0 to 255."""
CANDIDATES = (20.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 110.0, 130.0, 150.0)
"""What thresholds are chosen from on validation fields."""
RESAMPLES = 1000
"""Of validation fields, to tell whether a compressed network needs thresholds of its own."""
PEAK_DISTANCE = 5
MATCH_DISTANCE = 20.0
"""Pixels of the maps."""


@dataclass(frozen=True)
class NucleiTask:
    """Cells of c classes, from one density map each.

    Args:
        classes: The c class names, in the order of the maps; label_id 1 … c.
        from_logits: Not used: maps are neither logits nor probabilities.
    """

    classes: tuple[str, ...]
    from_logits: bool | None = None
    name: ClassVar[str] = "nuclei"

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))

    def findings(
        self, outputs: ArrayLike, thresholds: Sequence[float] | None = None
    ) -> list[NDArray[np.float64]]:
        """The cells of every field.

        Args:
            outputs: Density maps `(n, height, width, c)`, peaks near 255.
            thresholds: One a class; default 60, 55, 40.

        Returns:
            For each field float `(cells, 3)`: x, y in pixels of the maps, label_id.

        Raises:
            InputError: If the outputs are no maps of these classes.
            MissingExtra: If scikit-image is not installed.
        """
        maps = self._maps(outputs)
        thresholds = self.thresholds(thresholds)
        return [np.concatenate([
            _with_label(cells_of_map(field[..., column], threshold), column + 1)
            for column, threshold in enumerate(thresholds)]) for field in maps]

    def record(
        self, outputs: ArrayLike, labels: Sequence[NDArray], image_id: ArrayLike,
        patient_id: ArrayLike, thresholds: Sequence[float] | None = None,
        matching: str = "one-to-one",
    ) -> CellMatches:
        """Counts of right, wrong and missed cells beside the annotated ones.

        Args:
            outputs: Density maps `(n, height, width, c)`.
            labels: n arrays int `(cells, 3)`: x, y in pixels of the maps, label_id.
            image_id, patient_id: str `(n,)`.
            thresholds: As for `findings`.
            matching: A key of `MATCHINGS`.
        """
        return self.record_of_cells(self.findings(outputs, thresholds), labels, image_id,
                                    patient_id, matching)

    def record_of_cells(
        self, found: Sequence[NDArray], labels: Sequence[NDArray], image_id: ArrayLike,
        patient_id: ArrayLike, matching: str = "one-to-one",
    ) -> CellMatches:
        """`record` of cells that are found already.

        Args:
            found, labels: n arrays `(cells, 3)` each: x, y in pixels of the maps, label_id.
            image_id, patient_id, matching: As for `record`.
        """
        pairs = MATCHINGS[matching]
        columns = range(1, len(self.classes) + 1)

        def of(cells: NDArray, column: int) -> NDArray:
            return cells[cells[:, 2] == column][:, :2]

        tp = np.array([[pairs(of(cells, column), of(annotated, column))
                        for column in columns]
                       for cells, annotated in zip(found, labels, strict=True)], np.int64)
        true, predicted = (
            np.array([[len(of(cells, column)) for column in columns] for cells in side], np.int64)
            for side in (labels, found))
        return CellMatches(np.asarray(image_id), np.asarray(patient_id), self.classes,
                           tp, predicted - tp, true - tp, true, predicted)

    def thresholds(self, thresholds: Sequence[float] | None = None) -> tuple[float, ...]:
        """The thresholds given, or the default ones.

        Raises:
            ValueError: If there is not one a class.
        """
        if thresholds is None:
            thresholds = (DEFAULT_THRESHOLDS + (50.0,) * len(self.classes))[:len(self.classes)]
        if len(thresholds) != len(self.classes) or not np.all(np.asarray(thresholds) > 0):
            raise ValueError(f"one positive threshold a class ({len(self.classes)}). "
                             f"Received: {tuple(thresholds)}")
        return tuple(float(threshold) for threshold in thresholds)

    def choose_thresholds(
        self, outputs: ArrayLike, labels: Sequence[NDArray], keep: Sequence[float] | None = None
    ) -> tuple[float, ...]:
        """The threshold with the highest F1 of each class, of `CANDIDATES`; ties take the lower.

        Args:
            outputs, labels: Of validation fields, as for `record`.
            keep: One threshold a class, such as those of a compressed network's original, that
                stays unless the highest F1 is above its own in 97.5% of 1,000 resamples of the
                fields: of a few lymphocytes, others would look better by chance.
        """
        number = np.arange(len(labels)).astype(str)

        def counts(thresholds: Sequence[float]) -> NDArray[np.float64]:
            """Right and wrong cells, float `(2, fields, classes)`."""
            record = self.record(outputs, labels, number, number, thresholds)
            return np.stack([record.tp, record.fp + record.fn]).astype(np.float64)

        found = np.array([counts((level,) * len(self.classes)) for level in CANDIDATES])
        best = _f1(*np.moveaxis(found.sum(axis=2), 1, 0)).argmax(axis=0)
        chosen = np.array(CANDIDATES)[best]
        if keep is not None:
            drawn = np.random.default_rng(0).multinomial(
                len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES)
            highest = np.moveaxis(found[best, ..., np.arange(len(self.classes))], 0, -1)
            gain = _f1(*(drawn @ highest)) - _f1(*(drawn @ counts(keep)))
            clear = np.quantile(gain, 0.025, axis=0) > 0
            chosen = np.where(clear, chosen, keep)
        return tuple(chosen.tolist())

    def _maps(self, outputs: ArrayLike) -> NDArray:
        maps = np.asarray(outputs)
        if maps.ndim != 4 or maps.shape[-1] != len(self.classes):
            raise InputError(f"the model gives outputs of shape {maps.shape[1:]}; density maps of "
                             f"{len(self.classes)} cell classes are (height, width, "
                             f"{len(self.classes)})")
        if not np.isfinite(maps).all():
            raise InputError("the model's density maps hold NaN or infinite values")
        return maps


def _f1(right: NDArray, wrong: NDArray) -> NDArray[np.float64]:
    """F1 of numbers of matched cells, and of false and missed ones together; 0 without any."""
    return 2 * right / np.maximum(1, 2 * right + wrong)


def _with_label(cells: NDArray, label: int) -> NDArray[np.float64]:
    return np.concatenate([cells, np.full((len(cells), 1), float(label))], axis=1)


def cells_of_map(density: NDArray, threshold: float) -> NDArray[np.float64]:
    """Places of the cells in one density map.

    Args:
        density: float `(height, width)`.
        threshold: Above it a pixel belongs to a cell.

    Returns:
        float `(cells, 2)`: x, y in pixels.

    Raises:
        MissingExtra: If scikit-image is not installed.
    """
    try:
        from scipy import ndimage
        from skimage.segmentation import watershed
    except ImportError as error:
        raise MissingExtra("scikit-image", "pathology") from error
    mask = density > threshold
    if not mask.any():
        return np.zeros((0, 2))
    distance = ndimage.distance_transform_edt(mask)
    seeds = np.zeros(mask.shape, bool)
    seeds[tuple(distance_peaks(distance).T)] = True
    markers, count = ndimage.label(seeds, np.ones((3, 3)))
    clumps, _ = ndimage.label(mask)
    # A clump with one peak is that cell; only the others are divided, each in its own window, so
    # that a clump is divided alike wherever it lies.
    rows, columns = np.nonzero(seeds)
    pairs = np.unique(np.stack([clumps[rows, columns], markers[rows, columns]]), axis=1)
    in_clump = np.bincount(pairs[0], minlength=clumps.max() + 1)
    marker_of = np.zeros(len(in_clump), np.int64)
    marker_of[pairs[0]] = pairs[1]
    basins = np.where(in_clump == 1, marker_of, 0)[clumps]
    windows = ndimage.find_objects(clumps)
    for clump in np.flatnonzero(in_clump > 1):
        window = windows[clump - 1]
        inside = clumps[window] == clump
        divided = watershed(-distance[window], np.where(inside, markers[window], 0), mask=inside)
        basins[window][inside] = divided[inside]
    rows, columns = np.nonzero(basins)
    basin = basins[rows, columns]
    pixels = np.bincount(basin, minlength=count + 1)[1:]
    return np.stack([np.bincount(basin, weights=axis, minlength=count + 1)[1:] / pixels
                     for axis in (columns, rows)], axis=1)


def distance_peaks(distance: NDArray[np.floating]) -> NDArray[np.int64]:
    """Where a distance transform peaks: `peak_local_max(distance, min_distance=5,
    exclude_border=False)` of scikit-image, several times faster.

    Args:
        distance: float `(height, width)`, 0 outside of cells.

    Returns:
        int `(peaks, 2)`: row, column; highest first, equal ones in reading order.
    """
    from scipy import ndimage

    highest = ndimage.maximum_filter(distance, 2 * PEAK_DISTANCE + 1, mode="nearest")
    places = np.argwhere((distance == highest) & (distance > 0))
    places = places[np.argsort(-distance[tuple(places.T)], kind="stable")]
    taken = np.zeros(distance.shape, bool)
    near = PEAK_DISTANCE - 1
    peaks = []
    for row, column in places:
        if not taken[row, column]:
            peaks.append((row, column))
            taken[max(0, row - near):row + near + 1, max(0, column - near):column + near + 1] = True
    return np.array(peaks, np.int64).reshape(-1, 2)


def matched_pairs(found: NDArray, annotated: NDArray) -> int:
    """The most pairs of a found and an annotated cell at most 20 pixels apart, each used once.

    Args:
        found, annotated: `(cells, 2)`: x, y.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from scipy.spatial import KDTree

    if not len(found) or not len(annotated):
        return 0
    near = KDTree(annotated).query_ball_point(found, MATCH_DISTANCE)
    counts = [len(neighbours) for neighbours in near]
    columns = np.concatenate([np.asarray(neighbours, np.int32) for neighbours in near])
    graph = csr_array((np.ones(len(columns), bool), columns, np.cumsum([0, *counts])),
                      shape=(len(found), len(annotated)))
    return int((maximum_bipartite_matching(graph) >= 0).sum())


def distinct_nearest(found: NDArray, annotated: NDArray) -> int:
    """Found cells that are the nearest one of an annotated cell, at most 20 pixels away.

    Args:
        found, annotated: `(cells, 2)`: x, y.

    Reference: `evaluation.py` of PathoNet (Negahbani et al. 2021).
    """
    from scipy.spatial import KDTree

    if not len(found) or not len(annotated):
        return 0
    distance, nearest = KDTree(found).query(annotated)
    return len(np.unique(nearest[distance <= MATCH_DISTANCE]))


MATCHINGS = {"one-to-one": matched_pairs, "paper": distinct_nearest}
"""How found and annotated cells are paired."""
