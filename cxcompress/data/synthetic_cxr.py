"""`synthetic:cxr`: chest-radiograph phantoms of made-up patients, labelled as NIH ChestX-ray14 is.

    collection = open_synthetic_cxr("synthetic:cxr20_256", count=500, seed=3)

Names: `synthetic:cxr` (14 findings, 64 pixels), `synthetic:cxr20` (the 20 classes of
NIH-CXR-LT), and either with a size: `synthetic:cxr_256`, `synthetic:cxr20_128`. All of them show
the same radiographs.

The cohort is made as clinics meet it. A patient may have a condition (heart failure, infection,
a tumour, …) that brings several findings together, some have a finding of its own, and about half
have none. Each patient has one to six radiographs of the same anatomy; findings persist in most
of them with changing severity. Frequencies follow the long tail of NIH ChestX-ray14 (Wang et al.
2017), from Infiltration in a sixth of all images to Hernia in one of 170; the rarest are a
little more common than in life. As with labels that were read from reports, a few percent of
the findings that are there to be seen go unlabelled.

Radiograph i of a seed is the same whatever the count, and shows the same patient at every size.
Images are drawn by `cxr_phantom`; nothing here comes from a real patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.data.cxr_phantom import (
    Anatomy,
    Lesion,
    View,
    draw_radiograph,
    finding_region,
)
from cxcompress.errors import InputError

CXR14 = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
         "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural Thickening",
         "Hernia")
"""The 14 findings of NIH ChestX-ray14, in its order."""

CXR20 = (*CXR14, "Subcutaneous Emphysema", "Tortuous Aorta", "Calcification of the Aorta",
         "Pneumoperitoneum", "Pneumomediastinum", "No Finding")
"""The 20 classes of NIH-CXR-LT (Holste et al. 2022)."""

CONDITIONS: dict[str, tuple[float, dict[str, float]]] = {
    "heart failure": (0.055, {"Cardiomegaly": 0.45, "Effusion": 0.60, "Edema": 0.42,
                              "Infiltration": 0.25, "Atelectasis": 0.25}),
    "infection": (0.11, {"Infiltration": 0.68, "Pneumonia": 0.20, "Consolidation": 0.30,
                         "Effusion": 0.25, "Atelectasis": 0.22}),
    "tumour": (0.07, {"Mass": 0.62, "Nodule": 0.52, "Effusion": 0.35, "Atelectasis": 0.25,
                      "Pleural Thickening": 0.10}),
    "obstructive disease": (0.04, {"Emphysema": 0.60, "Pneumothorax": 0.15, "Infiltration": 0.2,
                                   "Fibrosis": 0.08}),
    "interstitial disease": (0.03, {"Fibrosis": 0.50, "Pleural Thickening": 0.40,
                                    "Infiltration": 0.35}),
    "chest surgery": (0.055, {"Pneumothorax": 0.60, "Subcutaneous Emphysema": 0.36,
                              "Effusion": 0.45, "Atelectasis": 0.40, "Pneumomediastinum": 0.08,
                              "Pneumoperitoneum": 0.06}),
    "old age": (0.12, {"Tortuous Aorta": 0.09, "Calcification of the Aorta": 0.08,
                       "Cardiomegaly": 0.06, "Hernia": 0.02, "Emphysema": 0.04}),
}
"""Condition: its share of patients, and the chance that it brings a finding."""

BACKGROUND = {"Infiltration": 0.15, "Atelectasis": 0.055, "Effusion": 0.05, "Nodule": 0.03,
              "Mass": 0.023, "Consolidation": 0.024, "Pleural Thickening": 0.018,
              "Pneumothorax": 0.008, "Cardiomegaly": 0.006, "Fibrosis": 0.005, "Hernia": 0.003,
              "Tortuous Aorta": 0.003, "Pneumoperitoneum": 0.003, "Pneumomediastinum": 0.003}
"""The chance of a finding in any patient, without a condition."""

PERSISTENCE = 0.80
"""The chance that a patient's finding shows in a given radiograph."""

UNREPORTED = 0.04
"""The share of findings shown that the label misses."""

RADIOGRAPHS_PER_PATIENT = (0.42, 0.20, 0.13, 0.10, 0.08, 0.07)
"""The chance of 1, 2, … 6 radiographs."""

CREDIT = "Generated phantoms, no patient data; not for any statement about real radiographs."


@dataclass(frozen=True)
class Radiograph:
    """One radiograph before it is drawn: who, how taken, what it shows and what is reported."""

    patient: int
    number: int
    part: str
    anatomy: Anatomy
    view: View
    findings: dict[str, Lesion]
    reported: frozenset[str]

    @property
    def patient_id(self) -> str:
        return f"phantom{self.patient:06d}"

    @property
    def image_id(self) -> str:
        return f"{self.patient_id}_{self.number:03d}"

    def draw(self, size: int) -> NDArray[np.uint8]:
        """uint8 `(size, size)`."""
        return draw_radiograph(self.anatomy, self.view, self.findings, size)

    def region(self, finding: str, size: int) -> NDArray[np.bool_]:
        """bool `(size, size)`: where one of `findings` is (`cxr_phantom.finding_region`)."""
        return finding_region(self.anatomy, self.view, self.findings, finding, size)

    def labels(self, classes: tuple[str, ...]) -> NDArray[np.float32]:
        """float32 `(classes,)` in {0, 1}, as reported."""
        seen = self.reported or {"No Finding"}
        return np.array([name in seen for name in classes], np.float32)


