"""Generated, labelled Ki-67 fields: what a microscope shows, without a patient behind it.

Each field is drawn as two stain concentrations, haematoxylin and DAB, and turned into light
by the Beer-Lambert law, I = I0 * 10^-(sum of concentration x stain vector), with the vectors of
Ruifrok and Johnston varied from patient to patient. Immunopositive tumour nuclei are brown in every
strength, immunonegative ones blue and vesicular with nucleoli, lymphocytes small, round and dense.
Spindle-shaped stromal nuclei, nuclei out of focus, erythrocytes, DAB smears and debris are
unlabelled distractors. Numbers, sizes and the mix of kinds follow SHIDC-B-Ki-67: about 69 cells a
field, 31% positive, 66% negative, 3% lymphocytes, nuclei 10 to 14 pixels wide where the field is
256 pixels wide. The field of view is the same at every `size`, which sets only the resolution.

    for image, cells, patient_id in generate_fields(60, size=256, seed=0):
        ...                                    # (256, 256, 3) uint8, (m, 3) int32: x, y, label_id
    write_fields("ki67", 60)                   # SHIDC's folders: Train/ and Test/, .jpg and .json

Field i of a seed is the same image whatever `count` and `first` are, and shows the same cells at
every `size`. Hold out patients with `first`: `generate_fields(60)` and
`generate_fields(30, first=60)` share none.

References:
    Ruifrok and Johnston (2001), Quantification of histochemical staining by color deconvolution,
    Analytical and Quantitative Cytology and Histology 23:291-299.
    Negahbani et al. (2021), PathoNet introduced as a deep neural network backend for evaluation of
    Ki-67 and tumor-infiltrating lymphocytes in breast cancer, Scientific Reports 11:8489.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cxcompress.data.ki67_variation import widened
from cxcompress.errors import InputError

POSITIVE, NEGATIVE, LYMPHOCYTE = 1, 2, 3
UNLABELLED = 0

# Unit stain vectors in optical density (R, G, B), Ruifrok and Johnston (2001). Laboratories differ:
# real fields lie between these and the second ones, a bluer haematoxylin and a darker DAB.
HAEMATOXYLIN = np.array([0.650, 0.704, 0.286])
HAEMATOXYLIN_BLUE = np.array([0.766, 0.596, 0.241])
DAB = np.array([0.268, 0.570, 0.776])
DAB_DARK = np.array([0.455, 0.550, 0.700])

FIELDS_PER_PATIENT = 6
FIELD_MICRONS = 205.0
"""Width of every field, where tumour nuclei are as wide as in breast cancer, about 10 µm."""
VARIATIONS = ("standard", "wide")

# All lengths below are in units of 1/256 of the field's width: one pixel at size 256.
_FIELD = 256.0
_GRID = 128
_MARKER = "synthetic_ki67.json"


@dataclass(frozen=True)
class _Patient:
    """What is common to all fields of a patient: the tumour, the staining and the camera."""

    patient_id: str
    ki67: float
    lymphocytes: float
    pattern: str
    density: float
    radius: float
    pleomorphism: float
    cohesion: float
    haematoxylin: NDArray
    dab: NDArray
    counterstain: float
    chromogen: float
    grades: NDArray
    cytoplasm: float
    background_dab: float
    white: NDArray
    noise: float
    jpeg_quality: int
    jpeg_subsampling: int
    elongation: float = 1.0  # of tumour nuclei, times what the growth pattern gives
    granularity: float = 1.0  # of the DAB in positive nuclei, relative


@dataclass(frozen=True)
class _Nucleus:
    """One body to draw; lengths in field units, stain amounts in optical density."""

    label_id: int
    x: float
    y: float
    axes: tuple[float, float]
    angle: float
    contour: NDArray  # complex Fourier coefficients of the radius, orders 2, 3, ...
    haematoxylin: float
    dab: float = 0.0
    rim: float = 0.0  # extra stain along the nuclear membrane, relative
    clumps: float = 0.2  # standard deviation of the chromatin texture, relative
    fine: float = 0.3  # share of the fine grain in that texture
    uneven: float = 0.12  # standard deviation of the change across the body, relative
    bend: float = 0.0  # sag of the long axis, in short axes
    softness: float = 0.8  # width of the edge: depth in the section, focus
    nucleoli: tuple[tuple[float, float, float, float], ...] = ()  # u, v, radius, strength
    texture_at: tuple[float, float] = (0.0, 0.0)

    @property
    def radius(self) -> float:
        return float(np.sqrt(self.axes[0] * self.axes[1]))


@dataclass
class _Scene:
    """Layout of one field: maps on a coarse grid, bodies to draw, and light conditions."""

    tumour: NDArray  # (128, 128) in [0, 1]
    glass: NDArray  # (128, 128) in [0, 1]: lumens, fat, tears
    fibre_angle: float
    fibre_warp: NDArray  # (128, 128) in field units
    nuclei: list[_Nucleus] = field(default_factory=list)


def generate_fields(
    count: int,
    size: int = 256,
    seed: int = 0,
    *,
    first: int = 0,
    fields_per_patient: int = FIELDS_PER_PATIENT,
    variation: str = "standard",
) -> Iterator[tuple[NDArray, NDArray, str]]:
    """Yields `count` fields, one at a time.

    Args:
        count: Number of fields, at least 0.
        size: Width and height in pixels, 64 to 2048; sets the resolution, not the field of view.
        seed: Any integer >= 0.
        first: Position of the first field in the seed's endless series.
        fields_per_patient: Consecutive fields that share a patient.
        variation: `"standard"`, one laboratory's breast tumours, or `"wide"`, see
            `ki67_variation.py`.

    Yields:
        image: uint8 `(size, size, 3)`, RGB, decoded from the JPEG that `write_fields` writes.
        cells: int32 `(m, 3)`: x, y in pixels inside the image, label_id (1 = immunopositive,
            2 = immunonegative, 3 = tumour-infiltrating lymphocyte).
        patient_id: As in the file name, e.g. `"p0007"`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> image, cells, patient_id = next(generate_fields(1, size=128))
        >>> image.shape, cells.shape[1], patient_id
        ((128, 128, 3), 3, 'p0000')
    """
    _check(count, size, seed, first, fields_per_patient, variation)
    for jpeg, cells, patient_id, _ in _encoded_fields(
        count, size, seed, first, fields_per_patient, variation
    ):
        yield np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")), cells, patient_id


def annotation(cells: NDArray) -> list[dict[str, int]]:
    """Cells in SHIDC-B-Ki-67's JSON form.

    Args:
        cells: int `(m, 3)`: x, y, label_id.

    Returns:
        One `{"x": .., "y": .., "label_id": ..}` a cell, plain ints, ready for `json.dump`.
    """
    return [{"x": int(x), "y": int(y), "label_id": int(label)} for x, y, label in cells]


def write_fields(
    folder: str | os.PathLike,
    count: int,
    size: int = 256,
    seed: int = 0,
    *,
    first: int = 0,
    fields_per_patient: int = FIELDS_PER_PATIENT,
    variation: str = "standard",
    overwrite: bool = False,
) -> Path:
    """Writes fields in SHIDC-B-Ki-67's layout, as `Train/p0000_00.jpg` with `Train/p0000_00.json`.

    About 30% of the patients go to `Test/`, as in SHIDC-B-Ki-67, and no patient to both; the part
    of a patient does not depend on `count`. `synthetic_ki67.json` beside the two says how the
    folder was made. The folder appears complete or not at all.

    Args:
        folder: To be created; may exist if it is empty.
        count: Number of fields; more than one patient's worth.
        size, seed, first, fields_per_patient, variation: As in `generate_fields`.
        overwrite: Replace a folder that this function wrote. No other folder is ever replaced.

    Returns:
        The folder.

    Raises:
        InputError: The folder is in use, or `count` leaves a part without a patient.
        ValueError: An argument is out of range.
    """
    _check(count, size, seed, first, fields_per_patient, variation)
    folder = Path(folder).resolve()
    patients = range(first // fields_per_patient, -(-(first + count) // fields_per_patient))
    tests = sum(_is_test(patient) for patient in patients)
    if not 0 < tests < len(patients):
        raise InputError(
            f"count {count}: {len(patients)} patients of {fields_per_patient} fields leave "
            f"{'Test' if tests == 0 else 'Train'} empty; give more fields, e.g. "
            f"{count + 4 * fields_per_patient}"
        )
    _check_replaceable(folder, overwrite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); give another folder"
        ) from error
    try:
        for part in ("Train", "Test"):
            (staging / "new" / part).mkdir(parents=True)
        cells_of_kind = np.zeros(4, int)
        series = _encoded_fields(count, size, seed, first, fields_per_patient, variation)
        for jpeg, cells, patient_id, index in series:
            part = "Test" if _is_test(index // fields_per_patient) else "Train"
            stem = staging / "new" / part / f"{patient_id}_{index % fields_per_patient:02d}"
            stem.with_suffix(".jpg").write_bytes(jpeg)
            stem.with_suffix(".json").write_text(json.dumps(annotation(cells)))
            cells_of_kind += np.bincount(cells[:, 2], minlength=4)
        about = {
            "made_by": "cxcompress.data.synthetic_ki67.write_fields",
            "note": "generated images, no patients",
            "count": count,
            "size": size,
            "seed": seed,
            "first": first,
            "fields_per_patient": fields_per_patient,
            "variation": variation,
            "microns_per_pixel": FIELD_MICRONS / size,
            "cells": {str(label): int(cells_of_kind[label]) for label in (1, 2, 3)},
        }
        (staging / "new" / _MARKER).write_text(json.dumps(about, indent=1) + "\n")
        if folder.exists():
            os.rename(folder, staging / "old")
        os.rename(staging / "new", folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _check(
    count: int, size: int, seed: int, first: int, fields_per_patient: int, variation: str
) -> None:
    if count < 0 or first < 0 or seed < 0:
        raise ValueError(
            f"count, first and seed must be at least 0. Received: {count}, {first}, {seed}"
        )
    if not 64 <= size <= 2048:
        raise ValueError(f"size must be 64 to 2048 pixels. Received: {size}")
    if fields_per_patient < 1:
        raise ValueError(f"fields_per_patient must be at least 1. Received: {fields_per_patient}")
    if variation not in VARIATIONS:
        raise ValueError(f"variation is one of {', '.join(VARIATIONS)}. Received: {variation!r}")


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder")
    if not any(folder.iterdir()):
        return
    if not (folder / _MARKER).is_file():
        raise InputError(f"{folder}: exists and is not a generated folder; give another")
    if not overwrite:
        raise InputError(f"{folder}: exists; give another folder or ask to overwrite")


def _is_test(patient: int) -> bool:
    """Whether the patient belongs to Test: 30% of them, evenly spread, patient 1 the first."""
    return (patient * 3 + 8) // 10 > (patient * 3 + 5) // 10


def _encoded_fields(
    count: int, size: int, seed: int, first: int, fields_per_patient: int, variation: str
) -> Iterator[tuple[bytes, NDArray, str, int]]:
    """Yields JPEG bytes, cells, patient_id and the field's position in the series."""
    patient, number = None, -1
    for index in range(first, first + count):
        if patient is None or index // fields_per_patient != number:
            number = index // fields_per_patient
            patient = _draw_patient(number, _generator(seed, number, 0))
            if variation == "wide":
                patient = widened(patient, _generator(seed, number, 0, 1))
        # Three streams, so that the layout does not depend on how many pixels are drawn.
        layout, texture, camera = (
            np.random.default_rng(sequence)
            for sequence in np.random.SeedSequence(
                seed, spawn_key=(number, 1 + index % fields_per_patient)
            ).spawn(3)
        )
        scene = _lay_out(patient, layout)
        light = _light(scene, patient, size, texture)
        jpeg = _photograph(light, patient, camera)
        yield jpeg, _cells(scene, size), patient.patient_id, index


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_patient(number: int, rng: np.random.Generator) -> _Patient:
    blueness, darkness = rng.uniform(0.0, 1.0), 0.8 * rng.beta(1.0, 1.4)
    haematoxylin = (1 - blueness) * HAEMATOXYLIN + blueness * HAEMATOXYLIN_BLUE
    haematoxylin = haematoxylin + rng.normal(0, 0.015, 3)
    dab = (1 - darkness) * DAB + darkness * DAB_DARK + rng.normal(0, 0.015, 3)
    # Most tumours hold few lymphocytes and some many: mean 3% of the cells.
    inflamed = rng.random() < 0.2
    return _Patient(
        patient_id=f"p{number:04d}",
        ki67=0.02 + 0.78 * rng.beta(1.1, 1.8),
        lymphocytes=rng.beta(1.2, 9) if inflamed else rng.beta(1.0, 70),
        pattern=str(rng.choice(["nests", "sheets", "glands", "cords"], p=[0.4, 0.25, 0.15, 0.2])),
        density=rng.lognormal(np.log(62), 0.32),
        radius=float(np.clip(rng.normal(6.0, 0.5), 4.9, 7.2)),
        pleomorphism=rng.uniform(0.06, 0.2),
        cohesion=rng.uniform(0.1, 0.5),
        haematoxylin=haematoxylin / np.linalg.norm(haematoxylin),
        dab=dab / np.linalg.norm(dab),
        counterstain=rng.uniform(0.24, 0.5),
        chromogen=rng.uniform(0.55, 1.1),
        grades=rng.dirichlet([2.0, 3.5, 5.0]),
        cytoplasm=rng.uniform(0.02, 0.09),
        background_dab=rng.gamma(1.6, 0.015),
        white=np.array([232.0, 236.0, 234.0]) * rng.uniform(0.9, 1.05) + rng.normal(0, 4, 3),
        noise=rng.uniform(0.8, 3.0),
        jpeg_quality=int(rng.integers(70, 96)),
        jpeg_subsampling=int(rng.choice([0, 2])),
    )


