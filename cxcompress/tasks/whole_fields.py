"""Cells of fields of any size: overlapping tiles, one density map, every cell once.

    scale = network_scale(field_microns=0.25, model_microns=0.8)
    cells = cells_of_field(image, model.predict, preprocessing, task, thresholds, scale)

The field is resized to the scale that the network was trained at and cut into overlapping tiles of
the network's size. Of each tile's maps only the middle is kept, so that no pixel is judged at the
border of what the network sees, and the middles together are one map of the whole field. Cells are
looked for in blocks of that map that overlap by more than a clump of nuclei, and belong to the
block that their centre lies in: a cell on a seam, of tiles or of blocks, counts once. Only the
strip of maps that is being looked at is in memory.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.tasks.nuclei import PEAK_DISTANCE, NucleiTask, cells_of_map

logger = logging.getLogger(__name__)

MARGIN = 1 / 8
"""Of a tile's side, left out on each side that has a neighbour."""
BLOCK = 1024
"""Pixels a side of the blocks in which cells are looked for."""
HALO = 64
"""Pixels around a block that are looked at too; most clumps of nuclei are smaller."""
MOST_HALOS = 4
"""So much more is looked at where a clump is larger."""
COARSEST = 1.5
"""How much coarser than the network's training a field may be without a warning."""

Maps = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@functools.lru_cache(maxsize=64)  # so that a mismatch is warned of once, not for every field
def network_scale(field_microns: float, model_microns: float) -> float:
    """Pixels of the network's input for one pixel of a field.

    Args:
        field_microns: Microns a pixel of the field.
        model_microns: Microns a pixel of the fields that the model was trained on, at the size
            of its input.

    Raises:
        InputError: If a number is not positive, or the two cannot belong together.
    """
    for name, value in (("the field", field_microns), ("the model's card", model_microns)):
        if not 0 < value < float("inf"):
            raise InputError(f"microns per pixel of {name}: {value:g}; must be positive, e.g. 0.25")
    scale = field_microns / model_microns
    if not 1 / 64 <= scale <= 8:
        raise InputError(f"microns per pixel: {field_microns:g} of the field against "
                         f"{model_microns:g} of the model; are these microns, and not "
                         "millimetres or nanometres?")
    if scale > COARSEST:
        logger.warning("the field has %g microns a pixel, %.1f times as coarse as the fields that "
                       "the model was trained on (%g): its details are missing, and counts are "
                       "less sure", field_microns, scale, model_microns)
    return scale