def radiographs(seed: int = 0) -> Iterator[Radiograph]:
    """The radiographs of a cohort without end, patient after patient; not drawn yet."""
    patient = 0
    while True:
        yield from _radiographs_of(patient, seed)
        patient += 1


def radiograph(image_id: str, seed: int = 0) -> Radiograph:
    """The radiograph of an id such as `phantom000012_003`, of the cohort of `seed`.

    Raises:
        InputError: If the cohort has none of this id.
    """
    if match := re.fullmatch(r"phantom(\d{6,})_(\d{3})", image_id):
        for one in _radiographs_of(int(match[1]), seed):
            if one.number == int(match[2]):
                return one
    raise InputError(f"{image_id}: the generated cohort of seed {seed} has no such radiograph")


def open_synthetic_cxr(name: str = "synthetic:cxr", *, size: int | None = None, channels: int = 1,
                       count: int | None = None, seed: int = 0) -> Collection:
    """Draw a collection of phantoms.

    Args:
        name: `synthetic:cxr[20][_<size>]`.
        size: Height and width in pixels, 28 to 1024; before the name's, which is 64 if not given.
        channels: 1, or 3 for grey repeated.
        count: Number of radiographs in all parts, at least 20. Default 2000.
        seed: Another seed is another cohort.

    Returns:
        A multilabel `Collection`; about 70, 10 and 20 percent of the patients are in train, val
        and test.

    Raises:
        InputError: If the name or a number is out of range.
    """
    match = re.fullmatch(r"synthetic:cxr(14|20)?(?:_(\d{1,4}))?", name)
    if match is None:
        raise InputError(f"{name}: unknown; write synthetic:cxr, synthetic:cxr20, "
                         "synthetic:cxr_256 or synthetic:cxr20_256")
    classes = CXR20 if match[1] == "20" else CXR14
    size = int(size or match[2] or 64)
    count = 2000 if count is None else int(count)
    if not 28 <= size <= 1024:
        raise InputError(f"{name}: phantoms are drawn at 28 to 1024 pixels, not {size}")
    if count < 20:
        raise InputError(f"{name}: a collection needs at least 20 images for its three parts, "
                         f"not {count}")
    if channels not in (1, 3):
        raise InputError(f"{name}: 1 or 3 channels, not {channels}")

    images = np.empty((count, size, size, 1), np.uint8)
    labels = np.empty((count, len(classes)), np.float32)
    image_id, patient_id, parts = [], [], []
    for row, radiograph in zip(range(count), radiographs(seed), strict=False):
        images[row, ..., 0] = radiograph.draw(size)
        labels[row] = radiograph.labels(classes)
        image_id.append(radiograph.image_id)
        patient_id.append(radiograph.patient_id)
        parts.append(radiograph.part)
    everything = Part(np.repeat(images, channels, axis=-1) if channels > 1 else images, labels,
                      np.array(image_id), np.array(patient_id))
    parts = np.array(parts)
    train, val, test = (everything.select(np.flatnonzero(parts == part))
                        for part in ("train", "val", "test"))
    return Collection(name, "multilabel", classes, train, val, test, patients_known=True,
                      synthetic=True, credit=CREDIT)


def _part(patient: int, seed: int) -> str:
    """Of every ten patients seven train, one validates, two test; the first three are one each."""
    block, place = divmod(patient, 10)
    parts = np.array(["train"] * 7 + ["val"] + ["test"] * 2)
    if block == 0:
        parts = parts[[0, 7, 8, 1, 2, 3, 4, 5, 6, 9]]
    else:
        parts = np.random.default_rng((seed, 1, block)).permutation(parts)
    return str(parts[place])


def _radiographs_of(patient: int, seed: int) -> Iterator[Radiograph]:
    rng = np.random.default_rng((seed, 0, patient))
    anatomy = Anatomy.draw(rng)
    count = 1 + int(rng.choice(len(RADIOGRAPHS_PER_PATIENT), p=RADIOGRAPHS_PER_PATIENT))
    chance = dict.fromkeys(CXR20[:-1], 0.0) | BACKGROUND
    for share, brings in CONDITIONS.values():
        if rng.random() < share:
            for finding, likely in brings.items():
                chance[finding] = 1 - (1 - chance[finding]) * (1 - likely)
    present = {finding: float(rng.beta(2.3, 1.5)) for finding, likely in chance.items()
               if rng.random() < likely}
    part = _part(patient, seed)
    for number in range(count):
        rng = np.random.default_rng((seed, 2, patient, number))
        view = View.draw(rng)
        findings = {}
        reported = set()
        for finding, severity in present.items():
            shows, missed, drift = rng.random(), rng.random(), rng.normal(0, 0.12)
            if shows < PERSISTENCE:
                place = (seed, 3, patient, CXR20.index(finding))
                findings[finding] = Lesion(float(np.clip(severity + drift, 0.02, 1)), place)
                if missed >= UNREPORTED:
                    reported.add(finding)
        yield Radiograph(patient, number, part, anatomy, view, findings, frozenset(reported))