def _smooth_noise(rng: np.random.Generator, wavelength: float, size: int) -> NDArray:
    """Smooth random map, float32 `(size, size)`, about zero mean and unit variance.

    The random numbers sit on a grid of `wavelength` field units and are interpolated, so a map
    shows the same pattern at every `size`.
    """
    knots = int(np.ceil(_FIELD / wavelength)) + 4
    grid = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
    span = _FIELD / wavelength
    noise = np.asarray(
        grid.resize((size, size), Image.Resampling.BICUBIC, box=(2, 2, 2 + span, 2 + span))
    )
    return noise * 1.35


def _enlarge(grid: NDArray, size: int) -> NDArray:
    image = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _at(grid: NDArray, x: float, y: float) -> float:
    """Value of a coarse map at a point in field units; the border's value outside."""
    column = min(max(int(x * _GRID / _FIELD), 0), _GRID - 1)
    row = min(max(int(y * _GRID / _FIELD), 0), _GRID - 1)
    return float(grid[row, column])


def _lay_out(patient: _Patient, rng: np.random.Generator) -> _Scene:
    """Tissue maps and every body of one field."""
    wanted = float(np.clip(patient.density * rng.lognormal(0, 0.3), 8, 220))
    room = wanted * np.pi * patient.radius**2 * rng.uniform(2.0, 3.2) / _FIELD**2
    relief = _smooth_noise(rng, {"sheets": 130.0, "cords": 55.0}.get(patient.pattern, 72.0), _GRID)
    relief = relief + 0.25 * _smooth_noise(rng, 18.0, _GRID)
    glass = np.zeros_like(relief)
    if patient.pattern == "cords":
        band = np.abs(relief)
        edge = np.quantile(band, np.clip(room, 0.15, 0.9))
        tumour = _step((edge - band) / 0.12)
    elif patient.pattern == "glands":
        edge = np.quantile(relief, 1 - np.clip(room * 1.25, 0.2, 0.95))
        tumour = _step((relief - edge) / 0.12)
        lumen = np.quantile(relief, 1 - 0.2 * np.clip(room * 1.25, 0.2, 0.95))
        glass = _step((relief - lumen) / 0.06)
    else:
        edge = np.quantile(relief, 1 - np.clip(room, 0.15, 0.97))
        tumour = _step((relief - edge) / 0.12)
    glass = np.maximum(glass, _gaps(rng) * (1 - 0.9 * tumour))
    scene = _Scene(
        tumour=tumour * (1 - glass),
        glass=glass,
        fibre_angle=rng.uniform(0, np.pi),
        fibre_warp=11.0 * _smooth_noise(rng, 75.0, _GRID),
    )
    slope_y, slope_x = np.gradient(relief)
    along = np.arctan2(slope_y, slope_x) + (np.pi / 2 if patient.pattern == "cords" else 0.0)
    elongation = {"glands": 1.45, "cords": 1.3}.get(patient.pattern, 1.18)
    elongation *= patient.elongation

    hotspot = _smooth_noise(rng, 90.0, _GRID)
    odds = np.log(patient.ki67 / (1 - patient.ki67)) + rng.normal(0, 0.25)
    lymphocytes = patient.lymphocytes * rng.lognormal(-0.1, 0.5)
    lymphocyte_count = rng.poisson(wanted * min(lymphocytes, 0.5))
    # A margin is drawn too: nuclei cut by the border belong to every real field.
    margin = (1 + 16.0 / _FIELD) ** 2
    for _ in range(rng.poisson(max(wanted - lymphocyte_count, 2) * margin)):
        radius = patient.radius * rng.lognormal(0, patient.pleomorphism)
        place = _place(scene, rng, radius, scene.tumour, patient.cohesion)
        if place is None:
            continue
        angle = _at(along, *place) + rng.normal(0, 0.35)
        positive = rng.random() < 1 / (1 + np.exp(-odds - 0.8 * _at(hotspot, *place)))
        draw = _positive if positive else _negative
        scene.nuclei.append(draw(patient, rng, place, radius, angle, elongation))
    stroma = np.clip(1 - scene.tumour - 1.2 * glass, 0, 1)
    for _ in range(lymphocyte_count):
        infiltrating = rng.random() < 0.35
        place = _place(scene, rng, 3.9, scene.tumour if infiltrating else stroma, 0.35, lone=True)
        if place is not None:
            scene.nuclei.append(_lymphocyte(patient, rng, place))
    _add_distractors(scene, patient, rng, stroma)
    return scene