def cells_of_field(
    image: NDArray, maps_of: Maps, preprocessing: Preprocessing, task: NucleiTask,
    thresholds: Sequence[float] | None = None, scale: float = 1.0, *,
    block: int = BLOCK, halo: int = HALO,
) -> NDArray[np.float64]:
    """The cells of one field.

    Args:
        image: uint8 or uint16 `(h, w)` or `(h, w, 3)`, of any size.
        maps_of: From inputs float32 `(n, *preprocessing.size, channels)` to density maps
            `(n, *preprocessing.size, classes)`.
        preprocessing: Of the network.
        task: Of the network's classes.
        thresholds: As for `NucleiTask.findings`.
        scale: Pixels of the network's input for one pixel of the field.
        block, halo: Pixels of the network's scale.

    Returns:
        float `(cells, 3)`: x, y in pixels of the field, label_id.

    Raises:
        MissingExtra: If scikit-image is not installed.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    thresholds = task.thresholds(thresholds)
    strips = _Strips(image, maps_of, preprocessing, (height, width))
    found = [np.zeros((0, 3))]
    for top in range(0, height, block):
        above = max(0, top - MOST_HALOS * halo)
        maps = strips.rows(above, min(height, top + block + MOST_HALOS * halo))
        for left in range(0, width, block):
            core = _Box(top - above, left, min(block, height - top), min(block, width - left))
            for column, threshold in enumerate(thresholds):
                cells = _cells_of_block(maps[..., column], core, threshold, halo)
                found.append(np.column_stack([cells + (0, above),
                                              np.full(len(cells), column + 1.0)]))
    factors = image.shape[1] / width, image.shape[0] / height
    cells = np.concatenate(found)
    # The middle of a pixel of the map is the middle of the pixels it came from.
    cells[:, :2] = (cells[:, :2] + 0.5) * factors - 0.5
    return cells


@dataclass(frozen=True)
class _Box:
    """A rectangle of a map."""

    top: int
    left: int
    height: int
    width: int

    def grown(self, by: int, shape: tuple[int, int]) -> _Box:
        """With a margin, as far as the map goes."""
        top, left = max(0, self.top - by), max(0, self.left - by)
        return _Box(top, left, min(shape[0], self.top + self.height + by) - top,
                    min(shape[1], self.left + self.width + by) - left)

    def of(self, array: NDArray) -> NDArray:
        """The part of an array."""
        return array[self.top:self.top + self.height, self.left:self.left + self.width]


def _cells_of_block(
    density: NDArray, core: _Box, threshold: float, halo: int
) -> NDArray[np.float64]:
    """Cells whose centre lies in `core`, float `(cells, 2)`: x, y in pixels of the map.

    They do not depend on the block, as long as clumps of nuclei that reach into it end within the
    halo; where one does not, more of its surroundings is looked at.
    """
    for halos in (1, MOST_HALOS):
        region = core.grown(halos * halo, density.shape)
        if not _clump_is_cut(region.of(density) > threshold, core, region, density.shape):
            break
    cells = cells_of_map(region.of(density), threshold) + (region.left, region.top)
    own = (cells >= (core.left, core.top)) & (
        cells < (core.left + core.width, core.top + core.height))
    return cells[own.all(axis=1)]


def _clump_is_cut(mask: NDArray, core: _Box, region: _Box, shape: tuple[int, int]) -> bool:
    """Whether nuclei that act on each other reach from the core to where the region was cut."""
    from scipy import ndimage

    near = ndimage.binary_dilation(mask, np.ones((PEAK_DISTANCE + 1,) * 2))
    clumps, _ = ndimage.label(near, np.ones((3, 3)))
    inside = _Box(core.top - region.top, core.left - region.left, core.height, core.width)
    edges = [clumps[0] if region.top else None, clumps[:, 0] if region.left else None,
             clumps[-1] if region.top + region.height < shape[0] else None,
             clumps[:, -1] if region.left + region.width < shape[1] else None]
    touching = [np.unique(edge) for edge in edges if edge is not None]
    if not touching:
        return False
    shared = np.intersect1d(np.unique(inside.of(clumps)), np.concatenate(touching))
    return bool((shared > 0).any())


@dataclass(frozen=True)
class _Tile:
    """Along one axis: where the tile begins, and which pixels of the map come from it."""

    start: int
    first: int
    stop: int


def _tiles(length: int, side: int) -> list[_Tile]:
    """Tiles that cover `length` pixels; one that is longer than the field begins before it."""
    if length <= side:
        return [_Tile(-((side - length) // 2), 0, length)]
    margin = int(side * MARGIN)
    tiles = [_Tile(0, 0, side - margin)]
    while tiles[-1].stop < length:
        first = tiles[-1].stop
        start = min(first - margin, length - side)
        last = start == length - side
        tiles.append(_Tile(start, first, length if last else start + side - margin))
    return tiles


class _Strips:
    """The map of a field from top to bottom, computed and forgotten row of tiles by row."""

    def __init__(self, image: NDArray, maps_of: Maps, preprocessing: Preprocessing,
                 shape: tuple[int, int]):
        self.image, self.maps_of, self.preprocessing = image, maps_of, preprocessing
        self.shape = shape
        self.down, self.across = (
            _tiles(length, side) for length, side in zip(shape, preprocessing.size, strict=True))
        self.waiting = iter(self._computed())
        self.held: list[tuple[int, NDArray]] = []

    def rows(self, first: int, stop: int) -> NDArray[np.float32]:
        """Rows `first` to `stop` of the map; `first` may never decrease from call to call."""
        while not self.held or self.held[-1][0] + len(self.held[-1][1]) < stop:
            self.held.append(next(self.waiting))
        self.held = [(start, rows) for start, rows in self.held if start + len(rows) > first]
        start = self.held[0][0]
        return np.concatenate([rows for _, rows in self.held])[first - start:stop - start]

    def _computed(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for tile in self.down:
            strip = []
            for other in self.across:
                maps = self.maps_of(self._input(tile.start, other.start)[None])[0]
                strip.append(maps[tile.first - tile.start:tile.stop - tile.start,
                                  other.first - other.start:other.stop - other.start])
            yield tile.first, np.concatenate(strip, axis=1)

    def _input(self, top: int, left: int) -> NDArray[np.float32]:
        """One tile; beyond the field's border the field is mirrored."""
        (height, width), side = self.shape, self.preprocessing.size
        rows = max(0, top), min(height, top + side[0])
        columns = max(0, left), min(width, left + side[1])
        down, across = self.image.shape[0] / height, self.image.shape[1] / width
        tile = self.preprocessing.region(
            self.image, (columns[0] * across, rows[0] * down, columns[1] * across, rows[1] * down),
            (rows[1] - rows[0], columns[1] - columns[0]))
        beyond = ((rows[0] - top, top + side[0] - rows[1]),
                  (columns[0] - left, left + side[1] - columns[1]), (0, 0))
        return np.pad(tile, beyond, mode="reflect") if np.any(beyond) else tile