def _step(values: NDArray) -> NDArray:
    """Smooth step from 0 (at -1) to 1 (at +1)."""
    t = np.clip(0.5 + 0.5 * values, 0, 1)
    return t * t * (3 - 2 * t)


def _gaps(rng: np.random.Generator) -> NDArray:
    """Fat vacuoles and tears: where light passes unstained."""
    rows, columns = (np.indices((_GRID, _GRID)) + 0.5) * (_FIELD / _GRID)
    gaps = np.zeros((_GRID, _GRID))
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 4)):
            x, y, radius = *rng.uniform(0, _FIELD, 2), rng.uniform(12, 34)
            gaps = np.maximum(gaps, _step((radius - np.hypot(columns - x, rows - y)) / 3))
    if rng.random() < 0.35:
        gaps = np.maximum(gaps, _step((_smooth_noise(rng, 48.0, _GRID) - 2.0) / 0.12))
    return gaps


def _place(
    scene: _Scene,
    rng: np.random.Generator,
    radius: float,
    allowed: NDArray,
    cohesion: float,
    lone: bool = False,
) -> tuple[float, float] | None:
    """A point for a new nucleus, often touching or slightly overlapping an earlier one.

    Returns None if 40 trials found no room.
    """
    others = np.array([(n.x, n.y, n.radius, n.label_id) for n in scene.nuclei]).reshape(-1, 4)
    partners = others[others[:, 3] == LYMPHOCYTE] if lone else others
    for _ in range(40):
        if len(partners) and rng.random() < cohesion:
            x, y, other, _ = partners[rng.integers(len(partners))]
            distance, angle = (radius + other) * rng.uniform(0.78, 1.15), rng.uniform(0, 2 * np.pi)
            x, y = x + distance * np.cos(angle), y + distance * np.sin(angle)
            spacing = 0.76
        else:
            x, y = rng.uniform(-8, _FIELD + 8, 2)
            spacing = 1.1
        if not (-8 <= x <= _FIELD + 8 and -8 <= y <= _FIELD + 8):
            continue
        if rng.random() > _at(allowed, x, y):
            continue
        apart = np.hypot(others[:, 0] - x, others[:, 1] - y)
        if np.all(apart > spacing * (others[:, 2] + radius)):
            return float(x), float(y)
    return None


def _contour(rng: np.random.Generator, roughness: float) -> NDArray:
    """Fourier coefficients of the radius, orders 2 to 5, amplitude falling with the order."""
    orders = np.arange(2, 6)
    return roughness / orders * (rng.standard_normal(4) + 1j * rng.standard_normal(4))


def _positive(
    patient: _Patient,
    rng: np.random.Generator,
    place: tuple[float, float],
    radius: float,
    angle: float,
    elongation: float,
) -> _Nucleus:
    grade = rng.choice(3, p=patient.grades)
    strength = rng.uniform(*((0.1, 0.32), (0.32, 0.68), (0.68, 1.3))[grade])
    if rng.random() < 0.025:  # a mitosis: condensed plate without a membrane
        return _Nucleus(
            POSITIVE,
            *place,
            (radius * 1.05, radius * 0.42),
            angle,
            _contour(rng, 0.22),
            haematoxylin=0.9 * patient.counterstain,
            dab=1.25 * patient.chromogen,
            clumps=0.15,
            softness=rng.uniform(0.6, 1.1),
            texture_at=tuple(rng.random(2)),
        )
    stretch = np.sqrt(elongation * rng.lognormal(0, 0.13))
    return _Nucleus(
        POSITIVE,
        *place,
        (radius * stretch, radius / stretch),
        angle,
        _contour(rng, rng.uniform(0.05, 0.09) + 0.35 * patient.pleomorphism),
        haematoxylin=patient.counterstain * rng.uniform(0.5 if grade == 0 else 0.3, 0.85),
        dab=max(patient.chromogen * strength, 0.09),
        rim=rng.uniform(-0.1, 0.25),
        uneven=rng.uniform(0.08, 0.25),
        # Weak staining is speckled, strong staining is nearly even.
        clumps=patient.granularity
        * (rng.uniform(0.3, 0.5) if grade == 0 else rng.uniform(0.14, 0.32)),
        fine=rng.uniform(0.3, 0.8),
        softness=rng.gamma(4.0, 0.28) + 0.5,
        nucleoli=_nucleoli(rng, radius, rng.poisson(0.5), 0.45),
        texture_at=tuple(rng.random(2)),
    )


def _negative(
    patient: _Patient,
    rng: np.random.Generator,
    place: tuple[float, float],
    radius: float,
    angle: float,
    elongation: float,
) -> _Nucleus:
    stretch = np.sqrt(elongation * rng.lognormal(0, 0.13))
    common = {"angle": angle, "texture_at": tuple(rng.random(2))}
    if rng.random() < 0.07:  # hyperchromatic and shrunken: the lymphocytes' double
        radius = radius * rng.uniform(0.66, 0.85)
        return _Nucleus(
            NEGATIVE,
            *place,
            (radius * stretch, radius / stretch),
            contour=_contour(rng, 0.13),
            haematoxylin=patient.counterstain * rng.uniform(1.3, 1.8),
            clumps=0.16,
            softness=rng.uniform(0.6, 1.2),
            **common,
        )
    blush = rng.exponential(0.025) if rng.random() < 0.8 else rng.uniform(0.03, 0.14)
    return _Nucleus(
        NEGATIVE,
        *place,
        (radius * stretch, radius / stretch),
        contour=_contour(rng, rng.uniform(0.05, 0.09) + 0.35 * patient.pleomorphism),
        haematoxylin=patient.counterstain * rng.lognormal(-0.08, 0.28),
        dab=patient.chromogen * blush,
        rim=rng.uniform(0.05, 0.65),
        uneven=rng.uniform(0.08, 0.3),
        clumps=rng.uniform(0.14, 0.34),
        fine=rng.uniform(0.1, 0.6),
        softness=rng.gamma(4.0, 0.3) + 0.5,
        nucleoli=_nucleoli(rng, radius, rng.choice([0, 1, 1, 2]), rng.uniform(0.4, 1.0)),
        **common,
    )


def _lymphocyte(
    patient: _Patient, rng: np.random.Generator, place: tuple[float, float]
) -> _Nucleus:
    radius = 3.9 * rng.lognormal(0, 0.08)
    stretch = np.sqrt(rng.lognormal(0.04, 0.06))
    return _Nucleus(
        LYMPHOCYTE,
        *place,
        (radius * stretch, radius / stretch),
        rng.uniform(0, np.pi),
        _contour(rng, 0.05),
        haematoxylin=patient.counterstain * rng.uniform(1.35, 2.0),
        rim=0.15,
        clumps=rng.uniform(0.1, 0.22),
        softness=rng.gamma(4.0, 0.2) + 0.4,
        texture_at=tuple(rng.random(2)),
    )


def _nucleoli(rng: np.random.Generator, radius: float, count: int, strength: float) -> tuple:
    return tuple(
        (*rng.uniform(-0.45, 0.45, 2), rng.uniform(0.13, 0.22) * radius, strength)
        for _ in range(int(count))
    )


def _add_distractors(
    scene: _Scene, patient: _Patient, rng: np.random.Generator, stroma: NDArray
) -> None:
    """Bodies that nobody counts: stromal nuclei, ghosts, erythrocytes, smears, debris."""
    warp_y, warp_x = np.gradient(scene.fibre_warp, _FIELD / _GRID)
    across = np.arctan2(np.sin(scene.fibre_angle) + warp_y, np.cos(scene.fibre_angle) + warp_x)

    def texture() -> tuple[float, float]:
        return tuple(rng.random(2))

    for _ in range(rng.poisson(rng.uniform(10, 65) * stroma.mean())):  # fibroblasts, endothelium
        place = _place(scene, rng, 5.0, stroma, 0.0)
        if place is None:
            continue
        scene.nuclei.append(
            _Nucleus(
                UNLABELLED,
                *place,
                (rng.uniform(4.5, 12), rng.uniform(1.3, 3.4)),
                _at(across, *place) + np.pi / 2 + rng.normal(0, 0.2),
                _contour(rng, 0.12),
                haematoxylin=patient.counterstain * rng.lognormal(-0.15, 0.3),
                rim=0.2,
                clumps=0.2,
                uneven=0.25,
                bend=rng.normal(0, 0.3),
                softness=rng.gamma(4.0, 0.3) + 0.5,
                texture_at=texture(),
            )
        )
    bodies = []
    for _ in range(rng.poisson(2.0)):  # nuclei far out of focus: too faint to count
        radius = patient.radius * rng.uniform(0.7, 1.1)
        bodies.append(
            _Nucleus(
                UNLABELLED,
                *rng.uniform(0, _FIELD, 2),
                (radius, radius * 0.8),
                rng.uniform(0, np.pi),
                _contour(rng, 0.1),
                haematoxylin=patient.counterstain * rng.uniform(0.12, 0.28),
                clumps=0.1,
                softness=rng.uniform(3.5, 6),
                texture_at=texture(),
            )
        )
    if rng.random() < 0.3:  # DAB smears: brown without a nucleus
        for _ in range(rng.integers(1, 4)):
            bodies.append(
                _Nucleus(
                    UNLABELLED,
                    *rng.uniform(0, _FIELD, 2),
                    tuple(rng.uniform(5, 26, 2)),
                    rng.uniform(0, np.pi),
                    _contour(rng, 0.35),
                    haematoxylin=0.0,
                    dab=patient.chromogen * rng.uniform(0.06, 0.25),
                    clumps=0.15,
                    fine=0.7,
                    uneven=0.4,
                    softness=rng.uniform(8, 16),
                    texture_at=texture(),
                )
            )
    if rng.random() < 0.12:  # erythrocytes of a vessel: tan discs, paler in the middle
        centre = rng.uniform(0, _FIELD, 2)
        for _ in range(rng.integers(4, 14)):
            bodies.append(
                _Nucleus(
                    UNLABELLED,
                    *(centre + rng.normal(0, 13, 2)),
                    (4.6, rng.uniform(3.6, 4.6)),
                    rng.uniform(0, np.pi),
                    _contour(rng, 0.05),
                    haematoxylin=0.015,
                    dab=rng.uniform(0.06, 0.13),
                    rim=0.7,
                    clumps=0.08,
                    softness=1.2,
                    texture_at=texture(),
                )
            )
    if rng.random() < 0.5:  # debris and precipitate: brown or blue specks, sharp and small
        for _ in range(rng.poisson(5)):
            brown = rng.random() < 0.7
            bodies.append(
                _Nucleus(
                    UNLABELLED,
                    *rng.uniform(0, _FIELD, 2),
                    tuple(rng.uniform(0.5, 1.7, 2)),
                    rng.uniform(0, np.pi),
                    _contour(rng, 0.2),
                    haematoxylin=0.2 if brown else 0.6,
                    dab=rng.uniform(0.3, 1.2) * brown,
                    softness=rng.uniform(0.5, 1.2),
                    texture_at=texture(),
                )
            )
    scene.nuclei.extend(bodies)


def _cells(scene: _Scene, size: int) -> NDArray:
    """Labelled centres inside the field, int32 `(m, 3)`, from top to bottom."""
    labelled = [
        nucleus
        for nucleus in scene.nuclei
        if nucleus.label_id != UNLABELLED
        and 0 <= min(nucleus.x, nucleus.y)
        and max(nucleus.x, nucleus.y) < _FIELD
    ]
    labelled.sort(key=lambda nucleus: nucleus.y)
    scale = size / _FIELD
    cells = [(int(n.x * scale), int(n.y * scale), n.label_id) for n in labelled]
    return np.array(cells, np.int32).reshape(-1, 3)


def _light(scene: _Scene, patient: _Patient, size: int, rng: np.random.Generator) -> NDArray:
    """Light that leaves the slide, float32 `(size, size, 3)` in camera levels before blur."""
    haematoxylin, dab = _background(scene, patient, size, rng)
    textures = [_smooth_noise(rng, wavelength, size) for wavelength in (7.0, 2.6, 1.3)]
    # Faint bodies first, so that a labelled nucleus is never under a smear.
    for nucleus in sorted(scene.nuclei, key=lambda n: n.label_id != UNLABELLED):
        _stamp(nucleus, haematoxylin, dab, textures)
    # Dense DAB scatters as well as it absorbs: its optical density levels off.
    dab = 1.6 * (1 - np.exp(-dab / 1.6))
    density = haematoxylin[..., None] * patient.haematoxylin.astype(np.float32)
    density += dab[..., None] * patient.dab.astype(np.float32)
    return patient.white.astype(np.float32) * np.power(np.float32(10), -density)


def _background(
    scene: _Scene, patient: _Patient, size: int, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Stain of everything but the bodies: cytoplasm, fibres, glass; float32 `(size, size)` each."""
    tumour, glass = _enlarge(scene.tumour, size), _enlarge(scene.glass, size)
    units = ((np.arange(size) + 0.5) * (_FIELD / size)).astype(np.float32)
    across = units[None, :] * np.float32(np.cos(scene.fibre_angle))
    across = across + units[:, None] * np.float32(np.sin(scene.fibre_angle))
    across = across + _enlarge(scene.fibre_warp, size)
    fibres = np.zeros((size, size), np.float32)
    for wavelength, weight in ((7.0, 0.35), (2.2, 0.6)):
        knots = np.arange(-500.0, 900.0, wavelength)
        profile = rng.standard_normal(knots.size)
        fibres += weight * np.interp(across, knots, profile).astype(np.float32)
    # A fibre is not visible over its whole length.
    fibres *= np.clip(0.6 + 0.5 * _smooth_noise(rng, 22.0, size), 0, 1.6)
    cloud = _smooth_noise(rng, 26.0, size)
    grain = _smooth_noise(rng, 4.0, size) + 0.7 * _smooth_noise(rng, 1.6, size)
    tissue = np.clip(1 - glass, 0, 1)
    stroma = np.clip(1 - tumour, 0, 1)
    amount = tumour * (1.0 + 0.22 * cloud + 0.16 * grain)
    amount += stroma * (0.55 + 0.4 * fibres + 0.2 * cloud + 0.1 * grain)
    haematoxylin = patient.cytoplasm * tissue * np.maximum(amount, 0.05)
    brown = tumour * (1.0 + 0.35 * cloud + 0.25 * grain) + stroma * (0.6 + 0.25 * fibres)
    dab = patient.background_dab * tissue * np.maximum(brown, 0.0)
    return haematoxylin.astype(np.float32), dab.astype(np.float32)


def _stamp(nucleus: _Nucleus, haematoxylin: NDArray, dab: NDArray, textures: list[NDArray]) -> None:
    """Adds one body to the stain maps, within its own window; textures from broad to fine."""
    size = haematoxylin.shape[0]
    scale = size / _FIELD
    long, short = nucleus.axes
    reach = max(long, short) * (1.1 + np.abs(nucleus.contour).sum()) + nucleus.softness
    reach += abs(nucleus.bend) * short
    left, right = (int(np.clip((nucleus.x + s * reach) * scale + s, 0, size)) for s in (-1, 1))
    top, bottom = (int(np.clip((nucleus.y + s * reach) * scale + s, 0, size)) for s in (-1, 1))
    if right <= left or bottom <= top:
        return
    dx = (np.arange(left, right, dtype=np.float32) + 0.5) / scale - nucleus.x
    dy = ((np.arange(top, bottom, dtype=np.float32) + 0.5) / scale - nucleus.y)[:, None]
    cosine, sine = np.cos(nucleus.angle), np.sin(nucleus.angle)
    point = (dx * cosine + dy * sine) / long + 1j * ((dy * cosine - dx * sine) / short)
    if nucleus.bend:
        point = point - 1j * nucleus.bend * (point.real**2 - 0.25)
    distance = np.abs(point) + 1e-6
    direction = point / distance
    power, outline = direction, 1.0
    for coefficient in nucleus.contour:
        power = power * direction
        outline = outline + (coefficient * power).real
    depth = (outline - distance) * nucleus.radius
    # No edge is sharper than a pixel: the camera integrates over its area.
    cover = np.clip(0.5 + depth / max(nucleus.softness, 1 / scale), 0, 1)
    cover = cover * cover * (3 - 2 * cover)

    offset_x = int(nucleus.texture_at[0] * (size - (right - left)))
    offset_y = int(nucleus.texture_at[1] * (size - (bottom - top)))
    window = slice(offset_y, offset_y + bottom - top), slice(offset_x, offset_x + right - left)
    broad, coarse, fine = (texture[window] for texture in textures)
    body = 1 + nucleus.uneven * broad
    body += nucleus.clumps * ((1 - nucleus.fine) * coarse + nucleus.fine * fine)
    # The membrane is seen where chromatin lies against it, not all the way round.
    membrane = np.exp(-((depth / 1.3) ** 2)) * np.clip(1 + 0.6 * broad, 0, 2)
    body += nucleus.rim * (membrane - 0.35)
    for u, v, radius, strength in nucleus.nucleoli:
        spot = np.abs(point - (u + 1j * v)) * nucleus.radius / radius
        body += strength * np.exp(-0.5 * spot**2)
    stain = cover * np.maximum(body, 0.15)
    area = slice(top, bottom), slice(left, right)
    # Where two bodies overlap, each fills only part of the section's thickness.
    haematoxylin[area] = haematoxylin[area] * (1 - 0.5 * cover) + nucleus.haematoxylin * stain
    dab[area] = dab[area] * (1 - 0.5 * cover) + nucleus.dab * stain


def _photograph(light: NDArray, patient: _Patient, rng: np.random.Generator) -> bytes:
    """What the microscope's camera stores of it: blur, shading, noise, JPEG."""
    size = light.shape[0]
    scale = size / _FIELD
    out_of_focus = rng.random() < 0.12
    blur = rng.uniform(0.9, 1.6) if out_of_focus else rng.uniform(0.2, 0.75)
    light = ndimage.gaussian_filter(light, (blur * scale, blur * scale, 0), truncate=3.0)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    tilt, vignette = rng.normal(0, 0.025, 2), rng.uniform(0, 0.07)
    shading = 1 + tilt[0] * ramp[None, :] + tilt[1] * ramp[:, None]
    shading = shading - vignette * (ramp[None, :] ** 2 + ramp[:, None] ** 2) / 2
    light = light * shading[..., None].astype(np.float32)
    # Shot noise grows with the root of the light; half of it is common to the channels.
    noise = rng.standard_normal((size, size, 4), dtype=np.float32)
    noise = (noise[..., :3] + noise[..., 3:]) * np.float32(0.7)
    light += patient.noise * noise * np.sqrt(np.maximum(light, 1) / 200)
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(
        stored, "JPEG", quality=patient.jpeg_quality, subsampling=patient.jpeg_subsampling
    )
    return stored.getvalue()
